"""
Wait for a fine-tuning job, check its metrics, archive its log, and deploy its model if training went well.

A job that failed or was cancelled fails the sensor. A job that succeeded with worse metrics than the gate's
conditions allow skips archive and deployment: no task fails then, and the gate's XCom `decision` says why.
A model is deployed only once the log of its training is archived.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_ft_events.operators.fine_tuning import FineTuningGateOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator


@dag(
    dag_id="example_ft_release_with_gate",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "job_id": Param("ftjob-abc123", type="string", description="The fine-tuning job to wait for."),
        "most_loss": Param(
            1.2, type="number", description="The highest full validation loss to deploy with."
        ),
        "folder": Param(
            "file:///tmp/fine-tuning",
            type="string",
            description="Where the logs are kept.",
        ),
    },
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
)
def example_ft_release_with_gate() -> None:
    wait = FineTuningEventsSensor(
        task_id="wait_for_job",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
        deferrable=True,
        poke_interval=5,  # seconds; a minute is enough for jobs that take hours
        timeout=timedelta(days=2).total_seconds(),
    )
    gate = FineTuningGateOperator(
        task_id="gate",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
        conditions=[
            "full_valid_loss <= {{ params.most_loss }}",
            "full_valid_loss <= 2 * mean(train_loss)",  # else it may have memorised its data
        ],
        on_violation="skip",
    )

    archive = FineTuningEventsToObjectStorageOperator(
        task_id="archive",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
        path="{{ params.folder }}/deployed/{{ params.job_id }}.jsonl.gz",
        deferrable=True,
    )

    @task
    def deploy(job: dict[str, Any], decision: dict[str, Any], log: dict[str, Any]) -> str:
        """Stand in for your own deployment, which gets the results of sensor, gate and archive."""
        model = job["fine_tuned_model"]
        print(f"Deploying {model}: {len(decision['conditions'])} conditions hold; its log is {log['path']}")
        return model

    wait >> gate >> archive
    deploy(wait.output, gate.output, archive.output)


example_ft_release_with_gate()
