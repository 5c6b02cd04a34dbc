"""The example Dags, parsed and run as Airflow does it, against the simulator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_ft_events.archive import read_archive
from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.events import epoch_seconds
from airflow_ft_events.operators.settled import SettledLogOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import Simulator
from example_dags import run_demo

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

DAG_IDS = {
    "example_ft_gate_deployment",
    "example_ft_collect_events",
    "example_ft_mapped_jobs",
    "example_ft_release_with_gate",
    "example_ft_archive_to_folder",
    "example_ft_archive_to_s3",
}
# A job of 300 s, over after a second.
SPEED = 300.0


@pytest.fixture(scope="module")
def dag_bag(project: Path, airflow_db: Path) -> DagBag:
    """The examples, in the configured Dags folder: Airflow 3 runs nothing else."""
    folder = airflow_db / "dags" / "examples"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(project / "example_dags", folder, ignore=ignore, dirs_exist_ok=True)
    return DagBag(dag_folder=str(folder))


class ServersTime(Clock):
    """The simulator's time for the tasks as well, so that their sleeps are as short as its jobs."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def now(self) -> float:
        return self._simulator.now

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / SPEED)

    async def asleep(self, seconds: float) -> None:
        await super().asleep(seconds / SPEED)


@pytest.fixture
def simulator(vendor: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    # Airflow takes some seconds to start its first task, and the jobs shall still be running then.
    clock = run_demo.StartsWhenAsked()
    with Simulator([], vendor=vendor, speed=SPEED, clock=clock) as simulator:
        clock.simulator = simulator
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", simulator.connection_json())
        with driven_by(ServersTime(simulator)):
            yield simulator


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs whose sensors were resumed by the triggerer's event: proof that they had deferred."""
    job_ids = []
    original = FineTuningEventsSensor.execute_complete

    def execute_complete(self: FineTuningEventsSensor, *args: Any, **kwargs: Any) -> Any:
        job_ids.append(self.job_id)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(FineTuningEventsSensor, "execute_complete", execute_complete)
    return job_ids


def _run(dag_bag: DagBag, dag_id: str, **conf: Any) -> Any:
    dag = dag_bag.dags[dag_id]
    for task in dag.tasks:
        task.retries = 0  # dag.test() would wait for minutes before it told what went wrong
        if isinstance(task, SettledLogOperator):
            task.deferrable = False  # Airflow's own trigger would go by the real time
    return dag.test(run_conf=conf)


def _states(run: Any) -> dict[str, list[str]]:
    states: dict[str, list[str]] = {}
    for task in run.get_task_instances():
        states.setdefault(task.task_id, []).append(task.state)
    return states


def _model(simulator: Simulator, job_id: str) -> str:
    """The name that the server gave the model."""
    return str(simulator.get_job(job_id)["fine_tuned_model"])


def _xcom(run: Any, task_id: str) -> Any:
    (task,) = [task for task in run.get_task_instances() if task.task_id == task_id]
    return task.xcom_pull(task_ids=task_id)


def test_every_example_parses_and_the_demo_runner_is_not_taken_for_a_dag(dag_bag: DagBag):
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == DAG_IDS
    files = {Path(dag.fileloc).name for dag in dag_bag.dags.values()}
    assert files == {f"{dag_id.replace('example_ft_', 'example_')}.py" for dag_id in DAG_IDS}


def test_model_of_a_job_that_succeeds_is_deployed(dag_bag: DagBag, simulator: Simulator, resumed: list[str]):
    job_id = simulator.add_job(outcome="succeeded")
    run = _run(dag_bag, "example_ft_gate_deployment", job_id=job_id)
    assert run.state == "success"
    assert resumed == [job_id]
    assert _xcom(run, "deploy") == _model(simulator, job_id)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_gate_stays_closed_after_a_job_that_did_not_succeed(
    dag_bag: DagBag, simulator: Simulator, resumed: list[str], outcome: str
):
    job_id = simulator.add_job(outcome=outcome)
    run = _run(dag_bag, "example_ft_gate_deployment", job_id=job_id)
    assert run.state == "failed"
    assert resumed == [job_id]
    assert _states(run) == {"wait_for_job": ["failed"], "deploy": ["upstream_failed"]}


def test_collected_events_and_their_summary_reach_the_next_task(dag_bag: DagBag, simulator: Simulator):
    job_id = simulator.add_job(ended=True, steps=30)
    run = _run(dag_bag, "example_ft_collect_events", job_id=job_id)
    assert run.state == "success"
    events = simulator.list_events(job_id)
    assert _xcom(run, "collect_events") == events
    losses = [event["data"]["train_loss"] for event in events if event["type"] == "metrics"]
    report = _xcom(run, "report")
    assert (report["events"], report["steps"]) == (len(events), len(losses))
    assert report["best"]["train_loss"] == min(losses)


def test_mapped_example_waits_for_every_job_and_counts_how_they_ended(
    dag_bag: DagBag, simulator: Simulator, resumed: list[str]
):
    job_ids = [simulator.add_job(outcome=outcome, ended=True) for outcome in ("succeeded", "failed")]
    job_ids.append(simulator.add_job(outcome="cancelled", duration=1_000))
    run = _run(dag_bag, "example_ft_mapped_jobs", job_ids=job_ids)
    assert run.state == "success"
    assert _states(run)["wait_for_job"] == ["success"] * 3
    result = _xcom(run, "sum_up")
    assert result["outcomes"] == {"succeeded": 1, "failed": 1, "cancelled": 1}
    assert result["models"] == [_model(simulator, job_ids[0])]
    assert job_ids[2] in resumed


@pytest.mark.parametrize(("most_loss", "holds"), [(1.2, True), (0.1, False)])
def test_release_is_skipped_unless_the_metrics_hold(
    dag_bag: DagBag,
    simulator: Simulator,
    resumed: list[str],
    tmp_path: Path,
    most_loss: float,
    holds: bool,
):
    job_id = simulator.add_job(outcome="succeeded")
    run = _run(
        dag_bag, "example_ft_release_with_gate", job_id=job_id, most_loss=most_loss, folder=str(tmp_path)
    )
    assert run.state == "success"
    assert resumed == [job_id]
    reached = ["success" if holds else "skipped"]
    assert _states(run) == {
        "wait_for_job": ["success"],
        "gate": ["success"],
        "archive": reached,
        "deploy": reached,
    }
    decision = _xcom(run, "gate")
    assert decision["passed"] is holds
    assert [row["passed"] for row in decision["conditions"]] == [holds, True]
    log = tmp_path / "deployed" / f"{job_id}.jsonl.gz"
    assert log.exists() is holds
    if holds:
        assert _xcom(run, "deploy") == _model(simulator, job_id)
        assert read_archive(log) == simulator.list_events(job_id)


@pytest.mark.parametrize(
    ("outcome", "vendor"),
    [("succeeded", "openai"), ("failed", "openai"), ("succeeded", "together")],  # whose times are ISO
)
def test_archived_log_is_whole_and_read_back_by_the_next_task(
    dag_bag: DagBag, simulator: Simulator, tmp_path: Path, outcome: str
):
    job_id = simulator.add_job(outcome=outcome)
    run = _run(dag_bag, "example_ft_archive_to_folder", job_id=job_id, folder=f"file://{tmp_path}")
    assert run.state == "success"
    events = simulator.list_events(job_id)
    assert read_archive(tmp_path / f"{job_id}.jsonl.gz") == events
    manifest = _xcom(run, "archive")
    assert (manifest["count"], manifest["outcome"], manifest["complete"]) == (len(events), outcome, True)
    assert (tmp_path / manifest["report"]).read_text().startswith("<!DOCTYPE html>")
    times = [epoch_seconds(event["created_at"]) for event in events]
    assert _xcom(run, "longest_silence") == max(b - a for a, b in pairwise(times))


def test_log_of_a_running_job_grows_in_s3_from_run_to_run(
    dag_bag: DagBag, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    server, bucket = ThreadedMotoServer(port=0), f"bucket-{uuid4().hex}"
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        known = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **known).create_bucket(Bucket=bucket)
        extra = {"endpoint_url": url, "region_name": "us-east-1"}
        told = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(told))
        job_id = simulator.add_job(duration=600)
        path = f"s3://{bucket}/fine-tuning/{job_id}.jsonl"
        counts: list[int] = []
        manifest = {"complete": False}
        while not manifest["complete"]:
            run = _run(dag_bag, "example_ft_archive_to_s3", job_id=job_id, bucket=bucket)
            assert run.state == "success"
            manifest = _xcom(run, "archive")
            counts.append(manifest["count"])
            assert len(read_archive(path, storage_conn_id="aws_default")) == manifest["count"]
        assert read_archive(path, storage_conn_id="aws_default") == simulator.list_events(job_id)
        assert counts == sorted(counts)
        assert len(manifest["parts"]) == len(set(counts))
    finally:
        server.stop()


