"""The public errors: those of the API, and those that Airflow must recognise."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ft_events.errors import (
    ConditionError,
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningArchiveError,
    FineTuningAuthError,
    FineTuningError,
    FineTuningInputError,
    FineTuningJobNotFound,
    FineTuningPagingError,
    FineTuningRateLimited,
    FineTuningStatusUnknown,
)

__all__ = [
    "ConditionError",
    "FineTuningAnswerError",
    "FineTuningApiError",
    "FineTuningArchiveError",
    "FineTuningAuthError",
    "FineTuningError",
    "FineTuningGateViolated",
    "FineTuningInputError",
    "FineTuningJobCancelled",
    "FineTuningJobFailed",
    "FineTuningJobNotFound",
    "FineTuningPagingError",
    "FineTuningRateLimited",
    "FineTuningStatusUnknown",
]


class FineTuningJobFailed(FineTuningError, AirflowFailException):
    """The job ended as failed: the task fails without a retry, and ``soft_fail`` skips it, in every mode."""


class FineTuningJobCancelled(FineTuningError, AirflowFailException):
    """The job was cancelled: the task fails without a retry, and ``soft_fail`` skips it, in every mode."""


class FineTuningGateViolated(FineTuningError, AirflowFailException):
    """A gate is closed: the job did not succeed, or a condition does not hold; the task is not retried."""
