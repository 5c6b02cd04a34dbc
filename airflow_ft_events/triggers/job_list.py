"""JobList: one page of the job list tells many waits the state of their jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from airflow_ft_events.api.calls import jobs_request, read_jobs
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, ApiResult
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.jobs import JobState
from airflow_ft_events.vendors.words import status_of

ENOUGH_WAITS = 10
"""Number of waits on one connection from which shared polls pay off."""
OFF_FOR = 600.0
"""Seconds for which jobs are read individually after the job list could not be used."""
FORGOTTEN_AFTER = 900.0
"""Seconds after which a job that nobody has asked for is no longer searched for."""
PAGE = 100
LEAST_GAP = 0.05
"""Minimum seconds between two reads of the list."""
BARREN_PAGES = 2
"""Pages in a row without a wanted job after which the rest are read individually."""


@dataclass(eq=False, slots=True)
class _Asker:
    """A wait that wants news of a job."""

    job_id: str
    told: object
    until: float
    released: asyncio.Future[None]


class JobList:
    """
    Answers "what is the state of job X?" for many waits from shared polls of the job list.

    Waits do not notice: it has a transport's interface, and answers when the job's state has changed or the
    asker's patience ends. Only jobs that have not ended are answered from the list; one that has ended, or
    that the list does not show, is read individually.

    :param send: sends a request.
    :param pause_left: returns the seconds for which the server has asked for a pause.
    """

    def __init__(
        self, send: Callable[[ApiRequest], Awaitable[ApiResult]], *, pause_left: Callable[[], float]
    ) -> None:
        self.period = 0.0
        """Seconds between two polls of the most frequent wait."""
        self.waits = 0
        """How many waits use the connection."""
        self.settings: Settings | None = None
        self._send = send
        self._pause_left = pause_left
        self._askers: set[_Asker] = set()
        self._wanted: dict[str, float] = {}
        self._told: dict[str, object] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._headers: Mapping[str, str] = {}
        self._looked_at = float("-inf")
        self._not_before = float("-inf")
        self._sleeps_until = float("-inf")
        self._off_until = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    @property
    def in_use(self) -> bool:
        """Whether polls are shared now."""
        return self.waits >= ENOUGH_WAITS and self.period > 0 and clock().now() >= self._off_until

    def send(self, request: ApiRequest, *, patience: float = 0.0) -> Awaitable[ApiResult]:
        """
        Send a request, or answer it from a shared poll.

        :param request: the request.
        :param patience: seconds for which the answer may be held back while the job's state does not change;
            default 0.
        :returns: the response, or the fault.
        """
        job_id = request.job_id
        if not request.asks_state or job_id is None or not self.in_use:
            return self._send(request)
        return self._answer(request, job_id, patience)

    async def _answer(self, request: ApiRequest, job_id: str, patience: float) -> ApiResult:
        now = clock().now()
        self._wanted[job_id] = now
        asker = _Asker(job_id, self._told.get(job_id), now + patience, asyncio.Future())
        if now - self._looked_at > self.period or not self._has_news(asker):
            await self._look_for(asker)
        job = self._jobs.get(job_id)
        if clock().now() < self._off_until:
            # all waits come at once: let them send their own requests one by one
            await clock().asleep(self.period * clock().jitter())
        if job is None or not self._goes_on(job):
            return await self._send(request)
        self._told[job_id] = _state(job)
        return ApiResponse(200, self._headers, b"", parsed=job)

    async def _look_for(self, asker: _Asker) -> None:
        self._askers.add(asker)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_on())
        # a newcomer during the sleep before the next poll may have less patience than the others
        alarm = (
            asyncio.get_running_loop().create_task(self._release_in_time(asker))
            if asker.until < self._sleeps_until
            else None
        )
        try:
            await asker.released
        finally:
            self._askers.discard(asker)
            if alarm is not None:
                alarm.cancel()

    async def _release_in_time(self, asker: _Asker) -> None:
        await clock().asleep(max(0.0, asker.until - clock().now()))
        self._release(asker)

    async def _look_on(self) -> None:
        """Poll the list once per interval for as long as any wait wants news."""
        try:
            while self._askers:
                next_look = max(self._looked_at + self.period, self._not_before) - clock().now()
                gap = max(next_look, self._pause_left())
                if gap > 0:
                    # no wait is held beyond its patience, however long a pause the server asks for
                    first = min(asker.until for asker in self._askers) - clock().now()
                    gap = min(gap, max(first, LEAST_GAP))
                    self._sleeps_until = clock().now() + gap
                    await clock().asleep(gap)
                    self._sleeps_until = float("-inf")
                now = clock().now()
                fresh = now - self._looked_at < self.period
                if self._pause_left() <= 0 and now >= max(self._looked_at + self.period, self._not_before):
                    fresh = await self._look()
                    # a list that takes longer than the period is not read without a gap
                    self._not_before = clock().now() + LEAST_GAP if fresh else now + self.period
                    now = clock().now()
                held_until, off = now + (self.period if self._pause_left() <= 0 else 0.0), not self.in_use
                for asker in tuple(self._askers):
                    if off or asker.until <= held_until or (fresh and self._has_news(asker)):
                        self._release(asker)
        except Exception:
            # whatever a server's list contains, the waits go on without it
            self._off_until, self._jobs = clock().now() + OFF_FOR, {}
            raise
        finally:
            for asker in tuple(self._askers):
                self._release(asker)

    def _release(self, asker: _Asker) -> None:
        if not asker.released.done():
            asker.released.set_result(None)
        self._askers.discard(asker)

    def _has_news(self, asker: _Asker) -> bool:
        job = self._jobs.get(asker.job_id)
        return job is None or _state(job) != asker.told

    def _goes_on(self, job: Mapping[str, Any]) -> bool:
        """Whether the list shows a job that has not ended; anything else only the job itself can say."""
        assert self.settings is not None
        return self.settings.vendor.state_of(status_of(job)) in (JobState.ACTIVE, JobState.PAUSED)

    async def _look(self) -> bool:
        """
        Read as many pages of the job list as pay off.

        :returns: whether the list was read; False if the server asks for a pause.
        """
        settings, now = self.settings, clock().now()
        assert settings is not None
        self._wanted = {job_id: at for job_id, at in self._wanted.items() if now - at <= FORGOTTEN_AFTER}
        self._told = {job_id: told for job_id, told in self._told.items() if job_id in self._wanted}
        missing, jobs = set(self._wanted), {}
        asked_as = {unquote(job_id): job_id for job_id in self._wanted}
        after: str | None = None
        barren = 0
        while missing and barren < BARREN_PAGES:
            request = jobs_request(settings, limit=PAGE, after=after)
            reply = await self._send(request)
            if isinstance(reply, ApiResponse) and reply.status == 429:
                return False
            try:
                page, has_more = read_jobs(request, reply, settings)
            except FineTuningError:
                self._off_until, self._jobs = now + OFF_FOR, {}
                return True
            told = ((unquote(str(job.get("id"))), job) for job in page)
            found = {asked_as.get(job_id, job_id): job for job_id, job in told}
            barren = 0 if missing & found.keys() else barren + 1
            missing -= found.keys()
            jobs.update({job_id: job for job_id, job in found.items() if job_id in self._wanted})
            last = str(page[-1].get("id")) if page else None
            if isinstance(reply, ApiResponse):
                self._headers = reply.headers
            if has_more is False or last is None or last == after:
                break
            after = last
        self._jobs, self._looked_at = jobs, now
        return True

    def close(self) -> None:
        """Stop polling."""
        if self._looking is not None:
            self._looking.cancel()


def _state(job: Mapping[str, Any]) -> object:
    return status_of(job)
