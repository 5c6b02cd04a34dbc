"""OpenAI's own server."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect
from airflow_ft_events.simulator.jobs import CANCEL_EVENT_DELAY, CANCEL_MESSAGE, SimulatedJob, random_id
from airflow_ft_events.simulator.training import Run

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


class OpenAIRun(Run):
    """OpenAI's messages: the status shows the end 7 s before the last event, a cancel a minute before."""

    def build(self, outcome: str) -> SimulatedJob:
        files, validation = self.details["training_file"], self.details["validation_file"]
        files += f" and validation file: {validation}" if validation else ""
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
        model = f"ft:{self.details['model']}:simulated:{self.suffix}:"
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
        rewarded = self.details["method"]["type"] == "reinforcement"
        for step in range(1, done + 1):
            left = math.exp(-3.0 * step / self.steps)
            if rewarded:
                self._rewarded(first + gap * (step - 1), step, left, validated=step in epoch_ends)
                continue
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
            # Real servers send the shortest keys first.
            data = dict(sorted(data.items(), key=lambda item: (len(item[0]), item[0])))
            self.say(first + gap * (step - 1), text, kind="metrics", data=data)

    def _rewarded(self, at: float, step: int, left: float, *, validated: bool) -> None:
        """A step of a reinforcement job: rewards, and no loss."""
        data: dict[str, Any] = {"step": step, "total_steps": self.steps}
        data["train_mean_reward"] = 0.8 - 0.5 * left * self.rng.uniform(0.8, 1.2)
        text = f"Step {step}/{self.steps} , train mean reward={data['train_mean_reward']:.2f}"
        if validated and self.details["validation_file"]:
            data["full_valid_mean_reward"] = 0.75 - 0.5 * left * self.rng.uniform(0.9, 1.1)
            text += f", full validation mean reward={data['full_valid_mean_reward']:.2f}"
        self.say(at, text, kind="metrics", data=data)

    def _validation(self, data: dict[str, Any], key: str, words: str, left: float) -> str:
        if not self.details["validation_file"]:
            return ""
        data[f"{key}_loss"] = 0.22 + 2.0 * left * self.rng.uniform(0.9, 1.1)
        data[f"{key}_mean_token_accuracy"] = 1 - 0.5 * left * self.rng.uniform(0.9, 1.0)
        return f", {words} loss={data[f'{key}_loss']:.2f}"


class OpenAIDialect(Dialect):
    """OpenAI: newest first, pages with ``has_more``, ``error: {}`` on healthy jobs."""

    name = vendor = "openai"
    run: ClassVar[type[Run]] = OpenAIRun

    @property
    def extra(self) -> dict[str, str]:
        return {}
