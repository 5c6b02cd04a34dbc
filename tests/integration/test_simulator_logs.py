"""Every recorded log replays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_ft_events.simulator import Simulator, simulate

START = 1_800_000_000.0
DAY = 86_400
ENDED = ("succeeded", "failed", "cancelled")


def read_all(sim: Simulator) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    params: dict[str, str] = {"limit": "100"}
    while True:
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        url = f"{sim.base_url}/fine_tuning/jobs/{sim.job_id}/events"
        page = requests.get(url, headers=headers, params=params, timeout=20).json()
        events += page["data"]
        if not page["has_more"]:
            return events
        params["after"] = events[-1]["id"]


def log_paths() -> list[Any]:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "event_logs"
    # Where the folder is absent, one test stays to skip and say so.
    return [pytest.param(path, id=path.stem) for path in sorted(folder.glob("*.json"))] or [Path("absent")]


every_log = pytest.mark.parametrize("path", log_paths())
pytestmark = pytest.mark.usefixtures("shared_dir")


def replayed(log: Any) -> tuple[list[dict[str, Any]], str]:
    """Replay a log for a day; return its events, oldest first, and the job's status."""
    moment = [START]
    with simulate(log=log, vendor="openai", clock=lambda: moment[0]) as sim:
        moment[0] += DAY
        status: str = sim.get_job(sim.job_id)["status"]
        return read_all(sim)[::-1], status if status in ENDED else "running"


@every_log
def test_a_recorded_log_replays_verbatim_to_its_outcome(path: Path) -> None:
    recorded = json.loads(path.read_text())
    oldest_first = recorded["events"] if recorded["order"] == "oldest_first" else recorded["events"][::-1]
    served, status = replayed(path)
    assert status == recorded["outcome"]
    assert [event["message"] for event in served] == [event["message"] for event in oldest_first]
    assert len({event["id"] for event in served}) == len(served)
    assert served[0]["created_at"] == START
    for event, original in zip(served, oldest_first, strict=True):
        for key in original.keys() - {"created_at", "time"}:
            assert event[key] == original[key]
        if "created_at" in original:
            shift = original["created_at"] - oldest_first[0]["created_at"]
            assert event["created_at"] == START + shift


@every_log
def test_a_recorded_log_tells_its_outcome_by_its_last_message_where_it_has_one(path: Path) -> None:
    recorded = json.loads(path.read_text())
    # This job failed without a word about it in its log.
    silent = path.name == "azure_legacy_failed_2023-06.json"
    _, status = replayed({"events": recorded["events"], "order": recorded["order"]})
    assert status == ("running" if silent else recorded["outcome"])


@every_log
def test_a_recorded_log_can_be_over_already(path: Path) -> None:
    with simulate(log=path, vendor="openai", ended=True, clock=lambda: START) as sim:
        served = read_all(sim)
    assert len(served) == len(json.loads(path.read_text())["events"])
    assert served[0]["created_at"] < START


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_a_recorded_log_is_served_in_the_order_asked_for(shared_dir: Path, order: str) -> None:
    path = shared_dir / "event_logs" / "openai_succeeded_2024-07_gpt35.json"
    asked: Any = order.removesuffix("_first")
    with simulate(log=path, ended=True, order=asked, clock=lambda: START) as sim:
        served = [event["id"] for event in read_all(sim)]
    recorded = [event["id"] for event in json.loads(path.read_text())["events"]]
    assert served == (recorded if order == "newest_first" else recorded[::-1])


def test_speed_makes_a_long_log_short(shared_dir: Path) -> None:
    moment = [START]
    path = shared_dir / "event_logs" / "azure_succeeded_2026-01_dpo_textual.json"
    with simulate(log=path, speed=600, clock=lambda: moment[0]) as sim:
        moment[0] += 10
        assert sim.get_job(sim.job_id)["status"] == "succeeded"
