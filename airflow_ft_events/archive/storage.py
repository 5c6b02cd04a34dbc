"""Storage: the folder of an archive; files are written whole or not at all. Decides nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from airflow_ft_events.errors import FineTuningArchiveError, FineTuningError, FineTuningInputError
from airflow_ft_events.events import one_line

AT_ONCE = 1024 * 1024
"""Bytes read at a time."""
COMMITS_WHOLE_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
"""Stores that show an upload only when it is complete; elsewhere a file is moved into place."""
_UNFINISHED = ".writing"


class Storage(Protocol):
    """A folder. Names are relative to it, and may be in a subfolder."""

    def shown(self, name: str) -> str:
        """Return a file's path, for messages."""

    def size(self, name: str) -> int | None:
        """Return a file's bytes; None if there is no such file."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, a block at a time."""

    def put(self, local: Path, name: str) -> None:
        """Store a local file under a name; readers see the old file or the new one."""

    def names_in(self, folder: str) -> Sequence[str]:
        """Return the names of the files in a subfolder; none if it is missing."""

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""


class LocalStorage:
    """
    A folder of this machine, or one that is mounted here.

    :param folder: the folder; created when something is put into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def shown(self, name: str) -> str:
        """Return a file's path, for messages."""
        return str(self._folder / name)

    def size(self, name: str) -> int | None:
        """Return a file's bytes; None if there is no such file."""
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def blocks(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, a block at a time."""
        with (self._folder / name).open("rb") as file:
            while block := file.read(AT_ONCE):
                yield block

    def put(self, local: Path, name: str) -> None:
        """
        Store a local file under a name.

        :param local: the file.
        :param name: the name.
        """
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = f".{target.name}."
        unfinished = target.with_name(f"{beside}{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            with local.open("rb") as source, unfinished.open("wb") as sink:
                shutil.copyfileobj(source, sink, AT_ONCE)
                sink.flush()
                os.fsync(sink.fileno())
            unfinished.replace(target)
            _sync_folder(target.parent)
        finally:
            unfinished.unlink(missing_ok=True)
        for left in target.parent.iterdir():  # by a task that was killed while writing
            if left.name.startswith(beside) and left.name.endswith(_UNFINISHED):
                left.unlink(missing_ok=True)

    def names_in(self, folder: str) -> Sequence[str]:
        """
        List the files in a subfolder.

        :param folder: its name.
        :returns: their names, including the subfolder's.
        """
        path = self._folder / folder
        return [f"{folder}/{each.name}" for each in path.iterdir() if each.is_file()] if path.is_dir() else []

    def remove(self, name: str) -> None:
        """
        Remove a file, if it exists.

        :param name: the file.
        """
        (self._folder / name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make sure that a power cut cannot lose a file but keep the manifest, which is written after it."""
    with contextlib.suppress(OSError):  # some mounted file systems cannot do it
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


class ObjectStorage:
    """
    A folder of a file system that fsspec supports, accessed the way Airflow does.

    :param fs: the file system.
    :param protocol: its protocol.
    :param folder: the folder, as the file system names it.
    """

    def __init__(self, fs: Any, *, protocol: str, folder: str) -> None:
        self._fs = fs
        self._protocol = protocol
        self._folder = folder

    def _at(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def shown(self, name: str) -> str:
        """Return a file's path, for messages."""
        return f"{self._protocol}://{self._at(name).lstrip('/')}"

    def size(self, name: str) -> int | None:
        """Return a file's bytes; None if there is no such file."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def blocks(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, a block at a time."""
        if (self.size(name) or 0) <= AT_ONCE:
            # in one request: between two, the file could be replaced and the second one refused
            yield self._fs.cat_file(self._at(name))
            return
        with self._fs.open(self._at(name), "rb") as file:
            while block := file.read(AT_ONCE):
                yield block

    def put(self, local: Path, name: str) -> None:
        """
        Store a local file under a name.

        Never through an open file of the store: if an error closed it, readers would see a partial file.

        :param local: the file.
        :param name: the name.
        """
        target = self._at(name)
        if self._protocol in COMMITS_WHOLE_OBJECTS:
            self._fs.put_file(str(local), target)
            return
        folder, _, base = target.rpartition("/")
        self._fs.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{base}."
        unfinished = f"{beside}{uuid.uuid4().hex}{_UNFINISHED}"
        self._fs.put_file(str(local), unfinished)
        self._move(unfinished, target)
        for left in self._fs.ls(folder, detail=False):  # by a task that was killed while writing
            if left.startswith(beside) and left.endswith(_UNFINISHED):
                self._fs.rm_file(left)

    def _move(self, old: str, new: str) -> None:
        from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

        if type(self._fs).mv is AbstractFileSystem.mv:  # it would treat * and [ in names as patterns
            self._fs.cp_file(old, new)
            self._fs.rm_file(old)
        else:
            self._fs.mv(old, new)

    def names_in(self, folder: str) -> Sequence[str]:
        """
        List the files in a subfolder.

        :param folder: its name.
        :returns: their names, including the subfolder's.
        """
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return []
        names = [each["name"].rpartition("/")[2] for each in found if each["type"] == "file"]
        return [f"{folder}/{name}" for name in names if name]

    def remove(self, name: str) -> None:
        """
        Remove a file, if it exists.

        :param name: the file.
        """
        if self.size(name) is not None:
            self._fs.rm_file(self._at(name))


class TellingStorage:
    """
    A folder whose errors become our own: stores raise exceptions of their own libraries.

    :param storage: the folder.
    :param about: whose archive it is, and how it is accessed, for messages.
    """

    def __init__(self, storage: Storage, *, about: str) -> None:
        self._storage = storage
        self._about = about

    def shown(self, name: str) -> str:
        """Return a file's path, for messages."""
        return self._storage.shown(name)

    def size(self, name: str) -> int | None:
        """Return a file's bytes; None if there is no such file."""
        with self._telling("check", name):
            return self._storage.size(name)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, a block at a time."""
        with self._telling("read", name):
            yield from self._storage.blocks(name)

    def put(self, local: Path, name: str) -> None:
        """Store a local file under a name."""
        with self._telling("write", name):
            self._storage.put(local, name)

    def names_in(self, folder: str) -> Sequence[str]:
        """Return the names of the files in a subfolder; none if it is missing."""
        with self._telling("list", folder):
            return self._storage.names_in(folder)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with self._telling("remove", name):
            self._storage.remove(name)

    @contextlib.contextmanager
    def _telling(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except FineTuningError:
            raise
        except Exception as fault:  # noqa: BLE001 - botocore, gcsfs, adlfs, aiohttp: no base in common
            raise FineTuningArchiveError(
                f"Cannot {doing} {self.shown(name)}{self._about}: {told_of(fault)}. No archived event is "
                "lost. Fix the cause, then run this again; archiving continues from what is there."
            ) from None


def told_of(fault: Exception) -> str:
    """
    Describe a store's error in one line.

    :param fault: whatever it raised.
    :returns: the error's type and text.
    """
    # a signed URL's query is a password
    said = re.sub(r"\?[^\s'\"]+", "?…", one_line(fault, limit=300))
    return f"{type(fault).__name__}: {said}" if said else type(fault).__name__


def storage_of(
    path: str, *, conn_id: str | None = None, job_id: str | None = None
) -> tuple[TellingStorage, str]:
    """
    Find the folder of an archive.

    :param path: the archive: a local path, or anything that Airflow's ``ObjectStoragePath`` accepts.
    :param conn_id: the storage's connection; default the part before an ``@`` in the path, or none.
    :param job_id: the job, for messages.
    :returns: the folder, and the archive's name in it.
    :raises FineTuningInputError: if the storage cannot be used.
    """
    about = f" (job {job_id})" if job_id else ""
    protocol, separator, rest = path.partition("://")
    if not separator or protocol in ("file", "local"):
        # plain files need neither Airflow nor a connection, so a simulator can read an archive
        local = Path(rest.partition("@")[2] if rest.partition("/")[0].endswith("@") else rest or path)
        return TellingStorage(LocalStorage(local.parent), about=about), local.name
    authority, slash, key = rest.partition("/")
    named, _, bucket = authority.rpartition("@")
    conn_id = conn_id or named or None
    told = f"connection {conn_id!r}" if conn_id else "without a connection"
    about = f" (job {job_id}, {told})" if job_id else f" ({told})"
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        # the id goes into only one place: Airflow 2 prefers the argument, even if it is None, 3 the path
        bare = f"{protocol}://{bucket}{slash}{key}"
        target = ObjectStoragePath(bare, conn_id=conn_id) if conn_id else ObjectStoragePath(bare)
        fs = target.fs
    except Exception as fault:  # noqa: BLE001 - each store's library raises its own exceptions
        raise FineTuningInputError(
            f"The storage of {protocol}://{bucket}{slash}{key}{about} cannot be used: {told_of(fault)}. "
            "Check the path's protocol, that its provider and file system package are installed where this "
            "task runs (for s3: apache-airflow-providers-amazon[s3fs]), and the connection.",
            job_id=job_id,
        ) from None
    folder, _, name = target.path.rpartition("/")
    return TellingStorage(ObjectStorage(fs, protocol=target.protocol, folder=folder), about=about), name
