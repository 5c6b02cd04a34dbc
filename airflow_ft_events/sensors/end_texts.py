"""What a wait says at its end: why the job ended this way, or that it did not end in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_ft_events.exceptions import FineTuningJobCancelled, FineTuningJobFailed

if TYPE_CHECKING:
    from airflow_ft_events.connection.redaction import Redactor
    from airflow_ft_events.errors import FineTuningError
    from airflow_ft_events.events import Event
    from airflow_ft_events.jobs import JobOutcome

LAST_EVENTS = 5


def timeout_text(status: str | None, *, job_id: str, conn_id: str, timeout: float) -> str:
    """
    Say that a job did not end in time.

    :param status: its last known status; None if it was never seen.
    :param job_id: the job.
    :param conn_id: the connection.
    :param timeout: seconds that the wait had.
    :returns: the text.
    """
    last = (
        f"its last known status is {status!r}. The job itself goes on: nothing was done to it"
        if status
        else "its status was never seen. Nothing was done to the job; whether it goes on is not known"
    )
    return (
        f"Job {job_id} did not end within {timedelta(seconds=timeout)} (connection {conn_id!r}); {last}. "
        "Raise 'timeout', or check the job on its server."
    )


def job_error(
    outcome: JobOutcome, events: Sequence[Event], *, conn_id: str, redact: Redactor
) -> FineTuningError:
    """
    Say why a job ended this way, and how its log ends.

    :param outcome: of a job that failed or was cancelled.
    :param events: the end of its log, oldest first.
    :param conn_id: the connection.
    :param redact: masks the connection's secrets.
    :returns: the error that ends the task.
    """
    job_id, cancelled = outcome.job_id, outcome.cancelled
    parts = [f"Job {job_id} {'was cancelled' if cancelled else 'failed'} (connection {conn_id!r})"]
    if outcome.error:
        facts = outcome.error
        parts.append(f": {facts.message or 'no message'}".rstrip("."))
        more = [f"{n} {v}" for n, v in (("code", facts.code), ("param", facts.param)) if v]
        parts.append(f" ({', '.join(more)})" if more else "")
    else:
        parts.append("" if cancelled else "; the server gives no reason")
    next_step = (
        "Start it again if this was not intended" if cancelled else "Fix the cause and start a new job"
    )
    parts.append(f". {next_step}; retrying this task would find the same job.")
    if events:
        from airflow_ft_events.waiting.task_log import text_of

        shown = [f"  {text_of(event, limit=200)}" for event in events[-LAST_EVENTS:]]
        parts.append("\nIts last events:\n" + "\n".join(shown))
    kind = FineTuningJobCancelled if cancelled else FineTuningJobFailed
    return kind(redact.text("".join(parts)), job_id=job_id, conn_id=conn_id)
