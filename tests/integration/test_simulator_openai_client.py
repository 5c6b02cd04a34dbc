"""The official client against the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from airflow_ft_events.simulator import Simulator, simulate

START = 1_800_000_000.0


@pytest.fixture
def moment() -> list[float]:
    """The time of a driven clock, in a list of one."""
    return [START]


@pytest.fixture
def sim(moment: list[float]) -> Iterator[Simulator]:
    with simulate(clock=lambda: moment[0]) as running:
        yield running


@pytest.fixture
def client(sim: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as made:
        yield made


def test_the_official_client_pages_through_every_event_once(
    sim: Simulator, client: openai.OpenAI, moment: list[float]
) -> None:
    moment[0] += 1000
    ids = [event.id for event in client.fine_tuning.jobs.list_events(sim.job_id, limit=9)]
    assert ids == [event["id"] for event in reversed(sim.list_events(sim.job_id))]
    assert sim.count(route="events") == 12


def test_the_official_client_sees_the_job_go_to_its_end(
    sim: Simulator, client: openai.OpenAI, moment: list[float]
) -> None:
    seen = []
    for _ in range(31):
        seen.append(client.fine_tuning.jobs.retrieve(sim.job_id).status)
        moment[0] += 10
    assert list(dict.fromkeys(seen)) == ["validating_files", "running", "succeeded"]
    job = client.fine_tuning.jobs.retrieve(sim.job_id)
    assert (job.fine_tuned_model or "").startswith("ft:")
    assert job.trained_tokens


def test_the_official_client_lists_jobs_over_pages(sim: Simulator, client: openai.OpenAI) -> None:
    for _ in range(4):
        sim.add_job()
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == sim.job_ids[::-1]


def test_the_official_client_cancels(sim: Simulator, client: openai.OpenAI, moment: list[float]) -> None:
    moment[0] += 50
    assert client.fine_tuning.jobs.cancel(sim.job_id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.cancel(sim.job_id)


def test_the_official_client_gets_its_own_errors(sim: Simulator, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    assert missing.value.code == "fine_tune_not_found"
    assert missing.value.request_id
    with (
        openai.OpenAI(base_url=sim.base_url, api_key="sk-wrong-0123456789012345", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.fine_tuning.jobs.retrieve(sim.job_id)
    assert refused.value.code == "invalid_api_key"


def test_the_official_client_retries_what_a_fault_spoils(sim: Simulator) -> None:
    sim.fail_next(status=503, headers={"retry-after-ms": "1"})
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=1) as patient:
        assert patient.fine_tuning.jobs.retrieve(sim.job_id).id == sim.job_id
    assert [request.status for request in sim.requests] == [503, 200]
