"""A job from a hand-written script: its events, and when its status changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_ft_events.simulator.jobs import (
    Filler,
    SimulatedJob,
    error_of,
    fill_event,
    job_details,
    random_id,
)


def scripted_job(
    *,
    job_id: str,
    now: float,
    events: Iterable[Any],
    status_timeline: Sequence[tuple[float, str]],
    rng: random.Random,
    fill: bool = True,
    filler: Filler = fill_event,
    metrics: Iterable[Mapping[str, float]] = (),
) -> SimulatedJob:
    """
    Make a job from a hand-written script.

    :param job_id: its id.
    :param now: the time that offsets count from, seconds since 1970.
    :param events: raw events, oldest first. ``offset`` (seconds from now) becomes ``created_at``; ``appears``
        (seconds from now) delays the moment from which it is visible. Neither key is served.
    :param status_timeline: (offset in seconds, status) pairs; the first one also applies before its time.
    :param rng: source of missing ids.
    :param fill: add missing keys (id, object, level, type, message, created_at); False leaves them out.
    :param filler: adds them.
    :param metrics: rows of metrics that are not told in events; ``offset`` (seconds from now) is not served.
    :returns: the job.
    """
    start = int(now)
    served: list[Any] = []
    shows_at: list[float] = []
    previous = start
    for raw in events:
        if not isinstance(raw, Mapping):
            served.append(raw)
            shows_at.append(previous)
            continue
        event = dict(raw)
        offset, appears = event.pop("offset", None), event.pop("appears", None)
        if offset is not None:
            event["created_at"] = start + int(offset)
        at = event.get("created_at", previous)
        visible_at = int(at) if isinstance(at, int | float) and not isinstance(at, bool) else previous
        if fill:
            event = filler(event, created_at=event.get("created_at", previous), rng=rng)
        previous = visible_at
        served.append(event)
        shows_at.append(visible_at if appears is None else start + appears)
    states = [
        (start + offset, status) for offset, status in sorted(status_timeline, key=lambda pair: pair[0])
    ]
    result: dict[str, dict[str, Any]] = {
        "succeeded": {
            "fine_tuned_model": random_id(rng, "ft:gpt-4o-mini-2024-07-18:simulated::", length=8),
            "trained_tokens": 12_000,
            "result_files": [random_id(rng, "file-")],
        },
        "failed": {"error": _error_of(served)},
    }
    return SimulatedJob(
        job_id=job_id,
        created_at=start,
        events=served,
        shows_at=shows_at,
        states=states or [(start, "running")],
        details=job_details(rng),
        result=result,
        metrics=[
            (start + row.get("offset", 0), {name: row[name] for name in row if name != "offset"})
            for row in metrics
        ],
        rng=rng,
        fill=filler,
    )


def _error_of(events: Sequence[Any]) -> dict[str, Any]:
    return next((error for event in reversed(events) if (error := error_of(event))), {})
