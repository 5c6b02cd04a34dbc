"""Each vendor's dialect over real sockets: paths, keys, order, paging, ids, error bodies, ends."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
import requests

from airflow_ft_events.simulator import DIALECTS, RecordingError, Simulator, simulate
from airflow_ft_events.simulator.__main__ import main

START = 1_800_000_000.0
vendors = pytest.mark.parametrize("vendor", DIALECTS)
ROOTS = {
    "openai": "/v1/fine_tuning/jobs",
    "azure": "/openai/fine_tuning/jobs",
    "azure-v1": "/openai/v1/fine_tuning/jobs",
    "nebius": "/v1/fine_tuning/jobs",
    "together": "/v1/fine-tunes",
    "bedrock": "/v1/fine_tuning/jobs",
}
LAST = {
    "openai": ["The job has successfully completed"],
    "azure": [
        "Job succeeded.",
        "Model Evaluation Passed.",
        "Completed results file: ",
        "Training tokens billed: ",
    ],
    "nebius": ["Training completed successfully"],
    "together": ["Job finished at "],
    "bedrock": ["The job has successfully completed"],
}


def ask(sim: Simulator, path: str = "", *, method: str = "GET", key: str = "", **query: Any) -> Any:
    """Ask as the vendor's documentation says."""
    name = sim.dialect.name
    if name.startswith("azure"):
        headers = {"api-key": key or sim.api_key}
    else:
        headers = {"Authorization": f"Bearer {key or sim.api_key}"}
    if name == "azure":
        query = {"api-version": "2024-10-21", **query}
    origin = "/".join(sim.base_url.split("/")[:3])
    return requests.request(method, f"{origin}{ROOTS[name]}{path}", headers=headers, params=query, timeout=20)


def seconds(at: Any) -> float:
    return at if isinstance(at, int) else datetime.fromisoformat(at).timestamp()


@vendors
def test_the_routes_are_the_vendors(vendor: str, served: Any, moment: Any) -> None:
    sim = served(["succeeded", "cancelled"], vendor=vendor)
    moment.now += 10
    job_id = sim.job_id
    assert ask(sim).json()["data"][0]["id"] in sim.job_ids
    assert ask(sim, f"/{job_id}").json() == sim.get_job(job_id)
    assert ask(sim, f"/{job_id}/events").json()["data"]
    assert ask(sim, f"/{job_id}/cancel", method="POST").json()["id"] == job_id
    assert ask(sim, f"/{job_id}/cancel").status_code == 405
    assert ask(sim, f"/{job_id}/checkpoints").json()["data"] == []
    wrong = sim.base_url + ("/fine_tuning/jobs" if vendor == "together" else "/fine-tunes")
    assert requests.get(wrong, timeout=20).status_code in (401, 404)


@vendors
def test_events_come_in_the_vendors_order_oldest_to_newest_or_the_other_way(
    vendor: str, served: Any, moment: Any
) -> None:
    sim = served(["succeeded"], vendor=vendor)
    moment.now += 1000
    page = ask(sim, f"/{sim.job_id}/events", limit=1000).json()["data"]
    times = [seconds(event["created_at"]) for event in page]
    newest_first = vendor in ("openai", "azure", "azure-v1", "bedrock")
    assert times == sorted(times, reverse=newest_first)
    assert times[0] != times[-1]


@vendors
def test_a_success_ends_with_the_vendors_words_and_its_state(vendor: str, served: Any, moment: Any) -> None:
    sim = served(["succeeded"], vendor=vendor)
    moment.now += 299
    before = sim.get_job(sim.job_id)["status"]
    moment.now += 1000
    ends = LAST[sim.vendor]
    messages = [event["message"] for event in sim.list_events(sim.job_id)][-len(ends) :]
    assert all(message.startswith(end) for message, end in zip(messages, ends, strict=True))
    assert sim.get_job(sim.job_id)["status"] == ("completed" if vendor == "together" else "succeeded")
    early = {"openai": "succeeded", "bedrock": "succeeded", "together": "uploading"}
    assert before == early.get(vendor, "running")


