"""The table of a wait: every pair of answers has a row, every row is reached, and what it must never do."""

from __future__ import annotations

import itertools

import pytest

from airflow_ft_events.waiting.verdict import TABLE, Known, Row, Said, Then, verdict

GONE = (Said.MISSING, Said.NOT_FOUND)
REFUSALS = (*GONE, Said.KEY_REFUSED, Said.FORBIDDEN)
FAULTS = (*REFUSALS, Said.FAULT, Said.PAUSE, Said.NOT_ASKED)
JOB = (Said.ENDED, Said.GOES_ON, *FAULTS)
EVENTS = (Said.NEWS, Said.NOTHING_NEW, *FAULTS)
KNOWN = [
    Known(sum(flag.value for flag in flags))
    for size in range(len(Known) + 1)
    for flags in itertools.combinations(Known, size)
]
CELLS = list(itertools.product(JOB, EVENTS, KNOWN))


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
    assert happens is (Then.PAUSE if events is Said.PAUSE else Then.COUNT_ABSENCE)


def test_what_could_not_be_asked_is_no_answer() -> None:
    for job, events, known in CELLS:
        if job in (Said.FAULT, Said.NOT_ASKED) and events in (Said.FAULT, Said.NOT_ASKED):
            assert verdict(job, events, known) is Then.COUNT_FAILURE


@pytest.mark.parametrize("events", FAULTS, ids=lambda said: said.name)
def test_a_job_that_was_read_outweighs_whatever_the_events_route_refuses(events: Said) -> None:
    for known in KNOWN:
        goes_on = Then.PAUSE, Then.CONFIRM_SOON, Then.GO_ON
        assert verdict(Said.GOES_ON, events, known) in goes_on
        assert verdict(Said.ENDED, events, known) is Then.END


def test_events_that_were_read_outweigh_a_refusal_of_the_job_route() -> None:
    for job in REFUSALS:
        for events in (Said.NEWS, Said.NOTHING_NEW):
            assert verdict(job, events, Known.NO_JOB_ROUTE) is Then.GO_BY_EVENTS
            for known in KNOWN:
                assert verdict(job, events, known) not in (Then.FAIL, Then.CONFIRM_REFUSAL)


def test_only_a_key_that_both_routes_refuse_at_the_first_look_ends_a_wait_at_once() -> None:
    for job, events, known in CELLS:
        if verdict(job, events, known) is Then.FAIL:
            assert job is events is Said.KEY_REFUSED
            assert Known.UNTRIED in known


def test_a_refusal_of_both_routes_is_confirmed_where_nothing_was_ever_answered_and_counted_elsewhere() -> (
    None
):
    for job, events in itertools.product((Said.MISSING, Said.NOT_FOUND, Said.FORBIDDEN), repeat=2):
        assert verdict(job, events, Known.UNTRIED) is Then.CONFIRM_REFUSAL
        assert verdict(job, events, Known.NOTHING) is Then.COUNT_FAILURE
        assert verdict(job, events, Known.SEEN) in (Then.COUNT_FAILURE, Then.COUNT_ABSENCE)
