"""Azure OpenAI: the classic path with an API version, and the v1 path."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect
from airflow_ft_events.simulator.dialects.routes import Problem, Route
from airflow_ft_events.simulator.jobs import Cancelling, SimulatedJob, random_id
from airflow_ft_events.simulator.training import Run

_WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)
_CANCEL_EVENT = {"level": "info", "message": "Job canceled.", "data": None}
_ERROR = {"code": "TrainingFailed", "message": "The job failed while training.", "param": None}
_FILE_ERROR = {"code": "InvalidTrainingFile", "message": "The training file cannot be used.", "param": None}


class AzureRun(Run):
    """Azure: every tenth step, the status with ``Job succeeded.``, three more events 30 to 55 s after it."""

    def build(self, outcome: str) -> SimulatedJob:
        results = random_id(self.rng, "file-", length=32)
        self.say(0, "Job enqueued. Waiting for jobs ahead to complete.")
        self._over(0.02, 0.06, "Preprocessing running for file training file.")
        if outcome == "failed" and self.steps == 0:
            return self._fail(_FILE_ERROR)
        queued = self._over(
            0.06,
            0.2,
            "Preprocessing completed for file training file.",
            *(
                ["Preprocessing completed for file validation file."]
                if self.details["validation_file"]
                else []
            ),
            "Job started.",
            "Data Import started.",
        )
        self.state(queued, "queued")
        self._over(0.2, 0.28, "Finetuning started.", "Job queued, waiting for GPUs.")
        self.state(self.duration * 0.28, "running")
        self._over(0.28, 0.32, "Training started.", f"Created results file: {results}")
        self._steps(self.steps if outcome == "succeeded" else math.ceil(self.steps * 0.6))
        if outcome == "failed":
            return self._fail(_ERROR)
        if outcome == "cancelled":
            self.state(self.duration - 30 * self.scale, "cancelled")
            self.say(self.duration, _CANCEL_EVENT["message"] or "")
            return self.finish({})
        self.state(self.duration, "succeeded")
        self.say(self.duration, "Job succeeded.")
        after = self.duration + 30 * self.scale
        self.say(after, "Model Evaluation Passed.")
        self.say(after + 24 * self.scale, f"Completed results file: {results}")
        tokens = self.steps * 240
        self.say(after + 25 * self.scale, f"Training tokens billed: {tokens}")
        model = random_id(self.rng, f"{self.details['model']}.ft-", length=32).lower()
        model += f"-{self.suffix}" if self.suffix else ""
        return self.finish(
            {"succeeded": {"fine_tuned_model": model, "trained_tokens": tokens, "result_files": [results]}}
        )

    def _over(self, first: float, last: float, *messages: str) -> float:
        """Add messages one after the other between two fractions of the duration; return the last time."""
        at = 0.0
        for index, message in enumerate(messages):
            at = self.duration * (first + (last - first) * index / len(messages))
            self.say(at, message)
        return at

    def _fail(self, error: dict[str, str | None]) -> SimulatedJob:
        self.state(self.duration, "failed")
        self.say(self.duration, "Job failed.", level="error")
        return self.finish({"failed": {"error": dict(error)}})

    def _steps(self, done: int) -> None:
        first, last = self.duration * 0.35, self.duration * 0.95
        for step in range(1, done + 1):
            if step == 1 or step % 10 == 0:
                loss = 0.1 + 0.7 * math.exp(-3.0 * step / self.steps) * self.rng.uniform(0.85, 1.15)
                data: dict[str, Any] = {"step": step, "train_loss": loss}
                at = first + (last - first) * step / max(done, 1)
                self.say(at, f"Step {step}: training loss={loss}", kind="metrics", data=data)


class AzureDialect(Dialect):
    """The classic path: requires ``api-version``; a key goes into ``api-key``, a token is a bearer token."""

    name = vendor = "azure"
    base_path = "/openai"
    api_version: ClassVar[str | None] = "2024-10-21"
    request_id_header = "apim-request-id"
    run: ClassVar[type[Run]] = AzureRun
    states: ClassVar[Mapping[str, str]] = {"validating_files": "pending", "cancelled": "canceled"}
    cancelling = Cancelling(events=((30, _CANCEL_EVENT),))
    key_as_bearer: ClassVar[bool] = False
    created_status = 201

    def route(self, *, method: str, path: str, query: Mapping[str, str]) -> Route | Problem:
        if self.api_version and not query.get("api-version"):
            return self.no_such_path(method, path)
        return super().route(method=method, path=path, query=query)

    def check_key(
        self, *, headers: Mapping[str, str], api_key: str, tokens: Collection[str]
    ) -> Problem | None:
        bearer = self.bearer(headers)
        right = headers.get("api-key") == api_key or bearer in tokens
        right = right or (self.key_as_bearer and bearer == api_key)
        return None if right else self.wrong_key(bearer)

    def problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        param: str | None = None,
        code: str | None = None,
    ) -> Problem:
        return Problem(status=status, body={"error": {"code": str(status), "message": message}})

    def wrong_key(self, given: str) -> Problem:
        return self.problem(401, _WRONG_KEY)

    def no_such_path(self, method: str, path: str) -> Problem:
        return self.problem(404, "Resource not found")


class AzureV1Dialect(AzureDialect):
    """The v1 path: no API version, and the key may also be a bearer token, as OpenAI's client sends it."""

    name = "azure-v1"
    base_path = "/openai/v1"
    api_version = None
    created_status = 200
    states: ClassVar[Mapping[str, str]] = {"validating_files": "pending"}
    key_as_bearer = True
