"""FineTuningEventsSensor: waits for the end of a fine-tuning job and gates the tasks after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_ft_events.clock import clock
from airflow_ft_events.errors import FineTuningError, error_from_dict
from airflow_ft_events.events import Event, last_metrics, one_line, short_utc
from airflow_ft_events.parameters import (
    DEFAULT_CONN_ID,
    DEFERRAL_KEY,
    check_conn_id,
    check_count,
    check_early,
    check_job_id,
    check_log_events,
)
from airflow_ft_events.sensors.end_texts import job_error, timeout_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_ft_events.connection.settings import Settings
    from airflow_ft_events.hooks.fine_tuning import FineTuningHook
    from airflow_ft_events.jobs import JobOutcome
    from airflow_ft_events.waiting.poller import JobPoller
    from airflow_ft_events.waiting.state import PollResult
    from airflow_ft_events.waiting.task_log import LogEvents, TaskLog

LEAST_INTERVAL = 1.0
"""Seconds between polls of a deferred task with ``poke_interval=0``."""
BACKSTOP = 600.0
"""Seconds after the trigger's deadline at which Airflow's deferral timeout ends a dead trigger."""
SHOWN_AGAIN = 30.0
"""Seconds before the last poke from which reschedule mode logs events again rather than miss some."""
TRIGGER_FAILED = "__fail__"
AIRFLOWS_OWN = (AirflowFailException, AirflowSensorTimeout)
"""What ``soft_fail`` makes a skip, and ``silent_fail`` does not go on after."""


class FineTuningEventsSensor(BaseSensorOperator):
    """
    Wait for the end of a fine-tuning job.

    :param job_id: the job (templated).
    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http`` (templated); default
        ``fine_tuning_default``.
    :param deferrable: wait in the triggerer; default from ``[operators] default_deferrable``.
    :param raise_on_failure: fail the task when the job failed or was cancelled; with False the result is
        returned instead, for branching. Default True. A timeout, a job that is gone and an unknown state
        always fail the task.
    :param log_events: which events go into the task log: ``messages`` (default; metrics as one progress line
        per poll), ``all`` or ``none``.
    :param max_poll_failures: polls in a row, from 1, without a usable answer before the job's state counts as
        unknown, which takes at least 15 minutes as well. Default 5. In reschedule mode nothing is remembered,
        and the timeout ends the wait.
    :param cancel_on_kill: cancel the job when the task is killed on a worker, or when a user ends or clears
        it while it is deferred (Airflow 3.3). Default False: a sensor does not own the job.
    :returns: the result dict: ``job_id``, ``vendor``, ``outcome``, ``decided_by``, ``status``,
        ``fine_tuned_model``, ``error``, ``finished_at``, ``trained_tokens``, ``last_event``, ``metrics``.
    """

    template_fields: Sequence[str] = ("job_id", "conn_id")
    ui_color = "#e4f0e8"

    def __init__(
        self,
        *,
        job_id: str,
        conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        raise_on_failure: bool = True,
        log_events: LogEvents = "messages",
        max_poll_failures: int = 5,
        cancel_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.conn_id = conn_id
        self.deferrable = deferrable
        self.raise_on_failure = raise_on_failure
        self.log_events = log_events
        self.max_poll_failures = max_poll_failures
        self.cancel_on_kill = cancel_on_kill
        self._poller: JobPoller | None = None
        self._hook: FineTuningHook | None = None
        self._task_log: TaskLog | None = None
        self._task_instance: Any = None
        self._end_time = math.inf
        check_early(job_id)
        check_conn_id(conn_id)
        check_count("max_poll_failures", max_poll_failures, optional=False)
        check_log_events(log_events)

    def execute(self, context: Context) -> Any:
        """
        Wait here, or poll once and defer; return the result dict.

        :raises FineTuningJobFailed: the job failed.
        :raises FineTuningJobCancelled: the job was cancelled.
        :raises FineTuningError: the job could not be asked for.
        :raises AirflowSensorTimeout: the job did not end in time.
        """
        self._hook = self._poller = self._task_log = None
        if self.deferrable:
            self._task_instance = context.get("ti")
            self._end_time = clock().now() + self.timeout
            return self._look_and_defer()
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            # the base class names no job, and fails the task even with never_fail
            self._end(self._timed_out(self._last_status()))

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Return the result once the job has ended, else False."""
        try:
            found = self._look(poked_before=self.mode == "reschedule" and self._was_poked_before(context))
        except Exception as error:
            # the base class skips too, without a word of what happened
            if self.never_fail and (isinstance(error, AIRFLOWS_OWN) or not self.silent_fail):
                self._end(error)
            raise
        return False if found is None else PokeReturnValue(is_done=True, xcom_value=found)

    def _look(self, *, poked_before: bool = False) -> dict[str, Any] | None:
        """Poll once; return the result of a job that has ended, or raise what ends the wait."""
        result = self._poll_once(poked_before=poked_before)
        if result.error is not None:
            raise result.error
        return None if result.outcome is None else self._result(result.outcome)

    def _last_status(self) -> str | None:
        return self._poller.status if self._poller else None

    def _was_poked_before(self, context: Context) -> bool:
        """Whether another process of this wait has poked before; reschedule mode remembers nothing else."""
        count = context.get("task_reschedule_count")
        if count is not None:
            return int(count) > 0
        # Airflow 2.11 keeps the first poke's time as the task's start
        began = getattr(context.get("ti"), "start_date", None)
        return began is not None and clock().now() - began.timestamp() >= max(self.poke_interval, 1.0)

    def _poll_once(self, *, poked_before: bool = False) -> PollResult:
        """Poll the job once, the same way in every mode, and log what is new."""
        hook = self._worker_hook()
        is_new = self._poller is None
        if self._poller is None or self._task_log is None:
            from airflow_ft_events.waiting.poller import JobPoller
            from airflow_ft_events.waiting.task_log import TaskLog

            self._task_log = TaskLog(self.log_events)
            settings, job_id = hook.settings, check_job_id(self.job_id)
            self._poller = JobPoller(
                settings=settings,
                job_id=job_id,
                interval=self.poke_interval,
                max_failures=self.max_poll_failures,
                first=not poked_before,
                remembers=self.deferrable or self.mode != "reschedule",
            )
            if not poked_before:
                self._log_start(settings)
        result = hook.poll(self._poller, until=self._end_time)
        events, more_before = result.events, result.more_before
        if is_new and poked_before and not self.exponential_backoff:
            since = result.server_now - self.poke_interval - SHOWN_AGAIN
            events = [event for event in events if event.created_at is None or event.created_at >= since]
            more_before = False
        for level, text in (*self._task_log.lines(events, more_before=more_before), *result.notes):
            getattr(self.log, level)("%s", hook.redact.text(text))
        return result

    def _log_start(self, settings: Settings) -> None:
        server = (self.job_id, settings.root, settings.vendor.name, self.conn_id)
        if self.deferrable:
            self.log.info(
                "Checking job %s on %s (vendor %s, connection %r) before the triggerer waits for it.",
                *server,
            )
            return
        until = short_utc(clock().now() + self.timeout)
        self.log.info(
            "Waiting for job %s on %s (vendor %s, connection %r), polling every %g s %s.",
            *server,
            self.poke_interval,
            f"until {until}" if until else "without a deadline",
        )

    # deferrable

    def _look_and_defer(self) -> dict[str, Any]:
        try:
            if (found := self._look()) is not None:
                return found
        except Exception as error:  # noqa: BLE001 - the base class treats whatever a poke raises so
            self._end(error)
        self._defer()

    def _defer(self) -> NoReturn:
        from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

        poller = self._poller
        bookmark = poller.bookmark if poller else None
        order = bookmark.order if bookmark else None
        if self.cancel_on_kill and (deferral := getattr(self._task_instance, "id", None)):
            self._task_instance.xcom_push(key=DEFERRAL_KEY, value=str(deferral))
        self.defer(
            trigger=FineTuningEventsTrigger(
                job_id=self.job_id,
                conn_id=self.conn_id,
                poll_interval=self.poke_interval or LEAST_INTERVAL,
                end_time=self._end_time,
                log_events=self.log_events,
                max_poll_failures=self.max_poll_failures,
                cancel_on_kill=self.cancel_on_kill,
                silent_fail=self.silent_fail,
                job_seen=poller.job_seen if poller else False,
                events_seen=poller.events_seen if poller else False,
                newer_than=bookmark.last_id if bookmark else None,
                order=order.value if order else None,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )
        raise AssertionError("defer() returned")

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Finish on the worker, with what the trigger found.

        :param event: the trigger's event.
        :returns: the result dict.
        """
        kind = event.get("kind") if isinstance(event, Mapping) else None
        try:
            if event is not None and kind == "outcome":
                return self._result(self._outcome_of(event))
            if event is not None and kind == "timeout":
                raise self._timed_out(event.get("status"))
            if event is not None and kind == "error" and isinstance(event.get("error"), Mapping):
                raise error_from_dict(event["error"])
            raise self._not_understood(event)
        except Exception as error:  # noqa: BLE001 - as at the first look
            self._end(error, deferred=True)

    def _outcome_of(self, event: Mapping[str, Any]) -> JobOutcome:
        from airflow_ft_events.jobs import JobOutcome

        try:
            outcome = JobOutcome.from_dict(event["outcome"])
        except (KeyError, ValueError, AttributeError):
            raise self._not_understood(event) from None
        if outcome.job_id != self.job_id:
            raise self._not_understood(event)
        return outcome

    def _not_understood(self, event: object) -> FineTuningError:
        return FineTuningError(
            f"The trigger for job {self.job_id} sent an event that cannot be understood, so nothing is known "
            f"about the job: {one_line(repr(event), limit=200)}. Do worker and triggerer run the same "
            "version of airflow-ft-events?",
            job_id=self.job_id,
            conn_id=self.conn_id,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the trigger; one that died is an error of its own, which ``soft_fail`` never skips."""
        if next_method != TRIGGER_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        reason = one_line((next_kwargs or {}).get("error", "unknown"), limit=200)
        for line in (next_kwargs or {}).get("traceback") or ():
            self.log.error("%s", str(line).rstrip())
        if "timeout" in reason.lower():
            self._end(self._timed_out(None))
        self._end(
            FineTuningError(
                f"The trigger that waited for job {self.job_id} died ({reason}); this says nothing about the "
                "job. Is airflow-ft-events installed where the triggerer runs? Clearing this task waits for "
                "the job again.",
                job_id=self.job_id,
                conn_id=self.conn_id,
            ),
            deferred=True,
        )

    # the end

    def _end(self, error: Exception, *, deferred: bool = False) -> NoReturn:
        """
        End the task as Airflow's sensors do in poke mode, whichever mode this is.

        ``soft_fail`` turns Airflow's own exceptions into skips, ``never_fail`` turns everything into skips,
        and with ``silent_fail`` no fault ends the wait.
        """
        if isinstance(error, AirflowSkipException):
            raise error
        known = isinstance(error, AIRFLOWS_OWN)
        if self.silent_fail and not known and not deferred and self.deferrable:
            self.log.error("%s (silent_fail: going on waiting)", error)
            self._defer()
        if self.soft_fail and known:
            raise AirflowSkipException(f"Skipping due to soft_fail: {error}") from error
        if self.never_fail:
            self.log.error("%s (never_fail: skipping)", error)
            raise AirflowSkipException(f"Skipping due to never_fail: {error}") from error
        raise error

    def _timed_out(self, status: str | None) -> AirflowSensorTimeout:
        return AirflowSensorTimeout(
            timeout_text(status, job_id=self.job_id, conn_id=self.conn_id, timeout=self.timeout)
        )

    def _result(self, outcome: JobOutcome) -> dict[str, Any]:
        """Fill in metrics and last event with one last read, and return or raise accordingly."""
        from airflow_ft_events.waiting.evidence import completed

        events = self._last_events()
        last = events[-1].raw if events else None
        outcome = replace(outcome, last_event=last, metrics=last_metrics(events))
        if events:
            settings = self._worker_hook().settings
            outcome = settings.redact.outcome(completed(outcome, events, vendor=settings.vendor))
        finished = f", finished {outcome.finished_at}" if outcome.finished_at else ""
        self.log.info(
            "Job %s %s (decided by its %s%s).",
            self.job_id,
            "was cancelled" if outcome.cancelled else outcome.outcome.value,
            outcome.decided_by,
            finished,
        )
        if self.raise_on_failure and not outcome.succeeded:
            raise job_error(outcome, events, conn_id=self.conn_id, redact=self._worker_hook().redact)
        carrier = self._worker_hook().redact.carrier()
        found: dict[str, Any] = carrier.fit(outcome.as_dict())
        if carrier.changed:
            text = "Job %s: Airflow cannot carry %d values of its result, so they were changed."
            self.log.warning(text, self.job_id, carrier.changed)
        return found

    def _worker_hook(self) -> FineTuningHook:
        if self._hook is None:
            # what only a running task needs is not imported when a Dag is parsed
            from airflow_ft_events.hooks.fine_tuning import FineTuningHook

            self._hook = FineTuningHook(self.conn_id)
        return self._hook

    def _last_events(self) -> list[Event]:
        try:
            return self._worker_hook().newest_events(self.job_id)
        except FineTuningError as error:
            self.log.warning("The job's end is known, but its last events could not be read: %s", error)
            return []

    def on_kill(self) -> None:
        """Cancel the job, if ``cancel_on_kill`` is set: the task was killed while it ran on a worker."""
        if not self.cancel_on_kill:
            return
        self.log.info("The task was killed; cancelling job %s (cancel_on_kill).", self.job_id)
        try:
            job = self._worker_hook().cancel_job(self.job_id)
        except FineTuningError as error:
            self.log.error("Job %s could not be cancelled: %s", self.job_id, error)
        else:
            self.log.info("Job %s is %s.", self.job_id, one_line(job.get("status"), limit=60))
