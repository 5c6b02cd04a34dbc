"""Together's metrics of a job: which rows a request asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_ft_events.simulator.create import InvalidRequestError

Row = tuple[float, Mapping[str, float]]
"""When it was logged, seconds since 1970, and its numbers."""
STEP = "train/global_step"


def rows_asked(rows: Sequence[Row], asked: Mapping[str, Any]) -> list[dict[str, float]]:
    """
    Return the rows that a request asks for, as they are served.

    :param rows: what has been logged, oldest first.
    :param asked: ``global_step_from``, ``global_step_to``, ``logged_at_from``, ``logged_at_to`` and
        ``resolution``, from the query or, as in the older specification, from the body.
    :raises InvalidRequestError: if one of them cannot be read.
    """
    first, last = _number(asked, "global_step_from"), _number(asked, "global_step_to")
    since, until = _time(asked, "logged_at_from"), _time(asked, "logged_at_to")
    found = [
        (at, row)
        for at, row in rows
        if (first is None or row.get(STEP, first) >= first)
        and (last is None or row.get(STEP, last) <= last)
        and (since is None or at >= since)
        and (until is None or at <= until)
    ]
    resolution = _number(asked, "resolution")
    kept = _sampled([at_row for at_row in found if _trains(at_row)], resolution)
    return [
        {"timestamp": int(at * 1e9), **row} for at, row in found if not _trains((at, row)) or id(row) in kept
    ]


def _trains(row: Row) -> bool:
    return not any(name.startswith("eval/") for name in row[1])


def _sampled(rows: Sequence[Row], most: int | None) -> set[int]:
    """Which rows stay if only so many may: the first, the last, and others at even distances."""
    count = len(rows) if most is None else min(most, len(rows))
    places = {round(n * (len(rows) - 1) / max(count - 1, 1)) for n in range(count)}
    return {id(rows[place][1]) for place in places}


def _number(asked: Mapping[str, Any], name: str) -> int | None:
    value = asked.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise _refused(name, "a whole number") from None


def _time(asked: Mapping[str, Any], name: str) -> float | None:
    value = asked.get(name)
    if value is None:
        return None
    try:
        told = datetime.fromisoformat(value)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise _refused(name, "a time in ISO 8601") from None


def _refused(name: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid value for {name!r}: use {what}.", param=name, code="invalid_value")
