"""Spool: lines that read back as the very same event, in order, whatever the pages were."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.archive.spool import Spool, line_of
from airflow_ft_events.events import Order

# half of a surrogate pair among them: servers cut texts in the middle of a character
TEXT = st.text(st.characters(), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("null")
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
EVENTS = st.dictionaries(TEXT, VALUES, max_size=5)


@given(EVENTS)
def test_a_line_reads_back_as_the_same_event(raw: dict[str, Any]) -> None:
    line = line_of(raw)
    assert b"\n" not in line
    # the text of a dict tells NaN, -0.0, 1 and 1.0 apart
    assert repr(json.loads(line)) == repr(raw)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 10**40, "null", "\ud83d", None])
def test_what_other_writers_lose_is_kept(value: Any) -> None:
    raw = {"id": "a", "data": {"train_loss": value, "other": [value]}}
    assert repr(json.loads(line_of(raw))) == repr(raw)


@given(st.lists(st.lists(EVENTS, max_size=3), max_size=5), st.sampled_from(Order))
def test_pages_come_out_oldest_first(pages: list[list[dict[str, Any]]], order: Order) -> None:
    with Spool() as spool:
        for page in pages:
            spool.append(page)
        read = [raw for page in pages for raw in page]
        oldest_first = read if order is Order.OLDEST_FIRST else read[::-1]
        assert len(spool) == len(read)
        assert list(spool.lines(order)) == [line_of(raw) for raw in oldest_first]
        spool.drop_last(1)
        assert len(spool) == sum(map(len, pages[:-1]))
