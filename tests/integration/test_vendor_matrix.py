"""Every vendor, every way for a job to end, every way to wait: one verdict and one shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_ft_events.simulator import Simulator

KEYS = [
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
]
LATER: Mapping[str, tuple[str, ...]] = {
    "azure": ("Model Evaluation Passed.", "Completed results file: file-1", "Training tokens billed: 4000"),
}
START = {"message": "Training started"}
INTERVAL = 60.0


@dataclass(frozen=True)
class Scenario:
    """One way for a job to end.

    :param outcome: how it ends.
    :param ends_at: seconds until its status says so.
    :param interval: seconds between two looks.
    """

    play: Callable[[Simulator, Any, Any], str]
    outcome: str
    ends_at: float
    interval: float = INTERVAL


def succeeded(sim: Simulator, family: Any, clock: Any) -> str:
    return sim.add_job(duration=900)


def failed(sim: Simulator, family: Any, clock: Any) -> str:
    return sim.add_job(outcome="failed", duration=900)


def failed_without_an_event(sim: Simulator, family: Any, clock: Any) -> str:
    return sim.add_job(events=[{**START, "offset": 0}], status_timeline=[(0, "running"), (900, "failed")])


def cancelled(sim: Simulator, family: Any, clock: Any) -> str:
    job_id = sim.add_job(duration=3600)
    clock.at(900, lambda: sim.cancel(job_id))
    return job_id


def paused_for_long(sim: Simulator, family: Any, clock: Any) -> str:
    events = [{**START, "offset": 0}, {**family.success, "offset": 22_000}]
    states = [(0, "running"), (60, "paused"), (21_660, "running"), (22_000, "succeeded")]
    return sim.add_job(events=events, status_timeline=states)


def event_ahead_of_status(sim: Simulator, family: Any, clock: Any) -> str:
    events = [{**START, "offset": 0}, {**family.success, "offset": 900}]
    return sim.add_job(events=events, status_timeline=[(0, "running"), (975, "succeeded")])


def status_ahead_of_event(sim: Simulator, family: Any, clock: Any) -> str:
    events = [{**START, "offset": 0}, {**family.success, "offset": 966}]
    return sim.add_job(events=events, status_timeline=[(0, "running"), (900, "succeeded")])


def events_after_success(sim: Simulator, family: Any, clock: Any) -> str:
    after = LATER.get(sim.vendor, ("Cleaning up.",))
    events = [{**START, "offset": 0}, {**family.success, "offset": 900}]
    events += [{"message": message, "offset": 930 + 5 * number} for number, message in enumerate(after)]
    return sim.add_job(events=events, status_timeline=[(0, "running"), (960, "succeeded")])


SCENARIOS = {
    "succeeded": Scenario(succeeded, "succeeded", 900),
    "failed": Scenario(failed, "failed", 900),
    "failed without an event": Scenario(failed_without_an_event, "failed", 900),
    "cancelled": Scenario(cancelled, "cancelled", 930),
    "paused for long": Scenario(paused_for_long, "succeeded", 22_000, interval=600),
    "event ahead of status": Scenario(event_ahead_of_status, "succeeded", 975),
    "status ahead of event": Scenario(status_ahead_of_event, "succeeded", 900),
    "events after success": Scenario(events_after_success, "succeeded", 960),
}
scenarios = pytest.mark.parametrize("name", SCENARIOS)
pytestmark = pytest.mark.every_family


@pytest.fixture
def play(family: Any, simulated: Any, connect: Any, follow: Any, clock: Any) -> Any:
    """Play a scenario; return its result and the simulator that served it."""

    def run(name: str, mode: str) -> Any:
        sim = simulated([])
        scenario = SCENARIOS[name]
        job_id = scenario.play(sim, family, clock)
        connect(sim)
        options = {"poke_interval": scenario.interval, "timeout": 7 * 86_400}
        return follow(mode, job_id, raise_on_failure=False, **options), sim

    return run


@scenarios
def test_each_ending_is_seen_soon_and_with_few_requests_on_each_vendor_in_each_mode(
    name: str, mode: str, family: Any, play: Any, clock: Any
) -> None:
    result, sim = play(name, mode)
    scenario = SCENARIOS[name]
    assert (result["outcome"], result["decided_by"]) == (scenario.outcome, "status")
    assert result["vendor"] == sim.vendor == family.vendor
    assert result["status"] == family.word(scenario.outcome)
    # an error among new events opens nothing, so the look after it may be the one that asks for the job
    assert clock.passed <= scenario.ends_at + 2.25 * scenario.interval
    # at most the events and the job a poll, ten soon after a final message, and the last read
    polls = math.ceil(clock.passed / (0.75 * scenario.interval)) + 2
    asked = sim.count()
    assert polls / 2 <= asked <= 2 * (polls + 10) + 1
    assert {request.status for request in sim.requests} == {200}


@scenarios
def test_the_result_has_one_shape_on_each_vendor_and_does_not_differ_by_mode(
    name: str, play: Any, clock: Any
) -> None:
    found = []
    for mode in ("poke", "reschedule", "deferrable"):
        clock.moment = clock.start
        result, sim = play(name, mode)
        assert list(result) == KEYS
        assert result["job_id"] == sim.job_id
        # which event is the last depends on when the end is seen: some come after it
        assert result.pop("last_event") in sim.list_events(sim.job_id)
        found.append(result)
    assert found[0] == found[1] == found[2]


def test_a_failure_names_its_reason_wherever_the_vendor_keeps_it(
    family: Any, mode: str, simulated: Any, connect: Any, follow: Any
) -> None:
    sim = simulated(outcome="failed")
    connect(sim)
    result = follow(mode, sim.job_id, raise_on_failure=False)
    job, last = sim.get_job(sim.job_id), sim.list_events(sim.job_id)[-1]
    assert family.names_end == bool(job.get("error"))
    told = job.get("error") or {"code": None, "message": last["message"], "param": None}
    assert result["error"] == {name: told[name] for name in ("code", "message", "param")}
    assert result["error"]["message"]


def test_a_success_names_the_model_and_the_tokens_wherever_the_vendor_keeps_them(
    vendor: str, mode: str, simulated: Any, connect: Any, follow: Any
) -> None:
    sim = simulated(jobs=[{"ended": True}])
    connect(sim)
    result = follow(mode, sim.job_id)
    job = sim.get_job(sim.job_id)
    own = "model_output_name" if vendor == "together" else "fine_tuned_model"
    assert result["fine_tuned_model"] == job[own]
    assert result["fine_tuned_model"]
    assert result["trained_tokens"] == 24_000
    assert result["error"] is None
    assert result["last_event"] == sim.list_events(sim.job_id)[-1]
