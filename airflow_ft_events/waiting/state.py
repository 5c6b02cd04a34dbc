"""What a poll came to, and what a wait keeps in mind from poll to poll."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from airflow_ft_events.api.routes import Answered, Route
from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.events import Event
from airflow_ft_events.jobs import JobOutcome
from airflow_ft_events.waiting.streaks import Streak

ASKED_AGAIN_AFTER = 300.0
"""Seconds after which a route is asked again, whatever is known of it."""


@dataclass(slots=True, kw_only=True)
class PollResult:
    """
    What one poll came to.

    :param outcome: the job has ended: the wait is over.
    :param error: the wait cannot go on.
    :param wait: seconds until the next poll, where the wait goes on at this watch's pace.
    :param events: new events, oldest first.
    :param more_before: whether there are events before them that were not read.
    :param notes: lines for the log: a logging level and a text each.
    :param asked: whether the server gave a usable answer.
    :param paused: whether it asked for a pause instead (429).
    :param confirming: whether the server refuses all, and the next poll comes soon to see whether that stays.
    :param denied: whether the key may be the reason that nothing was learned: 401, 403, or 429 for long.
    :param server_now: the server's clock, seconds since 1970; ours where it shows none.
    """

    outcome: JobOutcome | None = None
    error: FineTuningError | None = None
    wait: float = 0.0
    events: Sequence[Event] = ()
    more_before: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)
    asked: bool = True
    paused: bool = False
    confirming: bool = False
    denied: bool = False
    server_now: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the wait is over, one way or the other."""
        return self.outcome is not None or self.error is not None

    def warn(self, text: str) -> None:
        """
        Add a warning to the lines for the log.

        :param text: it.
        """
        self.notes.append(("warning", text))

    def follow(self, earlier: PollResult) -> None:
        """
        Take over what an earlier look of the same poll has read.

        :param earlier: that look.
        """
        self.events = [*earlier.events, *self.events]
        self.more_before = earlier.more_before or self.more_before
        self.notes = [*earlier.notes, *self.notes]


@dataclass(slots=True)
class RouteState:
    """
    What a wait knows of one of the server's two routes.

    :param asked_at: when it was asked last, seconds since 1970; None where it was not.
    :param refusals: how often in a row it refused while the other route answered.
    :param pauses: how often in a row it asked for a pause.
    :param last: what it answered last, pauses aside; None for nothing yet.
    """

    asked_at: float | None = None
    refusals: Streak = field(default_factory=Streak)
    pauses: Streak = field(default_factory=Streak)
    last: Answered | None = None

    @property
    def missing(self) -> bool:
        """Whether the server seems not to have it."""
        return self.refusals.count > 0

    @property
    def asked_again_after(self) -> float:
        """Seconds after which it is asked again, whatever is known of it: soon after a first refusal."""
        return self.refusals.soon(most=ASKED_AGAIN_AFTER) if self.missing else ASKED_AGAIN_AFTER

    def lately(self, met: Answered, *, keeps: Collection[Route]) -> Answered:
        """
        Take in what it answered, and return what stands: a pause says nothing, so a last word may outlast it.

        :param met: what its request met in this poll.
        :param keeps: which answers are last words.
        :returns: the answer that counts in this poll.
        """
        if met.route is Route.PAUSE:
            return self.last if self.last and self.last.route in keeps else met
        if met.route is not Route.NOT_ASKED:
            self.pauses.end()
            self.last = met
        return met

    def is_due(self, now: float) -> bool:
        """
        Tell whether it was not asked for so long that it must be asked again.

        :param now: seconds since 1970; it may have been set back.
        """
        at = self.asked_at
        return at is None or now - at >= self.asked_again_after or now < at


@dataclass(slots=True)
class ConnectionRead:
    """
    When the connection is read again during pauses: a key without quota may have been replaced.

    :param at: when it was read last, or the pauses began, seconds since 1970; None before.
    """

    at: float | None = None

    def is_due(self, now: float) -> bool:
        """
        Tell whether it must be read again, and take it as done.

        :param now: seconds since 1970.
        """
        if self.at is not None and now - self.at < ASKED_AGAIN_AFTER:
            return False
        due, self.at = self.at is not None, now
        return due


@dataclass(slots=True)
class Announcement:
    """
    An end that the events announce, and that the job has not confirmed.

    :param event: the event that announces it.
    :param tries: how often the job was asked since.
    """

    event: Event
    tries: int = 0
