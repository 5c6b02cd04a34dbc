"""Storage: the folder that an archive lies in; files come whole or not at all. Decides nothing."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

COMMITS_WHOLE_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
"""Stores that show an upload only when it is complete; elsewhere a file is moved into its place."""
_UNFINISHED = ".writing"


class Storage(Protocol):
    """A folder. Names are relative to it, and may lie in a folder below."""

    def shown(self, name: str) -> str:
        """:returns: a file's path, for messages."""

    def size(self, name: str) -> int | None:
        """:returns: a file's bytes; None where there is no such file."""

    def open(self, name: str) -> BinaryIO:
        """:returns: a file to read from."""

    def put(self, local: Path, name: str) -> None:
        """Put a local file in a name's place: who reads sees the old file or the new one."""

    def names_in(self, folder: str) -> Sequence[str]:
        """:returns: the names of the files in a folder below; none where it is missing."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class LocalStorage:
    """
    A folder of this machine, or one that is mounted here.

    :param folder: it; made when something is put into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def shown(self, name: str) -> str:
        """:returns: a file's path, for messages."""
        return str(self._folder / name)

    def size(self, name: str) -> int | None:
        """:returns: a file's bytes; None where there is no such file."""
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def open(self, name: str) -> BinaryIO:
        """:returns: a file to read from."""
        return (self._folder / name).open("rb")

    def put(self, local: Path, name: str) -> None:
        """
        Put a local file in a name's place.

        :param local: the file.
        :param name: the place.
        """
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = f".{target.name}."
        unfinished = target.with_name(f"{beside}{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            with local.open("rb") as source, unfinished.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1024 * 1024)
                sink.flush()
                os.fsync(sink.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        for left in target.parent.iterdir():  # by a task that was killed while it wrote
            if left.name.startswith(beside) and left.name.endswith(_UNFINISHED):
                left.unlink(missing_ok=True)

    def names_in(self, folder: str) -> Sequence[str]:
        """
        List the files in a folder below.

        :param folder: its name.
        :returns: their names, with the folder's.
        """
        path = self._folder / folder
        return [f"{folder}/{each.name}" for each in path.iterdir() if each.is_file()] if path.is_dir() else []

    def remove(self, name: str) -> None:
        """
        Remove a file, if it is there.

        :param name: the file.
        """
        (self._folder / name).unlink(missing_ok=True)


class ObjectStorage:
    """
    A folder of a file system that fsspec knows, reached as Airflow reaches it.

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
        """:returns: a file's path, for messages."""
        return f"{self._protocol}://{self._at(name).lstrip('/')}"

    def size(self, name: str) -> int | None:
        """:returns: a file's bytes; None where there is no such file."""
        self._fs.invalidate_cache()
        try:
            return int(self._fs.size(self._at(name)))
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """:returns: a file to read from."""
        return cast("BinaryIO", self._fs.open(self._at(name), "rb"))

    def put(self, local: Path, name: str) -> None:
        """
        Put a local file in a name's place.

        Never through an open file of the store: one that is closed by an error would show what came so far.

        :param local: the file.
        :param name: the place.
        """
        target = self._at(name)
        if self._protocol in COMMITS_WHOLE_OBJECTS:
            self._fs.put_file(str(local), target)
            return
        folder, _, base = target.rpartition("/")
        self._fs.makedirs(folder, exist_ok=True)
        unfinished = f"{folder}/.{base}.{uuid.uuid4().hex}{_UNFINISHED}"
        self._fs.put_file(str(local), unfinished)
        self._fs.mv(unfinished, target)

    def names_in(self, folder: str) -> Sequence[str]:
        """
        List the files in a folder below.

        :param folder: its name.
        :returns: their names, with the folder's.
        """
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return []
        return [f"{folder}/{each['name'].rpartition('/')[2]}" for each in found if each["type"] == "file"]

    def remove(self, name: str) -> None:
        """
        Remove a file, if it is there.

        :param name: the file.
        """
        if self.size(name) is not None:
            self._fs.rm_file(self._at(name))


def storage_of(path: str, *, conn_id: str | None = None) -> tuple[Storage, str]:
    """
    Find the folder of an archive.

    :param path: the archive: a local path, or anything that Airflow's ``ObjectStoragePath`` takes.
    :param conn_id: the storage's connection; default what stands before an ``@`` in the path, or none.
    :returns: the folder, and the archive's name in it.
    """
    protocol, separator, rest = path.partition("://")
    if not separator or protocol in ("file", "local"):
        # plain files need neither Airflow nor a connection, so a simulator can read an archive
        local = Path(rest.partition("@")[2] if rest.partition("/")[0].endswith("@") else rest or path)
        return LocalStorage(local.parent), local.name
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    target = ObjectStoragePath(path, conn_id=conn_id)
    folder, _, name = target.path.rpartition("/")
    return ObjectStorage(target.fs, protocol=target.protocol, folder=folder), name
