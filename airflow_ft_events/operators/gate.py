"""FineTuningGateOperator: lets a model through only if its training went well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, SkipMixin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_ft_events.errors import FineTuningArchiveError, FineTuningError, FineTuningInputError
from airflow_ft_events.events import Event, Order, one_line, order_of
from airflow_ft_events.parameters import (
    DEFAULT_CONN_ID,
    check_conn_id,
    check_early,
    check_job_id,
    is_same_job,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_ft_events.gate.conditions import Condition
    from airflow_ft_events.gate.evaluation import ConditionResult
    from airflow_ft_events.hooks.fine_tuning import FineTuningHook
    from airflow_ft_events.jobs import Job, JobOutcome

ON_VIOLATION = ("fail", "skip")
NOT_EVALUATED = "not evaluated"


class FineTuningGateOperator(BaseOperator, SkipMixin):
    """
    Let an ended job pass only if it succeeded and all conditions on its metrics hold.

    The decision is in the XCom ``decision``, unless the task pushes none, and is the return value if the task
    succeeds.

    :param job_id: the job (templated); it must have ended.
    :param conditions: 1 to 100 comparisons that must all hold (templated), such as
        ``"full_valid_loss <= 1.2"`` or ``"min(valid_loss) < 1.1 * train_loss"``.
    :param on_violation: ``fail`` (default) fails the task without a retry; ``skip`` lets it succeed and skips
        what is downstream.
    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http`` (templated); default
        ``fine_tuning_default``.
    :param events: the job's events from an upstream task, oldest first (templated); default None, they are
        read from the server. The outcome is always read from the server.
    :param archive: path of the job's archive to read the events from instead (templated); it must be
        complete. Default None.
    :param storage_conn_id: connection of the archive's storage (templated); default the part before an
        ``@`` in its path, or none.
    :param ignore_downstream_trigger_rules: with ``skip``, skip everything downstream; with False only
        the next tasks, and trigger rules decide about the rest. Default True.
    :returns: ``{"job_id", "outcome", "passed", "conditions": [{"condition", "value", "limit", "step",
        "passed", "reason"}]}``.
    """

    template_fields: Sequence[str] = (
        "job_id",
        "conn_id",
        "conditions",
        "events",
        "archive",
        "storage_conn_id",
    )
    ui_color = "#f0ece4"
    # the scheduler checks this when a skipped task is cleared
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        job_id: str,
        conditions: Sequence[str],
        on_violation: Literal["fail", "skip"] = "fail",
        conn_id: str = DEFAULT_CONN_ID,
        events: Sequence[Mapping[str, Any]] | None = None,
        archive: str | None = None,
        storage_conn_id: str | None = None,
        ignore_downstream_trigger_rules: bool = True,
        **kwargs: Any,
    ) -> None:
        # only Dags that have a gate import the grammar, not every Dag file with an operator
        from airflow_ft_events.gate.conditions import check_conditions_early

        super().__init__(**kwargs)
        self.job_id = job_id
        self.conditions = conditions
        self.on_violation = on_violation
        self.conn_id = conn_id
        self.events = events
        self.archive = archive
        self.storage_conn_id = storage_conn_id
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules
        check_early(job_id)
        check_conn_id(conn_id)
        check_conditions_early(conditions)
        if on_violation not in ON_VIOLATION:
            raise FineTuningInputError(
                f"on_violation is {on_violation!r}; it must be one of {', '.join(ON_VIOLATION)}."
            )
        if events is not None and archive is not None:
            raise FineTuningInputError("Both events and archive are given; the gate takes only one of them.")

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Evaluate the job.

        :returns: the decision.
        :raises FineTuningGateViolated: the job did not succeed, or a condition does not hold, and
            ``on_violation`` is ``fail``.
        :raises FineTuningError: the job has not ended, or could not be read.
        """
        # what only a running task needs is not imported when a Dag is parsed
        from airflow_ft_events.gate.conditions import parse_all
        from airflow_ft_events.gate.evaluation import evaluate
        from airflow_ft_events.hooks.fine_tuning import FineTuningHook

        job_id, conditions = check_job_id(self.job_id), parse_all(self.conditions)
        given = self._archived_events() if self.archive is not None else self._given_events()
        hook = FineTuningHook(self.conn_id)
        job = hook.find_job(job_id)
        if job is not None and job.ended is None:
            raise self._too_early(f"has not ended: its status is {one_line(job.status, limit=60)!r}")
        log = self._read_log(hook, job, is_judged=given is None)
        outcome = self._outcome(hook, job, log)
        if not outcome.succeeded:
            findings = _not_checked(conditions, outcome)
        else:
            judged = log if given is None else given
            if self.archive is None:
                judged = hook.with_metrics(job_id, judged)
            findings = evaluate(conditions, judged)
        return self._decide(context, hook, outcome, findings)

    def _given_events(self) -> list[Event] | None:
        """The events of an upstream task, oldest first; None if they are to be read."""
        given: object = self.events
        if given is None:
            return None
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            raise FineTuningInputError(
                f"events is {one_line(repr(given), limit=80)}; it must be a list of event dicts: pass the "
                "output of the task that collects them, such as collect.output, or leave it out.",
                conn_id=self.conn_id,
            )
        raws = [event if isinstance(event, dict) else None for event in given]
        events = [Event(raw, "") for raw in raws if raw is not None]
        if len(events) < len(raws):
            raise FineTuningInputError(
                f"events contains {one_line(repr(given[raws.index(None)]), limit=80)}; each must be the dict "
                "of an event, as the server sent it.",
                conn_id=self.conn_id,
            )
        newest_first = order_of([event.raw for event in events]) is Order.NEWEST_FIRST
        return events[::-1] if newest_first else events

    def _archived_events(self) -> list[Event]:
        """The events of the job's archive, which must be complete."""
        from airflow_ft_events.api.metrics import merged
        from airflow_ft_events.archive.layout import check_path
        from airflow_ft_events.archive.reader import StoredArchive

        stored = StoredArchive.at(check_path(self.archive), storage_conn_id=self.storage_conn_id or None)
        manifest, raws, metrics = stored.read_whole()
        if manifest is None:
            problem = "has no manifest beside it, so it is unknown whose it is and whether it is complete"
        elif not is_same_job(manifest.job.job_id, self.job_id):
            problem = f"belongs to job {manifest.job.job_id}"
        elif not manifest.job.complete:
            problem = "is not complete: the job was still running, or its last events were still to come"
        else:
            return merged([Event(raw, "") for raw in raws], metrics)
        raise FineTuningArchiveError(
            f"The gate for job {self.job_id} has decided nothing: archive {stored.shown} {problem}. Run the "
            "archiving task between the job's end and the gate, or leave out 'archive' to read the events "
            "from the server.",
            job_id=self.job_id,
            conn_id=self.conn_id,
        )

    # the outcome

    def _read_log(self, hook: FineTuningHook, job: Job | None, *, is_judged: bool) -> list[Event]:
        """Read the whole log once, to decide by it or to evaluate it; or its end, for why a job failed."""
        from airflow_ft_events.jobs import Outcome

        if job is None or (is_judged and job.ended is Outcome.SUCCEEDED):
            return hook.read_events(self.job_id, job_shown=job is not None).collected_events()
        if job.ended is not Outcome.FAILED or job.error is not None:
            return []
        try:
            return hook.newest_events(self.job_id)
        except FineTuningError as error:
            self.log.warning("The job failed, and its last events could not be read: %s", error)
            return []

    def _outcome(self, hook: FineTuningHook, job: Job | None, log: Sequence[Event]) -> JobOutcome:
        ending = hook.how_it_ended(self.job_id, job, log)
        if ending.outcome is not None:
            return ending.outcome
        if ending.seconds_left is None:
            raise self._too_early(
                "is not shown by its server, and its events announce no end, so it is unknown whether it has "
                "ended"
            )
        raise self._too_early(
            "is not shown by its server, and the end that its events announce is too recent: it may still be "
            f"taken back for another {ending.seconds_left:.0f} s"
        )

    def _too_early(self, what: str) -> FineTuningError:
        return FineTuningError(
            f"Job {self.job_id} {what} (connection {self.conn_id!r}). The gate evaluates only ended jobs and "
            "has decided nothing. Put a FineTuningEventsSensor in front of it, which waits for the end.",
            job_id=self.job_id,
            conn_id=self.conn_id,
        )

    # the decision

    def _decide(
        self, context: Context, hook: FineTuningHook, outcome: JobOutcome, findings: Sequence[ConditionResult]
    ) -> dict[str, Any]:
        rows = [finding.as_dict() for finding in findings]
        for row in rows:
            # names of metrics come from the server
            row["reason"] = hook.redact.text(row["reason"]) if row["reason"] else None
        violated = sum(not row["passed"] for row in rows)
        decision: dict[str, Any] = hook.redact.json(
            {
                "job_id": self.job_id,
                "outcome": outcome.outcome.value,
                "passed": outcome.succeeded and not violated,
                "conditions": rows,
            }
        )
        if self.do_xcom_push and (task := context.get("ti")) is not None:
            task.xcom_push(key="decision", value=decision)
        ended = f"Job {self.job_id} {_ended(outcome)} (decided by its {outcome.decided_by})"
        if outcome.succeeded:
            verdict = "open" if decision["passed"] else "closed"
            held = f"{len(rows) - violated} of {len(rows)} conditions hold: the gate is {verdict}"
        else:
            held = "no condition was evaluated; the gate is closed"
        self.log.info("%s; %s.", ended, held)
        table = _table(rows, evaluated=outcome.succeeded)
        for row, line in zip(rows, table, strict=True):
            (self.log.info if row["passed"] else self.log.warning)("%s", line)
        if decision["passed"]:
            return decision
        if self.on_violation == "fail":
            raise self._violated(hook, outcome, table, violated=violated)
        self._skip_downstream(context, decision)
        return decision

    def _violated(
        self, hook: FineTuningHook, outcome: JobOutcome, table: Sequence[str], *, violated: int
    ) -> FineTuningError:
        from airflow_ft_events.exceptions import FineTuningGateViolated

        if not outcome.succeeded:
            said = f": {outcome.error.message.rstrip('.')}" if outcome.error and outcome.error.message else ""
            why = f"the job {_ended(outcome)}{said}"
            advice = "Start it again if this was not intended" if outcome.cancelled else "Fix the cause"
            advice = f"{advice}; no condition was evaluated."
        else:
            why = f"{violated} of {len(table)} conditions {'does' if violated == 1 else 'do'} not hold"
            advice = "Check the training and its data, or change the conditions."
        lines = "\n".join(f"  {line}" for line in table)
        return FineTuningGateViolated(
            hook.redact.text(
                f"The gate for job {self.job_id} is closed (connection {self.conn_id!r}): {why}. {advice} "
                f"Retrying this task would find the same.\n{lines}"
            ),
            job_id=self.job_id,
            conn_id=self.conn_id,
        )

    def _skip_downstream(self, context: Context, decision: dict[str, Any]) -> None:
        """Skip what is downstream, as ShortCircuitOperator does; on Airflow 3 this does not return."""
        this = context["task"]
        if self.ignore_downstream_trigger_rules:
            downstream: Any = this.get_flat_relatives(upstream=False)
        else:
            downstream = this.get_direct_relatives(upstream=False)
        tasks = [task for task in downstream if not task.is_teardown]
        if not tasks:
            self.log.info("There is nothing downstream to skip.")
            return
        self.log.info("Skipping %d downstream tasks.", len(tasks))
        task, run = context["ti"], context["dag_run"]
        if AIRFLOW_V_3_0_PLUS:
            if self.do_xcom_push:
                # skipping raises an exception there, so the returned value is not pushed
                task.xcom_push(key="return_value", value=decision)
            self.skip(ti=task, tasks=tasks)
        else:
            self.skip(  # type: ignore[call-arg]
                dag_run=run, execution_date=run.logical_date, tasks=tasks, map_index=task.map_index
            )


