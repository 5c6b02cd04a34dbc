"""A job that a client creates runs as the simulator's own jobs do, on every family."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_ft_events.simulator import DIALECTS, Simulator, simulate

vendors = pytest.mark.parametrize("vendor", DIALECTS)


def call(sim: Simulator, path: str = "", *, method: str = "GET", **options: Any) -> requests.Response:
    """Ask for a path below the jobs, with the key where the family wants it."""
    dialect = sim.dialect
    headers = {"Authorization": f"Bearer {sim.api_key}", "api-key": sim.api_key}
    params = {"api-version": dialect.api_version} if dialect.api_version else {}
    url = f"{sim.base_url}{dialect.jobs_path}{path}"
    return requests.request(method, url, headers=headers, params=params, timeout=20, **options)


def create(sim: Simulator, **told: Any) -> requests.Response:
    sim.any_file = True
    return call(sim, method="POST", json={"model": "base/m-1", "training_file": "file-1", **told})


@vendors
def test_a_created_job_runs_to_its_end(vendor: str, served: Any, moment: Any) -> None:
    sim = served([], vendor=vendor, speed=10)
    answer = create(sim, suffix="mine")
    assert answer.status_code == (201 if vendor == "azure" else 200)
    job = answer.json()
    assert job == call(sim, f"/{job['id']}").json() == sim.get_job(job["id"])
    assert (job["model"], job["training_file"]) == ("base/m-1", "file-1")
    assert job["status"] in ("validating_files", "pending")
    assert len(call(sim, f"/{job['id']}/events").json()["data"]) >= 1
    moment.now += 31
    ended = call(sim, f"/{job['id']}").json()
    assert ended["status"] == ("completed" if vendor == "together" else "succeeded")
    assert "mine" in (ended.get("fine_tuned_model") or ended["model_output_name"])
    assert job["id"] in [each["id"] for each in call(sim).json()["data"]]


@vendors
def test_a_body_that_asks_for_no_model_is_refused_in_the_familys_words(vendor: str, served: Any) -> None:
    sim = served([], vendor=vendor)
    answer = call(sim, method="POST", json={"training_file": "file-1"})
    assert answer.status_code == 400
    assert (
        answer.json()
        == sim.dialect.problem(
            400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        ).body
    )
    assert sim.job_ids == []


def test_created_jobs_run_as_the_server_was_told(served: Any, moment: Any) -> None:
    sim = served([], outcome="failed", created_jobs={"duration": 60, "steps": 5})
    first = create(sim).json()["id"]
    sim.created_jobs["outcome"] = "cancelled"
    second = create(sim).json()["id"]
    moment.now += 61
    assert [sim.get_job(job_id)["status"] for job_id in (first, second)] == ["failed", "cancelled"]
    with pytest.raises(ValueError, match="speed"):
        simulate([], created_jobs={"speed": 7})


def test_a_created_job_shows_what_was_asked_for(served: Any, moment: Any) -> None:
    sim = served([])
    metadata = {"team": "search"}
    told = create(sim, metadata=metadata, seed=42, hyperparameters={"n_epochs": 1}).json()
    assert (told["metadata"], told["seed"], told["validation_file"]) == (metadata, 42, None)
    assert told["hyperparameters"]["n_epochs"] == 1
    moment.now += 1000
    events = sim.list_events(told["id"])
    assert events[1]["message"] == "Validating training file: file-1"
    assert not [event for event in events if event["data"] and "valid_loss" in event["data"]]


def test_a_reinforcement_job_reports_rewards_and_no_losses(served: Any, moment: Any) -> None:
    sim = served([])
    grader = {"type": "string_check", "name": "n", "input": "a", "reference": "b", "operation": "eq"}
    method = {"type": "reinforcement", "reinforcement": {"grader": grader}}
    job_id = create(sim, method=method, validation_file="file-2").json()["id"]
    moment.now += 1000
    names = {name for event in sim.list_events(job_id) for name in event["data"] or ()}
    assert names == {"step", "total_steps", "train_mean_reward", "full_valid_mean_reward"}
    results = sim.read_file(sim.get_job(job_id)["result_files"][0])
    assert results.splitlines()[0].endswith(b",train_mean_reward,full_valid_mean_reward")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes, served: Any) -> None:
    answer = call(served([]), method="POST", data=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_a_body_beyond_the_limit_is_refused_unread(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sim = served([])
    monkeypatch.setattr("airflow_ft_events.simulator.bodies.read_body.__kwdefaults__", {"most": 100})
    assert call(sim, method="POST", data=b" " * 101).status_code == 413
    assert call(sim, method="POST", data=iter([b" " * 60, b" " * 60])).status_code == 413


def test_a_created_job_that_a_fault_answers_was_not_created(served: Any) -> None:
    sim = served([])
    sim.fail_next(route="create", status=503)
    assert create(sim).status_code == 503
    assert sim.job_ids == []
    sim.fail_next(route="create", truncate=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        create(sim)
    assert len(sim.job_ids) == 1
