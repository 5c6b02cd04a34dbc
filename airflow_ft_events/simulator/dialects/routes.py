"""Which request asks for what: the routes of a family, below its path of jobs and its path of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

RouteName = Literal[
    "events",
    "job",
    "list",
    "cancel",
    "create",
    "pause",
    "resume",
    "checkpoints",
    "metrics",
    "limits",
    "price",
    "files",
    "upload",
    "file",
    "content",
    "delete",
    "receive",
    "checked",
]
Methods = Mapping[str, RouteName]
Table = dict[tuple[str, ...], Methods]
"""The parts of a path below its root, and what each method does there; ANY stands for an id."""

ANY = "*"
JOB_ROUTES: Table = {
    (): {"GET": "list", "POST": "create"},
    (ANY,): {"GET": "job"},
    (ANY, "events"): {"GET": "events"},
    (ANY, "cancel"): {"POST": "cancel"},
    (ANY, "checkpoints"): {"GET": "checkpoints"},
}
PAUSE_ROUTES: Table = {(ANY, "pause"): {"POST": "pause"}, (ANY, "resume"): {"POST": "resume"}}
FILE_ROUTES: Table = {
    (): {"GET": "files", "POST": "upload"},
    (ANY,): {"GET": "file", "DELETE": "delete"},
    (ANY, "content"): {"GET": "content"},
}


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a request asks for."""

    name: RouteName
    job_id: str | None = None
    file_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error response, before it is encoded."""

    status: int
    body: Any


def parts_below(root: str, path: str) -> tuple[str, ...] | None:
    """
    Split a path.

    :param root: the path of the jobs or of the files.
    :param path: the request's path, as it was sent.
    :returns: the parts below the root, decoded; None if the path is not below it.
    """
    if path.rstrip("/") == root:
        return ()
    if not path.startswith(f"{root}/"):
        return None
    return tuple(unquote(part) for part in path.removeprefix(root).strip("/").split("/"))


def methods_at(table: Table, parts: tuple[str, ...]) -> tuple[Methods, str | None] | None:
    """
    Look a path up.

    :param table: the routes.
    :param parts: the path below the root.
    :returns: what each method does there, and the id in the path; None if there is no such route.
    """
    if (exact := table.get(parts)) is not None:
        return exact, None
    if parts and (found := table.get((ANY, *parts[1:]))) is not None:
        return found, parts[0]
    return None
