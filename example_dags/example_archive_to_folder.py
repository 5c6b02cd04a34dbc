"""
Wait for a fine-tuning job and archive its whole log in a folder, with a page that shows its training.

The archive is one gzip file of JSON lines, with a manifest beside it. The last task reads it back. TaskFlow
style; example_archive_to_s3.py is in classic style.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_ft_events.archive import read_archive
from airflow_ft_events.events import epoch_seconds
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator


@dag(
    dag_id="example_ft_archive_to_folder",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "job_id": Param("ftjob-abc123", type="string", description="The fine-tuning job to archive."),
        "folder": Param(
            "file:///tmp/fine-tuning", type="string", description="A folder that every worker can reach."
        ),
    },
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
)
def example_ft_archive_to_folder() -> None:
    wait = FineTuningEventsSensor(
        task_id="wait_for_job",
        job_id="{{ params.job_id }}",
        deferrable=True,
        raise_on_failure=False,  # the log of a failed job is worth keeping, too
        poke_interval=5,  # seconds; a minute is enough for jobs that take hours
        timeout=timedelta(days=2).total_seconds(),
    )
    archive = FineTuningEventsToObjectStorageOperator(
        task_id="archive",
        job_id="{{ params.job_id }}",
        path="{{ params.folder }}/{{ params.job_id }}.jsonl.gz",
        report=True,
        deferrable=True,
    )

    @task
    def longest_silence(manifest: dict[str, Any]) -> float:
        """Find out for how many seconds the job said nothing."""
        # seconds since 1970 or an ISO date, depending on the server
        times = [epoch_seconds(event.get("created_at")) for event in read_archive(manifest["path"])]
        known = [time for time in times if time is not None]
        silence = max((after - before for before, after in pairwise(known)), default=0)
        print(f"{manifest['count']} events in {manifest['path']}; the longest silence took {silence} s")
        return float(silence)

    wait >> archive
    longest_silence(archive.output)


example_ft_archive_to_folder()