@pytest.mark.parametrize("vendor", ["azure", "azure-v1"])
def test_azure_sends_three_more_events_thirty_to_fifty_five_seconds_after_the_success(
    vendor: str, served: Any, moment: Any
) -> None:
    sim = served(["succeeded"], vendor=vendor)
    moment.now += 300
    events = sim.list_events(sim.job_id)
    assert events[-1]["message"] == "Job succeeded."
    later = sim.list_events(sim.job_id, future=True)[len(events) :]
    gaps = [event["created_at"] - events[-1]["created_at"] for event in later]
    assert gaps == [30, 54, 55]


@vendors
@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_an_end_that_is_no_success_is_told_in_the_vendors_state(
    vendor: str, outcome: str, served: Any, moment: Any
) -> None:
    sim = served([outcome], vendor=vendor)
    moment.now += 1000
    states = {"failed": {"together": "error"}, "cancelled": {"azure": "canceled"}}
    assert sim.get_job(sim.job_id)["status"] == states[outcome].get(vendor, outcome)


def test_together_has_no_ids_no_pages_and_times_in_words(served: Any, moment: Any) -> None:
    sim = served(["succeeded"], vendor="together")
    moment.now += 1000
    answer = ask(sim, f"/{sim.job_id}/events", limit=2, after="anything").json()
    assert list(answer) == ["data"]
    assert answer["data"] == sim.list_events(sim.job_id)
    assert len(answer["data"]) == 16
    assert not [event for event in answer["data"] if "id" in event]
    assert answer["data"][0]["created_at"] == "2027-01-15T08:00:00Z"
    assert answer["data"][-1]["type"] == "JOB_COMPLETE"
    assert "" in {event["level"] for event in answer["data"]}
    assert list(ask(sim).json()) == ["data"]


def test_together_goes_through_its_own_states_and_a_cancel_through_two(served: Any, moment: Any) -> None:
    sim = served(["succeeded", "succeeded"], vendor="together")
    seen = []
    for _ in range(310):
        seen.append(ask(sim, f"/{sim.job_ids[0]}").json()["status"])
        if moment.now == START + 100:
            assert ask(sim, f"/{sim.job_ids[1]}/cancel", method="POST").json()["status"] == "cancel_requested"
        moment.now += 1
    assert list(dict.fromkeys(seen)) == [
        "pending",
        "queued",
        "running",
        "compressing",
        "uploading",
        "completed",
    ]
    assert sim.get_job(sim.job_ids[1])["status"] == "cancelled"
    assert [event["type"] for event in sim.list_events(sim.job_ids[1])][-2:] == [
        "CANCEL_REQUESTED",
        "JOB_STOPPED",
    ]


def test_nebius_pages_to_newer_events_and_does_not_say_whether_there_are_more(
    served: Any, moment: Any
) -> None:
    sim = served(["succeeded"], vendor="nebius")
    moment.now += 1000
    events = sim.list_events(sim.job_id)
    first = ask(sim, f"/{sim.job_id}/events", limit=2).json()
    assert first == {"object": "list", "data": events[:2]}
    rest = ask(sim, f"/{sim.job_id}/events", after=events[1]["id"]).json()
    assert rest["data"] == events[2:]
    assert ask(sim, f"/{sim.job_id}/events", after=events[-1]["id"]).json()["data"] == []


def test_azures_classic_path_needs_an_api_version_and_the_v1_path_none(served: Any) -> None:
    headers = {"api-key": "sk-simulator"}
    classic, v1 = served(vendor="azure"), served(vendor="azure-v1")
    refused = requests.get(f"{classic.base_url}/fine_tuning/jobs", headers=headers, timeout=20)
    assert refused.status_code == 404
    assert refused.json() == {"error": {"code": "404", "message": "Resource not found"}}
    assert requests.get(f"{v1.base_url}/fine_tuning/jobs", headers=headers, timeout=20).status_code == 200


