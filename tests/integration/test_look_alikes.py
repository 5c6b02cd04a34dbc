"""Servers that nobody knows: a connection names no vendor, and what the server answers has to do."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningJobFailed
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

# what a look-alike on OpenAI's paths may leave out or call otherwise
WORDS = {"signals": {r"Training run \w+ is done": "succeeded", "RUN_BROKE": "failed"}}


def steps(end: dict[str, Any], *, at: int = 600) -> list[dict[str, Any]]:
    """A log without types, data and levels that OpenAI knows."""
    told = [{"message": f"epoch {n}", "level": "warning" if n == 2 else "INFO"} for n in range(4)]
    return [{"id": f"e{n}", **event, "offset": at * n // 4} for n, event in enumerate([*told, end])]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_its_own_messages_decide_if_it_shows_no_job(
    order: str, simulated: Any, connect: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = simulated([], order=order, job_route=False)
    job_id = sim.add_job(events=steps({"message": "Training run 7f is done"}))
    connect(sim, **WORDS)
    result = follow(mode, job_id, poke_interval=30)
    assert (result["outcome"], result["decided_by"], result["vendor"]) == ("succeeded", "event", "openai")
    assert 720 <= clock.passed <= 800


@pytest.mark.parametrize("no_time", [None, 0, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_end_without_a_time_stands_two_minutes_after_it_was_seen_and_may_be_taken_back(
    mode: str, no_time: Any, simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    told = [(0, "epoch 1", {}), (600, "Training run 7f is done", {}), (660, "Step 2/2", {"step": 2})]
    told.append((1800, "Out of memory", {}))
    events = [
        {"id": f"e{at}", "message": message, "created_at": no_time, "appears": at, "data": data}
        for at, message, data in told
    ]
    events[-2]["type"], events[-1]["type"] = "metrics", "RUN_BROKE"
    sim = simulated([], job_route=False)
    job_id = sim.add_job(events=events, status_timeline=[(0, "running")])
    connect(sim, **WORDS)
    with pytest.raises(FineTuningJobFailed, match="Out of memory"):
        follow(mode, job_id, poke_interval=30)
    assert 1920 <= clock.passed <= 2000


def test_its_own_failure_type_fails_the_task(simulated: Any, connect: Any, follow: Any, mode: str) -> None:
    sim = simulated([], job_route=False)
    job_id = sim.add_job(events=steps({"message": "Out of memory", "type": "RUN_BROKE"}))
    connect(sim, **WORDS)
    with pytest.raises(FineTuningJobFailed, match="Out of memory"):
        follow(mode, job_id, poke_interval=30)


def test_without_signals_no_message_of_its_own_ends_a_wait(
    simulated: Any, connect: Any, follow: Any, mode: str, end_of: Any
) -> None:
    sim = simulated([], job_route=False)
    job_id = sim.add_job(events=steps({"message": "Training run 7f is done"}))
    connect(sim)
    assert end_of(follow, mode, job_id, poke_interval=60, timeout=3600) == "AirflowSensorTimeout"


def test_its_messages_only_cause_a_check_if_it_shows_the_job(
    simulated: Any, connect: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = simulated([])
    states = [(0, "running"), (900, "failed")]
    job_id = sim.add_job(events=steps({"message": "Training run 7f is done"}), status_timeline=states)
    connect(sim, **WORDS)
    result = follow(mode, job_id, poke_interval=30, raise_on_failure=False)
    assert (result["outcome"], result["decided_by"]) == ("failed", "status")
    assert clock.passed >= 900


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_its_order_is_detected_and_its_levels_are_normalised(
    order: str, simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated([], order=order)
    job_id = sim.add_job(events=steps({"message": "Training run 7f is done"}), fill=False)
    clock.sleep(700)
    connect(sim, page_size=2)
    hook = FineTuningHook()
    assert call(hook, "list_events", job_id) == sim.list_events(job_id)
    levels = [event.level for event in hook.read_events(job_id).collected_events()]
    assert levels == ["info", "info", "warn", "info", ""]
