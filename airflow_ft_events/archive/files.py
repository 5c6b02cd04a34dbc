"""The files of an archive: written from lines of JSON, oldest first, and read back as lines."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from airflow_ft_events.api.bookmark import KEPT
from airflow_ft_events.archive.layout import Layout
from airflow_ft_events.archive.storage import AT_ONCE
from airflow_ft_events.events import Event, EventIds, server_id

LINES_AT_ONCE = 1000

Lines = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """
    A file that was written.

    :param count: events in it.
    :param bytes: its size.
    :param sha256: of its bytes.
    :param first: its oldest event; None if it has none.
    :param newest: its newest events, at most 32, oldest first.
    """

    count: int
    bytes: int
    sha256: str
    first: Event | None
    newest: tuple[Event, ...]


def write_file(lines: Lines, target: Path, layout: Layout, *, ids: Callable[[], EventIds]) -> Written:
    """
    Write events into a local file; the same events give the same bytes.

    :param lines: iterates over the events as lines of JSON, oldest first, each time it is called.
    :param target: the file.
    :param layout: its format.
    :param ids: gives ids to events that have none, continuing from what the archive already contains.
    :returns: what was written.
    """
    if layout.file_format == "parquet":
        from airflow_ft_events.archive.parquet import write_parquet

        write_parquet(lines, target, compression=layout.compression, ids=ids)
    else:
        _write_jsonl(lines(), target, compressed=layout.compression is not None)
    count, first, newest = _ends(lines, ids)
    with target.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
        return Written(count=count, bytes=written.tell(), sha256=digest, first=first, newest=newest)


def _write_jsonl(lines: Iterator[bytes], target: Path, *, compressed: bool) -> None:
    with ExitStack() as stack:
        sink: Any = stack.enter_context(target.open("wb"))
        if compressed:
            # neither a name nor a time in the header, so the same log gives the same bytes
            sink = stack.enter_context(gzip.GzipFile("", "wb", 6, sink, mtime=0))
        while chunk := list(islice(lines, LINES_AT_ONCE)):
            sink.write(b"\n".join(chunk) + b"\n")


def _ends(lines: Lines, ids: Callable[[], EventIds]) -> tuple[int, Event | None, tuple[Event, ...]]:
    """Count the events, and return the first and the newest ones."""
    count, first_line, newest_lines = 0, None, deque[bytes](maxlen=KEPT)
    for line in lines():
        first_line = line if first_line is None else first_line
        newest_lines.append(line)
        count += 1
    if first_line is None:
        return 0, None, ()
    raws = [json.loads(line) for line in (first_line, *newest_lines)]
    given = [server_id(raw) for raw in raws]
    if None not in given:
        events = [Event(raw, str(known)) for raw, known in zip(raws, given, strict=True)]
        return count, events[0], tuple(events[1:])
    # a generated id counts equal events from the oldest, so all of them have to be read
    first, newest = None, deque[Event](maxlen=KEPT)
    for event in identified(lines(), ids()):
        first = first or event
        newest.append(event)
    return count, first, tuple(newest)


def identified(lines: Iterable[bytes], ids: EventIds) -> Iterator[Event]:
    """
    Iterate over events, typed.

    :param lines: lines of JSON, oldest first.
    :param ids: gives ids to events that have none.
    :returns: the events.
    """
    for line in lines:
        raw = json.loads(line)
        yield Event(raw, ids.id_of(raw))


def read_lines(file: BinaryIO, layout: Layout) -> Iterator[bytes]:
    """
    Iterate over the events of a file as lines of JSON.

    :param file: open for reading; must be seekable for parquet.
    :param layout: its format.
    :returns: the lines, without line ends.
    :raises ValueError: if it is damaged; also OSError and EOFError.
    """
    if layout.file_format == "parquet":
        from airflow_ft_events.archive.parquet import read_parquet

        yield from read_parquet(file)
        return
    source = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb")) if layout.compression else file
    rest = b""
    while block := source.read(AT_ONCE):
        *whole, rest = (rest + block).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest
