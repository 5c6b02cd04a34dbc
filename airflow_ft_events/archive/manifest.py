"""Manifest: what an archive holds, in which order, and where the next reading goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_ft_events.api.errors import FineTuningArchiveError
from airflow_ft_events.api.feed import Mark
from airflow_ft_events.events import Order, one_line

SUFFIX = ".manifest.json"
VERSION = 1
"""Of the manifest's own form; a reader refuses a higher one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One file of an archive.

    :param name: the file, relative to the manifest's folder.
    :param count: events in it.
    :param bytes: its size.
    :param sha256: of its bytes, 64 hexadecimal digits.
    :param first_event: ``{"id", "created_at"}`` of its oldest event; None where it has none.
    :param last_event: the same of its newest.
    """

    name: str
    count: int
    bytes: int
    sha256: str
    first_event: Mapping[str, Any] | None
    last_event: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """:returns: plain JSON values."""
        return {
            "name": self.name,
            "count": self.count,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "first_event": dict(self.first_event) if self.first_event else None,
            "last_event": dict(self.last_event) if self.last_event else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """
    What a manifest says of the job.

    :param job_id: the job.
    :param vendor: the server family.
    :param outcome: ``succeeded``, ``failed``, ``cancelled``; None while it is not known.
    :param status: its status in the server's words; None where the server shows none.
    :param complete: whether the job has ended and its log has settled: nothing more will come.
    """

    job_id: str
    vendor: str
    outcome: str | None
    status: str | None
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """
    An archive's table of contents.

    :param job: the job.
    :param path: the archive's path as the task was given it.
    :param file_format: ``jsonl`` or ``parquet``.
    :param compression: of the parts, or None.
    :param parts: the files, oldest events first.
    :param sha256: of the bytes of all parts, one after the other.
    :param mark: where the next reading goes on.
    :param report: name of the report's page, or None.
    :param package_version: of the package that wrote it.
    """

    job: JobFacts
    path: str
    file_format: str
    compression: str | None
    parts: Sequence[Part]
    sha256: str
    mark: Mark | None
    report: str | None
    package_version: str

    @property
    def count(self) -> int:
        """Events in all parts."""
        return sum(part.count for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """:returns: what goes into XCom and into the file beside the log: plain JSON values."""
        with_events = [part for part in self.parts if part.count]
        first = with_events[0].first_event if with_events else None
        last = with_events[-1].last_event if with_events else None
        return {
            "manifest_version": VERSION,
            "job_id": self.job.job_id,
            "vendor": self.job.vendor,
            "outcome": self.job.outcome,
            "status": self.job.status,
            "complete": self.job.complete,
            "path": self.path,
            "format": self.file_format,
            "compression": self.compression,
            "count": self.count,
            "bytes": sum(part.bytes for part in self.parts),
            "sha256": self.sha256,
            "first_event": dict(first) if first else None,
            "last_event": dict(last) if last else None,
            "parts": [part.as_dict() for part in self.parts],
            "report": self.report,
            "resume": _resume(self.mark),
            "package_version": self.package_version,
        }

    def as_bytes(self) -> bytes:
        """:returns: the file: the same for the same archive."""
        return json.dumps(self.as_dict(), indent=2).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes, *, where: str) -> Manifest:
        """
        Read a manifest.

        :param content: the file.
        :param where: its path, for the message.
        :raises FineTuningArchiveError: where it is none.
        """
        try:
            return cls._read(json.loads(content))
        except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as fault:
            raise FineTuningArchiveError(
                f"{where} is not the manifest of an archive ({one_line(fault, limit=200)}). Nothing was "
                "changed. Restore it, or remove it and archive the job again into an empty place."
            ) from None

    @classmethod
    def _read(cls, given: Mapping[str, Any]) -> Manifest:
        if not isinstance(given, Mapping):
            raise TypeError("it is no JSON object")
        version = given["manifest_version"]
        if not isinstance(version, int) or version > VERSION:
            raise ValueError(f"its version is {version!r}, and this package reads up to {VERSION}")
        resume = given["resume"]
        return cls(
            job=JobFacts(
                job_id=str(given["job_id"]),
                vendor=str(given["vendor"]),
                outcome=given["outcome"],
                status=given["status"],
                complete=given["complete"] is True,
            ),
            path=str(given["path"]),
            file_format=str(given["format"]),
            compression=given["compression"],
            parts=tuple(_part(part) for part in given["parts"]),
            sha256=str(given["sha256"]),
            mark=None if resume is None else _mark(resume),
            report=given["report"],
            package_version=str(given["package_version"]),
        )


def _part(given: Mapping[str, Any]) -> Part:
    name = str(given["name"])
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError(f"a part is named {name!r}, which leads out of the archive's folder")
    return Part(
        name=name,
        count=int(given["count"]),
        bytes=int(given["bytes"]),
        sha256=str(given["sha256"]),
        first_event=_place(given["first_event"]),
        last_event=_place(given["last_event"]),
    )


def _place(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else {"id": str(given["id"]), "created_at": given["created_at"]}


def _resume(mark: Mark | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    return {
        "ids": list(mark.ids),
        "order": mark.order.value if mark.order else None,
        "created_at": mark.created_at,
    }


def _mark(given: Mapping[str, Any]) -> Mark:
    return Mark(
        ids=tuple(str(each) for each in given["ids"]),
        order=Order(given["order"]) if given["order"] else None,
        created_at=None if given["created_at"] is None else float(given["created_at"]),
    )
