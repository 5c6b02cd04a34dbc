"""
Wait for a fine-tuning job, and deploy its model only if the job succeeded.

The sensor fails when the job failed or was cancelled, so the deployment does not run then. While it waits
it occupies no worker slot: with `deferrable=True` the triggerer does the waiting.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor


@dag(
    dag_id="example_ft_gate_deployment",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"job_id": Param("ftjob-abc123", type="string", description="The fine-tuning job to wait for.")},
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
)
def example_ft_gate_deployment() -> None:
    wait = FineTuningEventsSensor(
        task_id="wait_for_job",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
        deferrable=True,
        poke_interval=5,  # seconds; a minute is enough for jobs that take hours
        timeout=timedelta(days=2).total_seconds(),
    )

    @task
    def deploy(job: dict[str, Any]) -> str:
        """Stand in for your own deployment, which gets the result of the sensor."""
        model = job["fine_tuned_model"]
        print(f"Deploying {model} of job {job['job_id']}")
        return model

    deploy(wait.output)


example_ft_gate_deployment()
