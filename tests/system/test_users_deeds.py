"""What a user does to a deferred task, through the REST API, and what that does to the job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.live import LiveAirflow, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DAG = "owner_and_watcher"
PATIENCE = 180.0
"""Seconds within which Airflow does what it is asked for, on a machine with much else to do."""


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
        wait_for(f"the tasks are {states}", lambda: self.states == states, within=PATIENCE)

    def poll_on(self) -> None:
        """Wait until each job was asked for again: whatever was to happen to it has happened."""
        for job_id in (self.owned, self.watched):
            before = self.sim.count(contains=job_id)
            asked = partial(self._asked, job_id, more_than=before + 1)
            wait_for(f"job {job_id} is polled", asked, within=PATIENCE)

    def _asked(self, job_id: str, *, more_than: int) -> bool:
        return self.sim.count(contains=job_id) > more_than

    def trigger_logs(self, task_id: str) -> str:
        """What every triggerer wrote into the log of a task."""
        folder = self.airflow.home / "logs" / f"dag_id={DAG}" / f"run_id={self.run_id}" / f"task_id={task_id}"
        return "".join(path.read_text() for path in sorted(folder.glob("*.trigger.*")))

    def wait_until_killed(self, task_id: str) -> None:
        """Wait until Airflow has called ``on_kill`` of a task's trigger."""
        wait_for(
            f"on_kill of {task_id} is called",
            lambda: "invoking on_kill" in self.trigger_logs(task_id),
            within=PATIENCE,
        )

    def check_jobs(self) -> None:
        """The owned job was cancelled, by one request, and nobody touched the watched one."""
        cancelled = partial(self._has_status, self.owned, "cancelled")
        wait_for("the owned job is cancelled", cancelled, within=PATIENCE)
        for triggerer in self.airflow.triggerers:
            triggerer.terminate()  # after that, nothing can come any more
        assert self.status(self.watched) not in ("cancelled", "failed", "succeeded")
        assert self.sim.count(route="cancel") == 1

    def _has_status(self, job_id: str, status: str) -> bool:
        return self.status(job_id) == status

    def status(self, job_id: str) -> str:
        """A job's status at its server."""
        return str(self.sim.get_job(job_id)["status"])


@pytest.fixture
def waits(airflow: LiveAirflow, sim: Simulator, conn_id: str) -> Waits:
    """Two deferred tasks in the hands of one triggerer."""
    airflow.start_triggerer()
    owned, watched = (sim.add_job(job_id=f"ftjob-{name}", duration=100_000) for name in ("owned", "watched"))
    run_id = airflow.api.trigger(DAG, {"owned": owned, "watched": watched, "conn_id": conn_id})
    found = Waits(airflow, sim, run_id, owned, watched)
    found.wait_until(owner="deferred", watcher="deferred")
    found.poll_on()
    return found


def test_marking_deferred_tasks_failed_cancels_the_job_of_the_owner_and_not_that_of_the_watcher(
    waits: Waits,
) -> None:
    # the watcher first: what its end does is done when that of the owner is
    for task_id in ("watcher", "owner"):
        waits.airflow.api.mark(DAG, waits.run_id, task_id, "failed")
        waits.wait_until_killed(task_id)
    waits.check_jobs()
    assert waits.states == {"owner": "failed", "watcher": "failed"}


def test_clearing_deferred_tasks_cancels_the_job_of_the_owner_and_not_that_of_the_watcher(
    waits: Waits,
) -> None:
    for task_id in ("watcher", "owner"):
        waits.airflow.api.clear(DAG, waits.run_id, task_id)
        waits.wait_until_killed(task_id)
    waits.wait_until(owner="failed", watcher="deferred")
    waits.check_jobs()


def test_a_triggerer_that_is_restarted_cancels_nothing_and_keeps_waiting(waits: Waits) -> None:
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
    assert "is left alone" not in waits.trigger_logs("owner")
    frozen.thaw()
    wait_for(
        "the thawed one has let go", lambda: "is left alone" in waits.trigger_logs("owner"), within=PATIENCE
    )
    waits.poll_on()
    assert waits.states == {"owner": "deferred", "watcher": "deferred"}
    assert waits.sim.count(route="cancel") == 0
