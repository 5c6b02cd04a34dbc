"""Reads archives: by their manifest, checking each file against it, or a single file without one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from airflow_ft_events.archive.files import read_lines
from airflow_ft_events.archive.layout import Layout
from airflow_ft_events.archive.manifest import SUFFIX, Manifest, Part
from airflow_ft_events.archive.spool import IN_MEMORY, temporary_space
from airflow_ft_events.archive.storage import Storage, storage_of
from airflow_ft_events.clock import clock
from airflow_ft_events.errors import FineTuningArchiveError, FineTuningError

TRIES, PAUSE = 5, 0.2
"""How often, and after how many seconds, reading is retried if the archive may be being replaced."""
MOST_TRIES = 100
"""Maximum number of tries if the archive keeps being replaced."""


def read_archive(path: str | os.PathLike[str], *, storage_conn_id: str | None = None) -> list[dict[str, Any]]:
    """
    Read the events of an archive back, as the server sent them, oldest first.

    :param path: the archive, its manifest, or a file of events (``.jsonl``, ``.jsonl.gz``, ``.parquet``).
    :param storage_conn_id: Airflow connection of the storage; default the part before an ``@`` in the
        path.
    :returns: one dict for each event.
    :raises FineTuningArchiveError: if there is none, or it does not match its manifest.
    """
    return StoredArchive.at(path, storage_conn_id=storage_conn_id).read()[1]


def read_archive_metrics(
    path: str | os.PathLike[str], *, storage_conn_id: str | None = None
) -> list[dict[str, Any]]:
    """
    Read the numbers of an archive that its server kept beside the events, as events of type ``metrics``.

    :param path: the archive, or its manifest.
    :param storage_conn_id: as for :func:`read_archive`.
    :returns: one dict a row, with the server's own row under ``row``; empty if the events have the numbers.
    :raises FineTuningArchiveError: if there is none, or it does not match its manifest.
    """
    return StoredArchive.at(path, storage_conn_id=storage_conn_id).read_whole()[2]


class StoredArchive:
    """
    An archive in its storage.

    :param storage: its folder.
    :param name: its name in it.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage
        self.name = name

    @classmethod
    def at(
        cls,
        path: str | os.PathLike[str],
        *,
        storage_conn_id: str | None = None,
        job_id: str | None = None,
    ) -> StoredArchive:
        """
        Find an archive.

        :param path: the archive, or its manifest.
        :param storage_conn_id: connection of the storage.
        :param job_id: the job, for messages.
        :returns: the archive, which need not exist.
        """
        return cls(*storage_of(str(path).removesuffix(SUFFIX), conn_id=storage_conn_id, job_id=job_id))

    @property
    def shown(self) -> str:
        """Its path, for messages."""
        return self.storage.shown(self.name)

    @property
    def manifest_name(self) -> str:
        """The manifest's name."""
        return self.name + SUFFIX

    def manifest(self) -> Manifest | None:
        """
        Read the manifest.

        :returns: the manifest; None if there is none.
        :raises FineTuningArchiveError: if the file is not a manifest.
        """
        if self.storage.size(self.manifest_name) is None:
            return None
        content = b"".join(self.storage.blocks(self.manifest_name))
        return Manifest.read(content, where=self.storage.shown(self.manifest_name))

    def read(self) -> tuple[Manifest | None, list[dict[str, Any]]]:
        """
        Read the manifest and all events; while the archive is being replaced, either the old or the new.

        :returns: the manifest (None if there is none) and the events, oldest first.
        :raises FineTuningArchiveError: if the archive is missing or does not match its manifest.
        """
        manifest, events, _ = self._read(lambda manifest: [])
        return manifest, events

    def read_whole(self) -> tuple[Manifest | None, list[dict[str, Any]], list[dict[str, Any]]]:
        """
        Read the manifest, all events, and the numbers that the server kept beside them.

        :returns: as for :meth:`read`, and metrics events, oldest first; none where the events have them.
        :raises FineTuningArchiveError: if the archive is missing or does not match its manifest.
        """
        return self._read(self._metrics)

    def _read(
        self, read_metrics: Callable[[Manifest | None], list[dict[str, Any]]]
    ) -> tuple[Manifest | None, list[dict[str, Any]], list[dict[str, Any]]]:
        """
        Read an archive that may be being replaced.

        :raises FineTuningArchiveError: if the archive is missing or does not match its manifest.
        """
        before, left = None, TRIES
        for _ in range(MOST_TRIES):
            manifest = self.manifest()
            try:
                return manifest, list(self._parsed(self.lines(manifest))), read_metrics(manifest)
            except FineTuningArchiveError:
                left = left - 1 if manifest == before else TRIES - 1
                if not left or (manifest is None and self.manifest() is None):
                    raise
            before = manifest
            clock().sleep(PAUSE)
        raise FineTuningArchiveError(
            f"The archive {self.shown} keeps being replaced faster than it can be read. Read it when the "
            "task that writes it has ended."
        )

    def _metrics(self, manifest: Manifest | None) -> list[dict[str, Any]]:
        if manifest is None or manifest.metrics is None:
            return []
        layout = Layout(manifest.file_format, manifest.compression)
        return list(self._parsed(self._checked(manifest.metrics, layout)))

    def _parsed(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines, start=1):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict):
                raise FineTuningArchiveError(
                    f"{self.shown} cannot be read: its event {number:,} is not a JSON object. It is damaged, "
                    "or not an archive."
                )
            yield event

    def lines(self, manifest: Manifest | None) -> Iterator[bytes]:
        """
        Iterate over the events as lines of JSON, oldest first.

        :param manifest: lists the files; None for the archive's own file only.
        :returns: the lines.
        :raises FineTuningArchiveError: if a file is missing or damaged.
        """
        if manifest is None:
            with self._fetched(self.name) as (file, _):
                yield from self._lines_of(file, _layout_of(file), self.name)
            return
        layout = Layout(manifest.file_format, manifest.compression)
        for part in manifest.parts:
            yield from self._checked(part, layout)

    def _checked(self, part: Part, layout: Layout) -> Iterator[bytes]:
        """Iterate over the lines of a file that matches the manifest."""
        with self._fetched(part.name) as (file, digest):
            if digest != part.sha256:
                raise FineTuningArchiveError(
                    f"{self.storage.shown(part.name)} does not match its manifest: the sha256 is "
                    f"{digest}, not {part.sha256}. It was changed or damaged, or archiving was "
                    "interrupted: run the archiving task again, or restore the file."
                )
            yield from self._lines_of(file, layout, part.name)

    def intact_parts(self, manifest: Manifest) -> list[Part]:
        """
        Find the files that match the manifest.

        :param manifest: lists the files.
        :returns: the intact ones.
        """
        return [part for part in manifest.parts if self._hash(part, hashlib.sha256())]

    def holds(self, manifest: Manifest) -> bool:
        """
        Tell whether every file exists and has the right size, without reading any.

        :param manifest: lists the files.
        :returns: True if all do.
        """
        return all(self.storage.size(part.name) == part.bytes for part in manifest.files)

    def hashed(self, manifest: Manifest) -> hashlib._Hash | None:
        """
        Hash all files, and compare each with the manifest.

        :param manifest: lists the files.
        :returns: the hash of all their bytes, to continue with; None if one is missing or different.
        """
        whole = hashlib.sha256()
        for part in manifest.parts:
            if not self._hash(part, whole):
                return None
        return whole

    def _hash(self, part: Part, whole: hashlib._Hash) -> bool:
        if self.storage.size(part.name) != part.bytes:
            return False
        own = hashlib.sha256()
        for block in self.storage.blocks(part.name):
            own.update(block)
            whole.update(block)
        return own.hexdigest() == part.sha256

    @contextmanager
    def _fetched(self, name: str) -> Iterator[tuple[BinaryIO, str]]:
        """Copy a file here, so that it is checked before any of it is used."""
        if self.storage.size(name) is None:
            raise FineTuningArchiveError(
                f"There is no archive at {self.storage.shown(name)}. Check the path, and whether the "
                "archiving task has run."
            )
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as here:
            for block in self.storage.blocks(name):
                digest.update(block)
                with temporary_space():
                    here.write(block)
            here.seek(0)
            yield here, digest.hexdigest()  # type: ignore[misc]

    def _lines_of(self, file: BinaryIO, layout: Layout, name: str) -> Iterator[bytes]:
        try:
            yield from read_lines(file, layout)
        except FineTuningError:
            raise
        except (ValueError, TypeError, NotImplementedError, OSError, EOFError, zlib.error) as fault:
            raise FineTuningArchiveError(
                f"{self.storage.shown(name)} cannot be read as {layout.file_format}: {fault}. It is damaged, "
                "or not an archive."
            ) from None


def _layout_of(file: BinaryIO) -> Layout:
    """Determine a file's format by its first bytes: names may be wrong."""
    start = file.read(4)
    file.seek(0)
    if start == b"PAR1":
        return Layout("parquet", None)
    return Layout("jsonl", "gzip" if start[:2] == b"\x1f\x8b" else None)
