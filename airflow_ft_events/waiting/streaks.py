"""Streaks: what has happened to a wait several times in a row, and when that ends it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import (
    FineTuningApiError,
    FineTuningError,
    FineTuningJobNotFound,
    FineTuningStatusUnknown,
)
from airflow_ft_events.events import Event
from airflow_ft_events.jobs import Job, JobState, status_unknown

LONGEST_GAP = 600.0
"""Maximum seconds between two polls while the server cannot be asked."""
UNKNOWN_AFTER = 900.0
"""Minimum seconds without a usable answer after which a job's state counts as unknown."""
GONE_AFTER_404S = 3
GONE_AFTER = 120.0
"""Minimum seconds for which a job that was there must answer 404 to count as gone."""


CONFIRMED_AFTER = 30.0
"""Seconds over which both routes must refuse a wait that nothing has ever answered, for that to be final."""
ASKED_SOON = 10.0
"""Seconds after which a refusal is asked about again at first; then twice as long each time."""


@dataclass(slots=True)
class Streak:
    """
    Something that happens several times in a row.

    :param count: how many times in a row; default 0.
    :param since: when it began, seconds since 1970.
    """

    count: int = 0
    since: float = 0.0

    def add(self, *, now: float) -> None:
        """
        Count it once more.

        :param now: seconds since 1970.
        """
        if not self.count:
            self.since = now
        self.count += 1

    def end(self) -> int:
        """Return how many times it happened; from now on it counts from 0."""
        count, self.count = self.count, 0
        return count

    def lasted(self, *, now: float) -> float:
        """
        Tell how long it has lasted.

        :param now: seconds since 1970.
        :returns: seconds.
        """
        return now - self.since

    def gap(self, interval: float) -> float:
        """
        Tell how long to wait before the next poll.

        :param interval: seconds between polls.
        :returns: seconds: the interval doubled for each time, up to 10 minutes, and never below the interval.
        """
        doubled = max(interval, 1.0) * 2.0 ** min(self.count, 30)
        return max(interval, min(LONGEST_GAP, doubled))

    def soon(self, *, most: float) -> float:
        """
        Tell when to ask again about a refusal that may pass: after 10 s, 20 s, 40 s, …

        :param most: seconds at most.
        """
        return min(most, ASKED_SOON * 2.0 ** min(max(self.count - 1, 0), 30))


@dataclass(slots=True)
class Failures(Streak):
    """Polls in a row that got no usable answer."""

    def exhausted(self, *, now: float, most: int) -> bool:
        """
        Tell whether the wait must end.

        :param now: seconds since 1970.
        :param most: polls in a row that may fail; the wait ends after that many and 15 minutes.
        :returns: True if it must.
        """
        return self.count >= most and self.lasted(now=now) >= UNKNOWN_AFTER

    def unknown(self, last: Exception | None, *, now: float, job_id: str, conn_id: str) -> FineTuningApiError:
        """
        Make the error that says that a job's state is unknown.

        :param last: why the last poll failed.
        :param now: seconds since 1970.
        :param job_id: the job.
        :param conn_id: the connection.
        :returns: the error.
        """
        facts = last if isinstance(last, FineTuningApiError) else None
        return FineTuningApiError(
            f"The state of job {job_id} is unknown: {self.count} polls in a row over "
            f"{self.lasted(now=now) / 60:.0f} min got no usable answer through connection {conn_id!r}. The "
            "job itself may be running or have ended: nothing was done to it, and clearing this task waits "
            f"for it again. The last poll: {last}",
            job_id=job_id,
            conn_id=conn_id,
            status=facts.status if facts else None,
            code=facts.code if facts else None,
            request_id=facts.request_id if facts else None,
        )

    def answered(self, *, now: float) -> str | None:
        """
        Count a poll that was answered.

        :param now: seconds since 1970.
        :returns: a line for the log where failures went before, else None.
        """
        minutes, failures = self.lasted(now=now) / 60, self.end()
        if not failures:
            return None
        return f"The server answers again, after {failures} failed polls in {minutes:.0f} min."


@dataclass(slots=True)
class Absences(Streak):
    """Polls in a row that did not find a job that was there."""

    def gone(
        self, *, now: float, job_id: str, conn_id: str, last: FineTuningError | None
    ) -> FineTuningJobNotFound | None:
        """
        Tell whether the job is gone.

        :param now: seconds since 1970.
        :param job_id: the job.
        :param conn_id: the connection.
        :param last: the error of the last poll.
        :returns: the error that says so, after three polls in a row over at least two minutes; else None.
        """
        seconds = self.lasted(now=now)
        if self.count < GONE_AFTER_404S or seconds < GONE_AFTER:
            return None
        facts = last if isinstance(last, FineTuningApiError) else None
        return FineTuningJobNotFound(
            f"Job {job_id} is gone: it was there, and the server has answered 404 to "
            f"{self.count} polls in a row over {seconds / 60:.0f} min (connection "
            f"{conn_id!r}). Its outcome can no longer be known; check whether somebody "
            "deleted it or moved it to another project.",
            job_id=job_id,
            conn_id=conn_id,
            status=404,
            code=facts.code if facts else None,
            request_id=facts.request_id if facts else None,
        )


@dataclass(slots=True)
class Unclear(Streak):
    """
    Reads in a row of a job that is over, as it or its log says, with a status that nobody here knows.

    :param job: the job as it was read last.
    :param announced: the event that announces its end; default None.
    """

    job: Job | None = None
    announced: Event | None = None

    def take(self, job: Job, announced: Event | None, *, server_now: float, now: float) -> bool:
        """
        Take in a job that was read.

        :param job: the job.
        :param announced: the event that announces its end; None for none.
        :param server_now: the server's clock, seconds since 1970.
        :param now: ours.
        :returns: whether it says that it is over, and not how.
        """
        self.job, self.announced = job, announced
        finished = job.state is JobState.UNKNOWN and job.finished_at
        if job.state is not JobState.UNKNOWN or not (announced or (finished and finished <= server_now)):
            self.end()
            return False
        self.add(now=now)
        return True

    def stays(self, server_now: float, *, now: float, alone: bool) -> bool:
        """
        Tell whether that has lasted for 15 minutes.

        :param server_now: the server's clock, seconds since 1970.
        :param now: ours.
        :param alone: whether one read must do, since nothing is remembered of earlier ones.
        :returns: True if the wait must end.
        """
        assert self.job is not None
        finished = self.job.finished_at
        over_for = server_now - finished if finished is not None else 0.0
        return (alone or self.count > 1) and max(over_for, self.lasted(now=now)) >= UNKNOWN_AFTER

    def error(self, settings: Settings) -> FineTuningStatusUnknown:
        """
        Make the error that ends the wait; it is no verdict.

        :param settings: the connection.
        """
        assert self.job is not None
        told = self.announced and (self.announced.message or self.announced.type)
        return status_unknown(
            self.job, conn_id=settings.conn_id, line=settings.redact.line, announced=told or None
        )
