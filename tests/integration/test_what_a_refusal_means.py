"""A job route that refuses means the same to the sensor, the gate, the operators and the archive."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningAuthError, FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator, FineTuningGateOperator
from airflow_ft_events.simulator import Answer
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator

MISSING = {
    "moved": Answer(status=301, headers={"Location": "https://elsewhere.example"}),
    "bad request": Answer(status=400),
    "not found": Answer(status=404),
    "not allowed": Answer(status=405),
    "gone": Answer(status=410),
    "unprocessable": Answer(status=422),
    "not implemented": Answer(status=501),
    "a page": Answer(status=200, body="<html>Welcome</html>", headers={"Content-Type": "text/html"}),
    "no status": Answer(status=200, body={"id": "ftjob-1"}),
}
NOT_MISSING = {
    "no permission": (Answer(status=403), FineTuningAuthError),
    "server error": (Answer(status=500), FineTuningApiError),
    "a timeout of a gateway": (Answer(status=408), FineTuningApiError),
}


class Tasks:
    """The four tasks that ask how a job is, on one server whose job route answers as it is told."""

    def __init__(self, sim: Any, folder: Path, task: Any) -> None:
        self.sim, self.path, self.context = sim, str(folder / "log.jsonl"), {"ti": task, "task": None}

    def gate(self, **options: Any) -> Any:
        made = FineTuningGateOperator(
            task_id="gate", job_id=self.sim.job_id, conditions=["train_loss < 1"], **options
        )
        return made.execute({**self.context, "task": made})

    def collect(self, **options: Any) -> Any:
        return FineTuningEventsOperator(task_id="t", job_id=self.sim.job_id, **options).execute(self.context)

    def archive(self, **options: Any) -> Any:
        options = {"path": self.path, **options}
        made = FineTuningEventsToObjectStorageOperator(task_id="t", job_id=self.sim.job_id, **options)
        return made.execute(self.context)


STEPS = [
    {
        "offset": step,
        "type": "metrics",
        "message": f"Step {step}/30",
        "data": {"step": step, "train_loss": 1 / step},
    }
    for step in range(1, 31)
]
END = 95
"""Seconds after its beginning at which the job has succeeded; its last event comes five later."""


@pytest.fixture
def tasks(family: Any, simulated: Any, connect: Any, tmp_path: Path, task: Any, clock: Any) -> Tasks:
    """The tasks on a job of 31 events that ended long ago, in pages of ten."""
    sim = simulated([])
    events = [*STEPS, {"offset": END + 5, "type": "message", **family.success}]
    sim.add_job(events=events, status_timeline=[(0, "running"), (END, "succeeded")])
    connect(sim, max_retries=0, page_size=10)
    return Tasks(sim, tmp_path, task)


@pytest.mark.every_family
@pytest.mark.parametrize("answer", MISSING.values(), ids=MISSING.keys())
def test_where_the_job_route_is_missing_all_tasks_go_by_the_events(
    answer: Answer, tasks: Tasks, follow: Any, task: Any, clock: Any
) -> None:
    sim = tasks.sim
    clock.sleep(5_000)
    sim.fault = lambda request: answer if request.route == "job" else None
    waited = follow("poke", sim.job_id)
    assert (waited["outcome"], waited["decided_by"]) == ("succeeded", "event")
    assert tasks.gate()["passed"] is True
    assert tasks.collect() == sim.list_events(sim.job_id)
    assert task.pushed["summary"]["job_ended"] is None
    manifest = tasks.archive()
    assert (manifest["outcome"], manifest["complete"]) == ("succeeded", True)


@pytest.mark.every_family
@pytest.mark.parametrize(("answer", "kind"), NOT_MISSING.values(), ids=NOT_MISSING.keys())
def test_where_the_job_could_not_be_asked_no_task_goes_by_the_events(
    answer: Answer, kind: type[Exception], tasks: Tasks
) -> None:
    tasks.sim.fault = lambda request: answer if request.route == "job" else None
    for run in (tasks.gate, tasks.collect, tasks.archive):
        with pytest.raises(kind):
            run()
    assert not Path(tasks.path).exists()


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("run", ["collect", "archive", "gate"])
def test_a_missing_events_route_is_called_so_and_not_a_missing_job(
    run: str, status: int, tasks: Tasks, clock: Any
) -> None:
    clock.sleep(5_000)
    tasks.sim.fault = lambda request: Answer(status=status) if request.route == "events" else None
    with pytest.raises(FineTuningApiError, match="shows the job and not its events") as caught:
        getattr(tasks, run)()
    assert not isinstance(caught.value, FineTuningJobNotFound)
    assert caught.value.status == status
    assert f"/fine_tuning/jobs/{tasks.sim.job_id}/events, answers {status}" in str(caught.value)
    assert "job id" not in str(caught.value)


@pytest.mark.parametrize("run", ["collect", "archive", "gate"])
def test_a_job_that_no_route_shows_is_not_found(run: str, tasks: Tasks) -> None:
    tasks.sim.fault = lambda request: Answer(status=404)
    with pytest.raises(FineTuningJobNotFound, match="Check the job id"):
        getattr(tasks, run)()


@pytest.mark.parametrize("run", ["collect", "archive", "gate"])
def test_a_server_without_a_fine_tuning_api_is_called_so_at_once(
    run: str, tasks: Tasks, connect: Any, clock: Any
) -> None:
    connect(tasks.sim)
    tasks.sim.fault = lambda request: Answer(status=501)
    with pytest.raises(FineTuningApiError, match="This server has no fine-tuning API"):
        getattr(tasks, run)()
    assert len(tasks.sim.requests) == 2
    assert clock.naps == []


def test_both_clients_try_a_501_once(tasks: Tasks, connect: Any, clock: Any, call: Any) -> None:
    connect(tasks.sim)
    tasks.sim.fault = lambda request: Answer(status=501)
    for method in ("get_job", "list_events", "cancel_job"):
        with pytest.raises(FineTuningApiError, match="no fine-tuning API") as caught:
            call(FineTuningHook(), method, tasks.sim.job_id)
        assert "later" not in str(caught.value)
    asked = Counter(request.route for request in tasks.sim.requests)
    assert asked == {"job": 2, "events": 1, "cancel": 1}  # the cancelled job is looked up
    assert clock.naps == []


@pytest.mark.parametrize("vendor", ["openai", "nebius", "together"])
@pytest.mark.parametrize(
    ("run", "age"),
    [
        pytest.param(run, age, id=f"{run}-{name}")
        for name, age in (("settled", 5_000), ("fresh", END + 10), ("running", 50))
        for run in ("collect", "archive", *(() if name == "running" else ("gate",)))
    ],
)
def test_a_task_asks_for_the_job_once_and_walks_its_log_once(
    run: str, age: int, tasks: Tasks, clock: Any
) -> None:
    clock.sleep(age)
    clock.naps.clear()
    getattr(tasks, run)()
    asked = Counter((request.route, request.query.get("after")) for request in tasks.sim.requests)
    assert asked["job", None] == 1
    assert set(asked.values()) == {1}
    assert clock.naps == []


@pytest.mark.parametrize("vendor", ["openai"])
def test_a_log_that_has_not_settled_is_read_no_further_than_to_the_page_that_shows_so(
    simulated: Any, connect: Any, tmp_path: Path, task: Any, clock: Any
) -> None:
    events = [{"message": f"Message {number}", "offset": number} for number in range(90)]
    sim = simulated([{"status_timeline": [(0, "running"), (95, "succeeded")], "events": events}])
    connect(sim, page_size=10)
    clock.sleep(100)
    sim.requests.clear()
    Tasks(sim, tmp_path, task).collect()
    at = Counter(round(request.at - sim.requests[0].at) for request in sim.requests)
    assert at.pop(0) == 2  # the job and one page; then the log is waited for
    assert sum(at.values()) == 10  # the job again, and nine pages
