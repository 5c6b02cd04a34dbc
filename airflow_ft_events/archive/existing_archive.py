"""ExistingArchive: what an archive contains before a run writes to it, and what of it can be trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from airflow_ft_events.archive.files import identified
from airflow_ft_events.archive.manifest import Manifest, Part
from airflow_ft_events.archive.reader import StoredArchive
from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import EventIds

Lines = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True)
class ExistingArchive:
    """
    The contents of an archive.

    :param stored: the stored archive.
    :param manifest: its manifest.
    :param parts: those of its files that match the manifest.
    :param hash: of the bytes of all files, to continue with; None unless all can be trusted.
    :param unfinished: whether the archive's own file is newer than its manifest: a run was killed between
        the two. It then contains everything.
    """

    stored: StoredArchive
    manifest: Manifest
    parts: Sequence[Part]
    hash: hashlib._Hash | None
    unfinished: bool = False

    @classmethod
    def of(cls, stored: StoredArchive, manifest: Manifest) -> ExistingArchive:
        """
        Check every file.

        :param stored: the stored archive.
        :param manifest: its manifest.
        :returns: the archive's contents.
        :raises FineTuningArchiveError: the storage cannot be read.
        """
        whole = stored.hashed(manifest)
        if whole is not None:
            return cls(stored=stored, manifest=manifest, parts=manifest.parts, hash=whole)
        intact = stored.intact_parts(manifest)
        changed = any(part.name == stored.name and part not in intact for part in manifest.parts)
        return cls(
            stored=stored,
            manifest=manifest,
            parts=intact,
            hash=None,
            unfinished=changed and _goes_on_from(stored, manifest),
        )

    @property
    def intact(self) -> bool:
        """Whether every file matches the manifest."""
        return self.hash is not None

    def lines(self) -> Iterator[bytes]:
        """Return the trusted events, as lines of JSON, oldest first."""
        return self.stored.lines(None if self.unfinished else replace(self.manifest, parts=self.parts))


def _goes_on_from(stored: StoredArchive, manifest: Manifest) -> bool:
    """Whether the archive's own file contains what the manifest lists, from the first event on, or more."""
    if stored.storage.size(stored.name) is None:
        return False
    first, count = manifest.as_dict()["first_event"], 0
    try:
        for count, event in enumerate(identified(stored.lines(None), EventIds()), start=1):
            if count == 1 and first and event.id != first["id"]:
                return False
    except (FineTuningArchiveError, ValueError, AttributeError):
        return False
    return count >= manifest.count


def lacking(known: Lines, new: Lines) -> Iterator[bytes]:
    """
    Iterate over the events of a log that another one does not have.

    :param known: iterates over the other one, as lines of JSON, oldest first.
    :param new: iterates over the log.
    :returns: lines of JSON.
    """
    by_content = False
    keys = {key for key, _ in _keyed(known(), by_content=False)}
    if keys and not any(key in keys for key, _ in _keyed(new(), by_content=False)):
        # a server that generates new ids on each read: events are recognised by what they say
        by_content = True
        keys = {key for key, _ in _keyed(known(), by_content=True)}
    for key, line in _keyed(new(), by_content=by_content):
        if key not in keys:
            yield line


def _keyed(lines: Iterable[bytes], *, by_content: bool) -> Iterator[tuple[str, bytes]]:
    ids = EventIds()
    for line in lines:
        raw = json.loads(line)
        yield ids.id_of({**raw, "id": None} if by_content else raw), line
