"""Two waits: one owns its job and may cancel it, one only watches."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor


@dag(
    dag_id="owner_and_watcher",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={name: Param("", type="string") for name in ("owned", "watched", "conn_id")},
)
def owner_and_watcher() -> None:
    for task_id, job, owns in (("owner", "owned", True), ("watcher", "watched", False)):
        FineTuningEventsSensor(
            task_id=task_id,
            job_id=f"{{{{ params.{job} }}}}",
            conn_id="{{ params.conn_id }}",
            deferrable=True,
            poke_interval=2,
            timeout=3600,
            cancel_on_kill=owns,
        )


owner_and_watcher()
