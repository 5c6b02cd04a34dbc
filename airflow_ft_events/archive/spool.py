"""Spool: the pages of a log on disk, as lines, until the log can be written oldest first."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import Order

IN_MEMORY = 8 * 1024 * 1024
"""Bytes kept in memory before a file is used."""

_encode_fast = msgspec.json.Encoder().encode
# NaN, Infinity and lone surrogates come back as they went in
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def line_of(raw: dict[str, Any]) -> bytes:
    """
    Encode an event as one line of JSON that reads back as the same dict.

    :param raw: the event as it came.
    :returns: UTF-8, without a line end.
    """
    try:
        line = _encode_fast(raw)  # a tenth of the standard library's time
        # msgspec writes null for NaN and Infinity as well
        return line if b"null" not in line else _encode(raw).encode()
    except UnicodeEncodeError:  # a lone surrogate: only an escape can express that
        return _encode_ascii(raw).encode()


@contextmanager
def temporary_space() -> Iterator[None]:
    """
    Distinguish a full disk of this machine from a fault of the archive's store.

    :raises FineTuningArchiveError: if the temporary folder cannot be written.
    """
    try:
        yield
    except OSError as fault:
        raise FineTuningArchiveError(
            f"The temporary folder of this worker ({tempfile.gettempdir()}) cannot store the log: "
            f"{fault.strerror or fault}. The archive was not changed. Free some space there, or set TMPDIR "
            "to a larger folder, and run the task again."
        ) from None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """
    Make a temporary folder, which is removed at the end.

    :returns: the folder.
    :raises FineTuningArchiveError: if it cannot be written.
    """
    with temporary_space(), tempfile.TemporaryDirectory(prefix="ft-archive-") as folder:
        yield Path(folder)


class Spool:
    """
    Keeps the pages that a walk reads, on disk beyond 8 MiB: a log of any length takes little memory.

    It serves as a feed's ``Pages``.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._places: list[tuple[int, int, int]] = []

    def __enter__(self) -> Spool:
        """Return itself; leaving removes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def __len__(self) -> int:
        return sum(count for _, _, count in self._places)

    def append(self, page: Sequence[dict[str, Any]], /) -> None:
        """
        Keep one more page.

        :param page: events in the server's order.
        """
        lines = b"\n".join(map(line_of, page))
        with temporary_space():
            start = self._file.seek(0, 2)
            self._file.write(lines)
        self._places.append((start, len(lines), len(page)))

    def drop_last(self, count: int) -> None:
        """
        Forget the last pages.

        :param count: how many.
        """
        del self._places[-count:]

    def clear(self) -> None:
        """Forget all pages."""
        self._places.clear()

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Iterate over the pages in the order in which they were read."""
        for place in self._places:
            yield [json.loads(line) for line in self._lines_at(place)]

    def lines(self, order: Order) -> Iterator[bytes]:
        """
        Iterate over the events as lines of JSON, oldest first.

        :param order: the order in which they were read.
        :returns: the lines.
        """
        newest_first = order is Order.NEWEST_FIRST
        for place in reversed(self._places) if newest_first else self._places:
            lines = self._lines_at(place)
            yield from reversed(lines) if newest_first else lines

    def _lines_at(self, place: tuple[int, int, int]) -> list[bytes]:
        start, length, count = place
        if not count:
            return []
        self._file.seek(start)
        return self._file.read(length).split(b"\n")
