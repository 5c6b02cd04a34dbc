"""The default job: a generated training run with the messages, order and gaps of real logs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_ft_events.simulator.jobs import Filler, SimulatedJob, fill_event, job_details

OUTCOMES = ("succeeded", "failed", "cancelled")


def training_job(
    *,
    job_id: str,
    now: float,
    rng: random.Random,
    outcome: str,
    duration: float,
    steps: int,
    run: type[Run],
    epochs: int = 3,
    fill: Filler = fill_event,
    details: Mapping[str, Any] | None = None,
) -> SimulatedJob:
    """
    Make a job that is created now and ends after the duration.

    :param job_id: its id.
    :param now: when it is created, seconds since 1970.
    :param rng: source of ids, losses and gaps.
    :param outcome: ``succeeded``, ``failed`` or ``cancelled``.
    :param duration: seconds from the first event to the one that states the outcome.
    :param steps: training steps; 0 with outcome ``failed`` fails while the files are validated.
    :param run: the family's training run.
    :param epochs: passes over the data; each ends with a full validation.
    :param fill: adds an event's missing keys.
    :param details: fields of the job object that somebody has chosen; default made up.
    :returns: the job.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"Unknown outcome {outcome!r}; choose one of {', '.join(OUTCOMES)}")
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration must be a positive number of seconds, not {duration!r}")
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    made = run(
        job_id=job_id,
        start=int(now),
        rng=rng,
        duration=duration,
        steps=steps,
        epochs=epochs,
        fill=fill,
        details=details or {},
    )
    return made.build(outcome)


class Run:
    """A generated run; a family's subclass says what its log contains and when the status changes."""

    def __init__(
        self,
        *,
        job_id: str,
        start: int,
        rng: random.Random,
        duration: float,
        steps: int,
        epochs: int,
        fill: Filler,
        details: Mapping[str, Any],
    ) -> None:
        self.job_id, self.start, self.rng, self.fill = job_id, start, rng, fill
        self.duration, self.steps, self.epochs = duration, steps, epochs
        self.details = job_details(rng, epochs=epochs) | dict(details)
        self.suffix = self.details["user_provided_suffix"] or ""
        self.events: list[dict[str, Any]] = []
        self.metrics: list[tuple[float, Mapping[str, float]]] = []
        self.states: list[tuple[float, str]] = [(start, "validating_files")]
        # Below two minutes, all gaps of a real job shrink in proportion.
        self.scale = min(1.0, duration / 120)

    def build(self, outcome: str) -> SimulatedJob:
        """Make the job."""
        raise NotImplementedError

    def state(self, at: float, status: str) -> None:
        """
        Change the status.

        :param at: seconds after the start.
        :param status: OpenAI's word; the dialect translates it.
        """
        self.states.append((self.start + int(at), status))

    def say(
        self,
        at: float,
        message: str,
        *,
        data: dict[str, Any] | None = None,
        level: str = "info",
        kind: str = "message",
    ) -> None:
        """
        Add an event to the log.

        :param at: seconds after the start.
        """
        raw = {"level": level, "message": message, "data": data, "type": kind}
        self.events.append(self.fill(raw, created_at=self.start + int(at), rng=self.rng))

    def finish(self, result: dict[str, dict[str, Any]]) -> SimulatedJob:
        """
        Make the job from the events and status changes so far.

        :param result: fields that appear at the end, by status.
        """
        shows_at: list[float] = []
        for event in self.events:
            at = event["created_at"]
            shows_at.append(at if isinstance(at, int) else datetime.fromisoformat(at).timestamp())
        return SimulatedJob(
            job_id=self.job_id,
            created_at=self.start,
            events=self.events,
            shows_at=shows_at,
            states=self.states,
            details=self.details,
            result=result,
            metrics=self.metrics,
            estimated_finish=self.start + int(self.duration),
            rng=self.rng,
        )
