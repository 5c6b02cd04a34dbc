"""JobList: one page of the job list tells many waits how their jobs are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_ft_events.api.calls import jobs_request, read_jobs
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, ApiResult
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.jobs import JobState

ENOUGH_WAITS = 10
"""Waits on one connection from which on shared looks pay."""
OFF_FOR = 600.0
"""Seconds for which a server whose job list cannot be used is asked job by job."""
FORGOTTEN_AFTER = 900.0
"""Seconds after which a job that nobody has asked for is not looked for any more."""
PAGE = 100
LEAST_GAP = 0.05
"""Seconds between two looks around, at the least."""
BARREN_PAGES = 2
"""Pages in a row without a wanted job after which the rest are asked for singly."""


@dataclass(eq=False, slots=True)
class _Asker:
    """Somebody who waits for news of a job."""

    job_id: str
    told: object
    until: float
    released: asyncio.Future[None]


class JobList:
    """
    Answers "how is job X?" for many waits from shared looks at the job list.

    A wait does not see it: it has a transport's face, and answers when the job's state has changed or the
    asker's patience ends. Only jobs that go on are answered from the list; one that has ended, or that the
    list does not show, is asked for itself.

    :param send: carries a request.
    :param pause_left: tells for how many seconds the server wants to be left alone.
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
        """Whether looks are shared now."""
        return self.waits >= ENOUGH_WAITS and self.period > 0 and clock().now() >= self._off_until

    async def send(self, request: ApiRequest, *, patience: float = 0.0) -> ApiResult:
        """
        Carry a request, or answer it from a shared look.

        :param request: it.
        :param patience: seconds for which the answer may be held back while the job's state does not change;
            default 0.
        """
        job_id = request.job_id
        if not request.asks_state or job_id is None or not self.in_use:
            return await self._send(request)
        now = clock().now()
        self._wanted[job_id] = now
        asker = _Asker(job_id, self._told.get(job_id), now + patience, asyncio.Future())
        if now - self._looked_at > self.period or not self._has_news(asker):
            await self._look_for(asker)
        job = self._jobs.get(job_id)
        if clock().now() < self._off_until:
            # all who waited come at once: let them ask for themselves one by one
            await clock().asleep(self.period * clock().jitter())
        if job is None or not self._goes_on(job):
            return await self._send(request)
        self._told[job_id] = _state(job)
        return ApiResponse(200, self._headers, b"", parsed=job)

    async def _look_for(self, asker: _Asker) -> None:
        self._askers.add(asker)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_on())
        # who comes while the next look is slept for may have less patience than those who were there
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
        """Look at the list once an interval for as long as anybody waits for news."""
        try:
            while self._askers:
                next_look = max(self._looked_at + self.period, self._not_before) - clock().now()
                gap = max(next_look, self._pause_left())
                if gap > 0:
                    # nobody is held beyond its patience, however long the server wants to be left alone
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
            # whatever a server's list holds, the waits go on by themselves
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
        """Whether the list shows a job that goes on; anything else is for the job itself to say."""
        assert self.settings is not None
        status = job.get("status")
        return isinstance(status, str) and self.settings.vendor.state_of(status) in (
            JobState.ACTIVE,
            JobState.PAUSED,
        )

    async def _look(self) -> bool:
        """
        Read as many pages of the job list as pay.

        :returns: whether there was a look; False where the server asks for a pause.
        """
        settings, now = self.settings, clock().now()
        assert settings is not None
        self._wanted = {job_id: at for job_id, at in self._wanted.items() if now - at <= FORGOTTEN_AFTER}
        self._told = {job_id: told for job_id, told in self._told.items() if job_id in self._wanted}
        missing, jobs = set(self._wanted), {}
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
            found = {str(job.get("id")): job for job in page}
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
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()


def _state(job: Mapping[str, Any]) -> object:
    return job.get("status")
