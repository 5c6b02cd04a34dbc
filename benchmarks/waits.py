"""The cost of a thousand waits, beside a bare aiohttp loop and the openai provider's batch trigger."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import selectors
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

Wait = Callable[[], Awaitable[object]]

ANSWER_AFTER = 0.05
SECONDS = 10.0
ROUNDS = 5
"""How often individual waits and the bare loop are measured in turn.

Each pair gives a ratio, and the median counts: a machine's speed drifts, but less within a pair. For what is
measured in seconds, the round with the least CPU counts: the others ran beside other programs.
"""
SETTLE = 5.0
"""Seconds before counting starts: every wait has polled once by then."""


@dataclass
class Cost:
    """The cost of a case while it was measured."""

    waits: int
    requests: int
    seconds: float
    cpu: float
    stall: float
    megabytes: float
    at_work: float
    """This thread's own work in the longest stall; the rest of the time went to other programs."""

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU per request."""
        return self.cpu / max(self.requests, 1) * 1000

    def line(self, name: str) -> str:
        """One line for people."""
        return (
            f"  {name:<34} {self.requests / self.seconds:7.0f} requests/s   {self.cpu_ms:6.3f} ms CPU per "
            f"request   {self.cpu / self.seconds / self.waits * 1e6:7.1f} us CPU/s per wait   worst stall "
            f"{self.stall:6.3f} s ({self.at_work:.3f} s at work)   {self.megabytes:6.1f} MB"
        )


@contextmanager
def steady_server(jobs: int) -> Iterator[str]:
    """
    Run the server while the block runs.

    :param jobs: how many jobs it has.
    """
    command = [sys.executable, "-m", "benchmarks.steady_server", str(ANSWER_AFTER), str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=10)


def _counted(base_url: str) -> int:
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/counted") as answer:
        return sum(json.load(answer).values())


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _full_collection() -> float:
    """Seconds that a full garbage collection takes; objects that exist now are left out of later ones."""
    started = time.perf_counter()
    gc.collect()
    taken = time.perf_counter() - started
    gc.freeze()
    return taken


class _WatchedSelector(selectors.DefaultSelector):
    """Records how long the loop was busy between two checks of its sockets; a ticking task costs more."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls: list[tuple[float, float]] = []
        self._woke: tuple[float, float] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._woke is not None:
            self.stalls.append((time.perf_counter() - self._woke[0], time.thread_time() - self._woke[1]))
        ready = super().select(timeout)
        self._woke = time.perf_counter(), time.thread_time()
        return ready


def _measure(base_url: str, waits: Callable[[], AbstractAsyncContextManager[list[Wait]]]) -> Cost:
    """Run waits in an event loop of their own, and count once all have polled once."""
    selector = _WatchedSelector()

    async def measure() -> Cost:
        _full_collection()
        before = _megabytes()
        async with waits() as ready:
            tasks = [asyncio.ensure_future(wait()) for wait in ready]
            await asyncio.sleep(SETTLE)
            requests = await asyncio.to_thread(_counted, base_url)
            selector.stalls.clear()
            cpu, started = time.process_time(), time.perf_counter()
            await asyncio.sleep(SECONDS)
            cpu, taken = time.process_time() - cpu, time.perf_counter() - started
            stall, at_work = (max(each) for each in zip(*selector.stalls, strict=True))
            requests = await asyncio.to_thread(_counted, base_url) - requests
            memory = _megabytes() - before
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Cost(len(ready), requests, taken, cpu, stall, memory, at_work)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(measure())


def _ours(base_url: str, count: int, interval: float, *, log_events: str, shared: bool) -> Cost:
    from airflow_ft_events.triggers import job_list
    from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

    enough = job_list.ENOUGH_WAITS
    job_list.ENOUGH_WAITS = enough if shared else sys.maxsize

    async def one(number: int) -> None:
        trigger = FineTuningEventsTrigger(
            job_id=f"ftjob-{number}",
            poll_interval=interval,
            log_events=log_events,  # type: ignore[arg-type]
            job_seen=True,
            newer_than=f"ftevent-ftjob-{number}-{int(time.time())}",
        )
        async for _ in trigger.run():
            pass

    try:
        return _measure(base_url, lambda: nullcontext([partial(one, number) for number in range(count)]))
    finally:
        job_list.ENOUGH_WAITS = enough


