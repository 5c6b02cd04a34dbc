"""How long reading a 10,000-event log in pages of 100 takes, beside the official client and the minimum."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from benchmarks.server import running_simulator

EVENTS, PAGE, ROUNDS = 10_000, 100, 7
LIMITS = {"list_events": 0.25, "alist_events": 0.12}


def _floor(base_url: str, key: str, job_id: str) -> int:
    """The standard library alone: one connection, http.client and json."""
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    events, query = 0, {"limit": str(PAGE)}
    while True:
        path = f"{parts.path}/fine_tuning/jobs/{job_id}/events?{urlencode(query)}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        page = json.loads(connection.getresponse().read())
        events += len(page["data"])
        if not page["has_more"]:
            connection.close()
            return events
        query["after"] = page["data"][-1]["id"]


def run() -> bool:
    """Print times and ratios; return whether they are within their limits."""
    import openai

    from airflow_ft_events.hooks.fine_tuning import FineTuningHook

    for name in ("httpx", "httpx2", "openai"):
        logging.getLogger(name).setLevel(logging.WARNING)  # Airflow would have it write a line for every page
    with running_simulator("--steps", str(EVENTS - 8), "--ended") as server:
        os.environ["AIRFLOW_CONN_FINE_TUNING_DEFAULT"] = server.connection
        hook = FineTuningHook()
        job_id = server.job_ids[0]
        client = openai.OpenAI(base_url=server.base_url, api_key=server.key)

        def official() -> int:
            return sum(1 for _ in client.fine_tuning.jobs.list_events(job_id, limit=PAGE))

        async def alist() -> tuple[float, int]:
            # the loop, its session and the import of the HTTP library belong to the process, not to reading
            await hook.aget_job(job_id)
            started = time.perf_counter()
            count = len(await hook.alist_events(job_id))
            return time.perf_counter() - started, count

        readers: dict[str, Callable[[], int]] = {
            "official client": official,
            "list_events": lambda: len(hook.list_events(job_id)),
            "floor": lambda: _floor(server.base_url, server.key, job_id),
        }
        seconds: dict[str, list[float]] = {name: [] for name in (*readers, "alist_events")}
        counts: dict[str, int] = {}
        for round_ in range(ROUNDS + 1):
            for name, reader in readers.items():
                gc.collect()  # no reader pays for the garbage of another
                started = time.perf_counter()
                counts[name] = reader()
                seconds[name].append(time.perf_counter() - started)
            gc.collect()
            taken, counts["alist_events"] = asyncio.run(alist())
            seconds["alist_events"].append(taken)
            if round_ == 0:
                for taken_so_far in seconds.values():
                    taken_so_far.clear()
    print(f"Reading {EVENTS:,} events in pages of {PAGE} over loopback, median of {ROUNDS} rounds:")
    good = len(set(counts.values())) == 1
    if not good:
        print(f"  they do not read the same: {counts}")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in medians.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds["official client"], strict=True)]
        ratio, limit = statistics.median(ratios), LIMITS.get(name)
        within = "" if limit is None else f"  (at most {limit}: {'yes' if ratio <= limit else 'NO'})"
        good = good and (limit is None or ratio <= limit)
        print(f"  {name:<16} {median * 1000:8.1f} ms   {ratio:5.3f} of the official client{within}")
    return good
