"""How soon a task ends after its job: the real Airflow on PostgreSQL, against what Airflow itself takes."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

from airflow_ft_events.simulator import Simulator
from tests.system.live import LiveAirflow, MissingError, all_ended, postgresql, wait_for

DAGS = Path(__file__).with_name("dags")
JOBS = 100
INTERVAL = 5.0
"""Seconds between two polls, as in the Dag: the shorter, the less it hides."""
APART = 2.5
"""Seconds between the ends of two jobs, so that no task has to queue for a worker."""
DEFERRING = 240.0
"""Seconds until the first end; every task is deferred by then."""


def run() -> bool:
    """Print how soon tasks end; say whether it is within the limit."""
    try:
        with all_ended() as started, postgresql(started) as database, tempfile.TemporaryDirectory() as home:
            airflow = LiveAirflow(Path(home), database, started, dags=DAGS)
            try:
                airflow.start()
                airflow.start_triggerer()
                return _measure(airflow)
            finally:
                airflow.end()
    except MissingError as missing:
        print(f"Detection cannot be measured: {missing}")
        return False


def _measure(airflow: LiveAirflow) -> bool:
    with Simulator([]) as sim:
        airflow.api.add_connection("server", sim)
        jobs = [sim.add_job(status_timeline=[(0, "running")]) for _ in range(JOBS)]
        first = time.time() + DEFERRING
        ends = [first + number * APART for number in range(JOBS)]
        # half a step later, so that a task of one kind does not wait for one of the other
        moments = [datetime.fromtimestamp(end, UTC) + timedelta(seconds=APART / 2) for end in ends]
        conf = {"job_ids": jobs, "moments": [moment.isoformat() for moment in moments], "conn_id": "server"}
        run_id = airflow.api.trigger("detection", conf)

        def states() -> list[str]:
            query = "select state from task_instance where run_id = %s and map_index >= 0"
            return [row[0] for row in airflow.database.ask(query, run_id)]

        wait_for("every task is deferred", lambda: states() == ["deferred"] * 2 * JOBS, within=DEFERRING)
        visible = []
        for job_id, end in zip(jobs, ends, strict=True):
            time.sleep(max(0.0, end - time.time()))
            sim.set_status(job_id, "succeeded")
            visible.append(time.time())
        wait_for("every task has succeeded", lambda: states() == ["success"] * 2 * JOBS, within=180)
        ours = _delays(airflow, run_id, "wait", visible)
        own = _delays(airflow, run_id, "airflow", [moment.timestamp() for moment in moments])
    limit = 1.2 * INTERVAL + own[1]
    print(
        f"From a job's end, as its server shows it, to its task's end; {JOBS} jobs, polls every "
        f"{INTERVAL:g} s:"
    )
    print(f"  waits for jobs                     p50 {ours[0]:6.2f} s   p95 {ours[1]:6.2f} s")
    print(f"  Airflow's own time to resume       p50 {own[0]:6.2f} s   p95 {own[1]:6.2f} s")
    holds = ours[1] <= limit
    print(
        f"    p95, s: {ours[1]:.3g} (at most 1.2 intervals and Airflow's own, {limit:.3g}: "
        f"{'yes' if holds else 'NO'})"
    )
    return holds


def _delays(airflow: LiveAirflow, run_id: str, task_id: str, since: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile of the seconds from a moment to the end of its task."""
    query = (
        "select map_index, end_date from task_instance where run_id = %s and task_id = %s and map_index >= 0"
    )
    delays = [
        ended.timestamp() - since[number] for number, ended in airflow.database.ask(query, run_id, task_id)
    ]
    parts = quantiles(delays, n=100, method="inclusive")
    return parts[49], parts[94]


if __name__ == "__main__":
    raise SystemExit(0 if run() else 1)
