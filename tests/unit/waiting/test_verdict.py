"""The table of a wait: every pair of answers has a row, every row is reached, and what it must never do."""

from __future__ import annotations

import itertools

import pytest

from airflow_ft_events.waiting.verdict import TABLE, Known, Row, Said, Then, verdict

GONE = (Said.MISSING, Said.NOT_FOUND)
FAULTS = (*GONE, Said.FAULT, Said.PAUSE, Said.DENIED, Said.NOT_ASKED)
JOB = (Said.ENDED, Said.GOES_ON, *FAULTS)
EVENTS = (Said.NEWS, Said.NOTHING_NEW, *FAULTS)
KNOWN = [
    Known(sum(flag.value for flag in flags))
    for size in range(len(Known) + 1)
    for flags in itertools.combinations(Known, size)
]
CELLS = list(itertools.product(JOB, EVENTS, KNOWN))
REFUSED = {Then.FAIL, Then.PAUSE, Then.COUNT_ABSENCE, Then.COUNT_FAILURE}


def first_row(job: Said, events: Said, known: Known) -> Row:
    return next(row for row in TABLE if job in row.job and events in row.events and row.known in known)


def test_every_cell_has_a_row_and_every_row_a_cell() -> None:
    assert {id(first_row(*cell)) for cell in CELLS} == set(map(id, TABLE))
    assert all(verdict(*cell) is first_row(*cell).then for cell in CELLS)


def test_a_job_that_has_ended_ends_the_wait_whatever_else_was_said_and_nothing_else_does() -> None:
    for job, events, known in CELLS:
        assert (verdict(job, events, known) is Then.END) is (job is Said.ENDED)


def test_the_events_decide_only_where_the_job_has_never_been_seen_and_they_were_read() -> None:
    by_events = [cell for cell in CELLS if verdict(*cell) is Then.GO_BY_EVENTS]
    assert by_events
    for job, events, known in by_events:
        assert events in (Said.NEWS, Said.NOTHING_NEW)
        assert Known.NO_JOB_ROUTE in known
        assert job is not Said.GOES_ON


@pytest.mark.parametrize("events", EVENTS, ids=lambda said: said.name)
def test_a_404_of_a_job_that_was_seen_is_counted_and_never_ends_the_wait_at_once(events: Said) -> None:
    happens = verdict(Said.NOT_FOUND, events, Known.SEEN)
    assert happens is Then.COUNT_ABSENCE or events in (Said.PAUSE, Said.DENIED)


def test_what_could_not_be_asked_is_no_answer() -> None:
    for job, events, known in CELLS:
        if job in (Said.FAULT, Said.NOT_ASKED) and events in (Said.FAULT, Said.NOT_ASKED):
            assert verdict(job, events, known) is Then.COUNT_FAILURE
