"""Deferred waits on PostgreSQL: whatever happens to a triggerer, the database or the server, none is lost."""

from __future__ import annotations

import json
import re
import time
from collections import Counter

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.live import Lever, LiveAirflow, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

OUTCOMES = ("succeeded", "failed", "cancelled")
FAR = 10_000.0
"""Simulated seconds until the first job ends: longer than the longest test takes to defer every wait."""
LATER = 1_000.0
"""Simulated seconds after the first jobs in which the others end, where a test asks for that."""
DAG = "many_waits"
VERDICT = re.compile(r"Job (ftjob-\S+) (succeeded|failed|was cancelled) \(decided by its status")


class Sweep:
    """
    A run with one wait for each of many jobs, and the jobs' right outcomes.

    :param airflow: where it runs.
    :param sim: the server of the jobs.
    :param lever: its clock.
    :param conn_id: the connection to it.
    :param count: how many jobs.
    :param ends_over: seconds from the first to the last job's end.
    :param early: how many jobs end first, the others later; default all in one go.
    """

    def __init__(
        self,
        airflow: LiveAirflow,
        sim: Simulator,
        lever: Lever,
        conn_id: str,
        *,
        count: int,
        ends_over: float,
        early: int | None = None,
    ) -> None:
        self.airflow, self.sim, self.lever = airflow, sim, lever
        self.outcomes = {f"ftjob-sweep-{n:03}": OUTCOMES[n % len(OUTCOMES)] for n in range(count)}
        self.began = time.monotonic()
        for n, (job_id, outcome) in enumerate(self.outcomes.items()):
            span = FAR + n * ends_over / count + (LATER if early is not None and n >= early else 0.0)
            sim.add_job(job_id=job_id, outcome=outcome, duration=span, steps=20)
        self.run_id = airflow.api.trigger(DAG, {"job_ids": list(self.outcomes), "conn_id": conn_id})

    def states(self) -> Counter[str]:
        """How many waits are in which state."""
        query = (
            "select state, count(*) from task_instance "
            "where dag_id = %s and run_id = %s and task_id = 'wait' and map_index >= 0 group by state"
        )
        return Counter(dict(self.airflow.database.ask(query, DAG, self.run_id)))

    @property
    def ended(self) -> int:
        """How many waits are over."""
        states = self.states()
        return states["success"] + states["failed"]

    def wait_until_deferred(self, *, within: float = 400) -> None:
        """Wait until every wait is with a triggerer."""
        count = len(self.outcomes)
        wait_for("every wait is deferred", lambda: self.states()["deferred"] == count, within=within)
        wait_for(
            "every wait is with a triggerer", lambda: sum(self.airflow.triggers_of_each()) == count, within=60
        )

    def begin_to_end(self) -> None:
        """Let so much time pass that the first jobs end now, and the others one after the other."""
        self.lever.pass_by(FAR - (time.monotonic() - self.began))

    def wait_until_ended(self, *, within: float = 400) -> None:
        """Wait until every task has ended."""
        count = len(self.outcomes)
        wait_for("every task has ended", lambda: self.ended == count, within=within, also=self.airflow.revive)

    def check(self) -> None:
        """Every task has its job's right outcome, once, and nobody touched a job."""
        tasks = self.airflow.api.tasks(DAG, self.run_id)
        results = self._results()
        for n, (job_id, outcome) in enumerate(self.outcomes.items()):
            task = tasks["wait", n]
            assert task["state"] == ("success" if outcome == "succeeded" else "failed"), (job_id, outcome)
            assert task["try_number"] == 1, job_id
            verdicts = VERDICT.findall(self.airflow.task_log(DAG, self.run_id, "wait", n))
            assert verdicts == [(job_id, "was cancelled" if outcome == "cancelled" else outcome)]
            if outcome == "succeeded":
                assert (results[n]["job_id"], results[n]["outcome"]) == (job_id, outcome)
            else:
                assert n not in results
        assert self.sim.count(route="cancel") == 0
        assert self.airflow.database.ask("select count(*) from trigger") == [(0,)]

    def _results(self) -> dict[int, dict[str, object]]:
        query = (
            "select map_index, value from xcom "
            "where dag_id = %s and run_id = %s and task_id = 'wait' and key = %s"
        )
        rows = self.airflow.database.ask(query, DAG, self.run_id, "return_value")
        return {index: json.loads(value) if isinstance(value, str) else value for index, value in rows}


def test_when_one_of_two_triggerers_is_killed_each_of_200_waits_still_ends_once_with_its_jobs_outcome(
    airflow: LiveAirflow, sim: Simulator, lever: Lever, conn_id: str
) -> None:
    doomed, survivor = airflow.start_triggerer(), airflow.start_triggerer()
    sweep = Sweep(airflow, sim, lever, conn_id, count=200, ends_over=60)
    sweep.wait_until_deferred()
    assert len(airflow.triggers_of_each()) == 2
    sweep.begin_to_end()
    wait_for("some tasks have ended", lambda: sweep.ended >= 20, within=120)
    waiting = sweep.states()["deferred"]
    assert waiting >= 50
    airflow.lose(doomed)
    assert survivor.runs
    sweep.wait_until_ended()
    sweep.check()


def test_waits_survive_a_restart_of_the_database(
    airflow: LiveAirflow, sim: Simulator, lever: Lever, conn_id: str
) -> None:
    airflow.start_triggerer()
    airflow.start_triggerer()
    sweep = Sweep(airflow, sim, lever, conn_id, count=50, ends_over=30, early=10)
    sweep.wait_until_deferred()
    sweep.begin_to_end()
    # no task is on a worker when the database goes: Airflow may try such a one again
    halfway = {"success": 4, "failed": 6, "deferred": 40}
    wait_for("ten tasks have ended", lambda: sweep.states() == halfway, within=120)
    airflow.database.stop()
    lever.pass_by(LATER)
    time.sleep(20)
    airflow.database.start()
    sweep.wait_until_ended()
    sweep.check()


def test_waits_survive_a_minute_without_the_server_in_which_jobs_end(
    airflow: LiveAirflow, sim: Simulator, lever: Lever, conn_id: str
) -> None:
    airflow.start_triggerer()
    airflow.start_triggerer()
    sweep = Sweep(airflow, sim, lever, conn_id, count=50, ends_over=30)
    sweep.wait_until_deferred()
    sim.stop()
    sweep.begin_to_end()
    time.sleep(60)
    assert sweep.states()["deferred"] == 50
    sim.start()
    sweep.wait_until_ended()
    sweep.check()
