"""What the events alone say about a job's end, for servers that show no job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from airflow_ft_events.events import Event, iso_utc
from airflow_ft_events.jobs import Job, JobError, JobOutcome, Outcome
from airflow_ft_events.vendors import Meaning, Vendor

STANDS_AFTER = 120.0
"""Seconds after which a final message, or an error with a code, stands (no recording has a later event)."""
ERROR_STANDS_AFTER = 900.0
"""Seconds after which an error without a code stands, if nothing at all follows it."""


@dataclass(frozen=True, slots=True)
class _Claim:
    outcome: Outcome
    event: Event
    at: float
    seen_at: float
    from_error: bool

    @property
    def stands_after(self) -> float:
        return ERROR_STANDS_AFTER if self.from_error and not self.event.error_code else STANDS_AFTER


class Evidence:
    """
    The latest claim about a job's end, and whether anything took it back.

    :param vendor: the server family, whose messages are recognised.
    """

    def __init__(self, *, vendor: Vendor) -> None:
        self._vendor = vendor
        self._claim: _Claim | None = None
        self._model: str | None = None

    @property
    def announced(self) -> Event | None:
        """The final message that nothing has taken back; an error-level event does not count."""
        return self._claim.event if self._claim and not self._claim.from_error else None

    @property
    def ends_in_error(self) -> bool:
        """Whether the newest event that says anything is an error."""
        return self._claim is not None and self._claim.from_error

    @property
    def announced_outcome(self) -> Outcome | None:
        """The outcome that :attr:`announced` states."""
        return self._claim.outcome if self._claim and not self._claim.from_error else None

    def take(self, events: Iterable[Event], *, seen_at: float, now: float | None = None) -> None:
        """
        Take in new events.

        :param events: oldest first.
        :param seen_at: the server's clock, for events without a time.
        :param now: our clock; default the server's.
        """
        now = seen_at if now is None else now
        for event in events:
            self._model = self._vendor.model_in(event) or self._model
            meaning = self._vendor.meaning_of(event)
            if self._claim is not None:
                says_little = event.is_metrics or (meaning is None and event.level != "error")
                if says_little and _time_of(event, seen_at) <= (self._claim.event.created_at or 0.0):
                    continue  # it came late, and was created before the claimed end
            if meaning is not None and meaning.outcome is not None:
                self._claim = _Claim(meaning.outcome, event, _time_of(event, seen_at), now, from_error=False)
            elif event.level == "error":
                self._claim = _Claim(Outcome.FAILED, event, _time_of(event, seen_at), now, from_error=True)
            elif self._claim is not None and self._takes_back(self._claim, meaning):
                self._claim = None

    @staticmethod
    def _takes_back(claim: _Claim, meaning: Meaning | None) -> bool:
        if not claim.from_error:
            return meaning is Meaning.RESTARTED
        return meaning is not Meaning.AFTERMATH or not claim.event.error_code

    def seconds_left(self, *, server_now: float, now: float | None = None) -> float | None:
        """
        Tell how long it takes until the claim stands: by the server's clock, and by ours or since we saw it.

        :param server_now: the server's clock, seconds since 1970.
        :param now: our clock; default the server's.
        :returns: seconds, 0 or less if it stands; None if nothing is claimed.
        """
        claim = self._claim
        if claim is None:
            return None
        now = server_now if now is None else now
        begun = min(claim.at, claim.seen_at)
        return max(claim.at + claim.stands_after - server_now, begun + claim.stands_after - now)

    def outcome(self, *, job_id: str, server_now: float, now: float | None = None) -> JobOutcome | None:
        """
        Decide by the events alone.

        :param job_id: the job.
        :param server_now: the server's clock, seconds since 1970.
        :param now: our clock; default the server's.
        :returns: the outcome once its claim stands, else None.
        """
        left = self.seconds_left(server_now=server_now, now=now)
        if self._claim is None or left is None or left > 0:
            return None
        event = self._claim.event
        return JobOutcome(
            job_id=job_id,
            vendor=self._vendor.name,
            outcome=self._claim.outcome,
            decided_by="event",
            fine_tuned_model=self._model if self._claim.outcome is Outcome.SUCCEEDED else None,
            error=_error_of(event) if self._claim.outcome is Outcome.FAILED else None,
            finished_at=iso_utc(event.created_at),
        )


def _time_of(event: Event, seen_at: float) -> float:
    return event.created_at if event.created_at is not None else seen_at


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a job ended.

    :param outcome: the outcome; None if it has not ended, or if that is not certain yet.
    :param seconds_left: if the events announce an end that may still be taken back: until it stands.
    """

    outcome: JobOutcome | None = None
    seconds_left: float | None = None


def how_it_ended(
    job: Job | None, events: Iterable[Event], *, job_id: str, vendor: Vendor, server_now: float
) -> Ending:
    """
    Tell how a job ended: by its status, or by its whole log if its server shows no job.

    :param job: the job; None if the server shows none.
    :param events: its log, oldest first; if the job is shown, the log's end is enough.
    :param job_id: the job's id.
    :param vendor: the server family.
    :param server_now: the server's clock, seconds since 1970.
    :returns: the ending.
    """
    if job is not None:
        outcome = JobOutcome.of_job(job)
        return Ending(completed(outcome, tuple(events), vendor=vendor) if outcome else None)
    evidence = Evidence(vendor=vendor)
    evidence.take(events, seen_at=server_now)
    return Ending(
        evidence.outcome(job_id=job_id, server_now=server_now), evidence.seconds_left(server_now=server_now)
    )


def completed(outcome: JobOutcome, events: Sequence[Event], *, vendor: Vendor) -> JobOutcome:
    """
    Take from the log what the job does not say, as with Together's jobs: its model, or why it failed.

    :param outcome: how the job ended.
    :param events: the end of its log, oldest first.
    :param vendor: the server family.
    :returns: the outcome; the model of a success is the last one in the log, the reason of a failure the
        newest event that gives one, unless the job went on after it.
    """
    if outcome.succeeded and not outcome.fine_tuned_model:
        models = [model for model in map(vendor.model_in, events) if model]
        return replace(outcome, fine_tuned_model=models[-1]) if models else outcome
    if outcome.outcome is not Outcome.FAILED or outcome.error is not None:
        return outcome
    for event in reversed(events):
        meaning = vendor.meaning_of(event)
        if meaning is Meaning.FAILED or (meaning is None and event.level == "error"):
            return replace(outcome, error=_error_of(event))
        if meaning not in (None, Meaning.AFTERMATH):
            break
    return outcome


def _error_of(event: Event) -> JobError | None:
    param = event.data.get("error_param")
    return JobError.read(
        {
            "code": event.error_code,
            "message": event.message or event.type,
            "param": str(param) if param else None,
        }
    )