def _bare(base_url: str, count: int, interval: float) -> Cost:
    """The same requests in a bare aiohttp loop that reads the bodies and decides nothing."""
    import aiohttp

    @asynccontextmanager
    async def waits() -> AsyncIterator[list[Wait]]:
        headers = {"Authorization": "Bearer sk-benchmark", "Accept": "application/json"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:

            async def one(number: int) -> None:
                await asyncio.sleep(interval * number / count)
                url = f"{base_url}/fine_tuning/jobs/ftjob-{number}/events?limit=10"
                while True:
                    async with session.get(url, headers=headers) as answer:
                        await answer.read()
                    await asyncio.sleep(interval)

            yield [partial(one, number) for number in range(count)]

    return _measure(base_url, waits)


def _peer(base_url: str, count: int, interval: float) -> Cost | None:
    try:
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger
    except ImportError:
        return None
    os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"] = json.dumps(
        {"conn_type": "openai", "host": base_url, "password": "sk-benchmark"}
    )

    async def one(number: int) -> None:
        trigger = OpenAIBatchTrigger(
            conn_id="openai_default",
            batch_id=f"batch_{number}",
            poll_interval=interval,
            end_time=time.time() + 3600,
        )
        async for _ in trigger.run():
            pass

    return _measure(base_url, lambda: nullcontext([partial(one, number) for number in range(count)]))


def _compare(base_url: str) -> None:
    """Print what the openai provider's batch trigger costs, and the same number of our waits."""
    peer = _peer(base_url, 100, 1.0)
    if peer is None:
        print("  The openai provider is not installed here: no comparison with its batch trigger.")
    else:
        print(peer.line("openai provider, 100 waits"))
        few = _ours(base_url, 100, 1.0, log_events="messages", shared=False)
        print(few.line("100 waits every 1 s, each polling"))
        rate = (few.requests / few.seconds) / (peer.requests / peer.seconds)
        print(
            f"    100 waits beside 100: {rate:.1f} times its requests/s, "
            f"{few.cpu_ms / peer.cpu_ms:.2f} of its CPU per request, "
            f"{few.stall / peer.stall:.3f} of its worst stall"
        )


def run() -> bool:
    """Measure in a process whose Airflow logs only warnings: a log line costs more than a poll does."""
    environment = {**os.environ, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    return (
        subprocess.run([sys.executable, "-m", "benchmarks.waits"], env=environment, check=False).returncode
        == 0
    )


def measure() -> bool:
    """Print what waits cost; return whether it is within the limits."""
    for name in ("httpx", "httpx2", "openai", "airflow.providers.openai"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import aiohttp  # noqa: F401 - not counted as a wait's memory

    good = True

    def check(what: str, value: float, limit: float, *, least: bool = False) -> None:
        nonlocal good
        holds = value >= limit if least else value <= limit
        good = good and holds
        print(
            f"    {what}: {value:.3g} ({'at least' if least else 'at most'} {limit:g}: "
            f"{'yes' if holds else 'NO'})"
        )

    with steady_server(5000) as base_url:
        os.environ["AIRFLOW_CONN_FINE_TUNING_DEFAULT"] = json.dumps(
            {"conn_type": "fine_tuning", "host": base_url, "password": "sk-benchmark"}
        )
        print(
            f"Waits in one event loop, a server that answers after {ANSWER_AFTER * 1000:.0f} ms, "
            f"{SECONDS:.0f} s each.\nWhat Airflow has loaded is left out of garbage collections: "
            f"a full one takes {_full_collection():.3f} s here without any wait."
        )
        singles, bares = [], []
        for _ in range(ROUNDS):
            singles.append(_ours(base_url, 1000, 1.0, log_events="messages", shared=False))
            print(singles[-1].line("1,000 waits every 1 s, each polling"))
            bares.append(_bare(base_url, 1000, 1.0))
            print(bares[-1].line("bare aiohttp, the same requests"))
        single = min(singles, key=lambda cost: cost.cpu_ms)
        ratios = [ours.cpu_ms / bare.cpu_ms for ours, bare in zip(singles, bares, strict=True)]
        print(
            "    CPU per request compared with the bare loop, pair by pair: "
            f"{', '.join(f'{r:.2f}' for r in ratios)}"
        )
        check("polls/s", single.requests / single.seconds, 900, least=True)
        check("CPU per request, of the bare loop's", statistics.median(ratios), 1.8)
        check("ms of CPU per request", single.cpu_ms, 0.6)
        check("worst stall, s", single.stall, 0.15)
        check("MB above an idle process", max(cost.megabytes for cost in singles), 30)
        looks = _ours(base_url, 1000, 1.0, log_events="none", shared=True)
        print(looks.line("1,000 waits every 1 s, shared polls"))
        check("requests per interval", looks.requests / looks.seconds, 20)
        check("CPU per wait, of the individual case", looks.cpu / single.cpu, 0.1)
        many = _ours(base_url, 5000, 5.0, log_events="messages", shared=False)
        print(many.line("5,000 waits every 5 s, each polling"))
        check("worst stall, s", many.stall, 0.5)
        _compare(base_url)
    return good


if __name__ == "__main__":
    sys.exit(0 if measure() else 1)
