"""ArchiveWriter: what goes into an archive, in which files, and in which order they are written."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from airflow_ft_events import __version__
from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.pages import Pages
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.archive.existing_archive import ExistingArchive, lacking
from airflow_ft_events.archive.files import Written, identified, write_file
from airflow_ft_events.archive.layout import Layout
from airflow_ft_events.archive.manifest import JobFacts, Manifest, Part, Place
from airflow_ft_events.archive.metrics_file import is_stored, kept_metrics, metrics_part
from airflow_ft_events.archive.reader import StoredArchive
from airflow_ft_events.archive.spool import Spool, temporary_folder
from airflow_ft_events.archive.storage import AT_ONCE
from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import Event, EventIds, Order, place_of
from airflow_ft_events.parameters import is_same_job

ReadLog = Callable[[Bookmark | None, Pages], EventFeed | None]
MakeReport = Callable[[Iterator[Event], Manifest], str]
REPORT_SUFFIX = ".report.html"
COMMITS = 3
"""How often files are written again that another run has meanwhile replaced or removed."""
_OF_A_PART = re.compile(r"/\.?\d{5,}-[0-9a-f]{12}\.[^/]*$")
log = logging.getLogger(__name__)


class ArchiveWriter:
    """
    Writes one job's log into its archive: the log's files first, the manifest that lists them last.

    A run that is killed leaves the manifest and the files it lists unchanged; the next run continues from
    there. Events that the server has forgotten stay in the archive.

    :param stored: the stored archive.
    :param path: its path, as given to the task.
    :param layout: the format of its files.
    :param job_id: the job.
    :param incremental: write what is new into an additional file, and leave the others unchanged.
    :param overwrite: ``replace``, ``keep`` or ``error``.
    """

    def __init__(
        self,
        stored: StoredArchive,
        *,
        path: str,
        layout: Layout,
        job_id: str,
        incremental: bool = False,
        overwrite: str = "replace",
    ) -> None:
        self._stored = stored
        self._path = path
        self._layout = layout
        self._job_id = job_id
        self._incremental = incremental
        self._overwrite = overwrite
        self._there = stored.manifest()
        self._refuse_another_job()
        self._existing: ExistingArchive | None = None
        self._adds = False
        """Whether this run adds a file, and leaves the others unchanged."""
        self._spool = Spool()
        self._order, self._order_is_known = Order.OLDEST_FIRST, False
        self._filtered = False
        """Whether what was read must be merged with the archive event by event."""

    def __enter__(self) -> ArchiveWriter:
        """Return itself; leaving removes what was read."""
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def kept(self) -> Manifest | None:
        """Return the existing complete archive if ``overwrite`` is ``keep``; else None."""
        there = self._there
        if self._overwrite == "keep" and there and there.job.complete and self._stored.holds(there):
            return there
        return None

    # reading

    def read(self, read_log: ReadLog) -> int | None:
        """
        Read what the archive does not have.

        :param read_log: reads the log, or what is newer than a bookmark, into pages; returns None if it
            is too early.
        :returns: how many events were read; None if it is too early and nothing should be written.
        """
        self._existing = existing = self._usable_existing()
        self._adds = self._incremental and existing is not None and existing.intact
        bookmark = existing.manifest.bookmark if existing and self._adds else None
        feed = read_log(bookmark, self._spool)
        if feed is None:
            return None
        self._order, self._order_is_known = feed.order, feed.order_is_known
        if existing:
            self._filtered = feed.found is not True if self._adds else self._has_forgotten(existing)
            if self._filtered and existing.manifest.count:
                log.warning(
                    "Job %s: the server no longer has all events of the archive; they stay in the archive.",
                    self._job_id,
                )
        return len(self._spool)

    def _usable_existing(self) -> ExistingArchive | None:
        there = self._there
        if there is None:
            return None
        if not is_same_job(there.job.job_id, self._job_id):
            log.warning(
                "Job %s: the archive %s belongs to job %s and is replaced. Put the job's id into the path to "
                "keep both.",
                self._job_id,
                self._stored.shown,
                there.job.job_id,
            )
            return None
        form = (self._layout.file_format, self._layout.compression)
        if self._incremental and there.parts and (there.file_format, there.compression) != form:
            raise self._refused(
                f"it is {there.file_format} with compression {there.compression!r}, but this task writes "
                f"{self._layout.file_format} with {self._layout.compression!r}",
                "Use the same format, or another path.",
            )
        existing = ExistingArchive.of(self._stored, there)
        if not existing.intact:
            log.warning(
                "Job %s: a file of archive %s is missing or does not match the manifest, as after a killed "
                "run; the whole log is archived again.",
                self._job_id,
                self._stored.shown,
            )
        return existing

    def _has_forgotten(self, existing: ExistingArchive) -> bool:
        """Whether the log that was read lacks events that the archive has."""
        new = self._read_lines()
        if all(line == next(new, None) for line in existing.lines()):
            return False
        return next(lacking(self._read_lines, existing.lines), None) is not None

    def _refuse_another_job(self) -> None:
        there = self._there
        strict = self._incremental or self._overwrite != "replace"
        if there is None or is_same_job(there.job.job_id, self._job_id) or not strict:
            return
        how = "incremental=True" if self._incremental else f"overwrite={self._overwrite!r}"
        raise self._refused(
            f"it is the archive of job {there.job.job_id}, but this is job {self._job_id} ({how})",
            "Put the job's id into the path: …/{{ params.job_id }}.jsonl.",
        )

    def _refused(self, why: str, advice: str) -> FineTuningArchiveError:
        return FineTuningArchiveError(
            f"The archive {self._stored.shown} was left as it is: {why}. {advice}", job_id=self._job_id
        )

    # what goes into it

    def _read_lines(self) -> Iterator[bytes]:
        """Iterate over what was read, oldest first."""
        return self._spool.lines(self._order)

    def _new(self) -> Iterator[bytes]:
        """Iterate over what goes into the file that this run writes, oldest first."""
        if not self._filtered or self._existing is None:
            yield from self._read_lines()
            return
        if not self._adds:
            yield from self._existing.lines()
        yield from lacking(self._existing.lines, self._read_lines)

    def _earlier(self) -> Iterator[bytes]:
        """Iterate over the files that stay unchanged, oldest first."""
        return self._existing.lines() if self._existing and self._adds else iter(())

    def _ids(self) -> EventIds:
        """Give ids to events without one, continuing from those in earlier files."""
        ids = EventIds()
        for line in self._earlier():
            ids.id_of(json.loads(line))
        return ids

    def events(self) -> Iterator[Event]:
        """Return all events of the archive as it will be, oldest first, typed."""
        ids = EventIds()
        yield from identified(self._earlier(), ids)
        yield from identified(self._new(), ids)

    # writing

    def write(
        self,
        facts: JobFacts,
        *,
        metrics: Sequence[dict[str, Any]] = (),
        make_report: MakeReport | None = None,
    ) -> Manifest:
        """
        Write what was read.

        :param facts: what the manifest says about the job.
        :param metrics: the numbers that the server keeps beside the events, for a file of their own; default
            none, which leaves those that the archive has.
        :param make_report: makes the page of a report beside the log; default None, no page.
        :returns: the manifest, which is also written.
        :raises FineTuningArchiveError: if something exists that must not be replaced.
        """
        with temporary_folder() as folder:
            local = folder / "part"
            written = write_file(self._new, local, self._layout, ids=self._ids)
            self._refuse_to_lose(written)
            manifest = self._manifest_with(written, local, facts)
            numbers = metrics_part(
                metrics, folder / "metrics", layout=self._layout, archive=self._stored.name
            )
            kept = kept_metrics(self._stored, self._there, layout=self._layout, job_id=self._job_id)
            manifest = replace(manifest, metrics=numbers or kept)
            self._refuse_to_replace(manifest)
            if make_report:
                manifest = replace(manifest, report=self._report_name)
                page = make_report(self.events(), manifest)
                (folder / "report").write_text(page, encoding="utf-8", newline="")
            (folder / "manifest").write_bytes(manifest.as_bytes())
            before = self._there.metrics if self._there else None
            self._commit(manifest, folder)
        self._clean_up(manifest, metrics_before=before)
        return manifest

    def _manifest_with(self, written: Written, local: Path, facts: JobFacts) -> Manifest:
        existing = self._existing if self._adds else None
        earlier = tuple(existing.manifest.parts) if existing else ()
        part = Part(
            name=self._part_name(len(earlier), written.sha256),
            count=written.count,
            bytes=written.bytes,
            sha256=written.sha256,
            first_event=Place(**place_of(written.first)) if written.first else None,
            last_event=Place(**place_of(written.newest[-1])) if written.newest else None,
        )
        whole = existing.hash.copy() if existing and existing.hash else hashlib.sha256()
        has_part = bool(written.count) or not self._incremental
        if has_part:
            with local.open("rb") as file:
                while block := file.read(AT_ONCE):
                    whole.update(block)
        bookmark = existing.manifest.bookmark if existing else None
        if written.newest:
            begun = bookmark or Bookmark()
            bookmark = begun.moved(written.newest, order=self._order if self._order_is_known else begun.order)
        parts, there = (*earlier, part) if has_part else earlier, self._there
        same = there is not None and tuple(there.parts) == parts and there.job.job_id == self._job_id
        return Manifest(
            job=facts,
            path=self._path,
            file_format=self._layout.file_format,
            compression=self._layout.compression,
            parts=parts,
            sha256=whole.hexdigest(),
            bookmark=bookmark,
            report=there.report if there is not None and same else None,
            package_version=__version__,
        )

    def _part_name(self, index: int, digest: str) -> str:
        if not self._incremental:
            return self._stored.name
        # named after its contents: a file that a manifest lists is never rewritten
        return f"{self._parts_folder}/{index:05}-{digest[:12]}{self._layout.ending}"

    @property
    def _parts_folder(self) -> str:
        return f"{self._stored.name}.parts"

    @property
    def _report_name(self) -> str:
        return self._stored.name + REPORT_SUFFIX

    def _refuse_to_lose(self, written: Written) -> None:
        """Refuse to write less than a damaged archive had."""
        existing = self._existing
        if existing and not existing.intact and written.count < existing.manifest.count:
            raise self._refused(
                "a file of it is missing or damaged, and the rest of it and the server together have "
                f"{written.count:,} events, while the archive had {existing.manifest.count:,}",
                "Restore the file, or remove the manifest to archive what is left.",
            )

    def _refuse_to_replace(self, manifest: Manifest) -> None:
        """Refuse to replace what ``overwrite`` protects."""
        if self._overwrite == "replace":
            return
        there = self._there
        if there is None or (self._overwrite == "error" and self._existing and not self._existing.intact):
            self._refuse_foreign_file()
        elif self._overwrite == "error" and there.sha256 != manifest.sha256:
            raise self._refused(
                f"there already is an archive of {there.count:,} events, and overwrite is 'error'",
                f"There are {manifest.count:,} events now. Use another path, remove the archive, or set "
                "overwrite='replace'.",
            )

    def _refuse_foreign_file(self) -> None:
        """Refuse a file without a manifest, unless it is what an earlier run of this task left."""
        if self._stored.storage.size(self._stored.name) is None:
            return
        try:
            new = self._new()
            ours = all(line == next(new, None) for line in self._stored.lines(None))
        except FineTuningArchiveError:
            ours = False
        if not ours:
            raise self._refused(
                f"there is a file that this task did not write, and overwrite is {self._overwrite!r}",
                "Use another path, remove the file, or set overwrite='replace'.",
            )

    def _commit(self, manifest: Manifest, folder: Path) -> None:
        """Store the log's file and its numbers, and then the manifest, which makes them the archive."""
        part, page, numbers, content = (folder / name for name in ("part", "report", "metrics", "manifest"))
        storage, told = self._stored.storage, content.read_bytes()
        if self._stored.manifest() != self._there:
            raise self._crossed()
        if page.exists():
            storage.put(page, self._report_name)
        for _ in range(COMMITS):
            self._put_part(manifest, part)
            if manifest.metrics and numbers.exists() and not is_stored(self._stored, self._there, manifest):
                storage.put(numbers, manifest.metrics.name)
            if self._there is None or self._there.as_bytes() != told:
                storage.put(content, self._stored.manifest_name)
            # a run that should be dead may have written between the two
            self._there = self._stored.manifest()
            if self._there is None or self._there.as_bytes() != told:
                raise self._crossed()
            if self._stored.holds(manifest):
                return
        raise self._crossed()

    def _crossed(self) -> FineTuningArchiveError:
        return FineTuningArchiveError(
            f"The archive {self._stored.shown} was written by another run while this one worked on it: two "
            "tasks write to the same path, or an earlier try of this task was still alive. Give every task a "
            "path of its own. Run this task again: it continues from what is there.",
            job_id=self._job_id,
        )

    def _put_part(self, manifest: Manifest, local: Path) -> None:
        if not manifest.parts or (
            self._adds and self._existing and manifest.parts == self._existing.manifest.parts
        ):
            return
        part, storage = manifest.parts[-1], self._stored.storage
        same = self._existing is not None and self._existing.intact and part in self._existing.parts
        if not same or storage.size(part.name) != part.bytes:
            storage.put(local, part.name)

    def _clean_up(self, manifest: Manifest, *, metrics_before: Part | None) -> None:
        """Remove files that no manifest lists: what a killed run left, and what was replaced."""
        storage = self._stored.storage
        try:
            left = {name for name in storage.names_in(self._parts_folder) if _OF_A_PART.search(name)}
            if self._existing and any(
                part.name == self._stored.name for part in self._existing.manifest.parts
            ):
                left.add(self._stored.name)
            if not manifest.report:
                left.add(self._report_name)  # it shows a different log from the one that is there now
            if metrics_before:
                left.add(metrics_before.name)
            for name in sorted(left - {part.name for part in manifest.files}):
                storage.remove(name)
        except FineTuningArchiveError as fault:
            log.warning(
                "Job %s: the archive is written, but leftover files of earlier runs stay beside it: %s",
                self._job_id,
                fault,
            )
