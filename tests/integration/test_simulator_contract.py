"""The simulator's answers against the published specification."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import yaml

from airflow_ft_events.simulator import Simulator, simulate

START = 1_800_000_000.0
OUTCOMES = ["succeeded", "failed", "cancelled"]


@pytest.fixture(scope="module")
def specification(shared_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((shared_dir / "openapi" / "fine_tuning.yaml").read_text())
    return loaded


def validator(specification: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": specification["components"]}
    return jsonschema.Draft202012Validator(schema)


def with_event_departures(answer: dict[str, Any]) -> dict[str, Any]:
    """Undo, one by one, where real servers leave the specification in events."""
    answer = copy.deepcopy(answer)
    for event in answer["data"]:
        # Messages come with data: null; the specification knows objects only.
        if "data" in event and event["data"] is None:
            del event["data"]
    return answer


def with_job_departures(job: dict[str, Any]) -> dict[str, Any]:
    """Undo, one by one, where real servers leave the specification in jobs."""
    job = copy.deepcopy(job)
    # Healthy jobs have error: {}; the specification wants null or all three fields.
    if job["error"] == {}:
        job["error"] = None
    return job


def get(sim: Simulator, path: str, **params: int) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    answer: dict[str, Any] = requests.get(
        sim.base_url + path, headers=headers, params=params, timeout=20
    ).json()
    return answer


@pytest.fixture(params=OUTCOMES)
def at_every_stage(request: pytest.FixtureRequest) -> Iterator[Iterator[Simulator]]:
    moment = [START]
    with simulate([request.param], clock=lambda: moment[0]) as sim:

        def stages() -> Iterator[Simulator]:
            for moment[0] in (START, START + 37, START + 100, START + 270, START + 296, START + 1000):
                yield sim

        yield stages()


def test_events_pass_the_specification_but_for_null_data(
    specification: dict[str, Any], at_every_stage: Iterator[Simulator]
) -> None:
    check = validator(specification, "ListFineTuningJobEventsResponse")
    for sim in at_every_stage:
        answer = get(sim, f"/fine_tuning/jobs/{sim.job_id}/events", limit=500)
        assert answer["data"]
        check.validate(with_event_departures(answer))


def test_jobs_pass_the_specification_but_for_an_empty_error(
    specification: dict[str, Any], at_every_stage: Iterator[Simulator]
) -> None:
    check = validator(specification, "FineTuningJob")
    for sim in at_every_stage:
        check.validate(with_job_departures(get(sim, f"/fine_tuning/jobs/{sim.job_id}")))


def test_the_list_of_jobs_passes_the_specification_but_for_an_empty_error(
    specification: dict[str, Any], at_every_stage: Iterator[Simulator]
) -> None:
    check = validator(specification, "ListPaginatedFineTuningJobsResponse")
    for sim in at_every_stage:
        answer = get(sim, "/fine_tuning/jobs")
        check.validate(answer | {"data": [with_job_departures(job) for job in answer["data"]]})


def test_created_jobs_and_checkpoints_pass_the_specification(specification: dict[str, Any]) -> None:
    moment = [START]
    with simulate([], clock=lambda: moment[0]) as sim:
        file_id = sim.add_file(b"")
        dpo = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": "auto"}}}
        grader = {"type": "string_check", "name": "n", "input": "a", "reference": "b", "operation": "eq"}
        rft = {"type": "reinforcement", "reinforcement": {"grader": grader}}
        for method in (None, dpo, rft):
            told = {"model": "m", "training_file": file_id, "method": method, "metadata": {"k": "v"}}
            headers = {"Authorization": f"Bearer {sim.api_key}"}
            url = f"{sim.base_url}/fine_tuning/jobs"
            job = requests.post(url, headers=headers, json=told, timeout=20).json()
            validator(specification, "FineTuningJob").validate(with_job_departures(job))
        moment[0] += 1000
        check = validator(specification, "ListFineTuningJobCheckpointsResponse")
        for job_id in sim.job_ids:
            page = get(sim, f"/fine_tuning/jobs/{job_id}/checkpoints")
            assert page["data"]
            check.validate(page)


def test_each_departure_is_really_made(specification: dict[str, Any]) -> None:
    moment = [START]
    with simulate(clock=lambda: moment[0]) as sim:
        moment[0] += 100
        events = get(sim, f"/fine_tuning/jobs/{sim.job_id}/events", limit=500)
        job = get(sim, f"/fine_tuning/jobs/{sim.job_id}")
    with pytest.raises(jsonschema.ValidationError):
        validator(specification, "ListFineTuningJobEventsResponse").validate(events)
    with pytest.raises(jsonschema.ValidationError):
        validator(specification, "FineTuningJob").validate(job)
