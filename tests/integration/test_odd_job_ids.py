"""Ids that are not ftjob-…: ARNs and paths, plain or percent-encoded, over a socket."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from airflow_ft_events.hooks.fine_tuning import FineTuningHook

ARN = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.nova-lite-v1:0:300k/x7"
IDS = [ARN, "projects/9/tuningJobs/7", "team@x~1+2=3", "50%", "a//b"]


@pytest.mark.parametrize("known", ["plain", "encoded"])
@pytest.mark.parametrize("asked", ["plain", "encoded", "encoded but for colons", "in lower case"])
@pytest.mark.parametrize("job_id", IDS)
def test_a_job_is_found_under_its_plain_and_its_encoded_id(
    job_id: str, asked: str, known: str, simulated: Any, connect: Any, call: Any
) -> None:
    encoded = quote(job_id, safe="")
    given = {
        "plain": job_id,
        "encoded": encoded,
        "encoded but for colons": quote(job_id, safe=":"),
        "in lower case": encoded.replace("%2F", "%2f").replace("%3A", "%3a"),
    }[asked]
    sim = simulated(outcome="succeeded", ended=True, job_id=job_id if known == "plain" else encoded)
    connect(sim)
    hook = FineTuningHook()
    assert call(hook, "get_job", given)["id"] == sim.job_id
    assert len(call(hook, "list_events", given)) > 20
    assert {request.path.count("/") for request in sim.requests} == {4, 5}
    assert {request.status for request in sim.requests} == {200}


def test_a_job_with_an_arn_is_waited_for_archived_and_gated(
    simulated: Any, connect: Any, follow: Any, mode: str, tmp_path: Any, task: Any
) -> None:
    from airflow_ft_events.operators.fine_tuning import FineTuningGateOperator
    from airflow_ft_events.transfers.fine_tuning_to_object_storage import (
        FineTuningEventsToObjectStorageOperator,
    )

    sim = simulated(job_id=ARN)
    connect(sim)
    result = follow(mode, ARN, poke_interval=60)
    assert (result["job_id"], result["outcome"]) == (ARN, "succeeded")
    path = str(tmp_path / "log.jsonl")
    made = FineTuningEventsToObjectStorageOperator(task_id="t", job_id=ARN, path=path)
    assert made.execute({"ti": task, "task": made})["job_id"] == ARN
    gate = FineTuningGateOperator(
        task_id="g", job_id=quote(ARN, safe=""), archive=path, conditions=["train_loss < 99"]
    )
    assert gate.execute({"ti": task, "task": gate})["passed"] is True


def test_an_arn_is_cancelled(simulated: Any, connect: Any, call: Any) -> None:
    sim = simulated(job_id=ARN)
    connect(sim)
    assert call(FineTuningHook(), "cancel_job", ARN)["status"] == "cancelled"


def test_many_waits_on_ids_with_slashes_end(simulated: Any, connect: Any, payload_of: Any) -> None:
    from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

    sim = simulated([])
    ids = [sim.add_job(job_id=f"{ARN}{number}") for number in range(12)]
    connect(sim)

    async def wait() -> list[dict[str, Any]]:
        triggers = [FineTuningEventsTrigger(job_id=each, end_time=1_800_090_000.0) for each in ids]
        return await asyncio.gather(*map(payload_of, triggers))

    assert {found["outcome"]["outcome"] for found in asyncio.run(wait())} == {"succeeded"}
