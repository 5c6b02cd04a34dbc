"""What the official client reads is what the hook reads."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from airflow_ft_events.hooks.fine_tuning import FineTuningHook

EVENTS = 10_000
# what openai's own client reads of every server that speaks its paths is in test_vendor_clients


def many_events() -> list[dict[str, Any]]:
    """A long log with ties: three events a second, messages with and without data."""
    kinds: list[dict[str, Any]] = [
        {"type": "metrics", "data": {"step": 1, "train_loss": 0.5, "total_steps": EVENTS}},
        {"type": "message", "data": None},
        {"type": "message", "data": {}},
    ]
    return [
        {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{number:05d}",
            "created_at": 1_700_000_000 + number // 3,
            "level": "info",
            "message": f"Event {number} \u00e9\u4e2d",
            **kinds[number % 3],
        }
        for number in range(EVENTS)
    ]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_the_official_client_pages_to_exactly_the_events_that_both_faces_list(
    order: str, simulated: Any, connect: Any
) -> None:
    sim = simulated([], order=order)
    job_id = sim.add_job(log={"events": many_events(), "order": "oldest_first", "outcome": "running"})
    connect(sim)
    sim.clock.__self__.sleep(EVENTS)
    served = sim.list_events(job_id)
    assert len(served) == EVENTS
    hook = FineTuningHook()
    listed = hook.list_events(job_id)
    assert listed == served
    assert asyncio.run(hook.alist_events(job_id)) == listed
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        paged = [
            event.model_dump(mode="json", exclude_unset=True)
            for event in client.fine_tuning.jobs.list_events(job_id, limit=100)
        ]
    if order == "newest":
        assert paged[::-1] == listed
    else:
        by_id = {event["id"]: event for event in listed}
        assert len(paged) == EVENTS
        assert all(by_id[event["id"]] == event for event in paged)


def test_reading_asks_for_no_more_pages_than_the_official_client(simulated: Any, connect: Any) -> None:
    sim = simulated(ended=True)
    connect(sim)
    FineTuningHook().list_events(sim.job_id)
    own = sim.count(route="events")
    sim.reset_requests()
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        list(client.fine_tuning.jobs.list_events(sim.job_id, limit=100))
    assert own == sim.count(route="events") == 2


def test_the_official_client_and_the_hook_read_the_same_job_and_list(simulated: Any, connect: Any) -> None:
    sim = simulated(["succeeded", "failed", "cancelled"], ended=True)
    connect(sim)
    hook = FineTuningHook()
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        for job_id in sim.job_ids:
            theirs = client.fine_tuning.jobs.retrieve(job_id).model_dump(mode="json", exclude_unset=True)
            assert hook.get_job(job_id) == theirs
        assert [job["id"] for job in hook.list_jobs()] == [job.id for job in client.fine_tuning.jobs.list()]
