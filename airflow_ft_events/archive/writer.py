"""ArchiveWriter: what goes into an archive, in which files, and in which order they are written."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from airflow_ft_events import __version__
from airflow_ft_events.api.errors import FineTuningArchiveError
from airflow_ft_events.api.feed import EventFeed, Mark, Pages
from airflow_ft_events.archive.files import AT_ONCE, Written, identified, write_file
from airflow_ft_events.archive.layout import Layout
from airflow_ft_events.archive.manifest import JobFacts, Manifest, Part
from airflow_ft_events.archive.reader import StoredArchive
from airflow_ft_events.archive.spool import Spool
from airflow_ft_events.events import Event, EventIds, Order, place_of

ReadLog = Callable[[Mark | None, Pages], EventFeed]
MakeReport = Callable[[Iterator[Event], Manifest], str]
REPORT_SUFFIX = ".report.html"
log = logging.getLogger(__name__)


class ArchiveWriter:
    """
    Writes one job's log into its archive: the log's files first, the manifest that names them last.

    A run that is killed leaves the manifest and what it names as they were; the next run finds its way from
    there. What the server has forgotten stays in the archive.

    :param stored: the archive as it lies there.
    :param path: its path, as the task was given it.
    :param layout: the form of its files.
    :param job_id: the job.
    :param incremental: write what is new into a further file, and leave the others as they are.
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
        self._prior: Manifest | None = None
        self._prior_hash: hashlib._Hash | None = None
        self._least = 0
        self._spool = Spool()
        self._order, self._order_is_known = Order.OLDEST_FIRST, False
        self._mark: Mark | None = None
        self._filtered = self._prior_in_front = False

    def __enter__(self) -> ArchiveWriter:
        """:returns: itself; leaving removes what was read."""
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def kept(self) -> Manifest | None:
        """:returns: with ``overwrite="keep"``, the complete archive that is there already; else None."""
        there = self._there
        if self._overwrite == "keep" and there and there.job.complete and self._stored.holds(there):
            return there
        return None

    # reading

    def read(self, read_log: ReadLog) -> int:
        """
        Read what the archive lacks.

        :param read_log: reads the log, or what is newer than a mark, into pages.
        :returns: how many events came.
        """
        self._prior = self._usable_prior()
        mark = self._prior.mark if self._prior and self._incremental else None
        feed = read_log(mark, self._spool)
        self._order, self._order_is_known = feed.order, feed.order_is_known
        if self._prior and feed.found is not True:
            self._filtered = self._incremental or self._has_forgotten()
            self._prior_in_front = self._filtered and not self._incremental
        if self._filtered and self._prior and self._prior.count:
            log.warning(
                "Job %s: the server no longer has all events that the archive has; they stay in it.",
                self._job_id,
            )
        return len(self._spool)

    def _usable_prior(self) -> Manifest | None:
        there = self._there
        if there is None or there.job.job_id != self._job_id:
            return None
        if not self._incremental:
            return there if self._stored.holds(there) else None
        if (there.file_format, there.compression) != (self._layout.file_format, self._layout.compression):
            raise self._refused(
                f"it is {there.file_format} with compression {there.compression!r}, and this task writes "
                f"{self._layout.file_format} with {self._layout.compression!r}",
                "Write in the same form, or take another path.",
            )
        self._prior_hash = self._stored.hashed(there)
        if self._prior_hash is not None:
            return there
        log.warning(
            "Job %s: a file of archive %s is missing or is not what the manifest says; the whole log is "
            "archived anew.",
            self._job_id,
            self._stored.shown,
        )
        self._least = there.count
        return None

    def _has_forgotten(self) -> bool:
        """Whether the whole log that came lacks events that the archive has."""
        assert self._prior is not None
        if len(self._spool) < self._prior.count:
            return True
        first = self._prior.as_dict()["first_event"]
        oldest = next(identified(self._spool.lines(self._order), EventIds()), None)
        return first is not None and (oldest is None or oldest.id != first["id"])

    def _refuse_another_job(self) -> None:
        there = self._there
        strict = self._incremental or self._overwrite != "replace"
        if there is None or there.job.job_id == self._job_id or not strict:
            return
        how = "incremental=True" if self._incremental else f"overwrite={self._overwrite!r}"
        raise self._refused(
            f"it is the archive of job {there.job.job_id}, and this is job {self._job_id} ({how})",
            "Put the job's id into the path: …/{{ params.job_id }}.jsonl.",
        )

    def _refused(self, why: str, advice: str) -> FineTuningArchiveError:
        return FineTuningArchiveError(
            f"The archive {self._stored.shown} was left as it is: {why}. {advice}", job_id=self._job_id
        )

    # what goes into it

    def _archived(self) -> Iterator[bytes]:
        """Walk what the archive has and keeps, oldest first."""
        return self._stored.lines(self._prior) if self._prior else iter(())

    def _new(self) -> Iterator[bytes]:
        """Walk what goes into the file that this run writes, oldest first."""
        if not self._filtered:
            yield from self._spool.lines(self._order)
            return
        known = set()
        for event, line in _with_lines(self._archived()):
            known.add(event.id)
            if self._prior_in_front:
                yield line
        for event, line in _with_lines(self._spool.lines(self._order)):
            if event.id not in known:
                yield line

    def _ids(self) -> EventIds:
        """Give ids to events without one, counting on from those in earlier files."""
        ids = EventIds()
        if self._incremental:
            for line in self._archived():
                ids.id_of(json.loads(line))
        return ids

    def events(self) -> Iterator[Event]:
        """:returns: all events of the archive as it will be, oldest first, typed."""
        ids = EventIds()
        if self._incremental:
            yield from identified(self._archived(), ids)
        yield from identified(self._new(), ids)

    # writing

    def write(self, facts: JobFacts, *, make_report: MakeReport | None = None) -> Manifest:
        """
        Write what was read.

        :param facts: what the manifest says of the job.
        :param make_report: makes the page of a report beside the log; default None, no page.
        :returns: the manifest, which is written as well.
        :raises FineTuningArchiveError: where something is there that must not be replaced.
        """
        with tempfile.TemporaryDirectory(prefix="ft-archive-") as folder:
            local = Path(folder) / "part"
            written = write_file(self._new, local, self._layout, ids=self._ids)
            if written.count < self._least:
                raise self._refused(
                    f"a file of it is missing or damaged, and the server has {written.count:,} events where "
                    f"the archive had {self._least:,}",
                    "Restore the file, or remove the manifest to archive what the server still has.",
                )
            manifest = self._manifest_with(written, local, facts)
            if (same := self._must_not_replace(manifest)) is not None:
                return same
            self._put_part(manifest, local)
            if make_report is not None:
                manifest = self._with_report(manifest, make_report, Path(folder) / "report")
            content = manifest.as_bytes()
            if self._there is None or self._there.as_bytes() != content:
                (Path(folder) / "manifest").write_bytes(content)
                self._stored.storage.put(Path(folder) / "manifest", self._stored.manifest_name)
        self._clean_up(manifest)
        return manifest

    def _manifest_with(self, written: Written, local: Path, facts: JobFacts) -> Manifest:
        prior = self._prior if self._incremental else None
        earlier = tuple(prior.parts) if prior else ()
        part = Part(
            name=self._part_name(len(earlier), written.sha256),
            count=written.count,
            bytes=written.bytes,
            sha256=written.sha256,
            first_event=place_of(written.first) if written.first else None,
            last_event=place_of(written.newest[-1]) if written.newest else None,
        )
        whole, adds = self._prior_hash or hashlib.sha256(), bool(written.count) or not self._incremental
        if adds:
            with local.open("rb") as file:
                while block := file.read(AT_ONCE):
                    whole.update(block)
        begun = (prior.mark if prior else None) or Mark()
        order = self._order if self._order_is_known else begun.order
        mark = begun.moved(written.newest, order=order) if written.newest else prior and prior.mark
        return Manifest(
            job=facts,
            path=self._path,
            file_format=self._layout.file_format,
            compression=self._layout.compression,
            parts=(*earlier, part) if adds else earlier,
            sha256=whole.hexdigest(),
            mark=mark or None,
            report=None,
            package_version=__version__,
        )

    def _part_name(self, index: int, digest: str) -> str:
        if not self._incremental:
            return self._stored.name
        # named after what is in it: a file that a manifest names is never written again
        return f"{self._parts_folder}/{index:05}-{digest[:12]}{self._layout.ending}"

    @property
    def _parts_folder(self) -> str:
        return f"{self._stored.name}.parts"

    def _must_not_replace(self, manifest: Manifest) -> Manifest | None:
        """
        Refuse to replace what ``overwrite`` protects.

        :returns: the archive that is there, where it is the very one that would be written.
        """
        if self._overwrite == "replace":
            return None
        there = self._there
        if there is None:
            self._refuse_foreign_file()
        elif self._overwrite == "error" and self._stored.holds(there):
            if there.sha256 == manifest.sha256:
                return there
            raise self._refused(
                f"there is an archive of {there.count:,} events already, and overwrite is 'error'",
                f"The server has {manifest.count:,} events now. Take another path, remove the archive, or "
                "set overwrite='replace'.",
            )
        return None

    def _refuse_foreign_file(self) -> None:
        """Refuse a file without a manifest, unless it is what an earlier run of this task left."""
        if self._stored.storage.size(self._stored.name) is None:
            return
        try:
            new = self._new()
            ours = all(json.loads(old) == json.loads(next(new, b"0")) for old in self._stored.lines(None))
        except (FineTuningArchiveError, ValueError):
            ours = False
        if not ours:
            raise self._refused(
                f"there is a file that this task did not write, and overwrite is {self._overwrite!r}",
                "Take another path, remove the file, or set overwrite='replace'.",
            )

    def _put_part(self, manifest: Manifest, local: Path) -> None:
        if not manifest.parts:
            return
        part, storage = manifest.parts[-1], self._stored.storage
        known = self._there is not None and part in self._there.parts
        if not known or storage.size(part.name) != part.bytes:
            storage.put(local, part.name)

    def _with_report(self, manifest: Manifest, make_report: MakeReport, local: Path) -> Manifest:
        manifest = replace(manifest, report=self._stored.name + REPORT_SUFFIX)
        local.write_text(make_report(self.events(), manifest), encoding="utf-8", newline="")
        self._stored.storage.put(local, self._stored.name + REPORT_SUFFIX)
        return manifest

    def _clean_up(self, manifest: Manifest) -> None:
        """Remove files that no manifest names: what a killed run left, and what was replaced."""
        named = {part.name for part in manifest.parts}
        before = {part.name for part in self._there.parts} if self._there else set()
        if self._there and self._there.report and not manifest.report:
            before.add(self._there.report)  # it shows another log than the one that is there now
        left = before | set(self._stored.storage.names_in(self._parts_folder))
        for name in sorted(left - named):
            self._stored.storage.remove(name)


def _with_lines(lines: Iterator[bytes]) -> Iterator[tuple[Event, bytes]]:
    ids = EventIds()
    for line in lines:
        raw = json.loads(line)
        yield Event(raw, ids.id_of(raw)), line
