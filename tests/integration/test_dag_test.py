"""Small Dags, run by dag.test() as Airflow runs them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DagRunState

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import Simulator

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

# a job of 300 s is over after one second
SPEED = 300.0

DAG = '''
from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

with DAG("ft_branching_DEFERRABLE", schedule=None, start_date=datetime.datetime(2024, 1, 1)) as dag:

    @task
    def start() -> list[str]:
        from airflow.models import Variable
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
'''


@pytest.fixture(scope="module")
def dag_bag(airflow_db: Path) -> DagBag:
    """The Dags, in the configured folder: Airflow 3 runs nothing else."""
    folder = airflow_db / "dags" / "branching"
    folder.mkdir()
    for deferrable in ("True", "False"):
        (folder / f"branching_{deferrable}.py").write_text(textwrap.dedent(DAG).replace("DEFERRABLE", deferrable))
    return DagBag(dag_folder=str(folder), include_examples=False)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(["succeeded", "failed", "cancelled"], speed=SPEED) as sim:
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
    assert outcomes == dict(zip(jobs.job_ids, ("succeeded", "failed", "cancelled"), strict=True))
    wanted = [event for event in jobs.list_events(jobs.job_id) if event["type"] == "message"]
    assert results["collect"][0] == wanted
    # those that had not ended at the first look came back from the triggerer, each once
    assert max(Counter(resumed).values(), default=0) <= 3
    assert bool(resumed) is deferrable
