"""The default job: an invented training run with the words, order and gaps that real logs have."""

from __future__ import annotations

import math
import random
from datetime import datetime
from typing import Any

from airflow_ft_events.simulator.jobs import (
    CANCEL_EVENT_DELAY,
    CANCEL_MESSAGE,
    Filler,
    SimulatedJob,
    fill_event,
    job_details,
    random_id,
)

OUTCOMES = ("succeeded", "failed", "cancelled")
_TRAINING_ERROR = {
    "code": "server_error",
    "message": "The job failed due to an internal error while training.",
    "param": None,
}
_VALIDATION_ERROR = {
    "code": "invalid_n_examples",
    "message": "Training file has 5 example(s), but must have at least 10 examples",
    "param": "training_file",
}


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
) -> SimulatedJob:
    """Make a job that is created now and ends after the duration.

    :param job_id: its id.
    :param now: when it is created, seconds since 1970.
    :param rng: where ids, losses and gaps come from.
    :param outcome: ``succeeded``, ``failed`` or ``cancelled``.
    :param duration: seconds from the first event to the one that names the outcome.
    :param steps: training steps; 0 with outcome ``failed`` fails while the files are validated.
    :param run: whose words it has.
    :param epochs: passes over the data, each ends with a full validation.
    :param fill: gives an event the keys that it lacks.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"Unknown outcome {outcome!r}; choose one of {', '.join(OUTCOMES)}")
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration must be a positive number of seconds, not {duration!r}")
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    made = run(
        job_id=job_id, start=int(now), rng=rng, duration=duration, steps=steps, epochs=epochs, fill=fill
    )
    return made.build(outcome)


class Run:
    """One invented run; a family's own says what its log holds and when the status changes."""

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
    ) -> None:
        self.job_id, self.start, self.rng, self.fill = job_id, start, rng, fill
        self.duration, self.steps, self.epochs = duration, steps, epochs
        self.details = job_details(rng, epochs=epochs)
        self.events: list[dict[str, Any]] = []
        self.states: list[tuple[float, str]] = [(start, "validating_files")]
        # Below two minutes every gap of a real job shrinks alike.
        self.scale = min(1.0, duration / 120)

    def build(self, outcome: str) -> SimulatedJob:
        """Make the job."""
        raise NotImplementedError

    def state(self, at: float, status: str) -> None:
        """Change the status.

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
        """Put an event into the log.

        :param at: seconds after the start.
        """
        raw = {"level": level, "message": message, "data": data, "type": kind}
        self.events.append(self.fill(raw, created_at=self.start + int(at), rng=self.rng))

    def finish(self, result: dict[str, dict[str, Any]]) -> SimulatedJob:
        """Make the job of what was said.

        :param result: fields that appear with the end, by status.
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
            estimated_finish=self.start + int(self.duration),
            rng=self.rng,
        )


class OpenAIRun(Run):
    """OpenAI's words: the status names the end 7 s before the last event, a cancel a minute before."""

    def build(self, outcome: str) -> SimulatedJob:
        files = f"{self.details['training_file']} and validation file: {self.details['validation_file']}"
        self.say(0, f"Created fine-tuning job: {self.job_id}", data={})
        self.say(0, f"Validating training file: {files}", data={})
        if outcome == "failed" and self.steps == 0:
            result = self._fail(self.duration, _VALIDATION_ERROR)
            return self.finish(result)
        validated = self.duration * 0.12
        started = validated + 3 * self.scale
        self.say(validated, "Files validated, moving job to queued state", data={})
        self.state(validated, "queued")
        self.say(started, "Fine-tuning job started", data=None)
        self.state(started, "running")
        first_step = started + self.duration * 0.08
        if outcome == "succeeded":
            self._steps(first=first_step, last=self.duration - 15 * self.scale, done=self.steps)
            return self.finish(self._succeed())
        done = math.ceil(self.steps * 0.6)
        if outcome == "failed":
            self._steps(first=first_step, last=self.duration - 5 * self.scale, done=done)
            return self.finish(self._fail(self.duration, _TRAINING_ERROR))
        asked = max(first_step, self.duration - CANCEL_EVENT_DELAY * self.scale)
        self._steps(first=first_step, last=asked, done=done)
        self.state(asked, "cancelled")
        self.say(self.duration, CANCEL_MESSAGE, level="warn", data=None)
        return self.finish({})

    def _succeed(self) -> dict[str, dict[str, Any]]:
        model = f"ft:{self.details['model']}:simulated::"
        finished, named = self.duration - 7 * self.scale, self.duration - 5 * self.scale
        self.state(finished, "succeeded")
        for epoch in range(max(self.epochs - 2, 1), self.epochs):
            if step := self.steps * epoch // self.epochs:
                snapshot = f"{random_id(self.rng, model, length=8)}:ckpt-step-{step}"
                self.say(named, f"Checkpoint created at step {step} with Snapshot ID: {snapshot}", data={})
        name = random_id(self.rng, model, length=8)
        self.say(named, f"New fine-tuned model created: {name}", data={})
        self.say(self.duration, "The job has successfully completed", data={})
        files = [random_id(self.rng, "file-")]
        return {
            "succeeded": {"fine_tuned_model": name, "trained_tokens": self.steps * 240, "result_files": files}
        }

    def _fail(self, at: float, error: dict[str, Any]) -> dict[str, dict[str, Any]]:
        self.state(at, "failed")
        data = {"error_code": error["code"], "error_param": error["param"]}
        self.say(at, error["message"], level="error", data=data)
        return {"failed": {"error": dict(error)}}

    def _steps(self, *, first: float, last: float, done: int) -> None:
        every = max(self.steps // 10, 1)
        epoch_ends = {self.steps * epoch // self.epochs for epoch in range(1, self.epochs + 1)}
        gap = (max(last, first) - first) / max(done - 1, 1)
        for step in range(1, done + 1):
            left = math.exp(-3.0 * step / self.steps)
            data: dict[str, Any] = {
                "step": step,
                "total_steps": self.steps,
                "train_loss": 0.15 + 2.1 * left * self.rng.uniform(0.85, 1.15),
                "train_mean_token_accuracy": 1 - 0.5 * left * self.rng.uniform(0.8, 1.0),
            }
            text = f"Step {step}/{self.steps}: training loss={data['train_loss']:.2f}"
            if step % every == 0 or step in epoch_ends:
                text += self._validation(data, "valid", "validation", left)
            if step in epoch_ends:
                text += self._validation(data, "full_valid", "full validation", left)
            # Real servers hand out the keys shortest first.
            data = dict(sorted(data.items(), key=lambda item: (len(item[0]), item[0])))
            self.say(first + gap * (step - 1), text, kind="metrics", data=data)

    def _validation(self, data: dict[str, Any], key: str, words: str, left: float) -> str:
        data[f"{key}_loss"] = 0.22 + 2.0 * left * self.rng.uniform(0.9, 1.1)
        data[f"{key}_mean_token_accuracy"] = 1 - 0.5 * left * self.rng.uniform(0.9, 1.0)
        return f", {words} loss={data[f'{key}_loss']:.2f}"
