"""Together: paths, states, types and times of its own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect, OrderName
from airflow_ft_events.simulator.jobs import Cancelling, iso_time
from airflow_ft_events.simulator.training import Run
from airflow_ft_events.simulator.training_together import TogetherRun, type_of

_HEX = "0123456789abcdef"


class TogetherDialect(Dialect):
    """The whole log at once, oldest first; events without ids, times in ISO 8601."""

    name = vendor = "together"
    jobs_path = "/fine-tunes"
    order: ClassVar[OrderName] = "oldest"
    job_prefix = "ft-"
    pages = False
    run: ClassVar[type[Run]] = TogetherRun
    states: ClassVar[Mapping[str, str]] = {
        "validating_files": "pending",
        "succeeded": "completed",
        "failed": "error",
    }
    cancelling = Cancelling(
        states=((0, "cancel_requested"), (20, "cancelled")),
        events=(
            (0, {"type": "CANCEL_REQUESTED", "message": "Cancel requested"}),
            (20, {"type": "JOB_STOPPED", "message": "Job stopped by user", "level": "warning"}),
        ),
    )

    def fill(self, raw: Mapping[str, Any], *, created_at: int, rng: random.Random) -> dict[str, Any]:
        message = str(raw.get("message") or "")
        event = {"object": "fine-tune-event", "level": "", "message": "", "type": type_of(message)}
        return event | dict(raw) | {"created_at": iso_time(created_at)}

    def job(self, job: dict[str, Any], *, changed_at: float) -> dict[str, Any]:
        job = super().job(job, changed_at=changed_at)
        times = {"created_at": iso_time(job["created_at"]), "updated_at": iso_time(changed_at)}
        told = {key: job[key] for key in ("id", "status", "model", "training_file", "validation_file")}
        made = {
            "user_id": "simulated",
            "model_output_name": job["fine_tuned_model"],
            "token_count": job["trained_tokens"] or 0,
            "n_epochs": job["hyperparameters"]["n_epochs"],
            "batch_size": job["hyperparameters"]["batch_size"],
        }
        return told | times | made

    def job_id(self, rng: random.Random) -> str:
        groups = ("".join(rng.choices(_HEX, k=length)) for length in (8, 4, 4, 4, 12))
        return self.job_prefix + "-".join(groups)

    def listing(self, items: Iterable[bytes], *, has_more: bool) -> bytes:
        return b'{"data":[' + b",".join(items) + b"]}"
