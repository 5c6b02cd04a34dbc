"""Shared by the operators that read a whole log: waits for the last events of an ended job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_ft_events.clock import clock
from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.parameters import DEFAULT_CONN_ID, check_conn_id, check_early

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_ft_events.hooks.fine_tuning import FineTuningHook
    from airflow_ft_events.jobs import Job

SHORT_WAIT = 10.0
"""Seconds for which a worker slot may be occupied while a log settles; longer waits defer."""


class SettledLogOperator(BaseOperator):
    """
    Wait until the log of an ended job has settled, then read it; a running job's log is read immediately.

    :param job_id: the job (templated).
    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http`` (templated); default
        ``fine_tuning_default``.
    :param settle: seconds, or a timedelta, after a job's end until its log counts as complete, 0 to 86,400;
        default 120.
    :param deferrable: defer while a log settles, if that takes more than 10 s; default from ``[operators]
        default_deferrable``.
    """

    def __init__(
        self,
        *,
        job_id: str,
        conn_id: str = DEFAULT_CONN_ID,
        settle: float | timedelta = 120,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.conn_id = conn_id
        self.deferrable = deferrable
        check_early(job_id)
        check_conn_id(conn_id)
        self.settle = _seconds(settle)

    def execute(self, context: Context) -> Any:
        """
        Wait until the log of an ended job has settled, then read it.

        :returns: the operator's result.
        :raises FineTuningApiError: the job's events could not be read.
        """
        hook = self._hook()
        job = hook.find_job(self.job_id)
        left = self._seconds_left(hook, job)
        # a log that may still grow is of use only if its last message is there
        found = self._read(context, hook, job, settled=left is not None, must_end=bool(left))
        if found is not None or left is None:
            return found
        if left > SHORT_WAIT and self.deferrable:
            from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

            self.log.info("Job %s has ended; its last events may take another %.0f s.", self.job_id, left)
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=left)), method_name="execute_complete")
        self.log.info("Job %s has ended; waiting %.0f s for its last events.", self.job_id, left)
        clock().sleep(left)
        return self.execute_complete(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Read the log after it has settled, and the job again: it may have been resumed meanwhile.

        :param event: the time trigger's event; not used.
        :returns: the operator's result.
        """
        hook = self._hook()
        return self._read(context, hook, hook.find_job(self.job_id), settled=True)

    def _read(
        self,
        context: Context,
        hook: FineTuningHook,
        job: Job | None,
        *,
        settled: bool,
        must_end: bool = False,
    ) -> Any:
        """
        Read the log, settled or not, and make this operator's result of it.

        :returns: the operator's result; with ``must_end``, None if the log's last message is missing.
        """
        raise NotImplementedError

    def _push(self, context: Context, *, key: str, value: Any) -> None:
        """Push an XCom beside the result, unless the task pushes none; a test's context may have no task."""
        if self.do_xcom_push and (task := context.get("ti")) is not None:
            task.xcom_push(key=key, value=value)

    def _hook(self) -> FineTuningHook:
        # what only a running task needs is not imported when a Dag is parsed
        from airflow_ft_events.hooks.fine_tuning import FineTuningHook

        return FineTuningHook(self.conn_id)

    def _seconds_left(self, hook: FineTuningHook, job: Job | None) -> float | None:
        """How long an ended job's log may still grow; None for a job that is running or not shown."""
        if job is None or job.ended is None:
            return None
        if job.finished_at is None:
            return self.settle
        return min(self.settle, max(0.0, self.settle - (hook.server_now() - job.finished_at)))


def _seconds(settle: object) -> float:
    seconds = settle.total_seconds() if isinstance(settle, timedelta) else settle
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
        raise FineTuningInputError(
            f"settle is {settle!r}; it must be a number of seconds from 0 to 86,400, or a timedelta."
        )
    return seconds
