"""Points in time, in every unit and notation that servers were seen to use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_ft_events.events import Order, epoch_seconds, iso_utc, order_of

HUGE = 10**400
SECOND = 1_700_000_000


def zoned(second: int, hours: float) -> datetime:
    return datetime.fromtimestamp(second, timezone(timedelta(hours=hours)))


def plain(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"


SHAPES: dict[str, Callable[[int], Any]] = {
    "seconds": lambda second: second,
    "milliseconds": lambda second: second * 10**3,
    "microseconds": lambda second: second * 10**6,
    "nanoseconds": lambda second: second * 10**9,
    "float seconds": float,
    "float milliseconds": lambda second: second * 1e3,
    "text of seconds": str,
    "text with a fraction": lambda second: f" {second}.0 ",
    "text of milliseconds": lambda second: str(second * 10**3),
    "text of nanoseconds": lambda second: str(second * 10**9),
    "text with an exponent": lambda second: f"{second:.12e}",
    "ISO 8601": lambda second: zoned(second, 0).isoformat(),
    "ISO 8601, Z": lambda second: plain(second).replace(" ", "T") + "Z",
    "ISO 8601, small letters": lambda second: plain(second).replace(" ", "t") + "z",
    "ISO 8601, milliseconds": lambda second: plain(second).replace(" ", "T") + ".000Z",
    "ISO 8601, nanoseconds": lambda second: plain(second).replace(" ", "T") + ".000000000Z",
    "ISO 8601, no zone": lambda second: plain(second).replace(" ", "T"),
    "ISO 8601, an offset": lambda second: zoned(second, 5.5).isoformat(),
    "ISO 8601, an offset without a colon": lambda second: f"{zoned(second, -7):%Y-%m-%dT%H:%M:%S%z}",
    "ISO 8601, compact": lambda second: f"{zoned(second, 0):%Y%m%dT%H%M%SZ}",
    "a space": plain,
    "a space and UTC": lambda second: f"{plain(second)} UTC",
    "a space and Z": lambda second: f"{plain(second)} Z",
    "a space and an offset": lambda second: f"{zoned(second, 2):%Y-%m-%d %H:%M:%S %z}",
    "Go": lambda second: f"{plain(second)}.000000001 +0000 UTC",
    "Go, with its clock": lambda second: f"{zoned(second, 1):%Y-%m-%d %H:%M:%S %z} CET m=+0.000012",
    "Java": lambda second: f"{zoned(second, 1).isoformat()}[Europe/Berlin]",
    "RFC 1123": lambda second: format_datetime(zoned(second, 0), usegmt=True),
    "mail, with an offset": lambda second: format_datetime(zoned(second, -5)),
    "mail, no weekday": lambda second: f"{zoned(second, 0):%d %b %Y %H:%M:%S} +0000",
    "ctime": lambda second: f"{zoned(second, 0):%a %b %e %H:%M:%S %Y}",
}
SECONDS = st.integers(min_value=100_000_000, max_value=99_999_999_999)
DATED = st.integers(min_value=100_000_000, max_value=253_402_214_400 // 3)
"""Up to the year 4646: far from the last year that a date can have, in every zone."""


@settings(deadline=None, derandomize=True, max_examples=200)
@given(DATED)
@example(SECOND)
def test_a_time_reads_as_the_same_second_in_every_unit_and_notation(second: int) -> None:
    read = {name: epoch_seconds(shape(second)) for name, shape in SHAPES.items()}
    assert {name: at for name, at in read.items() if at is None or abs(at - second) > 1e-3} == {}


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(DATED, min_size=2, max_size=6, unique=True), st.data())
def test_a_log_keeps_its_order_though_it_mixes_units_and_notations(
    times: list[int], data: st.DataObject
) -> None:
    shapes = [SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))] for _ in times]
    log = [{"created_at": shape(at)} for shape, at in zip(shapes, sorted(times), strict=True)]
    assert order_of(log) is Order.OLDEST_FIRST
    assert order_of(log[::-1]) is Order.NEWEST_FIRST


@settings(deadline=None, derandomize=True, max_examples=300)
@given(SECONDS, st.sampled_from([10**3, 10**6, 10**9]), st.data())
@example(99_999_999_999, 10**9, None)
def test_a_smaller_unit_is_read_with_its_fraction_and_never_falls_out_of_its_second(
    second: int, unit: int, data: st.DataObject | None
) -> None:
    part = data.draw(st.integers(min_value=0, max_value=unit - 1)) if data else 0
    at = epoch_seconds(second * unit + part)
    assert at is not None
    assert second <= at <= second + 1
    assert epoch_seconds(str(second * unit + part)) == at


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (7, 7.0),
        (1_700_000_000.5, 1_700_000_000.5),
        (1_700_000_000_500, 1_700_000_000.5),
        ("1700000000500", 1_700_000_000.5),
        (" 2023-11-14T22:13:20.500Z ", 1_700_000_000.5),
        ("2023-11-14 22:13:20.500 UTC", 1_700_000_000.5),
    ],
)
def test_a_fraction_of_a_second_is_kept(value: Any, seconds: float) -> None:
    assert epoch_seconds(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -5,
        -SECOND * 1000,
        10**20,
        99_999_999_999_999_999_999,
        "",
        "soon",
        "0",
        "-1700000000",
        "nan",
        "inf",
        "1e999",
        "9" * 5_000,
        "Fri " + "1:11 " * 5_000,
        float("nan"),
        float("inf"),
        HUGE,
        -HUGE,
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "9999-12-31T23:59:59Z",
        "2026-13-01 00:00:00 UTC",
        "2026-01-02 03:04:05 somewhere",
        "Fri, 99 Jan 2026 03:04:05 GMT",
        "Friday, 12:30",
        "in 5 min 2:30",
        [],
        {},
    ],
)
def test_an_impossible_time_is_read_as_none(value: Any) -> None:
    assert epoch_seconds(value) is None


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.one_of(st.text(max_size=90), st.text("0123456789-: TZ+.UTCGMTFriJan,[]m=", max_size=40), st.floats())
)
def test_whatever_a_server_writes_is_a_time_in_range_or_none(value: Any) -> None:
    at = epoch_seconds(value)
    assert at is None or 0 < at < 1e11


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0.0, "1970-01-01T00:00:00+00:00"), (1e12, None), (-1e12, None), (float("nan"), None)],
)
def test_a_time_is_written_in_utc_or_not_at_all(seconds: float | None, text: str | None) -> None:
    assert iso_utc(seconds) == text
