"""JobBoard: one page of the job list tells many waits how their jobs are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airflow_ft_events.api.calls import jobs_request, read_jobs
from airflow_ft_events.api.errors import FineTuningError
from airflow_ft_events.api.exchange import ApiAnswer, ApiRequest, Reply
from airflow_ft_events.api.settings import Settings
from airflow_ft_events.clock import clock

ENOUGH_WAITS = 10
"""Waits on one connection from which on shared looks pay."""
LOOK_AGAIN_AFTER = 0.85
"""Share of an interval after which the list is read again."""
FRESH_FOR = 0.25
"""Share of an interval for which a look is fresh: waits go at a jittered pace and come a little apart."""
OFF_FOR = 600.0
"""Seconds for which a server whose job list cannot be used is asked job by job."""
PAGE = 100
BARREN_PAGES = 2
"""Pages in a row without a wanted job after which the rest are asked for singly."""


class JobBoard:
    """
    Answers "how is job X?" for many waits from shared looks at the job list.

    A wait does not see it: it has a transport's face. Only jobs that go on are answered from the list; one
    that
    has ended, or that the list does not show, is asked for itself.

    :param send: carries a request.
    """

    def __init__(self, send: Callable[[ApiRequest], Awaitable[Reply]]) -> None:
        self.period = 0.0
        """Seconds between two polls of the most frequent wait."""
        self.waits = 0
        """How many waits use the connection."""
        self.settings: Settings | None = None
        self._send = send
        self._wanted: dict[str, float] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._absent: set[str] = set()
        self._headers: Mapping[str, str] = {}
        self._looked_at = float("-inf")
        self._off_until = float("-inf")
        self._look: asyncio.Task[Reply | None] | None = None

    @property
    def in_use(self) -> bool:
        """Whether looks are shared now."""
        return self.waits >= ENOUGH_WAITS and self.period > 0 and clock().now() >= self._off_until

    async def send(self, request: ApiRequest) -> Reply:
        """
        Carry a request, or answer it from a shared look.

        :param request: it.
        """
        if not request.asks_state or request.job_id is None or self.settings is None or not self.in_use:
            return await self._send(request)
        self._wanted[request.job_id] = clock().now()
        fresh = clock().now() - self._looked_at <= FRESH_FOR * self.period
        if not fresh or (request.job_id not in self._jobs and request.job_id not in self._absent):
            refused = await self._next_look()
            if refused is not None:
                return refused
        job = self._jobs.get(request.job_id)
        if job is None or self.settings.vendor.state_of(job.get("status")).outcome:
            return await self._send(request)
        return ApiAnswer(200, self._headers, b"", parsed=job)

    async def _next_look(self) -> Reply | None:
        """Wait for the next look; one task takes it for all."""
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self._take_look())
        return await asyncio.shield(self._look)

    async def _take_look(self) -> Reply | None:
        """
        Read as many pages of the job list as pay.

        :returns: None, or the 429 that all who wait for this look must see.
        """
        due = self._looked_at + LOOK_AGAIN_AFTER * self.period
        if due > clock().now():
            await clock().asleep(due - clock().now())
        settings, now = self.settings, clock().now()
        assert settings is not None
        self._wanted = {job_id: at for job_id, at in self._wanted.items() if now - at <= 2 * self.period}
        missing, jobs = set(self._wanted), {}
        after: str | None = None
        barren = 0
        while missing and barren < BARREN_PAGES:
            request = jobs_request(settings, limit=PAGE, after=after)
            reply = await self._send(request)
            if isinstance(reply, ApiAnswer) and reply.status == 429:
                return reply
            try:
                page, has_more = read_jobs(request, reply, settings)
            except FineTuningError:
                self._off_until, self._jobs = now + OFF_FOR, {}
                return None
            found = {str(job.get("id")): job for job in page}
            barren = 0 if missing & found.keys() else barren + 1
            missing -= found.keys()
            jobs.update({job_id: job for job_id, job in found.items() if job_id in self._wanted})
            last = str(page[-1].get("id")) if page else None
            if isinstance(reply, ApiAnswer):
                self._headers = reply.headers
            if has_more is False or last is None or last == after:
                break
            after = last
        self._jobs, self._absent, self._looked_at = jobs, missing, now
        return None

    def close(self) -> None:
        """Stop looking."""
        if self._look is not None:
            self._look.cancel()
