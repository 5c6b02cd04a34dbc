"""A fine-tuning job as its server describes it, and the outcome that every mode returns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_ft_events.errors import FineTuningStatusUnknown
from airflow_ft_events.events import epoch_seconds, iso_utc, one_line, short_utc, whole_number

_FINISHED: tuple[str, ...] = (
    "finished_at",
    "completed_at",
    "ended_at",
    "finish_time",
    "completion_time",
    "end_time",
)
_FINISHED += ("failed_at", "cancelled_at", "canceled_at")
_FINISHED_FORMS = {name.replace("_", ""): rank for rank, name in enumerate(_FINISHED)}
"""Names of the time at which a job ended, without case and separators; the first that has a time counts."""
_NO_ERRORS = frozenset(
    ("", "none", "null", "n/a", "no error", "no errors", "ok", "success", "succeeded", "0", "200")
)
"""What servers write into an error that is none: ``{"code": "200", "message": "success"}``."""
_DEEPEST = 20


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


def says_error(value: object, *, depth: int = _DEEPEST) -> bool:
    """
    Tell whether a job's ``error`` says that there was one.

    :param value: the field as the server wrote it.
    :param depth: how many levels are looked at; whatever lies deeper counts. Default 20.
    :returns: False for null, false, 0, 200, texts such as "", "None", "OK" and "no error", and an object or a
        list with nothing but these.
    """
    if isinstance(value, str):
        return value.strip(" \t\r\n.").lower() not in _NO_ERRORS
    if depth and isinstance(value, Mapping | list):
        parts = value.values() if isinstance(value, Mapping) else value
        return any(says_error(part, depth=depth - 1) for part in parts)
    return bool(value) and value != 200


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
        if not says_error(value):
            return None
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
    :param contradicts_itself: whether its status means success and it reports an error; its state is then
        unknown. Default False.
    """

    raw: dict[str, Any]
    id: str
    vendor: str
    state: JobState
    fields: Mapping[str, Any]
    contradicts_itself: bool = False

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
        """When it says that it ended, seconds since 1970, whatever its status; None if it does not say."""
        forms = ((re.sub(r"[_-]", "", name).lower(), value) for name, value in self.fields.items())
        told = {
            _FINISHED_FORMS[form]: at
            for form, value in forms
            if form in _FINISHED_FORMS and (at := epoch_seconds(value)) is not None
        }
        return told[min(told)] if told else None

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


def status_unknown(
    job: Job, *, conn_id: str, line: Callable[..., str] = one_line, announced: str | None = None
) -> FineTuningStatusUnknown:
    """
    Make the error for a job that is over, as it or its log says, and whose status does not tell how it ended.

    :param job: the job; its state is unknown.
    :param conn_id: the connection.
    :param line: makes a server's text safe for messages, as ``Redactor.line`` does; default without masking.
    :param announced: what the last event says about the end; default None.
    :returns: the error; it is no verdict.
    """
    word, finished = line(job.status, limit=60), short_utc(job.finished_at)
    if job.contradicts_itself:
        error = job.error.as_dict() if job.error else {"error": job.fields.get("error")}
        told = ": ".join(str(part) for name, part in error.items() if part and name != "param")
        problem = (
            f"its status {word!r} means success, and it reports an error as well, {line(told, limit=200)!r}"
        )
        advice = "Look at the job on its server, and tell whoever runs it that the two do not agree."
    else:
        problem = f"its status {word!r} is a word that is not known here"
        states = json.dumps({"states": {word: "succeeded"}}, ensure_ascii=False)
        advice = (
            "Look at the job on its server. Then write into the connection's extra what the word means "
            f"there, such as {states} (or failed, cancelled, running), and clear the task."
        )
    over = f" It says that it finished at {finished}." if finished else ""
    over += f" Its log says {line(announced, limit=120)!r}." if announced else ""
    return FineTuningStatusUnknown(
        f"The state of job {job.id} is unknown (connection {conn_id!r}): {problem}.{over} That is no "
        f"verdict: the job may have succeeded or failed. {advice}",
        job_id=job.id,
        conn_id=conn_id,
        job_status=word,
        finished_at=finished,
    )


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
