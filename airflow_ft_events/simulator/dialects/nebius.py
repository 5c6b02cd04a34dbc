"""Nebius Token Factory: OpenAI's paths, oldest events first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect, OrderName
from airflow_ft_events.simulator.dialects.routes import JOB_ROUTES, Problem, Table
from airflow_ft_events.simulator.jobs import Cancelling, SimulatedJob, random_id
from airflow_ft_events.simulator.training import Run

_ERROR = {"code": "internal_error", "message": "Training failed", "param": None}


class NebiusRun(Run):
    """Nebius: four events, no metrics, as recorded; the status changes with the last, a cancel has none."""

    def build(self, outcome: str) -> SimulatedJob:
        self.say(0, "Job is submitted", data={})
        if outcome == "failed" and self.steps == 0:
            return self._fail()
        self.state(self.duration * 0.1, "running")
        if self.details["validation_file"]:
            self.say(self.duration * 0.1, "Dataset 'validation' processed successfully", data={})
        self.say(self.duration * 0.11, "Dataset 'training' processed successfully", data={})
        if outcome == "failed":
            return self._fail()
        if outcome == "cancelled":
            self.state(self.duration, "cancelled")
            return self.finish({})
        self.state(self.duration, "succeeded")
        self.say(self.duration, "Training completed successfully", data={})
        named = f"{self.details['model']}-{self.suffix}-" if self.suffix else f"{self.details['model']}-"
        model = random_id(self.rng, named, length=8)
        return self.finish({"succeeded": {"fine_tuned_model": model, "trained_tokens": self.steps * 240}})

    def _fail(self) -> SimulatedJob:
        self.state(self.duration, "failed")
        self.say(self.duration, "Training failed", level="error", data={})
        return self.finish({"failed": {"error": dict(_ERROR)}})


class NebiusDialect(Dialect):
    """``after`` leads to newer events, no ``has_more``, errors as FastAPI writes them."""

    name = vendor = "nebius"
    job_routes: ClassVar[Table] = JOB_ROUTES
    order: ClassVar[OrderName] = "oldest"
    run: ClassVar[type[Run]] = NebiusRun
    cancelling = Cancelling()

    def listing(
        self, items: Iterable[bytes], *, has_more: bool, ends: tuple[str, str] | None = None
    ) -> bytes:
        return b'{"object":"list","data":[' + b",".join(items) + b"]}"

    def problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        param: str | None = None,
        code: str | None = None,
    ) -> Problem:
        return Problem(status=status, body={"detail": message})
