"""How long a wait bears that it cannot ask, or that its job is not found."""

from __future__ import annotations

from airflow_ft_events.api.errors import FineTuningApiError, FineTuningError, FineTuningJobNotFound

LONGEST_GAP = 600.0
"""Seconds between two polls at most, while nothing can be asked."""
UNKNOWN_AFTER = 900.0
"""Seconds without a usable answer, at the least, after which a job's state counts as unknown."""
GONE_AFTER_404S = 3
GONE_AFTER = 120.0
"""Seconds over which a job that was there must answer 404, at the least, to count as gone."""


class Patience:
    """
    How long a wait bears that it cannot ask.

    :param interval: seconds between polls.
    :param max_failures: polls in a row that may fail; the wait ends after them and 15 minutes.
    """

    def __init__(self, *, interval: float, max_failures: int) -> None:
        self._interval = interval
        self._max_failures = max_failures
        self._since = 0.0
        self.failures = 0

    def failed(self, *, now: float) -> float:
        """
        Count a poll that failed.

        :param now: seconds since 1970.
        :returns: seconds until the next one: the interval doubled for each failure, up to 10 minutes.
        """
        if not self.failures:
            self._since = now
        self.failures += 1
        gap = max(self._interval, 1.0) * 2.0 ** min(self.failures, 30)
        return max(self._interval, min(LONGEST_GAP, gap))

    def exhausted(self, *, now: float) -> bool:
        """
        Tell whether the wait must end.

        :param now: seconds since 1970.
        """
        return self.failures >= self._max_failures and now - self._since >= UNKNOWN_AFTER

    def unknown(self, last: Exception | None, *, now: float, job_id: str, conn_id: str) -> FineTuningApiError:
        """
        Make the error that says that a job's state is unknown.

        :param last: why the last poll failed.
        :param now: seconds since 1970.
        :param job_id: the job.
        :param conn_id: the connection.
        """
        facts = last if isinstance(last, FineTuningApiError) else None
        return FineTuningApiError(
            f"The state of job {job_id} is unknown: {self.failures} polls in a row over "
            f"{(now - self._since) / 60:.0f} min got no usable answer through connection {conn_id!r}. The "
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
        failures, self.failures = self.failures, 0
        if not failures:
            return None
        return (
            f"The server answers again, after {failures} failed polls in {(now - self._since) / 60:.0f} min."
        )


class Absence:
    """Counts the looks in a row at which a job that was there is not found."""

    def __init__(self) -> None:
        self.looks = 0
        self._since = 0.0

    def noticed(self, *, now: float) -> None:
        """
        Count a look that met a 404.

        :param now: seconds since 1970.
        """
        if not self.looks:
            self._since = now
        self.looks += 1

    def ended(self) -> None:
        """The job is there."""
        self.looks = 0

    def gone(
        self, *, now: float, job_id: str, conn_id: str, last: FineTuningError | None
    ) -> FineTuningJobNotFound | None:
        """
        Tell whether the job is gone.

        :param now: seconds since 1970.
        :param job_id: the job.
        :param conn_id: the connection.
        :param last: what the last look met.
        :returns: the error that says so, after three looks in a row over at least two minutes; else None.
        """
        seconds = now - self._since
        if self.looks < GONE_AFTER_404S or seconds < GONE_AFTER:
            return None
        facts = last if isinstance(last, FineTuningApiError) else None
        return FineTuningJobNotFound(
            f"Job {job_id} is gone: it was there, and the server has answered 404 to "
            f"{self.looks} looks in a row over {seconds / 60:.0f} min (connection "
            f"{conn_id!r}). Its outcome cannot be known any more; check whether somebody "
            "deleted it or moved it to another project.",
            job_id=job_id,
            conn_id=conn_id,
            status=404,
            code=facts.code if facts else None,
            request_id=facts.request_id if facts else None,
        )
