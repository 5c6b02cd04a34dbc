"""Manifest: what an archive contains, in which order, and where the next read continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import Order, one_line

SUFFIX = ".manifest.json"
VERSION = 1
"""Version of the manifest format; a reader refuses a higher one."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Seconds = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """
    An event's place in its log.

    :param id: the event's id, from the server or generated.
    :param created_at: its time in ISO 8601 UTC, or None.
    """

    id: str
    created_at: str | None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """
    One file of an archive.

    :param name: the file, relative to the manifest's folder.
    :param count: events in it.
    :param bytes: its size.
    :param sha256: of its bytes, 64 hexadecimal digits.
    :param first_event: its oldest event; None if it has none.
    :param last_event: its newest.
    """

    name: str
    count: _Count
    bytes: _Count
    sha256: str
    first_event: Place | None
    last_event: Place | None


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a manifest says about the job.

    :param job_id: the job.
    :param vendor: the server family.
    :param outcome: ``succeeded``, ``failed``, ``cancelled``; None while it is unknown.
    :param status: its status in the server's words; None if the server shows none.
    :param complete: whether the job has ended and its log has settled: nothing more will come.
    """

    job_id: str
    vendor: str
    outcome: str | None
    status: str | None
    complete: bool


class _Resume(msgspec.Struct, frozen=True, kw_only=True):
    """A bookmark as it is in the file."""

    ids: list[str]
    order: Order | None
    created_at: _Seconds | None


class _Form(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file, field by field in order; what has a default is there only if it says something else."""

    manifest_version: int
    job_id: str
    vendor: str
    outcome: str | None
    status: str | None
    complete: bool
    path: str
    file_format: str = msgspec.field(name="format")
    compression: str | None
    count: _Count
    bytes: _Count
    sha256: str
    first_event: Place | None
    last_event: Place | None
    parts: list[Part]
    metrics: Part | None = None
    report: str | None
    resume: _Resume | None
    package_version: str


class _Head(msgspec.Struct):
    """The version field, which every version of the format has."""

    manifest_version: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """
    An archive's table of contents.

    :param job: the job.
    :param path: the archive's path as given to the task.
    :param file_format: ``jsonl`` or ``parquet``.
    :param compression: of the parts, or None.
    :param parts: the files, oldest events first.
    :param metrics: the file with the numbers that the server keeps beside the events; None for none.
    :param sha256: of the concatenated bytes of all parts.
    :param bookmark: where the next read continues.
    :param report: name of the report's page, or None.
    :param package_version: of the package that wrote it.
    """

    job: JobFacts
    path: str
    file_format: str
    compression: str | None
    parts: Sequence[Part]
    sha256: str
    bookmark: Bookmark | None
    report: str | None
    package_version: str
    metrics: Part | None = None

    @property
    def files(self) -> tuple[Part, ...]:
        """All files that it lists."""
        return (*self.parts, self.metrics) if self.metrics else tuple(self.parts)

    @property
    def count(self) -> int:
        """Events in all parts."""
        return sum(part.count for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values, for XCom and for the file beside the log."""
        with_events = [part for part in self.parts if part.count]
        form = _Form(
            manifest_version=VERSION,
            job_id=self.job.job_id,
            vendor=self.job.vendor,
            outcome=self.job.outcome,
            status=self.job.status,
            complete=self.job.complete,
            path=self.path,
            file_format=self.file_format,
            compression=self.compression,
            count=self.count,
            bytes=sum(part.bytes for part in self.parts),
            sha256=self.sha256,
            first_event=with_events[0].first_event if with_events else None,
            last_event=with_events[-1].last_event if with_events else None,
            parts=list(self.parts),
            metrics=self.metrics,
            report=self.report,
            resume=_resume(self.bookmark),
            package_version=self.package_version,
        )
        found: dict[str, Any] = msgspec.to_builtins(form)
        return found

    def as_bytes(self) -> bytes:
        """Return the file's bytes, which are the same for the same archive."""
        return json.dumps(self.as_dict(), indent=2).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes, *, where: str) -> Manifest:
        """
        Parse a manifest.

        :param content: the file's bytes.
        :param where: its path, for the message.
        :returns: the manifest.
        :raises FineTuningArchiveError: if it is not one.
        """
        try:
            return cls._of(_form(content))
        except (msgspec.ValidationError, ValueError, RecursionError) as fault:
            why = one_line(_in_words(fault), limit=200)
            raise FineTuningArchiveError(
                f"{where} is not the manifest of an archive ({why}). Nothing was changed. Restore it, or "
                "remove it and archive the job again to an empty path."
            ) from None

    @classmethod
    def _of(cls, form: _Form) -> Manifest:
        return cls(
            job=JobFacts(
                job_id=form.job_id,
                vendor=form.vendor,
                outcome=form.outcome,
                status=form.status,
                complete=form.complete,
            ),
            path=form.path,
            file_format=form.file_format,
            compression=form.compression,
            parts=tuple(form.parts),
            metrics=form.metrics,
            sha256=form.sha256,
            bookmark=_bookmark(form.resume),
            report=form.report,
            package_version=form.package_version,
        )


def _form(content: bytes) -> _Form:
    # msgspec's own parser refuses lone surrogates, which a server's status may contain
    given = json.loads(content)
    if not isinstance(given, dict):
        raise ValueError("it is not a JSON object")
    version = msgspec.convert(given, _Head).manifest_version
    if version > VERSION:
        raise ValueError(f"its version is {version!r}, but this package reads up to {VERSION}")
    form = msgspec.convert(given, _Form)
    named = {f"$.parts[{number}].name": part for number, part in enumerate(form.parts)}
    for where, part in (
        named.items() if form.metrics is None else {**named, "$.metrics.name": form.metrics}.items()
    ):
        if part.name.startswith("/") or "\\" in part.name or ".." in part.name.split("/"):
            raise ValueError(
                f"a part is named {part.name!r}, which leads out of the archive's folder - at `{where}`"
            )
    return form


def _in_words(fault: Exception) -> object:
    # msgspec looks up names and fixed words in UTF-8, which cannot encode lone surrogates
    if isinstance(fault, UnicodeEncodeError):
        return f"a field's name or `$.resume.order` is {fault.object!r}"
    return fault


def _resume(bookmark: Bookmark | None) -> _Resume | None:
    if bookmark is None:
        return None
    return _Resume(ids=list(bookmark.ids), order=bookmark.order, created_at=bookmark.created_at)


def _bookmark(resume: _Resume | None) -> Bookmark | None:
    if resume is None:
        return None
    return Bookmark(ids=tuple(resume.ids), order=resume.order, created_at=resume.created_at)
