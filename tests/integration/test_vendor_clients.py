"""The vendors' official clients read the simulator as they read the servers: exactly what the hook reads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from tests.environments import TOGETHER, python_with

TOGETHER_PROGRAM = """
import json, sys
from together import Together

base_url, api_key, job_id = sys.argv[1:]
client = Together(base_url=base_url, api_key=api_key, max_retries=0)
told = lambda model: model.model_dump(mode="json", by_alias=True, exclude_unset=True)
print(json.dumps({
    "events": [told(event) for event in client.fine_tuning.list_events(job_id).data],
    "job": told(client.fine_tuning.retrieve(job_id)),
    "jobs": [job.id for job in client.fine_tuning.list().data],
    "cancelled": told(client.fine_tuning.cancel(client.fine_tuning.list().data[0].id))["status"],
}))
"""


def client_of(vendor: str, sim: Any) -> openai.OpenAI:
    """The official client, made as its vendor's documentation makes it."""
    options = {"api_key": sim.api_key, "max_retries": 0}
    if vendor == "azure":
        endpoint = sim.base_url.removesuffix("/openai")
        return openai.AzureOpenAI(azure_endpoint=endpoint, api_version="2024-10-21", **options)
    return openai.OpenAI(base_url=sim.base_url, **options)


def told(model: Any) -> Any:
    return model.model_dump(mode="json", exclude_unset=True)


@pytest.fixture
def sim(simulated: Any, connect: Any, clock: Any) -> Any:
    """A vendor's server with a long log, and one job of each outcome."""
    made = simulated(["succeeded", "failed", "cancelled"])
    made.add_job(job_id="job-long", events=[{"message": f"Line {n}", "offset": n // 3} for n in range(500)])
    connect(made)
    clock.sleep(1000)
    return made


openai_speakers = pytest.mark.parametrize("vendor", ["openai", "azure", "azure-v1", "nebius"])


@openai_speakers
def test_the_openai_client_gets_the_events_that_the_hook_gets(vendor: str, sim: Any, call: Any) -> None:
    with client_of(vendor, sim) as client:
        for job_id in sim.job_ids:
            theirs = [told(event) for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
            ours = call(FineTuningHook(), "list_events", job_id)
            assert ours == (theirs if vendor == "nebius" else theirs[::-1])
            assert ours == sim.list_events(job_id)
    assert {request.status for request in sim.requests} == {200}


@openai_speakers
def test_the_openai_client_gets_the_jobs_that_the_hook_gets(vendor: str, sim: Any, call: Any) -> None:
    with client_of(vendor, sim) as client:
        for job_id in sim.job_ids:
            ours = call(FineTuningHook(), "get_job", job_id)
            assert ours == told(client.fine_tuning.jobs.retrieve(job_id)) == sim.get_job(job_id)
        assert call(FineTuningHook(), "list_jobs") == [told(job) for job in client.fine_tuning.jobs.list()]
        assert client.fine_tuning.jobs.cancel("job-long").status in ("cancelled", "canceled")


@openai_speakers
def test_the_openai_client_raises_its_own_errors(vendor: str, sim: Any) -> None:
    with client_of(vendor, sim) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.fine_tuning.jobs.retrieve("job-none")
        assert "Could not find fine tune: job-none" in missing.value.response.text
        sim.api_key = "another-key"
        with pytest.raises(openai.AuthenticationError):
            client.fine_tuning.jobs.retrieve("job-long")


@pytest.mark.parametrize("vendor", ["azure"])
def test_the_azure_client_gets_in_with_a_token_of_entra_for_as_long_as_it_lives(sim: Any, clock: Any) -> None:
    sim.bearer_tokens["a-token"] = clock.now() + 60
    client = openai.AzureOpenAI(
        azure_endpoint=sim.base_url.removesuffix("/openai"),
        api_version="2024-10-21",
        azure_ad_token_provider=lambda: "a-token",
        max_retries=0,
    )
    with client:
        assert client.fine_tuning.jobs.retrieve("job-long").id == "job-long"
        clock.sleep(61)
        with pytest.raises(openai.AuthenticationError):
            client.fine_tuning.jobs.retrieve("job-long")


@pytest.fixture(scope="session")
def together_python(project: Path, pip_environment: dict[str, str]) -> Path:
    """A Python that has Together's client; its pins clash with Airflow's, so it lives by itself."""
    return python_with(TOGETHER, project=project, environment=pip_environment)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("vendor", ["together"])
def test_the_together_client_gets_what_the_hook_gets(sim: Any, together_python: Path, both: Any) -> None:
    job_id = sim.job_ids[0]
    events, events_too = both(FineTuningHook(), "list_events", job_id)
    job, job_too = both(FineTuningHook(), "get_job", job_id)
    jobs = FineTuningHook().list_jobs()
    done = subprocess.run(
        [together_python, "-c", TOGETHER_PROGRAM, sim.base_url.removesuffix("/v1"), sim.api_key, job_id],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert events == events_too == theirs["events"] == sim.list_events(job_id)
    assert job == job_too == theirs["job"]
    assert [each["id"] for each in jobs] == theirs["jobs"]
    assert theirs["cancelled"] == "cancel_requested"
