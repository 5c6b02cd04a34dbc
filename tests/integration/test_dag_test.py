"""Small Dags, run by dag.test() as Airflow runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DagRunState

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import ReceivedRequest, Simulator

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

DAG = """
from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

with DAG("ft_branching_DEFERRABLE", schedule=None, start_date=datetime.datetime(2024, 1, 1)) as dag:

    @task
    def start() -> list[str]:
        import os

        return os.environ["FT_JOB_IDS"].split(",")

    job_ids = start()
    wait = FineTuningEventsSensor.partial(
        task_id="wait", poke_interval=0.3, timeout=60, deferrable=DEFERRABLE, raise_on_failure=False
    ).expand(job_id=job_ids)
    first = FineTuningEventsSensor(
        task_id="first",
        job_id="{{ ti.xcom_pull(task_ids='start')[0] }}",
        poke_interval=0.3,
        timeout=60,
        deferrable=DEFERRABLE,
        raise_on_failure=False,
    )
    strict = FineTuningEventsSensor(
        task_id="strict",
        job_id="{{ ti.xcom_pull(task_ids='start')[1] }}",
        poke_interval=0.3,
        timeout=60,
        deferrable=DEFERRABLE,
    )
    collect = FineTuningEventsOperator(
        task_id="collect",
        job_id="{{ ti.xcom_pull(task_ids='first')['job_id'] }}",
        newer_than="{{ ti.xcom_pull(task_ids='nobody') }}",
        types=["message"],
        settle=0,
    )

    @task.branch
    def choose(result: dict) -> str:
        return "deploy" if result["outcome"] == "succeeded" else "alarm"

    @task
    def deploy() -> str:
        return "deployed"

    @task
    def alarm() -> str:
        return "alarmed"

    job_ids >> [first, strict]
    choose(first.output) >> [deploy(), alarm()]
    first >> collect
"""


@pytest.fixture(scope="module")
def dag_bag(airflow_db: Path) -> DagBag:
    """The Dags, in the configured folder: Airflow 3 runs nothing else."""
    folder = airflow_db / "dags" / "branching"
    folder.mkdir(exist_ok=True)
    for deferrable in ("True", "False"):
        (folder / f"branching_{deferrable}.py").write_text(DAG.replace("DEFERRABLE", deferrable))
    return DagBag(dag_folder=str(folder))


OUTCOMES = ("succeeded", "failed", "cancelled")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Jobs that end when they are asked for the third time, however fast this machine is."""
    running = {
        "events": [{"message": "Fine-tuning job started", "offset": 0}],
        "status_timeline": [(0, "running")],
    }
    looks: Counter[str] = Counter()
    with Simulator([running] * len(OUTCOMES)) as sim:
        ends = dict(zip(sim.job_ids, OUTCOMES, strict=True))

        def end_at_the_third_look(request: ReceivedRequest) -> None:
            if request.route == "job" and request.job_id:
                looks[request.job_id] += 1
                if looks[request.job_id] == 3:
                    sim.add_event(request.job_id, {"message": "It is over"})
                    sim.set_status(request.job_id, ends[request.job_id])

        sim.fault = end_at_the_third_look
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", sim.connection_json())
        monkeypatch.setenv("FT_JOB_IDS", ",".join(sim.job_ids))
        yield sim


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs whose sensors came back from the triggerer."""
    job_ids: list[str] = []
    original = FineTuningEventsSensor.execute_complete

    def execute_complete(self: FineTuningEventsSensor, *args: Any, **kwargs: Any) -> Any:
        job_ids.append(self.job_id)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(FineTuningEventsSensor, "execute_complete", execute_complete)
    return job_ids


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "poke"])
def test_a_dag_maps_over_jobs_branches_on_the_outcome_and_fails_where_it_must(
    deferrable: bool, dag_bag: DagBag, jobs: Simulator, resumed: list[str]
) -> None:
    assert dag_bag.import_errors == {}
    run = dag_bag.dags[f"ft_branching_{deferrable}"].test()
    states: dict[str, list[str]] = {}
    results: dict[str, Any] = {}
    for instance in run.get_task_instances():
        states.setdefault(instance.task_id, []).append(str(instance.state))
        found = instance.xcom_pull(task_ids=instance.task_id, map_indexes=instance.map_index)
        results.setdefault(instance.task_id, []).append(found)
    assert run.state == DagRunState.FAILED
    assert states == {
        "start": ["success"],
        "wait": ["success"] * 3,
        "first": ["success"],
        "strict": ["failed"],
        "collect": ["success"],
        "choose": ["success"],
        "deploy": ["success"],
        "alarm": ["skipped"],
    }
    outcomes = {result["job_id"]: result["outcome"] for result in results["wait"]}
    assert outcomes == dict(zip(jobs.job_ids, OUTCOMES, strict=True))
    messages = [event for event in jobs.list_events(jobs.job_id) if (event["type"] or "message") == "message"]
    assert results["collect"][0] == messages
    # the first to look at a job came back from the triggerer
    assert set(resumed) == (set(jobs.job_ids) if deferrable else set())
