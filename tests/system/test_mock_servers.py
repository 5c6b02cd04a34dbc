"""Servers that nobody here wrote: a job is created there, followed to its end, and its verdict is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from tests.environments import node_with, python_with
from tests.system.live import Component, free_port, wait_for

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FAKEAI = ("fakeai==0.3.2", "pillow==13.0.0")  # it imports Pillow and does not ask for it
AIMOCK = "@copilotkit/aimock@1.43.0"
DAG = """
from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

for deferrable in (True, False):
    with DAG(f"ft_mock_{deferrable}", schedule=None, start_date=datetime.datetime(2024, 1, 1)):
        FineTuningEventsSensor(
            task_id="wait",
            job_id="{{ dag_run.conf['job_id'] }}",
            poke_interval=1,
            timeout=240,
            deferrable=deferrable,
            raise_on_failure=False,
        )
"""


@dataclass(frozen=True)
class MockServer:
    """A server of somebody else's, asked by plain HTTP."""

    name: str
    base_url: str
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": "Bearer sk-test"})

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Ask it for a path."""
        answer = requests.request(
            method, f"{self.base_url}{path}", headers=self.headers, timeout=20, **options
        )
        assert answer.ok, f"{self.name}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def create_job(self) -> str:
        """Upload a file, create a job that trains with it, and return its id."""
        form = {"files": {"file": ("train.jsonl", b'{"messages": []}\n')}, "data": {"purpose": "fine-tune"}}
        file = self.call("POST", "/files", **form)
        order = {"model": "gpt-4o-mini", "training_file": file["id"], "suffix": "mine"}
        job_id: str = self.call("POST", "/fine_tuning/jobs", json=order)["id"]
        return job_id

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return requests.get(f"{self.base_url}/fine_tuning/jobs", headers=self.headers, timeout=5).ok
        except requests.ConnectionError:
            return False


def fakeai_command(project: Path, environment: dict[str, str], folder: Path, port: int) -> list[str]:
    python = python_with(*FAKEAI, project=project, environment=environment)
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return [str(python), "-W", "ignore", "-m", "fakeai", "server", *where]


def aimock_command(project: Path, environment: dict[str, str], folder: Path, port: int) -> list[str]:
    package = node_with(AIMOCK, project=project, environment=environment)
    (folder / "fixtures.json").write_text('{"fixtures": []}')
    fixtures = ["--fixtures", str(folder / "fixtures.json")]
    return ["node", str(package / "dist" / "cli.js"), "--port", str(port), *fixtures]


SERVERS: dict[str, Callable[[Path, dict[str, str], Path, int], list[str]]] = {
    "aimock": aimock_command,
    "fakeai": fakeai_command,
}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest,
    project: Path,
    pip_environment: dict[str, str],
    started: list[Component],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MockServer]:
    """The server, in a process of its own."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    command = SERVERS[request.param](project, pip_environment, folder, port)
    environment = {"PATH": pip_environment["PATH"], "HOME": str(folder)}
    component = Component(
        request.param, command, environment, folder / "server.log", options={"cwd": str(folder)}
    )
    started.append(component)
    component.start()
    found = MockServer(request.param, f"http://127.0.0.1:{port}/v1")

    def fail_where_it_ended() -> None:
        if not component.runs:
            pytest.fail(f"{request.param} ended:\n{component.tail()}")

    wait_for(f"{request.param} answers", found.answers, within=60, also=fail_where_it_ended)
    yield found
    component.end()


@pytest.fixture(scope="module")
def dag_bag(airflow_db: Path) -> DagBag:
    """The Dags, in the configured folder: Airflow 3 runs nothing else."""
    folder = airflow_db / "dags" / "mock_servers"
    folder.mkdir(exist_ok=True)
    (folder / "mock_servers.py").write_text(DAG)
    return DagBag(dag_folder=str(folder))


@pytest.fixture
def wait(dag_bag: DagBag, server: MockServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Let a Dag wait for a job, poking or deferred, and return the sensor's result."""
    connection = {"conn_type": "fine_tuning", "host": server.base_url, "password": "sk-test"}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(connection))
    resumed: list[str] = []
    original = FineTuningEventsSensor.execute_complete

    def execute_complete(self: FineTuningEventsSensor, *args: Any, **kwargs: Any) -> Any:
        resumed.append(self.job_id)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(FineTuningEventsSensor, "execute_complete", execute_complete)

    def wait_for_end(mode: str, job_id: str) -> Any:
        assert dag_bag.import_errors == {}
        run = dag_bag.dags[f"ft_mock_{mode == 'deferred'}"].test(run_conf={"job_id": job_id})
        (instance,) = run.get_task_instances()
        assert str(instance.state) == "success"
        assert resumed == ([job_id] if mode == "deferred" else [])
        return instance.xcom_pull(task_ids="wait")

    return wait_for_end


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_a_job_created_there_is_followed_to_its_success(mode: str, server: MockServer, wait: Any) -> None:
    job_id = server.create_job()
    result = wait(mode, job_id)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "status")
    job = server.call("GET", f"/fine_tuning/jobs/{job_id}")
    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", result["fine_tuned_model"])
    assert "mine" in result["fine_tuned_model"]


def test_a_job_cancelled_there_is_cancelled_here(server: MockServer, wait: Any) -> None:
    job_id = server.create_job()
    server.call("POST", f"/fine_tuning/jobs/{job_id}/cancel")
    assert wait("poke", job_id)["outcome"] == "cancelled"
