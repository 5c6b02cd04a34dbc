"""Checkpoints, pause and resume, the list's filter, Together's metrics: over real sockets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import openai
import pytest
import requests

from airflow_ft_events.simulator import DIALECTS, JobEndedError, JobStateError, Simulator

START = 1_800_000_000.0


def call(sim: Simulator, path: str = "", *, method: str = "GET", **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {sim.api_key}", "api-key": sim.api_key}
    params = {**options.pop("params", {})}
    if sim.dialect.api_version:
        params["api-version"] = sim.dialect.api_version
    url = f"{sim.base_url}{sim.dialect.jobs_path}{path}"
    return requests.request(method, url, headers=headers, params=params, timeout=20, **options)


# checkpoints


def test_checkpoints_are_those_of_the_log_and_the_model_newest_first(served: Any, moment: Any) -> None:
    sim = served()
    assert call(sim, f"/{sim.job_id}/checkpoints").json()["data"] == []
    moment.now += 1000
    page = call(sim, f"/{sim.job_id}/checkpoints").json()
    assert [each["step_number"] for each in page["data"]] == [100, 66, 33]
    newest = page["data"][0]
    assert newest["fine_tuned_model_checkpoint"] == sim.get_job(sim.job_id)["fine_tuned_model"]
    assert page["data"][1]["fine_tuned_model_checkpoint"].endswith(":ckpt-step-66")
    assert (page["first_id"], page["has_more"]) == (newest["id"], False)
    data = next(
        event["data"] for event in sim.list_events(sim.job_id) if event["message"].startswith("Step 66/")
    )
    metrics = page["data"][1]["metrics"]
    assert (metrics["step"], metrics["full_valid_loss"]) == (66, data["full_valid_loss"])
    rest = call(sim, f"/{sim.job_id}/checkpoints", params={"limit": 1, "after": newest["id"]}).json()
    assert (rest["data"], rest["has_more"]) == ([page["data"][1]], True)
    assert call(sim, f"/{sim.job_id}/checkpoints", params={"after": "ftckpt_none"}).status_code == 404
    assert call(sim, "/ftjob-none/checkpoints").status_code == 404


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_success_has_a_final_checkpoint_in_the_familys_form(vendor: str, served: Any, moment: Any) -> None:
    sim = served(vendor=vendor)
    moment.now += 1000
    newest = call(sim, f"/{sim.job_id}/checkpoints").json()["data"][0]
    if vendor == "together":
        assert newest.keys() == {"step", "created_at", "path", "checkpoint_type"}
        assert (newest["step"], newest["checkpoint_type"]) == (100, "Final (step 100)")
    else:
        assert newest["fine_tuned_model_checkpoint"] == sim.get_job(sim.job_id)["fine_tuned_model"]


# pause and resume


@pytest.mark.parametrize("vendor", ["openai", "azure", "azure-v1"])
def test_a_paused_job_stands_still_and_goes_on_where_it_stopped(
    vendor: str, served: Any, moment: Any
) -> None:
    sim = served(vendor=vendor)
    undisturbed = sim.list_events(sim.job_id, future=True)
    moment.now += 150.5
    seen = sim.list_events(sim.job_id)
    assert call(sim, f"/{sim.job_id}/pause", method="POST").json()["status"] == "paused"
    assert call(sim, f"/{sim.job_id}/pause", method="POST").status_code == 400
    moment.now += 10_000
    assert sim.get_job(sim.job_id)["status"] == "paused"
    assert sim.list_events(sim.job_id) == seen
    assert call(sim, f"/{sim.job_id}/resume", method="POST").json()["status"] == "running"
    assert call(sim, f"/{sim.job_id}/resume", method="POST").status_code == 400
    moment.now += 1000
    assert sim.get_job(sim.job_id)["status"] == "succeeded"
    late = {"created_at": 10_000}
    assert sim.list_events(sim.job_id) == seen + [
        event | {"created_at": event["created_at"] + late["created_at"]} for event in undisturbed[len(seen) :]
    ]


@pytest.mark.parametrize("vendor", ["nebius", "together"])
def test_a_family_without_pause_has_no_such_route(vendor: str, served: Any) -> None:
    sim = served(vendor=vendor)
    assert call(sim, f"/{sim.job_id}/pause", method="POST").status_code == 404


def test_a_paused_job_can_be_cancelled_and_an_ended_one_not_paused(served: Any, moment: Any) -> None:
    sim = served(["succeeded", "succeeded"])
    moment.now += 100
    sim.pause(sim.job_ids[0])
    sim.cancel(sim.job_ids[0])
    with pytest.raises(JobStateError, match="resumed"):
        sim.resume(sim.job_ids[0])
    moment.now += 1000
    assert sim.list_events(sim.job_ids[0])[-1]["message"].startswith("The job was stopped")
    with pytest.raises(JobStateError, match="succeeded"):
        sim.pause(sim.job_ids[1])
    with pytest.raises(JobEndedError):
        sim.cancel(sim.job_ids[1])


def test_the_official_client_pauses_resumes_and_reads_checkpoints(served: Any, moment: Any) -> None:
    sim = served()
    moment.now += 100
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        assert client.fine_tuning.jobs.pause(sim.job_id).status == "paused"
        assert client.fine_tuning.jobs.resume(sim.job_id).status == "running"
        moment.now += 1000
        found = list(client.fine_tuning.jobs.checkpoints.list(sim.job_id, limit=1))
        assert [each.step_number for each in found] == [100, 66, 33]


# the list's filter


def test_jobs_are_listed_by_their_metadata(served: Any, moment: Any) -> None:
    sim = served([])
    both = sim.add_job(metadata={"team": "search", "tier": "1"})
    moment.now += 1
    other = sim.add_job(metadata={"team": "search"})
    moment.now += 1
    none = sim.add_job()

    def found(**params: Any) -> tuple[list[str], bool]:
        page = call(sim, params=params).json()
        return [job["id"] for job in page["data"]], page["has_more"]

    assert found(**{"metadata[team]": "search"}) == ([other, both], False)
    assert found(**{"metadata[team]": "search", "limit": 1}) == ([other], True)
    assert found(**{"metadata[team]": "search", "after": none, "limit": 2}) == ([other, both], False)
    assert found(**{"metadata[team]": "search", "metadata[tier]": "1"}) == ([both], False)
    assert found(**{"metadata[team]": "ads"}) == ([], False)
    assert found(metadata="null") == ([none], False)
    assert call(sim, params={"metadata": "team"}).json()["error"]["param"] == "metadata"
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        listed = client.fine_tuning.jobs.list(metadata={"team": "search"}, limit=1)
        assert [job.id for job in listed] == [other, both]


# Together's metrics


def rows(sim: Simulator, **params: Any) -> list[dict[str, float]]:
    found: list[dict[str, float]] = call(sim, f"/{sim.job_id}/metrics", params=params).json()["metrics"]
    return found


def steps(found: list[dict[str, float]], kind: str = "train/loss") -> list[int]:
    return [int(row["train/global_step"]) for row in found if kind in row]


def test_together_tells_the_numbers_of_a_job_apart_from_its_events(served: Any, moment: Any) -> None:
    sim = served(vendor="together")
    assert rows(sim) == []
    moment.now += 150
    assert steps(rows(sim)) == list(range(1, 61))
    moment.now += 1000
    found = rows(sim)
    assert steps(found) == list(range(1, 101))
    assert steps(found, "eval/loss") == [33, 66, 100]
    assert not [row for row in found if {"train/loss", "eval/loss"} <= row.keys()]
    assert [row["timestamp"] for row in found] == sorted(row["timestamp"] for row in found)
    assert START * 1e9 < found[0]["timestamp"] < (START + 300) * 1e9


def test_together_filters_and_thins_out_its_rows(served: Any, moment: Any) -> None:
    sim = served(vendor="together")
    moment.now += 1000
    assert steps(rows(sim, global_step_from=10, global_step_to=12)) == [10, 11, 12]
    middle = datetime.fromtimestamp(START + 135.2, UTC).isoformat()
    assert steps(rows(sim, logged_at_from=middle))[0] == 51
    assert steps(rows(sim, logged_at_to=middle.replace("+00:00", "")))[-1] == 50
    thinned = rows(sim, resolution=4)
    assert (steps(thinned), steps(thinned, "eval/loss")) == ([1, 34, 67, 100], [33, 66, 100])
    body = call(sim, f"/{sim.job_id}/metrics", json={"global_step_from": 100}).json()["metrics"]
    assert steps(body) == [100]
    for name in ("global_step_from", "resolution", "logged_at_from"):
        assert call(sim, f"/{sim.job_id}/metrics", params={name: "x"}).status_code == 400


def test_a_script_may_have_metrics_of_its_own(served: Any, moment: Any) -> None:
    sim = served([], vendor="together")
    sim.add_job(
        metrics=[
            {"train/global_step": 1, "train/loss": 2.0},
            {"offset": 5, "train/global_step": 2, "train/loss": 1.0},
        ]
    )
    assert steps(rows(sim)) == [1]
    moment.now += 5
    assert rows(sim)[1] == {"timestamp": (START + 5) * 1e9, "train/global_step": 2, "train/loss": 1.0}


# jobs of the past


def test_all_initial_jobs_can_lie_in_the_past_scenarios_and_scripts_too(served: Any) -> None:
    script = {
        "events": [{"message": "Hm"}, {"message": "Job done", "offset": 50}],
        "status_timeline": [(0, "running"), (50, "failed")],
    }
    sim = served(["failed", {"outcome": "cancelled"}, script, {"ended": False}], ended=True)
    statuses = [sim.get_job(job_id)["status"] for job_id in sim.job_ids]
    assert statuses == ["failed", "cancelled", "failed", "validating_files"]
    for job_id in sim.job_ids[:3]:
        events = sim.list_events(job_id)
        assert events == sim.list_events(job_id, future=True)
        assert events[-1]["created_at"] < START - 3000
