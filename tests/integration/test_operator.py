"""FineTuningEventsOperator: every event once, oldest first, verbatim, and not before the log has settled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningError, FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator

STEPS = 100
AFTERMATH = 60
"""Seconds after the end in which some vendors send more."""


def long_log(end: Mapping[str, str]) -> list[dict[str, Any]]:
    """A log of messages and metrics of an hour ago, with the event that announces the end."""
    steps = [
        {"type": "metrics", "message": f"Step {step}", "data": {"step": step, "train_loss": 1 / step}}
        for step in range(1, STEPS + 1)
    ]
    said = [{"type": "message", "message": f"Message {number}"} for number in range(6)]
    log = [*said[:4], *steps[:50], *said[4:], *steps[50:], {"type": "message", **end}]
    return [{"level": "info", **event, "offset": at // 3 - 3600} for at, event in enumerate(log)]


@pytest.fixture
def trained(family: Any, simulated: Any, connect: Any) -> Any:
    """Serve a job with such a log, in either order."""

    def start(order: str | None = None, **extra: Any) -> Any:
        sim = simulated([], order=order)
        states = [(-3600, "running"), (-3500, "succeeded")]
        sim.add_job(events=long_log(family.success), status_timeline=states)
        connect(sim, **extra)
        return sim

    return start


def ids_of(job_id: str) -> list[str]:
    """The ids of a job's events, oldest first, the server's or made ones."""
    return [event.id for event in FineTuningHook().read_events(job_id).collected_events()]


def one_event(status: str) -> dict[str, Any]:
    """A job with one event that says nothing of its end."""
    return {"events": [{"message": "Some", "offset": 0}], "status_timeline": [(0, status)]}


@pytest.fixture
def collect(task: Any, clock: Any) -> Any:
    """Run the operator; what it pushed beside its return value is in ``task.pushed``."""

    def run(job_id: str, **options: Any) -> Any:
        operator = FineTuningEventsOperator(task_id="collect", job_id=job_id, **options)
        return operator.execute({"ti": task})

    return run


@pytest.mark.every_family
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_the_events_come_verbatim_oldest_first_and_once(
    order: str, family: Any, trained: Any, collect: Any, task: Any
) -> None:
    sim = trained(order, page_size=7)
    events = sim.list_events(sim.job_id)
    found = collect(sim.job_id)
    assert found == events
    assert json.loads(json.dumps(found)) == found
    summary = task.pushed["summary"]
    assert json.loads(json.dumps(summary)) == summary
    assert summary["job_id"] == sim.job_id
    assert (summary["job_ended"], summary["status"]) == (True, family.word("succeeded"))
    assert summary["by_type"] == Counter(event["type"] for event in events)
    assert summary["by_level"] == Counter(event["level"] for event in events)
    ids = ids_of(sim.job_id)
    assert (summary["first_event"]["id"], summary["last_event"]["id"]) == (ids[0], ids[-1])
    assert summary["metrics"]["step"] == STEPS
    assert summary["newer_than_found"] is None


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"types": ["message"]}, lambda events: [e for e in events if e["type"] == "message"]),
        ({"types": ["metrics"]}, lambda events: [e for e in events if e["type"] == "metrics"]),
        ({"levels": ["error", "warn"]}, lambda events: []),
        ({"levels": ["info"], "max_events": 3}, lambda events: events[-3:]),
        ({"max_events": 5}, lambda events: events[-5:]),
        (
            {"types": ["message"], "max_events": 2},
            lambda events: [e for e in events if e["type"] == "message"][-2:],
        ),
        ({"newer_than": "EVENT"}, lambda events: events[41:]),
        (
            {"newer_than": "EVENT", "types": ["message"]},
            lambda events: [e for e in events[41:] if e["type"] == "message"],
        ),
        ({"newer_than": "LAST"}, lambda events: []),
        ({"newer_than": "ftevent-gone"}, lambda events: events),
        ({"newer_than": "None"}, lambda events: events),
        ({"newer_than": ""}, lambda events: events),
        ({"newer_than": None}, lambda events: events),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_filters_keep_what_they_say(
    options: dict[str, Any], wanted: Any, order: str, trained: Any, collect: Any, task: Any
) -> None:
    sim = trained(order)
    events, ids = sim.list_events(sim.job_id), ids_of(sim.job_id)
    given = {"EVENT": ids[40], "LAST": ids[-1]}
    options = {
        name: given.get(value, value) if isinstance(value, str) else value for name, value in options.items()
    }
    assert collect(sim.job_id, **options) == wanted(events)
    known = options.get("newer_than") in (None, "", "None")
    expected = None if known else options["newer_than"] != "ftevent-gone"
    assert task.pushed["summary"]["newer_than_found"] is expected


def test_a_newer_than_that_is_gone_is_said_in_the_log(
    simulated: Any, connect: Any, collect: Any, logs: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    collect(sim.job_id, newer_than="ftevent-gone")
    assert "ftevent-gone" in logs.text


def test_more_than_max_bytes_is_an_error_that_names_the_size_and_the_ways_out(
    simulated: Any, connect: Any, collect: Any, task: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    events = sim.list_events(sim.job_id)
    size = len(json.dumps(events).encode())
    assert collect(sim.job_id, max_bytes=size) == events
    task.pushed.clear()
    with pytest.raises(FineTuningError) as refused:
        collect(sim.job_id, max_bytes=size - 1)
    for said in (f"{size:,}", f"{size - 1:,}", "max_events", "newer_than", "types", "levels", "max_bytes"):
        assert said in str(refused.value)
    assert sim.job_id in str(refused.value)
    assert task.pushed == {}


def test_a_filter_brings_a_log_under_max_bytes(trained: Any, collect: Any) -> None:
    sim = trained()
    with pytest.raises(FineTuningError, match="max_bytes"):
        collect(sim.job_id, max_bytes=3000)
    assert 6 <= len(collect(sim.job_id, max_bytes=3000, types=["message"])) <= 7


class TestSettling:
    """An ended job's last events may come a while after its end."""

    def test_a_running_job_is_read_without_waiting(
        self, simulated: Any, connect: Any, collect: Any, clock: Any, task: Any
    ) -> None:
        sim = simulated()
        connect(sim)
        clock.sleep(100)
        clock.naps.clear()
        assert collect(sim.job_id) == sim.list_events(sim.job_id)
        assert clock.naps == []
        assert task.pushed["summary"]["job_ended"] is False

    def test_a_job_that_ended_long_ago_is_not_waited_for(
        self, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated(ended=True)
        connect(sim)
        collect(sim.job_id)
        assert clock.naps == []

    @pytest.mark.every_family
    def test_a_job_with_the_vendors_last_message_is_not_waited_for(
        self, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated()
        connect(sim)
        whole = sim.list_events(sim.job_id, future=True)
        clock.sleep(301 + AFTERMATH)
        clock.naps.clear()
        assert collect(sim.job_id) == whole
        assert clock.naps == []

    @pytest.mark.every_family
    def test_a_job_that_has_just_ended_without_it_is_waited_for(
        self, family: Any, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated([])
        end = {**family.success, "offset": 100}
        job_id = sim.add_job(events=[end], status_timeline=[(0, "running"), (95, "succeeded")])
        connect(sim)
        clock.sleep(96)
        clock.naps.clear()
        found = collect(job_id)
        assert len(clock.naps) == 1
        assert 110 <= clock.naps[0] <= 120
        assert found == sim.list_events(job_id)
        assert found[-1]["message"] == family.success["message"]

    @pytest.mark.every_family
    @pytest.mark.parametrize("ago", [0, 5, 60, 119, 120, 500])
    def test_it_waits_for_the_rest_of_settle_by_the_servers_clock(
        self, ago: int, family: Any, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated([one_event("running")])
        connect(sim)
        sim.set_status(sim.job_id, "failed", result={"finished_at": int(clock.now()) - ago})
        collect(sim.job_id)
        # where the job does not tell when it ended, the first sight of its end counts
        assert sum(clock.naps) == (max(0, 120 - ago) if family.names_end else 120)

    def test_without_finished_at_it_waits_from_when_the_end_was_first_seen(
        self, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated([one_event("cancelled")])
        connect(sim)
        assert sim.get_job(sim.job_id).get("finished_at") is None
        collect(sim.job_id, settle=30)
        assert clock.naps == [30]

    def test_a_finished_at_in_the_future_does_not_make_it_wait_longer_than_settle(
        self, simulated: Any, connect: Any, collect: Any, clock: Any
    ) -> None:
        sim = simulated([one_event("running")])
        connect(sim)
        sim.set_status(sim.job_id, "failed", result={"finished_at": int(clock.now()) + 9000})
        collect(sim.job_id)
        assert clock.naps == [120]

    def test_settle_0_never_waits(self, simulated: Any, connect: Any, collect: Any, clock: Any) -> None:
        sim = simulated([one_event("failed")])
        connect(sim)
        assert len(collect(sim.job_id, settle=0)) == 1
        assert clock.naps == []

    @pytest.mark.parametrize(("left", "defers"), [(10, False), (11, True), (120, True)])
    def test_a_settle_of_more_than_ten_seconds_defers(
        self, left: int, defers: bool, simulated: Any, connect: Any, collect: Any, clock: Any, task: Any
    ) -> None:
        sim = simulated([one_event("running")])
        connect(sim)
        sim.set_status(sim.job_id, "failed", result={"finished_at": int(clock.now()) - 120 + left})
        if not defers:
            assert len(collect(sim.job_id, deferrable=True)) == 1
            assert clock.naps == [left]
            return
        with pytest.raises(TaskDeferred) as deferred:
            collect(sim.job_id, deferrable=True)
        assert clock.naps == []
        sim.add_event(sim.job_id, {"message": "A late one"})
        resumed = FineTuningEventsOperator(task_id="collect", job_id=sim.job_id, deferrable=True)
        found = resumed.resume_execution(deferred.value.method_name, {"event": None}, {"ti": task})
        assert found == sim.list_events(sim.job_id)
        assert task.pushed["summary"]["events"] == 2


def test_a_server_without_a_job_route_still_gives_its_events(
    simulated: Any, connect: Any, collect: Any, task: Any
) -> None:
    sim = simulated(ended=True, job_route=False)
    connect(sim)
    assert collect(sim.job_id) == sim.list_events(sim.job_id)
    assert (task.pushed["summary"]["job_ended"], task.pushed["summary"]["status"]) == (None, None)


def test_an_unknown_job_is_an_error_and_pushes_nothing(
    simulated: Any, connect: Any, collect: Any, task: Any
) -> None:
    connect(simulated())
    with pytest.raises(FineTuningJobNotFound, match="ftjob-none"):
        collect("ftjob-none")
    assert task.pushed == {}


def test_an_unreachable_server_is_an_error_after_the_retries(
    simulated: Any, connect: Any, collect: Any, task: Any
) -> None:
    sim = simulated()
    connect(sim, max_retries=2)
    sim.stop()
    with pytest.raises(FineTuningApiError, match="after 3 tries"):
        collect("ftjob-1")
    assert task.pushed == {}


def test_events_without_ids_are_all_kept(
    odd_server: Any, answer_bytes: Any, connect: Any, collect: Any, task: Any
) -> None:
    same = {"created_at": 5, "level": "info", "message": "Working"}
    events = [{"created_at": 9, "message": "End"}, same, dict(same), {"created_at": 4, "id": None}]

    def answer(asked: Any) -> bytes:
        if asked.target.partition("?")[0].endswith("/events"):
            return answer_bytes({"data": events})
        return answer_bytes({"id": "ftjob-1", "status": "running"})

    connect(odd_server(answer))
    assert collect("ftjob-1") == events[::-1]
    assert task.pushed["summary"]["last_event"]["id"]
