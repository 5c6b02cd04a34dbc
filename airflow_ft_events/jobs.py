"""A fine-tuning job as its server describes it, and the outcome that every mode returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_ft_events.events import epoch_seconds, iso_utc, one_line, whole_number


class Outcome(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobState(StrEnum):
    """What a job's status means for a wait."""

    ACTIVE = "active"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of an ended job; None while it has not ended."""
        return _OUTCOMES.get(self)


_OUTCOMES = {
    JobState.SUCCEEDED: Outcome.SUCCEEDED,
    JobState.FAILED: Outcome.FAILED,
    JobState.CANCELLED: Outcome.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, in its server's words; each part is None if the server left it out."""

    code: str | None = None
    message: str | None = None
    param: str | None = None

    @classmethod
    def read(cls, value: object) -> JobError | None:
        """
        Read a job's ``error``.

        :param value: null, ``{}`` (healthy jobs since 2024), text, or an object with code, message and param.
        :returns: the error, or None if there is none.
        """
        if isinstance(value, str) and value.strip():
            return cls(message=one_line(value, limit=2000))
        if not isinstance(value, Mapping):
            return None
        parts = {
            name: one_line(value[name], limit=2000)
            for name in ("code", "message", "param")
            if value.get(name) not in (None, "")
        }
        return cls(**parts) if parts else None

    def as_dict(self) -> dict[str, str | None]:
        """Return ``{"code", "message", "param"}``."""
        return {"code": self.code, "message": self.message, "param": self.param}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One job: ``raw`` is the server's dict, unchanged; the rest is a typed view of it.

    :param raw: the job as the server described it.
    :param id: the job that was asked for.
    :param vendor: the server family's name.
    :param state: what its status means there.
    :param fields: the same job, with its fields under OpenAI's names.
    """

    raw: dict[str, Any]
    id: str
    vendor: str
    state: JobState
    fields: Mapping[str, Any]

    @property
    def status(self) -> str:
        """Its status in the server's words."""
        return str(self.fields.get("status"))

    @property
    def ended(self) -> Outcome | None:
        """How it ended; None while it has not ended."""
        return self.state.outcome

    @property
    def finished_at(self) -> float | None:
        """When it ended, seconds since 1970; None if the server does not say."""
        return epoch_seconds(self.fields.get("finished_at"))

    @property
    def error(self) -> JobError | None:
        """Why it failed; None if the server gives no reason."""
        return JobError.read(self.fields.get("error"))

    @property
    def fine_tuned_model(self) -> str | None:
        """The resulting model; None if there is none yet."""
        model = self.fields.get("fine_tuned_model")
        return model if isinstance(model, str) and model else None

    @property
    def trained_tokens(self) -> int | None:
        """How many tokens it was trained on; None if the server does not say."""
        return whole_number(self.fields.get("trained_tokens"))


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The end of a job; poke, reschedule and deferrable mode all return the same."""

    job_id: str
    vendor: str
    outcome: Outcome
    decided_by: str
    status: str | None = None
    fine_tuned_model: str | None = None
    error: JobError | None = None
    finished_at: str | None = None
    trained_tokens: int | None = None
    last_event: dict[str, Any] | None = None
    metrics: dict[str, int | float] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether the job succeeded."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self.outcome is Outcome.CANCELLED

    @classmethod
    def of_job(cls, job: Job) -> JobOutcome | None:
        """
        Derive the outcome from a job.

        :param job: the job.
        :returns: the outcome, ``decided_by`` the status; None while the job has not ended. Metrics and last
            event are filled in later, once.
        """
        if job.ended is None:
            return None
        return cls(
            job_id=job.id,
            vendor=job.vendor,
            outcome=job.ended,
            decided_by="status",
            status=job.status,
            fine_tuned_model=job.fine_tuned_model,
            error=job.error,
            finished_at=iso_utc(job.finished_at),
            trained_tokens=job.trained_tokens,
        )

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> JobOutcome:
        """
        Rebuild an outcome from :meth:`as_dict`, which is how a trigger's event carries it.

        :param given: the dict.
        :returns: the outcome.
        :raises ValueError: if it is not an outcome.
        """
        try:
            known = {name: given.get(name) for name in cls.__dataclass_fields__}
            error = known["error"]
            if error is not None and not isinstance(error, Mapping):
                raise ValueError("its error is not an object")
            known |= {
                "job_id": str(given["job_id"]),
                "vendor": str(given["vendor"]),
                "outcome": Outcome(given["outcome"]),
                "decided_by": str(given["decided_by"]),
                "error": JobError(**error) if error is not None else None,
                "metrics": dict(given.get("metrics") or {}),
            }
            return cls(**known)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as fault:
            raise ValueError(f"not the outcome of a job: {one_line(fault, limit=200)}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the result dict of the public contract: plain JSON values."""
        return {
            "job_id": self.job_id,
            "vendor": self.vendor,
            "outcome": self.outcome.value,
            "decided_by": self.decided_by,
            "status": self.status,
            "fine_tuned_model": self.fine_tuned_model,
            "error": self.error.as_dict() if self.error else None,
            "finished_at": self.finished_at,
            "trained_tokens": self.trained_tokens,
            "last_event": self.last_event,
            "metrics": dict(self.metrics),
        }
