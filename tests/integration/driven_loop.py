"""Driven time for many waits at once: an event loop whose time passes only while nothing is under way."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResult, FaultKind
from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.transport.aio import AsyncTransport

T = TypeVar("T")
START = 1_800_000_000.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for real for what is under way, else lets the time until the next timer pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.under_way = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(None if self.under_way else 0)
        if not found:
            self.passed += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._driven = selector

    def time(self) -> float:
        return self._driven.passed

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._driven.under_way += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        # Python 3.11 knows no timeout here
        self._driven.under_way += 1
        await super().shutdown_default_executor(*timeout)

    def _came_back(self, _: object) -> None:
        self._driven.under_way -= 1


class DrivenTime(Clock):
    """
    A clock and its event loop. Requests and threads take no time; sleeps end one after the other, in order.

    :param seed: of the random numbers.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._selector = _Selector()
        self._random = random.Random(seed)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return self._selector.passed

    def now(self) -> float:
        return START + self._selector.passed

    def jitter(self) -> float:
        return self._random.random()

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something when so many seconds have passed; only while the loop runs."""
        asyncio.get_running_loop().call_at(seconds, act)

    def never_answered(self) -> None:
        """Let time pass for one request: a server has it and will never answer. Callable from any thread."""
        assert self._loop is not None, "nothing runs"
        self._loop.call_soon_threadsafe(self._count, -1)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in driven time."""
        made = asyncio.Runner(loop_factory=lambda: _Loop(self._selector))
        with driven_by(self), self._seen_sending(), made as runner:
            self._loop = runner.get_loop()
            return runner.run(main)

    def _count(self, by: int) -> None:
        self._selector.under_way += by

    @contextmanager
    def _seen_sending(self) -> Iterator[None]:
        """Let no time pass while a request is under way."""
        send = AsyncTransport.send

        async def counted(transport: AsyncTransport, request: ApiRequest) -> ApiResult:
            self._count(1)
            timed_out = False
            try:
                reply = await send(transport, request)
                # time passed for it, so its server has told that it will never answer
                timed_out = isinstance(reply, ApiFault) and reply.kind is FaultKind.TIMEOUT
                return reply
            finally:
                if not timed_out:
                    self._count(-1)

        AsyncTransport.send = counted  # type: ignore[method-assign]
        try:
            yield
        finally:
            AsyncTransport.send = send  # type: ignore[method-assign]
