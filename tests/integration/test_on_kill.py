"""What the trigger does when Airflow says that a user ended its task, and when that is not so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_ft_events.parameters import DEFERRAL_KEY
from airflow_ft_events.simulator import Simulator
from airflow_ft_events.triggers import fine_tuning
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger


def killed(mocker: Any, sim: Simulator, *, still_deferred: Any, **options: Any) -> str:
    """Call ``on_kill`` of a trigger whose task is, or is not, still deferred; the job's status after it."""
    mocker.patch.object(fine_tuning, "_is_deferred", side_effect=still_deferred)
    trigger = FineTuningEventsTrigger(job_id=sim.job_id, **options)
    mocker.patch.object(type(trigger), "task_instance", new=object(), create=True)
    vars(trigger).pop("task_instance", None)  # Airflow 2.11 keeps it there
    asyncio.run(trigger.on_kill())
    return str(sim.get_job(sim.job_id)["status"])


def test_a_user_who_ends_the_task_cancels_the_job(simulated: Any, connect: Any, mocker: Any) -> None:
    sim = simulated()
    connect(sim)
    assert killed(mocker, sim, still_deferred=[False], cancel_on_kill=True) == "cancelled"


def test_without_cancel_on_kill_nothing_is_asked_at_all(simulated: Any, connect: Any, mocker: Any) -> None:
    sim = simulated()
    connect(sim)
    killed(mocker, sim, still_deferred=[False])
    assert sim.requests == []


@pytest.mark.parametrize("answer", [[True], RuntimeError("Airflow is away")], ids=["deferred", "unknown"])
def test_a_task_that_still_waits_or_has_an_unknown_state_cancels_nothing(
    answer: Any, simulated: Any, connect: Any, mocker: Any
) -> None:
    sim = simulated()
    connect(sim)
    killed(mocker, sim, still_deferred=answer, cancel_on_kill=True)
    assert sim.requests == []


def test_a_job_that_has_ended_is_not_cancelled(simulated: Any, connect: Any, mocker: Any) -> None:
    sim = simulated(ended=True)
    connect(sim)
    status = killed(mocker, sim, still_deferred=[False], cancel_on_kill=True)
    assert status == "succeeded"
    assert sim.count(route="cancel") == 0


@pytest.mark.parametrize("owns", [True, False])
def test_only_a_task_that_owns_its_job_notes_which_of_its_tries_is_deferred(
    owns: bool, simulated: Any, connect: Any, follow: Any, task: Any
) -> None:
    sim = simulated()
    connect(sim)
    task.id = "try-1"
    follow("deferrable", sim.job_id, cancel_on_kill=owns)
    assert task.pushed.get(DEFERRAL_KEY) == ("try-1" if owns else None)
