"""The job list that waits share knows a job by its id, plain or percent-encoded."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from airflow_ft_events.api.calls import job_request
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse
from airflow_ft_events.connection.settings import settings_of
from airflow_ft_events.triggers.job_list import JobList

ARN = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/nova.lite/ab12"


def quoted_whole(job_id: str) -> str:
    return quote(job_id, safe="")


FORMS = pytest.mark.parametrize("given", [str, quoted_whole], ids=["asked-plain", "asked-quoted"])
TOLD = pytest.mark.parametrize("told", [str, quoted_whole], ids=["told-plain", "told-quoted"])


@FORMS
@TOLD
def test_the_shared_job_list_knows_a_job_by_either_form_of_its_id(given: Any, told: Any) -> None:
    asked: list[str] = []

    async def send(request: ApiRequest) -> ApiResponse:
        asked.append(request.path)
        jobs = [{"id": "ftjob-0", "status": "running"}, {"id": told(ARN), "status": "in_progress"}]
        return ApiResponse(200, {}, json.dumps({"data": jobs, "has_more": False}).encode())

    async def state() -> Any:
        shared = JobList(send, pause_left=lambda: 0.0)
        shared.settings = settings_of(conn_id="tuning", password="sk-1234567890")
        shared.waits, shared.period = 10, 60.0
        reply = await shared.send(job_request(shared.settings, given(ARN)))
        shared.close()
        return reply

    reply = asyncio.run(state())
    assert reply.parsed == {"id": told(ARN), "status": "in_progress"}
    assert asked == ["/fine_tuning/jobs"]
