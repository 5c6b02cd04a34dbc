"""An example Dag in `airflow standalone`: deferred, resumed, and what comes after it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.live import STARTS_WITHIN, Api, Component, airflow_environment, free_port, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DAG = "example_ft_gate_deployment"
SENSOR, DEPLOY = ("wait_for_job", -1), ("deploy", -1)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A server whose jobs the tests end."""
    with Simulator([]) as running:
        yield running


@pytest.fixture(scope="module")
def api(
    project: Path, server: Simulator, started: list[Component], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The REST API of an `airflow standalone` with the example Dag, on SQLite."""
    home, port = tmp_path_factory.mktemp("standalone"), free_port()
    (home / "dags").mkdir()
    shutil.copy(project / "example_dags" / "example_gate_deployment.py", home / "dags")
    environment = airflow_environment(home, home / "dags", port, f"sqlite:///{home / 'airflow.db'}")
    environment["AIRFLOW_CONN_FINE_TUNING_DEFAULT"] = server.connection_json()
    command = [sys.executable, "-m", "airflow", "standalone"]
    standalone = Component("standalone", command, environment, home / "standalone.log")
    started.append(standalone)
    standalone.start()
    found = Api(port)

    def fail_where_it_ended() -> None:
        if not standalone.runs:
            pytest.fail(f"airflow standalone ended:\n{standalone.tail()}")

    wait_for("the Dag is known", lambda: found.knows(DAG), within=STARTS_WITHIN, also=fail_where_it_ended)
    yield found
    standalone.end()


def deferred_run(api: Api, job_id: str) -> str:
    run_id = api.trigger(DAG, {"job_id": job_id})
    wait_for("the sensor is deferred", lambda: api.states(DAG, run_id).get(SENSOR) == "deferred", within=120)
    assert api.states(DAG, run_id)[DEPLOY] is None
    return run_id


def result_of(api: Api, run_id: str, task_id: str) -> object:
    return api.call("GET", f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value")[
        "value"
    ]


def test_the_deployment_runs_after_a_job_that_succeeds(api: Api, server: Simulator) -> None:
    job_id = server.add_job(outcome="succeeded", status_timeline=[(0, "running")])
    run_id = deferred_run(api, job_id)
    server.set_status(job_id, "succeeded", result={"fine_tuned_model": "ft:tested"})
    ended = {SENSOR: "success", DEPLOY: "success"}
    wait_for("both tasks have succeeded", lambda: api.states(DAG, run_id) == ended, within=120)
    assert "ft:tested" in str(result_of(api, run_id, "deploy"))


def test_the_deployment_does_not_run_after_a_job_that_fails(api: Api, server: Simulator) -> None:
    job_id = server.add_job(outcome="failed", status_timeline=[(0, "running")])
    run_id = deferred_run(api, job_id)
    server.set_status(job_id, "failed")
    ended = {SENSOR: "failed", DEPLOY: "upstream_failed"}
    wait_for("the gate has closed", lambda: api.states(DAG, run_id) == ended, within=120)
