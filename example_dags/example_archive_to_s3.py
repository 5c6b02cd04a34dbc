"""
Keep the log of a running fine-tuning job in S3, adding what is new every ten minutes.

Each run writes one additional file and lists it in the manifest, which also says when the log is complete. A
run that finds nothing new writes nothing. Needs the Amazon provider, s3fs and the connection aws_default.
Classic style; example_archive_to_folder.py is in TaskFlow style.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator

with DAG(
    dag_id="example_ft_archive_to_s3",
    schedule=timedelta(minutes=10),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two runs at once would both add the same events, and one of them would fail
    params={
        "job_id": Param("ftjob-abc123", type="string", description="The fine-tuning job to archive."),
        "bucket": Param("my-bucket", type="string", description="The bucket for the logs."),
    },
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
) as dag:
    FineTuningEventsToObjectStorageOperator(
        task_id="archive",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
        path="s3://{{ params.bucket }}/fine-tuning/{{ params.job_id }}.jsonl",
        storage_conn_id="aws_default",
        incremental=True,
        retries=2,
    )
