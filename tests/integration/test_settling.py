"""While a log settles: the job is read again afterwards, on the worker as after a deferral."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator, FineTuningGateOperator
from airflow_ft_events.operators.settled import SettledLogOperator
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator


@pytest.fixture
def resumed(odd_server: Any, answer_bytes: Any, connect: Any, clock: Any) -> None:
    """A job that ended 10 s ago, and runs again after a minute."""
    began = clock.now()

    def answer(asked: Any) -> bytes:
        runs = clock.passed >= 60
        if "/events" not in asked.target:
            ended = {"status": "succeeded", "finished_at": began - 10}
            return answer_bytes({"id": "ftjob-1", **({"status": "running"} if runs else ended)})
        events = [{"id": "e1", "created_at": began - 50, "level": "info", "message": "Job started"}]
        if runs:
            events.insert(
                0, {"id": "e2", "created_at": began + 60, "level": "info", "message": "Job resumed"}
            )
        return answer_bytes({"data": events, "has_more": False})

    connect(odd_server(answer))


def outcome_of(new: Callable[..., SettledLogOperator], context: Any, clock: Any) -> Any:
    try:
        return new().execute(context)
    except TaskDeferred:
        clock.sleep(110)
        return new().execute_complete(context, None)


@pytest.mark.usefixtures("resumed")
@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_job_that_was_resumed_while_its_log_settled_has_no_complete_archive(
    deferrable: bool, tmp_path: Path, clock: Any, task: Any
) -> None:
    def new() -> SettledLogOperator:
        return FineTuningEventsToObjectStorageOperator(
            task_id="archive", job_id="ftjob-1", path=f"file://{tmp_path}/log.jsonl", deferrable=deferrable
        )

    manifest = outcome_of(new, {"ti": task}, clock)
    told = {name: manifest[name] for name in ("outcome", "status", "complete", "count")}
    assert told == {"outcome": None, "status": "running", "complete": False, "count": 2}


@pytest.mark.usefixtures("resumed")
@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_job_that_was_resumed_while_its_log_settled_has_not_ended_in_the_summary(
    deferrable: bool, clock: Any, task: Any
) -> None:
    def new() -> SettledLogOperator:
        return FineTuningEventsOperator(task_id="collect", job_id="ftjob-1", deferrable=deferrable)

    assert len(outcome_of(new, {"ti": task}, clock)) == 2
    told = task.pushed["summary"]
    assert (told["status"], told["job_ended"]) == ("running", False)


@pytest.mark.usefixtures("resumed")
@pytest.mark.parametrize("settle", [30, timedelta(seconds=30)], ids=["seconds", "timedelta"])
def test_settle_is_a_number_of_seconds_or_a_timedelta(settle: Any, clock: Any, task: Any) -> None:
    operator = FineTuningEventsOperator(task_id="collect", job_id="ftjob-1", settle=settle)
    operator.execute({"ti": task})
    assert clock.naps == [pytest.approx(20, abs=1.5)]


@pytest.mark.parametrize("settle", [timedelta(seconds=-1), timedelta(days=2)])
def test_a_timedelta_has_the_range_of_the_seconds(settle: timedelta) -> None:
    with pytest.raises(ValueError, match=r"seconds from 0 to 86,400, or a timedelta"):
        FineTuningEventsOperator(task_id="collect", job_id="ftjob-1", settle=settle)


@pytest.mark.parametrize("how", ["pushes", "do_xcom_push=False", "no task in the context"])
@pytest.mark.parametrize("kind", ["summary", "decision"])
def test_an_operator_pushes_only_if_its_task_pushes(
    kind: str, how: str, simulated: Any, connect: Any, task: Any
) -> None:
    sim = simulated(outcome="succeeded", ended=True)
    connect(sim)
    options: dict[str, Any] = {"task_id": "t", "job_id": sim.job_id}
    if how == "do_xcom_push=False":
        options["do_xcom_push"] = False
    context: Any = {} if how == "no task in the context" else {"ti": task}
    if kind == "summary":
        assert FineTuningEventsOperator(settle=timedelta(0), **options).execute(context)
    else:
        gate = FineTuningGateOperator(conditions=["train_loss < 1000"], **options)
        assert gate.execute(context)["passed"]
    assert list(task.pushed) == ([kind] if how == "pushes" else [])
