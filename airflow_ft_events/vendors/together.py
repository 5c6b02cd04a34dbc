"""Together: paths, states and types of its own; the whole log comes at once, without ids, oldest first."""

from __future__ import annotations

import re
from types import MappingProxyType

from airflow_ft_events.events import Order
from airflow_ft_events.jobs import JobState
from airflow_ft_events.vendors.base import Meaning, Vendor, signal

TOGETHER = Vendor(
    name="together",
    base_url="https://api.together.ai/v1",
    hosts=("api.together.ai", "api.together.xyz"),
    order=Order.OLDEST_FIRST,
    pages=False,
    jobs_path="/fine-tunes",
    states=MappingProxyType(
        {
            "pending": JobState.ACTIVE,
            "queued": JobState.ACTIVE,
            "running": JobState.ACTIVE,
            "compressing": JobState.ACTIVE,
            "uploading": JobState.ACTIVE,
            "cancel_requested": JobState.ACTIVE,
            "paused": JobState.PAUSED,
            "completed": JobState.SUCCEEDED,
            "error": JobState.FAILED,
            "user_error": JobState.FAILED,
            "cancelled": JobState.CANCELLED,
        }
    ),
    job_fields=MappingProxyType({"fine_tuned_model": "model_output_name", "trained_tokens": "token_count"}),
    signals=(
        signal(r"JOB_COMPLETE|Job finished at .*", Meaning.SUCCEEDED),
        signal(r"JOB_ERROR|JOB_USER_ERROR", Meaning.FAILED),
        signal(r"JOB_STOPPED", Meaning.CANCELLED),
        signal(r"JOB_RESTARTED", Meaning.RESTARTED),
    ),
    model_message=re.compile(r"(?!)"),
)
