"""The checkpoints of a job: those that its log names, and the model that it ends with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_ft_events.simulator.jobs import SimulatedJob, random_id, seeded

_NAMED = re.compile(r"Checkpoint created at step (\d+) with Snapshot ID: (\S+)")
_KEPT = ("_loss", "_accuracy", "_reward", "step")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """
    A model as it was after a step.

    :param checkpoint_id: its id.
    :param job_id: the job that made it.
    :param step: the step.
    :param model: its name.
    :param created_at: seconds since 1970.
    :param metrics: the numbers of that step.
    :param final: whether it is what the job ended with.
    """

    checkpoint_id: str
    job_id: str
    step: int
    model: str
    created_at: int
    metrics: Mapping[str, float]
    final: bool = False


def checkpoints_of(job: SimulatedJob, *, now: float) -> list[Checkpoint]:
    """
    Return the checkpoints that a job has by then, newest first.

    :param job: the job.
    :param now: seconds since 1970.
    """
    events = [event for event in job.events[: job.visible(now=now)] if isinstance(event, Mapping)]
    told = _told(job, events, now=now)
    found: dict[int, Checkpoint] = {}
    for event in events:
        if named := _NAMED.match(str(event.get("message"))):
            at, step = event.get("created_at"), int(named[1])
            created_at = at if isinstance(at, int) else job.created_at
            found[step] = _made(job, step, named[2], created_at, told)
    status, since = job.state(now=now)
    if model := job.result.get(status, {}).get("fine_tuned_model"):
        step = max([*told, *found], default=0)
        found[step] = _made(job, step, model, int(since), told, final=True)
    return [found[step] for step in sorted(found, reverse=True)]


def _made(
    job: SimulatedJob,
    step: int,
    model: str,
    created_at: int,
    told: Mapping[int, Mapping[str, float]],
    *,
    final: bool = False,
) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=random_id(seeded(f"checkpoint:{job.job_id}:{step}"), "ftckpt_"),
        job_id=job.job_id,
        step=step,
        model=model,
        created_at=created_at,
        metrics={"step": step} | dict(told.get(step, {})),
        final=final,
    )


def _told(
    job: SimulatedJob, events: list[Mapping[str, Any]], *, now: float
) -> dict[int, Mapping[str, float]]:
    """The numbers of each step, from the log or from where else the family tells them."""
    found: dict[int, Mapping[str, float]] = {}
    for event in events:
        data = event.get("data")
        if isinstance(data, Mapping) and isinstance(step := data.get("step"), int):
            found[step] = {
                name: data[name] for name in data if name.endswith(_KEPT) and name != "total_steps"
            }
    for at, row in job.metrics:
        if at <= now and "train/global_step" in row:
            found.setdefault(int(row["train/global_step"]), {})
    return found