def test_release_fails_with_a_job_that_failed(dag_bag: DagBag, simulator: Simulator):
    run = _run(dag_bag, "example_ft_release_with_gate", job_id=simulator.add_job(outcome="failed"))
    assert run.state == "failed"
    states = _states(run)
    assert states["gate"] == states["archive"] == states["deploy"] == ["upstream_failed"]


def test_demo_names_the_scenarios_when_it_is_asked_for_another():
    with pytest.raises(SystemExit, match=r"'paused'.*succeeded, failed, cancelled"):
        run_demo.parse(["--scenario", "paused"])


CLOSED = {"wait_for_job": "failed", "deploy": "upstream_failed"}
OPEN = {"wait_for_job": "success", "deploy": "success"}


@pytest.mark.parametrize(
    ("ends", "states", "error", "faults"),
    [
        ("succeeded", OPEN, None, 0),
        ("failed", CLOSED, "FineTuningJobFailed", 0),
        ("cancelled", CLOSED, "FineTuningJobCancelled", 0),
        ("succeeded", CLOSED, "FineTuningJobFailed", 1),
        ("failed", OPEN, "FineTuningJobFailed", 1),
        ("failed", CLOSED, "FineTuningAuthError", 1),
        ("cancelled", CLOSED, "FineTuningJobFailed", 1),
        ("failed", {"wait_for_job": "failed", "deploy": "success"}, "FineTuningJobFailed", 1),
        (None, OPEN, None, 1),
    ],
)
def test_demo_fails_unless_the_gate_did_what_the_jobs_end_asks_for(
    ends: str | None, states: dict[str, str | None], error: str | None, faults: int
):
    run = run_demo.Run(errors=[(error, "")] if error else [])
    assert len(list(run_demo.find_faults(ends, run, states, {"outcome": ends}))) == faults
