"""The verdict: what happens to a wait, from what both routes said in a poll and what is known of the wait."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto
from functools import cache

from airflow_ft_events.api.routes import Answered, Route


class Said(Flag):
    """What a route said in a poll."""

    __hash__ = object.__hash__  # every poll looks cells up, and Enum's own is a call in Python

    ENDED = auto()
    """The job has ended."""
    GOES_ON = auto()
    """The job is there and has not ended."""
    NEWS = auto()
    """There are new events."""
    NOTHING_NEW = auto()
    MISSING = auto()
    """A refusal or an answer that cannot be read: there is no such route."""
    NOT_FOUND = auto()
    """404: the server does not know the job, or has no such route."""
    FAULT = auto()
    """It could not be asked."""
    PAUSE = auto()
    """429."""
    KEY_REFUSED = auto()
    """401."""
    FORBIDDEN = auto()
    """403."""
    NOT_ASKED = auto()


class Known(Flag):
    """What is known of a wait."""

    __hash__ = object.__hash__

    NOTHING = 0
    SEEN = auto()
    """The job route has answered before."""
    UNTRIED = auto()
    """Nothing of this wait was asked before."""
    ANNOUNCED = auto()
    """The events announce an end that the job has not confirmed."""
    NO_JOB_ROUTE = auto()
    """The events decide, since the server shows no job."""


class Then(Enum):
    """What happens."""

    END = auto()
    """The job's status is the verdict."""
    FAIL = auto()
    """The server has never accepted the key: the wait ends."""
    CONFIRM_REFUSAL = auto()
    """Both routes refuse what has worked, or what nothing has answered yet: ask again, end if that stays."""
    PAUSE = auto()
    """Leave the server alone for as long as it asks; this is no failure."""
    COUNT_ABSENCE = auto()
    """A job that was there is not found: look again, and end once it is gone."""
    COUNT_FAILURE = auto()
    """The job could not be asked: look again later, and end once its state counts as unknown."""
    CONFIRM_SOON = auto()
    """Ask soon whether the job confirms what the events announce."""
    GO_BY_EVENTS = auto()
    """What the events announce decides, once it stands."""
    GO_ON = auto()


_GONE = Said.MISSING | Said.NOT_FOUND
_REFUSED = _GONE | Said.KEY_REFUSED | Said.FORBIDDEN
_NO_OTHER = _REFUSED | Said.NOT_ASKED
"""A route of which no better answer is to be had."""
_READ = Said.NEWS | Said.NOTHING_NEW
_ANY = ~Said(0)


@dataclass(frozen=True, slots=True)
class Row:
    """
    A row of the table.

    :param job: any of these was said by the job route.
    :param events: any of these was said by the events route.
    :param known: all of these are known.
    :param then: what happens.
    """

    job: Said
    events: Said
    known: Known
    then: Then


# fmt: off
TABLE: tuple[Row, ...] = (
    #   the job route said  the events said   known of the wait     what happens
    Row(Said.ENDED,         _ANY,             Known.NOTHING,        Then.END),
    Row(_ANY,               Said.PAUSE,       Known.NOTHING,        Then.PAUSE),
    Row(Said.PAUSE,         _ANY,             Known.NOTHING,        Then.PAUSE),
    Row(Said.GOES_ON,       _ANY,             Known.ANNOUNCED,      Then.CONFIRM_SOON),
    Row(Said.GOES_ON,       _ANY,             Known.NOTHING,        Then.GO_ON),
    Row(Said.NOT_FOUND,     _ANY,             Known.SEEN,           Then.COUNT_ABSENCE),
    Row(Said.KEY_REFUSED,   Said.KEY_REFUSED, Known.UNTRIED,        Then.FAIL),
    Row(_REFUSED,           _REFUSED,         Known.UNTRIED,        Then.CONFIRM_REFUSAL),
    Row(Said.KEY_REFUSED,   _NO_OTHER,        Known.NOTHING,        Then.CONFIRM_REFUSAL),
    Row(_NO_OTHER,          Said.KEY_REFUSED, Known.NOTHING,        Then.CONFIRM_REFUSAL),
    Row(_ANY,               ~_READ,           Known.NOTHING,        Then.COUNT_FAILURE),
    Row(_REFUSED,           _READ,            Known.SEEN,           Then.COUNT_FAILURE),
    Row(Said.FAULT,         Said.NOTHING_NEW, Known.NOTHING,        Then.COUNT_FAILURE),
    Row(Said.FAULT,         Said.NEWS,        Known.ANNOUNCED,      Then.COUNT_FAILURE),
    Row(_ANY,               _READ,            Known.NO_JOB_ROUTE,   Then.GO_BY_EVENTS),
    Row(_ANY,               _READ,            Known.NOTHING,        Then.GO_ON),
)
# fmt: on
"""The first row that fits counts; every pair has one."""

_SAID = {
    Route.MISSING: Said.MISSING,
    Route.FAULT: Said.FAULT,
    Route.PAUSE: Said.PAUSE,
    Route.NOT_ASKED: Said.NOT_ASKED,
}


def said_by(met: Answered, *, ok: Said) -> Said:
    """
    Tell what a route said.

    :param met: what its request met.
    :param ok: what it said where it was answered.
    """
    if met.route is Route.OK:
        return ok
    if met.route is Route.DENIED:
        return Said.KEY_REFUSED if met.is_401 else Said.FORBIDDEN
    return Said.NOT_FOUND if met.is_404 else _SAID[met.route]


@cache
def known_of(*, seen: bool, untried: bool, announced: bool, no_job_route: bool) -> Known:
    """
    Put together what is known of a wait.

    :param seen: whether :attr:`Known.SEEN` holds; the others likewise.
    """
    facts = {
        Known.SEEN: seen,
        Known.UNTRIED: untried,
        Known.ANNOUNCED: announced,
        Known.NO_JOB_ROUTE: no_job_route,
    }
    return Known(sum(fact.value for fact, holds in facts.items() if holds))


@cache
def verdict(job: Said, events: Said, known: Known) -> Then:
    """
    Decide what happens to a wait.

    :param job: what the job route said.
    :param events: what the events route said.
    :param known: what is known of the wait.
    """
    return next(row.then for row in TABLE if job in row.job and events in row.events and row.known in known)
