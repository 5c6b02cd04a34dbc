"""Parquet: an archive's typed view as columns, and the verbatim event beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from airflow_ft_events.archive.spool import line_of
from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.events import Event, EventIds, server_id

ROWS_AT_ONCE = 20_000
CELLS_AT_ONCE = 1_000_000
"""Fewer rows where a log has many metrics."""
MOST_METRICS = 1_000
"""Maximum number of metric columns; any more are only in ``data`` and ``event``."""
OWN_COLUMNS = ("id", "created_at", "level", "type", "message", "step", "data", "event")


def arrow() -> Any:
    """
    Import pyarrow.

    :returns: the module.
    :raises FineTuningInputError: if it is not installed.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise FineTuningInputError(
            "Reading and writing parquet needs pyarrow, which is not installed where this runs. Install "
            "airflow-ft-events[parquet] there, or keep archives as jsonl."
        ) from None
    return pyarrow


def write_parquet(
    lines: Callable[[], Iterator[bytes]],
    target: Path,
    *,
    compression: str | None,
    ids: Callable[[], EventIds],
) -> None:
    """
    Write events as rows: the typed view, a column of doubles for each metric, ``data`` and ``event`` as JSON.

    :param lines: iterates over the events as lines of JSON, oldest first, each time it is called.
    :param target: the file.
    :param compression: ``snappy``, ``gzip``, ``zstd``, or None.
    :param ids: gives ids to events that have none.
    """
    pa = arrow()
    names, all_have_ids = _metric_names(lines())
    text = pa.string()
    schema = pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
            *(pa.field(name, text) for name in ("level", "type", "message")),
            pa.field("step", pa.int64()),
            *(pa.field(column, pa.float64()) for column in names.values()),
            pa.field("data", text),
            pa.field("event", text, nullable=False),
        ]
    )
    known = EventIds() if all_have_ids else ids()
    with pa.parquet.ParquetWriter(target, schema, compression=compression or "none") as writer:
        walk, rows_at_once = lines(), min(ROWS_AT_ONCE, CELLS_AT_ONCE // len(schema))
        while chunk := list(islice(walk, rows_at_once)):
            rows = [_row(line, names, known) for line in chunk]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def read_parquet(file: BinaryIO) -> Iterator[bytes]:
    """
    Iterate over the verbatim events of a file that :func:`write_parquet` wrote.

    :param file: the file; must be seekable.
    :returns: lines of JSON.
    :raises ValueError: if it is damaged or has no column ``event``.
    """
    found = arrow().parquet.ParquetFile(file)
    if "event" not in found.schema_arrow.names:
        raise ValueError("it has no column 'event'")
    for batch in found.iter_batches(batch_size=ROWS_AT_ONCE, columns=["event"]):
        for line in batch.column(0).to_pylist():
            if not isinstance(line, str):
                raise ValueError("its column 'event' contains something other than text")
            yield line.encode()


def _metric_names(lines: Iterator[bytes]) -> tuple[dict[str, str], bool]:
    """Find the metrics and the column of each, and whether every event has an id from the server."""
    found: set[str] = set()
    all_have_ids = True
    for line in lines:
        raw = json.loads(line)
        all_have_ids = all_have_ids and server_id(raw) is not None
        found.update(Event(raw, "").metrics)
    found.discard("step")
    columns: dict[str, str] = {}
    taken = set(OWN_COLUMNS)
    for name in sorted(found)[:MOST_METRICS]:
        column = _text(f"metric_{name}" if name in OWN_COLUMNS or not name else name)
        if column not in taken:
            columns[name] = column
            taken.add(column)
    return columns, all_have_ids


def _row(line: bytes, names: Mapping[str, str], ids: EventIds) -> dict[str, Any]:
    raw = json.loads(line)
    event = Event(raw, ids.id_of(raw))
    created_at, data = event.created_at, raw.get("data")
    row: dict[str, Any] = {
        "id": _text(event.id),
        "created_at": None if created_at is None else round(created_at * 1_000_000),
        "level": _text(event.level),
        "type": _text(event.type),
        "message": _text(event.message),
        "step": event.step,
        "data": None if data is None else line_of(data).decode(),
        "event": line.decode(),
    }
    for name, value in event.metrics.items():
        if name in names:
            row[names[name]] = float(value)
    return row


def _text(text: str) -> str:
    """Make a server's text valid UTF-8; the verbatim event keeps what this loses."""
    return text.encode("utf-8", "replace").decode()
