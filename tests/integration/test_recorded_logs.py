"""Every recorded OpenAI log, replayed, ends as it did, in every mode and by either route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

DAY = 86_400
KEYS = {
    "job_id",
    "vendor",
    "outcome",
    "decided_by",
    "status",
    "fine_tuned_model",
    "error",
    "finished_at",
    "trained_tokens",
    "last_event",
    "metrics",
}
SILENT = "azure_legacy_failed_2023-06"


def recordings(*outcomes: str) -> list[Any]:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "event_logs"
    found = [
        pytest.param(path, id=path.stem)
        for path in sorted(folder.glob("openai_*.json"))
        if json.loads(path.read_text())["outcome"] in outcomes
    ]
    # where the folder is absent, one test stays to skip and say so
    return found or [Path("absent")]


# OpenAI's logs, as look-alikes of either order serve them; each by its own vendor is in test_vendor_logs
pytestmark = pytest.mark.usefixtures("shared_dir")
finished = pytest.mark.parametrize("path", recordings("succeeded", "failed", "cancelled"))
unfinished = pytest.mark.parametrize("path", recordings("running"))
routes = pytest.mark.parametrize("job_route", [True, False], ids=["job route", "events only"])
orders = pytest.mark.parametrize("order", ["newest", "oldest"])


@finished
@routes
@orders
def test_a_finished_log_ends_in_its_outcome_with_the_same_result_in_every_mode(
    path: Path, job_route: bool, order: Any, simulated: Any, connect: Any, follow: Any
) -> None:
    outcome = json.loads(path.read_text())["outcome"]
    found = {}
    for mode in ("poke", "reschedule", "deferrable"):
        sim = simulated([], order=order, job_route=job_route)
        job_id = sim.add_job(log=path, job_id="ftjob-recorded")
        connect(sim)
        found[mode] = follow(mode, job_id, raise_on_failure=False, timeout=DAY)
        found[mode]["last_event"].pop("created_at")  # replays begin when they are added
        found[mode].pop("finished_at")
    result = found["poke"]
    assert result["outcome"] == outcome
    assert result["decided_by"] == ("status" if job_route else "event")
    assert result.keys() | {"finished_at"} == KEYS
    assert found["reschedule"] == result
    assert found["deferrable"] == result


@finished
def test_a_finished_log_names_its_last_event_and_the_end_that_the_server_named(
    path: Path, simulated: Any, connect: Any, follow: Any, mode: str
) -> None:
    sim = simulated([])
    job_id = sim.add_job(log=path)
    connect(sim)
    result = follow(mode, job_id, raise_on_failure=False, timeout=DAY)
    assert result["last_event"] == sim.list_events(job_id)[-1]
    job = sim.get_job(job_id)
    assert result["status"] == job["status"]
    assert result["fine_tuned_model"] == job["fine_tuned_model"]
    assert result["trained_tokens"] == job["trained_tokens"]
    assert (result["finished_at"] is None) == (job["finished_at"] is None)


@unfinished
@routes
def test_a_log_of_a_running_job_does_not_end_within_a_day(
    path: Path, job_route: bool, simulated: Any, connect: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = simulated([], job_route=job_route)
    job_id = sim.add_job(log=path)
    connect(sim)
    with pytest.raises(AirflowSensorTimeout, match=job_id):
        follow(mode, job_id, timeout=DAY, poke_interval=2400)
    assert clock.passed >= DAY


@orders
def test_a_failure_without_an_event_cannot_be_seen_without_a_job_route(
    shared_dir: Path, order: Any, simulated: Any, connect: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = simulated([], job_route=False, order=order)
    job_id = sim.add_job(log=shared_dir / "event_logs" / f"{SILENT}.json")
    connect(sim)
    with pytest.raises(AirflowSensorTimeout, match=job_id):
        follow(mode, job_id, timeout=DAY, poke_interval=2400)
    assert clock.passed >= DAY


def test_a_failure_without_an_event_is_seen_by_its_status(
    shared_dir: Path, simulated: Any, connect: Any, follow: Any, mode: str
) -> None:
    sim = simulated([])
    job_id = sim.add_job(log=shared_dir / "event_logs" / f"{SILENT}.json")
    connect(sim)
    result = follow(mode, job_id, raise_on_failure=False, timeout=DAY)
    assert (result["outcome"], result["decided_by"]) == ("failed", "status")