@pytest.mark.parametrize(
    ("vendor", "headers", "gets_in"),
    [
        ("openai", {"Authorization": "Bearer sk-simulator"}, True),
        ("openai", {"api-key": "sk-simulator"}, False),
        ("nebius", {"Authorization": "Bearer sk-simulator"}, True),
        ("bedrock", {"Authorization": "Bearer a-token"}, True),
        ("bedrock", {"Authorization": "Bearer an-old-token"}, False),
        ("together", {"Authorization": "Bearer sk-simulator"}, True),
        ("together", {"Authorization": "Bearer a-token"}, False),
        ("azure", {"api-key": "sk-simulator"}, True),
        ("azure", {"Authorization": "Bearer sk-simulator"}, False),
        ("azure", {"Authorization": "Bearer a-token"}, True),
        ("azure", {"Authorization": "Bearer an-old-token"}, False),
        ("azure", {"Authorization": "Bearer "}, False),
        ("azure-v1", {"api-key": "sk-simulator"}, True),
        ("azure-v1", {"Authorization": "Bearer sk-simulator"}, True),
        ("azure-v1", {"Authorization": "Bearer a-token"}, True),
        ("azure-v1", {"Authorization": "Bearer an-old-token"}, False),
    ],
)
def test_a_key_is_taken_where_the_vendor_takes_it(
    vendor: str, headers: dict[str, str], gets_in: bool, served: Any
) -> None:
    sim = served(vendor=vendor)
    sim.bearer_tokens |= {"a-token": START + 1, "an-old-token": START}
    url = f"{sim.base_url}/{'fine-tunes' if vendor == 'together' else 'fine_tuning/jobs'}"
    params = {"api-version": "2024-10-21"}
    assert requests.get(url, headers=headers, params=params, timeout=20).status_code == (
        200 if gets_in else 401
    )


@vendors
def test_errors_have_the_vendors_body_and_the_request_id_its_header(vendor: str, served: Any) -> None:
    sim = served(vendor=vendor)
    answers = [ask(sim, "/job-none"), ask(sim, key="sk-wrong-0123456789abcdef")]
    sim.fail_next(status=500)
    answers.append(ask(sim))
    for answer, status in zip(answers, (404, 401, 500), strict=True):
        assert answer.status_code == status
        body = answer.json()
        if sim.vendor == "azure":
            assert body["error"].keys() == {"code", "message"}
            assert body["error"]["code"] == str(status)
        elif vendor == "nebius":
            assert isinstance(body["detail"], str)
        else:
            assert body["error"].keys() == {"message", "type", "param", "code"}
        own = "apim-request-id" if sim.vendor == "azure" else "x-request-id"
        assert {"apim-request-id", "x-request-id"} & set(answer.headers) == {own}
        assert answer.headers[own].startswith("req_")


@vendors
def test_a_job_that_has_already_ended_lies_in_the_past(vendor: str, served: Any) -> None:
    sim = served(["succeeded"], vendor=vendor, ended=True)
    job_id = sim.add_job(ended=True)
    times = [seconds(event["created_at"]) for event in sim.list_events(job_id)]
    assert max(times) < START
    assert sim.list_events(job_id) == sim.list_events(job_id, future=True)


def test_a_log_that_names_its_vendor_is_served_as_that_vendor_does(served: Any) -> None:
    log = {"vendor": "together", "events": [{"message": "Job finished at noon"}], "outcome": "succeeded"}
    assert served(log=log).dialect.name == "together"
    assert served(log=log, vendor="nebius").dialect.name == "nebius"
    assert served(log={**log, "vendor": "acme"}).dialect.name == "openai"
    with pytest.raises(ValueError, match="more than one vendor"):
        simulate([{"log": log}, {"log": {**log, "vendor": "azure"}}])
    with pytest.raises(RecordingError):
        simulate(log={"vendor": "azure"})


@vendors
def test_the_command_tells_a_connection_that_names_the_vendor(
    vendor: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event.wait", stop)
    monkeypatch.setattr(Simulator, "start", lambda self: self)
    monkeypatch.setattr(Simulator, "base_url", "http://127.0.0.1:8089/root")
    assert main(["--vendor", vendor]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("export"))
    told = json.loads(line.partition("=")[2].strip("'"))
    assert told.get("extra", {}) == (
        {}
        if vendor == "openai"
        else {"vendor": "azure", "api_version": "2024-10-21"}
        if vendor == "azure"
        else {"vendor": vendor.removesuffix("-v1")}
    )
