"""A request that may be answered, and what it can be answered with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airflow_ft_events.simulator.bodies import Body
from airflow_ft_events.simulator.dialects import Dialect, Problem, Route


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request whose key is right and whose route exists.

    :param route: what it asks for.
    :param url: where it was sent, without the query.
    :param query: its query parameters.
    :param body: its body.
    :param now: the simulated time.
    """

    route: Route
    url: str
    query: Mapping[str, str]
    body: Body
    now: float


@dataclass(frozen=True, kw_only=True)
class Content:
    """A response that is no plain 200 with JSON."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Found = Problem | Content | bytes
"""A refusal, a response, or the bytes of a 200 with JSON."""
Endpoint = Callable[[Asked], Found]


def limit_of(dialect: Dialect, query: Mapping[str, str], *, default: int | None = None) -> int | Problem:
    """
    Return how many items a page may have.

    :param dialect: the family; one without pages sends everything.
    :param query: the query parameters.
    :param default: where the client does not say; default the family's.
    """
    text = query.get("limit")
    if not dialect.pages:
        return sys.maxsize
    if text is None:
        return dialect.default_limit if default is None else default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        return dialect.bad_limit(text)
    return int(text)