def _ended(outcome: JobOutcome) -> str:
    return "was cancelled" if outcome.cancelled else outcome.outcome.value


def _not_checked(conditions: Sequence[Condition], outcome: JobOutcome) -> list[ConditionResult]:
    from airflow_ft_events.gate.evaluation import ConditionResult

    reason = f"{NOT_EVALUATED}: the job {_ended(outcome)}"
    return [ConditionResult(condition.text, passed=False, reason=reason) for condition in conditions]


def _table(rows: Sequence[Mapping[str, Any]], *, evaluated: bool) -> list[str]:
    """One line per condition, for people."""
    from airflow_ft_events.gate.conditions import shown

    if not evaluated:
        # the line before the table says why, so the reason would repeat it on each line
        return [f"{NOT_EVALUATED}  {one_line(row['condition'])}" for row in rows]
    width = min(60, max(len(row["condition"]) for row in rows))
    lines = []
    for row in rows:
        value = "" if row["value"] is None else f"{shown(row['value'])}"
        if value and row["step"] is not None:
            value += f" at step {row['step']}"
        said = "; ".join(part for part in (value, row["reason"]) if part)
        mark = "holds   " if row["passed"] else "VIOLATED"
        lines.append(f"{mark}  {one_line(row['condition']):<{width}}  {said}")
    return lines
