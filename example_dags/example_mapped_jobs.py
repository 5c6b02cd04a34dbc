"""
Wait for several fine-tuning jobs at once, and sum up how they ended.

One mapped sensor waits for each job. With `raise_on_failure=False` a job that failed or was cancelled does
not fail its task: its result says so, and the last task counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, get_current_context, task

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor


@dag(
    dag_id="example_ft_mapped_jobs",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "job_ids": Param(
            ["ftjob-abc123", "ftjob-def456"],
            type="array",
            items={"type": "string"},
            description="The fine-tuning jobs to wait for.",
        )
    },
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
)
def example_ft_mapped_jobs() -> None:
    @task
    def job_ids() -> list[str]:
        """Stand in for the task of your own Dag that starts the jobs and returns their ids."""
        return list(get_current_context()["params"]["job_ids"])

    wait = FineTuningEventsSensor.partial(
        task_id="wait_for_job",
        conn_id="fine_tuning_default",
        deferrable=True,
        poke_interval=5,  # seconds; a minute is enough for jobs that take hours
        raise_on_failure=False,
        timeout=timedelta(days=2).total_seconds(),
    ).expand(job_id=job_ids())

    @task
    def sum_up(jobs: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Count the outcomes and list the models."""
        jobs = list(jobs)
        outcomes = Counter(job["outcome"] for job in jobs)
        models = [job["fine_tuned_model"] for job in jobs if job["outcome"] == "succeeded"]
        print(f"{len(jobs)} jobs: {dict(outcomes)}; models: {models}")
        return {"outcomes": dict(outcomes), "models": models}

    sum_up(wait.output)


example_ft_mapped_jobs()
