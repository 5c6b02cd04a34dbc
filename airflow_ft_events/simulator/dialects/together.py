"""Together: paths, states, types and times of its own."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from airflow_ft_events.simulator.checkpoints import Checkpoint
from airflow_ft_events.simulator.create import JobOrder
from airflow_ft_events.simulator.dialects.base import Dialect, OrderName
from airflow_ft_events.simulator.dialects.routes import ANY, FILE_ROUTES, JOB_ROUTES, Table
from airflow_ft_events.simulator.dialects.together_requests import read_together_order
from airflow_ft_events.simulator.files import StoredFile
from airflow_ft_events.simulator.jobs import Cancelling, SimulatedJob, iso_time, random_id, seeded
from airflow_ft_events.simulator.training import Run

_HEX = "0123456789abcdef"
# The first match counts; recorded logs kept the messages and lost the types.
_TYPES = (
    (r"Fine.?tun(e|ing) request created", "JOB_PENDING"),
    (r"Job started", "JOB_START"),
    (r"Model data downloaded", "MODEL_DOWNLOAD_COMPLETE"),
    (r"Data downloaded", "TRAINING_DATA_DOWNLOAD_COMPLETE"),
    (r"WandB run initialized", "WANDB_INIT"),
    (r"Training started", "TRAINING_START"),
    (r"Epoch completed", "EPOCH_COMPLETE"),
    (r"Training completed", "TRAINING_COMPLETE"),
    (r"Compressing", "MODEL_COMPRESSING"),
    (r"Model compression complete", "MODEL_COMPRESSION_COMPLETE"),
    (r"Uploading", "MODEL_UPLOADING"),
    (r"Model upload complete", "MODEL_UPLOAD_COMPLETE"),
    (r"Job finished", "JOB_COMPLETE"),
)
_MODEL = "acme/Meta-Llama-3.1-8B-Instruct-Reference__TOG__FT"


def _type_of(message: str) -> str:
    """Return the type that Together gives an event with such a message; "" for any other."""
    return next((kind for pattern, kind in _TYPES if re.match(pattern, message)), "")


class TogetherRun(Run):
    """Together: an event per epoch; the status changes with ``Job finished``."""

    @property
    def output(self) -> str:
        """What the model that is made is called, before its random end."""
        if "repeated" not in self.details:
            return _MODEL
        name = f"simulated/{self.details['model'].rpartition('/')[2]}"
        return f"{name}-{self.suffix}" if self.suffix else name

    def build(self, outcome: str) -> SimulatedJob:
        self._tell(0, "Fine tune request created")
        if outcome == "failed" and self.steps == 0:
            return self._fail("JOB_USER_ERROR", "The training file cannot be used")
        self.state(self.duration * 0.05, "queued")
        self.state(self.duration * 0.1, "running")
        self._tell(0.1, f"Job started at {self._date(0.1)}")
        self._tell(0.11, f"Model data downloaded for {self.output} at {self._date(0.11)}")
        self._tell(0.13, f"Data downloaded for {self.output}")
        self._tell(0.14, "WandB run initialized.", level="")
        self._tell(0.2, f"Training started for model {self.output}")
        ended = {"succeeded": 1.0, "failed": 0.5, "cancelled": 0.5}[outcome]
        self._train(int(self.steps * ended))
        for epoch in range(1, int(self.epochs * ended) + 1):
            self._tell(
                0.2 + 0.5 * epoch / self.epochs,
                f"Epoch completed, at step {self.steps * epoch // self.epochs}",
            )
        if outcome == "failed":
            return self._fail("JOB_ERROR", "Internal error while training")
        if outcome == "cancelled":
            self.state(self.duration - 20 * self.scale, "cancel_requested")
            self.state(self.duration, "cancelled")
            self._tell(1.0, "Job stopped by user", kind="JOB_STOPPED", level="warning")
            return self.finish({})
        return self._succeed()

    def _succeed(self) -> SimulatedJob:
        self._tell(0.75, f"Training completed for {self.output} at {self._date(0.75)}")
        self._tell(0.76, "Uploading adapter model", level="")
        self.state(self.duration * 0.8, "compressing")
        self._tell(0.8, "Compressing output model")
        self._tell(0.88, "Model compression complete")
        self.state(self.duration * 0.9, "uploading")
        self._tell(0.9, "Uploading output model")
        self._tell(0.98, "Model upload complete")
        self.state(self.duration, "succeeded")
        self._tell(1.0, f"Job finished at {self._date(1.0)}")
        model = random_id(self.rng, f"{self.output}-", length=8)
        return self.finish({"succeeded": {"fine_tuned_model": model, "trained_tokens": self.steps * 240}})

    def _fail(self, kind: str, message: str) -> SimulatedJob:
        self.state(self.duration, "failed" if kind == "JOB_ERROR" else "user_error")
        self._tell(1.0, message, kind=kind, level="error")
        return self.finish({})

    def _train(self, done: int) -> None:
        rng = seeded(f"metrics:{self.job_id}")
        epoch_ends = {self.steps * epoch // self.epochs for epoch in range(1, self.epochs + 1)}
        for step in range(1, done + 1):
            at = self.start + self.duration * (0.2 + 0.5 * step / self.steps)
            left = math.exp(-3.0 * step / self.steps)
            where = {"train/global_step": step, "train/epoch": step * self.epochs / self.steps}
            numbers = {
                "train/loss": 0.15 + 2.1 * left * rng.uniform(0.85, 1.15),
                "train/grad_norm": 0.3 + left * rng.uniform(0.8, 1.2),
                "train/learning_rate": 1e-5 * (1 - step / self.steps),
            }
            self.metrics.append((at, where | numbers))
            if self.details["validation_file"] and step in epoch_ends:
                evaluated = {"eval/loss": 0.22 + 2.0 * left * rng.uniform(0.9, 1.1)}
                self.metrics.append((at, where | evaluated))

    def _tell(self, share: float, message: str, *, kind: str = "", level: str = "info") -> None:
        raw = {"level": level, "message": message, "type": kind or _type_of(message)}
        at = self.start + int(self.duration * share)
        self.events.append(self.fill(raw, created_at=at, rng=self.rng))

    def _date(self, share: float) -> str:
        at = self.start + int(self.duration * share)
        return datetime.fromtimestamp(at, UTC).strftime("%a %b %e %H:%M:%S UTC %Y")


class TogetherDialect(Dialect):
    """The whole log at once, oldest first; events without ids, times in ISO 8601."""

    name = vendor = "together"
    jobs_path = "/fine-tunes"
    order: ClassVar[OrderName] = "oldest"
    job_prefix = "ft-"
    pages = False
    job_routes: ClassVar[Table] = JOB_ROUTES | {
        (ANY, "metrics"): {"GET": "metrics"},
        ("models", "limits"): {"GET": "limits"},
        ("estimate-price",): {"POST": "price"},
    }
    file_routes: ClassVar[Table] = FILE_ROUTES | {
        ("upload",): {"POST": "upload"},
        (ANY, "upload"): {"PUT": "receive"},
        (ANY, "preprocess"): {"POST": "checked"},
    }
    purposes: ClassVar[Collection[str]] = ()
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
        event = {"object": "fine-tune-event", "level": "", "message": "", "type": _type_of(message)}
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
        repeated: dict[str, Any] = job.get("repeated", {})
        return told | times | made | repeated

    def order_of(self, told: Mapping[str, Any]) -> JobOrder:
        return read_together_order(told)

    def job_id(self, rng: random.Random) -> str:
        groups = ("".join(rng.choices(_HEX, k=length)) for length in (8, 4, 4, 4, 12))
        return self.job_prefix + "-".join(groups)

    def checkpoint(self, checkpoint: Checkpoint) -> dict[str, Any]:
        kind = "Final" if checkpoint.final else "Intermediate"
        return {
            "step": checkpoint.step,
            "created_at": iso_time(checkpoint.created_at),
            "path": f"s3://simulated/{checkpoint.job_id}/step_{checkpoint.step}.tar",
            "checkpoint_type": f"{kind} (step {checkpoint.step})",
        }

    def file(self, file: StoredFile) -> dict[str, Any]:
        content = file.content
        return {
            "id": file.file_id,
            "object": "file",
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": len(content or b""),
            "created_at": file.created_at,
            "FileType": file.filename.rpartition(".")[2],
            "LineCount": (content or b"").count(b"\n"),
            "Processed": content is not None,
            "processing_status": "PENDING" if content is None else "COMPLETED",
        }

    def listing(
        self, items: Iterable[bytes], *, has_more: bool, ends: tuple[str, str] | None = None
    ) -> bytes:
        return b'{"data":[' + b",".join(items) + b"]}"
