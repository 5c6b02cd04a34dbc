"""Every recorded log, replayed through the vendor that it names, by either route, in every mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_ft_events.hooks.fine_tuning import FineTuningHook

DAY = 86_400
SILENT = "azure_legacy_failed_2023-06"


def recordings(*outcomes: str) -> list[Any]:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "event_logs"
    # where the folder is absent, one test stays to skip and say so
    return [
        pytest.param(path, id=path.stem)
        for path in sorted(folder.glob("*.json"))
        if json.loads(path.read_text())["outcome"] in outcomes
    ] or [Path("absent")]


pytestmark = pytest.mark.usefixtures("shared_dir")
finished = pytest.mark.parametrize("path", recordings("succeeded", "failed", "cancelled"))
unfinished = pytest.mark.parametrize("path", recordings("running"))
routes = pytest.mark.parametrize("job_route", [True, False], ids=["job route", "events only"])


@pytest.fixture
def vendor(path: Path) -> str:
    """The family that the log names."""
    return str(json.loads(path.read_text())["vendor"])


@pytest.fixture
def replay(simulated: Any, connect: Any) -> Any:
    """Serve a log as the vendor that it names would, and connect to it."""

    def start(path: Path, **options: Any) -> Any:
        sim = simulated(log=path, job_id="job-recorded", vendor=None, **options)
        assert sim.vendor == json.loads(path.read_text())["vendor"]
        connect(sim)
        return sim

    return start


@finished
@routes
def test_a_finished_log_ends_in_its_outcome_on_its_vendor(
    path: Path, job_route: bool, replay: Any, follow: Any, mode: str
) -> None:
    recorded = json.loads(path.read_text())
    sim = replay(path, job_route=job_route)
    if path.stem == SILENT and not job_route:
        with pytest.raises(AirflowSensorTimeout, match=sim.job_id):
            follow(mode, sim.job_id, raise_on_failure=False, timeout=DAY, poke_interval=2400)
        return
    result = follow(mode, sim.job_id, raise_on_failure=False, timeout=DAY)
    assert result["outcome"] == recorded["outcome"]
    assert result["decided_by"] == ("status" if job_route else "event")
    assert result["vendor"] == recorded["vendor"]
    assert result["last_event"] in sim.list_events(sim.job_id)


@unfinished
@routes
def test_a_log_of_a_running_job_does_not_end_within_a_day_on_its_vendor(
    path: Path, job_route: bool, replay: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = replay(path, job_route=job_route)
    with pytest.raises(AirflowSensorTimeout, match=sim.job_id):
        follow(mode, sim.job_id, timeout=DAY, poke_interval=2400)
    assert clock.passed >= DAY


@pytest.mark.parametrize("path", recordings("succeeded", "failed", "cancelled", "running"))
def test_both_faces_list_a_log_as_its_vendor_served_it(path: Path, replay: Any, call: Any) -> None:
    sim = replay(path, ended=True)
    assert call(FineTuningHook(), "list_events", sim.job_id) == sim.list_events(sim.job_id)


@pytest.mark.parametrize("path", recordings("succeeded"))
def test_what_comes_after_a_success_is_read_and_takes_nothing_back(
    path: Path, replay: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = replay(path, job_route=False)
    result = follow(mode, sim.job_id, timeout=DAY)
    # two minutes after the final message nothing is still to come
    assert result["last_event"] == sim.list_events(sim.job_id, future=True)[-1]
