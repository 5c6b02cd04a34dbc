"""Time, from one place that tests can drive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """The clock that waits and retries use."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """
        Wait on a worker.

        :param seconds: how long to wait.
        """
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """
        Wait in an event loop.

        :param seconds: how long to wait.
        """
        await asyncio.sleep(seconds)

    def jitter(self) -> float:
        """Return a random number from 0 to 1, for jitter."""
        return random.random()  # noqa: S311 - spreads requests, protects nothing


_current = Clock()


def clock() -> Clock:
    """Return the clock in use."""
    return _current


@contextmanager
def driven_by(replacement: Clock) -> Iterator[Clock]:
    """
    Use another clock, in tests.

    :param replacement: the clock to use inside the ``with`` block.
    :returns: the same clock.
    """
    global _current
    before, _current = _current, replacement
    try:
        yield replacement
    finally:
        _current = before
