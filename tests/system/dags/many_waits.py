"""One mapped wait for each job that the run names."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag, get_current_context, task

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor


@dag(
    dag_id="many_waits",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"job_ids": Param([], type="array"), "conn_id": Param("", type="string")},
)
def many_waits() -> None:
    @task
    def job_ids() -> list[str]:
        return list(get_current_context()["params"]["job_ids"])

    FineTuningEventsSensor.partial(
        task_id="wait",
        conn_id="{{ params.conn_id }}",
        deferrable=True,
        poke_interval=2,
        timeout=3600,
        cancel_on_kill=True,  # what happens to a triggerer must not look like a user's deed
    ).expand(job_id=job_ids())


many_waits()
