"""What a user does to a deferred task, through the REST API, and what that does to the job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.live import LiveAirflow, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

DAG = "owner_and_watcher"


@dataclass
class Waits:
    """A run with two deferred tasks: one owns its job (``cancel_on_kill``), one watches."""

    airflow: LiveAirflow
    sim: Simulator
    run_id: str
    owned: str
    watched: str

    @property
    def states(self) -> dict[str, str | None]:
        """The states of the two tasks."""
        return {task_id: state for (task_id, _), state in self.airflow.api.states(DAG, self.run_id).items()}

    def wait_until(self, **states: str) -> None:
        """Wait until the tasks are in these states."""
        wait_for(f"the tasks are {states}", lambda: self.states == states, within=90)

    def poll_on(self) -> None:
        """Wait until each job was asked for again: whatever was to happen to it has happened."""
        for job_id in (self.owned, self.watched):
            before = self.sim.count(contains=job_id)
            asked = partial(self._asked, job_id, more_than=before + 1)
            wait_for(f"job {job_id} is polled", asked, within=60)

    def _asked(self, job_id: str, *, more_than: int) -> bool:
        return self.sim.count(contains=job_id) > more_than

    def trigger_logs(self) -> str:
        """What every triggerer wrote into the log of the owner."""
        folder = self.airflow.home / "logs" / f"dag_id={DAG}" / f"run_id={self.run_id}" / "task_id=owner"
        return "".join(path.read_text() for path in sorted(folder.glob("*.trigger.*")))

    def status(self, job_id: str) -> str:
        """A job's status at its server."""
        return str(self.sim.get_job(job_id)["status"])


@pytest.fixture
def waits(airflow: LiveAirflow, sim: Simulator, conn_id: str) -> Iterator[Waits]:
    """Two deferred tasks in the hands of one triggerer."""
    airflow.start_triggerer()
    owned, watched = (sim.add_job(job_id=f"ftjob-{name}", duration=100_000) for name in ("owned", "watched"))
    run_id = airflow.api.trigger(DAG, {"owned": owned, "watched": watched, "conn_id": conn_id})
    found = Waits(airflow, sim, run_id, owned, watched)
    found.wait_until(owner="deferred", watcher="deferred")
    found.poll_on()
    yield found
    for task_id, state in found.states.items():
        if state not in ("success", "failed"):
            airflow.api.mark(DAG, run_id, task_id, "failed")


def test_marking_deferred_tasks_failed_cancels_the_job_of_the_owner_and_not_that_of_the_watcher(
    waits: Waits,
) -> None:
    for task_id in ("owner", "watcher"):
        waits.airflow.api.mark(DAG, waits.run_id, task_id, "failed")
    wait_for("the owned job is cancelled", lambda: waits.status(waits.owned) == "cancelled", within=60)
    wait_for("no trigger is left", lambda: not waits.airflow.triggers_of_each(), within=60)
    assert waits.status(waits.watched) not in ("cancelled", "failed", "succeeded")
    assert waits.sim.count(route="cancel") == 1
    assert waits.states == {"owner": "failed", "watcher": "failed"}


def test_clearing_deferred_tasks_cancels_the_job_of_the_owner_and_not_that_of_the_watcher(
    waits: Waits,
) -> None:
    waits.airflow.api.clear(DAG, waits.run_id, "owner", "watcher")
    wait_for("the owned job is cancelled", lambda: waits.status(waits.owned) == "cancelled", within=60)
    waits.wait_until(owner="failed", watcher="deferred")
    assert waits.status(waits.watched) not in ("cancelled", "failed", "succeeded")
    assert waits.sim.count(route="cancel") == 1


def test_a_triggerer_that_is_stopped_and_started_again_cancels_nothing_and_waits_on(waits: Waits) -> None:
    (triggerer,) = waits.airflow.triggerers
    triggerer.terminate()
    triggerer.start()
    waits.poll_on()
    assert waits.states == {"owner": "deferred", "watcher": "deferred"}
    assert waits.sim.count(route="cancel") == 0


def test_a_triggerer_that_was_frozen_while_another_took_its_waits_cancels_nothing(waits: Waits) -> None:
    (frozen,) = waits.airflow.triggerers
    frozen.freeze()
    waits.airflow.start_triggerer()
    waits.poll_on()
    assert "is left alone" not in waits.trigger_logs()
    frozen.thaw()
    wait_for("the thawed one has let go", lambda: "is left alone" in waits.trigger_logs(), within=60)
    waits.poll_on()
    assert waits.states == {"owner": "deferred", "watcher": "deferred"}
    assert waits.sim.count(route="cancel") == 0
