"""Deferred waits on PostgreSQL: whatever happens to a triggerer, the database or the server, none is lost."""

from __future__ import annotations

import json
import re
import time
from collections import Counter

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.live import Lever, LiveAirflow, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(2400)]

OUTCOMES = ("succeeded", "failed", "cancelled")
FAR = 10_000.0
"""Simulated seconds until the first job ends: longer than the longest test takes to defer every wait."""
LATER = 10_000.0
"""Simulated seconds from the end of the first jobs to that of the others."""
WAITS = 200
EARLY = 20
PATIENCE = 900.0
"""Seconds for all the waits to be deferred, or to end, on a machine with much else to do."""
DAG = "many_waits"
VERDICT = re.compile(r"Job (ftjob-\S+) (succeeded|failed|was cancelled) \(decided by its status")


class Sweep:
    """
    A run with one wait for each of many jobs, and the jobs' right outcomes.

    :param airflow: where it runs.
    :param sim: the server of the jobs.
    :param lever: its clock.
    :param conn_id: the connection to it.
    :param ends_over: seconds over which the jobs end.
    :param early: how many jobs end first, the others only when the test says so; default none.
    """

    def __init__(
        self,
        airflow: LiveAirflow,
        sim: Simulator,
        lever: Lever,
        conn_id: str,
        *,
        ends_over: float,
        early: int = 0,
    ) -> None:
        self.airflow, self.sim, self.lever = airflow, sim, lever
        self.outcomes = {f"ftjob-sweep-{n:03}": OUTCOMES[n % len(OUTCOMES)] for n in range(WAITS)}
        self.early = early
        self.began = time.monotonic()
        for n, (job_id, outcome) in enumerate(self.outcomes.items()):
            span = FAR + n * ends_over / WAITS + (LATER if early and n >= early else 0.0)
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

    def wait_until_deferred(self) -> None:
        """Wait until every wait is with a triggerer."""
        wait_for("every wait is deferred", lambda: self.states() == {"deferred": WAITS}, within=PATIENCE)
        wait_for(
            "every wait is with a triggerer",
            lambda: self.airflow.waits_held(self.run_id) == WAITS,
            within=PATIENCE,
        )

    def begin_to_end(self) -> None:
        """Let so much time pass that the first jobs end now, and the others one after the other."""
        self.lever.pass_by(FAR - (time.monotonic() - self.began))
        self.first_end = time.monotonic()

    def go_on_ending(self) -> None:
        """Let so much time pass that the other jobs end from now on, one after the other."""
        self.lever.pass_by(LATER - (time.monotonic() - self.first_end))

    def wait_until_the_early_have_ended(self) -> None:
        """Wait until the tasks of the early jobs have ended, and all the others wait."""
        early = list(self.outcomes.values())[: self.early]
        good = early.count("succeeded")
        wanted = {"success": good, "failed": self.early - good, "deferred": WAITS - self.early}
        wait_for("the tasks of the early jobs have ended", lambda: self.states() == wanted, within=PATIENCE)

    def wait_until_ended(self) -> None:
        """Wait until every task has ended."""
        wait_for(
            "every task has ended", lambda: self.ended == WAITS, within=PATIENCE, also=self.airflow.revive
        )

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
        assert self.airflow.api.end_of_run(DAG, self.run_id) == "failed"
        assert self.airflow.database.drivers() == {"psycopg2", "asyncpg"}
        wait_for("no trigger is left", lambda: not self.airflow.triggers(), within=PATIENCE)

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
    pair = [airflow.start_triggerer(), airflow.start_triggerer()]
    sweep = Sweep(airflow, sim, lever, conn_id, ends_over=60, early=EARLY)
    sweep.wait_until_deferred()
    sweep.begin_to_end()
    sweep.wait_until_the_early_have_ended()
    doomed = max(pair, key=airflow.waits_of)
    held = airflow.waits_of(doomed)
    sweep.go_on_ending()
    wait_for(
        "waits of this triggerer are ending now",
        lambda: airflow.waits_of(doomed) < held,
        within=PATIENCE,
        every=0.1,
    )
    airflow.lose(doomed)
    assert airflow.waits_of(doomed) > 0
    sweep.wait_until_ended()
    sweep.check()


def test_each_of_200_waits_survives_a_restart_of_the_database_in_which_jobs_end(
    airflow: LiveAirflow, sim: Simulator, lever: Lever, conn_id: str
) -> None:
    airflow.start_triggerer()
    airflow.start_triggerer()
    sweep = Sweep(airflow, sim, lever, conn_id, ends_over=15, early=EARLY)
    sweep.wait_until_deferred()
    sweep.begin_to_end()
    # no task is on a worker when the database goes: Airflow may try such a one again
    sweep.wait_until_the_early_have_ended()
    airflow.database.stop()
    sweep.go_on_ending()
    time.sleep(20)
    airflow.database.start()
    sweep.wait_until_ended()
    sweep.check()


def test_each_of_200_waits_survives_a_minute_without_the_server_in_which_jobs_end(
    airflow: LiveAirflow, sim: Simulator, lever: Lever, conn_id: str
) -> None:
    airflow.start_triggerer()
    airflow.start_triggerer()
    sweep = Sweep(airflow, sim, lever, conn_id, ends_over=30)
    sweep.wait_until_deferred()
    sim.stop()
    sweep.begin_to_end()
    time.sleep(60)
    assert sweep.states() == {"deferred": WAITS}
    sim.start()
    sweep.wait_until_ended()
    sweep.check()
