"""soft_fail, silent_fail and never_fail: the same end of the task in poke and in deferrable mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_ft_events.exceptions import FineTuningAuthError, FineTuningError, FineTuningJobFailed
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import Answer

WEB_PAGE = Answer(status=200, body="<html>It works!</html>", headers={"Content-Type": "text/html"})

HAPPENINGS: dict[str, Callable[[Any, Any], Any]] = {
    "succeeded at once": lambda sim, clock: sim.set_status(sim.job_id, "succeeded"),
    "succeeded later": lambda sim, clock: clock.at(500, lambda: sim.set_status(sim.job_id, "succeeded")),
    "failed at once": lambda sim, clock: sim.set_status(sim.job_id, "failed"),
    "failed later": lambda sim, clock: clock.at(500, lambda: sim.set_status(sim.job_id, "failed")),
    "cancelled at once": lambda sim, clock: sim.set_status(sim.job_id, "cancelled"),
    "cancelled later": lambda sim, clock: clock.at(500, lambda: sim.cancel(sim.job_id)),
    "timeout": lambda sim, clock: None,
    "fault at once": lambda sim, clock: sim.stop(),
    "fault later": lambda sim, clock: clock.at(500, sim.stop),
    "401 at once": lambda sim, clock: setattr(sim, "api_key", "sk-another"),
    "401 later": lambda sim, clock: clock.at(500, lambda: setattr(sim, "api_key", "sk-another")),
    "unknown job": lambda sim, clock: sim.delete_job(sim.job_id),
    "unreadable at once": lambda sim, clock: setattr(sim, "fault", lambda request: WEB_PAGE),
}
FLAGS: dict[str, dict[str, bool]] = {
    "no flag": {},
    "soft_fail": {"soft_fail": True},
    "silent_fail": {"silent_fail": True},
    "never_fail": {"never_fail": True},
    "soft and silent": {"soft_fail": True, "silent_fail": True},
}
SKIP, TIMEOUT = "AirflowSkipException", "AirflowSensorTimeout"
SUCCESS = "returned succeeded"
FAILED, CANCELLED = "FineTuningJobFailed", "FineTuningJobCancelled"
FAULT, AUTH = "FineTuningApiError", "FineTuningAuthError"
UNKNOWN, UNREADABLE = "FineTuningJobNotFound", "FineTuningAnswerError"

ENDS = {
    #                      no flag     soft_fail   silent_fail never_fail soft and silent
    "succeeded at once": (SUCCESS, SUCCESS, SUCCESS, SUCCESS, SUCCESS),
    "succeeded later": (SUCCESS, SUCCESS, SUCCESS, SUCCESS, SUCCESS),
    "failed at once": (FAILED, SKIP, FAILED, SKIP, SKIP),
    "failed later": (FAILED, SKIP, FAILED, SKIP, SKIP),
    "cancelled at once": (CANCELLED, SKIP, CANCELLED, SKIP, SKIP),
    "cancelled later": (CANCELLED, SKIP, CANCELLED, SKIP, SKIP),
    "timeout": (TIMEOUT, SKIP, TIMEOUT, SKIP, SKIP),
    "fault at once": (FAULT, FAULT, TIMEOUT, SKIP, SKIP),
    "fault later": (FAULT, FAULT, TIMEOUT, SKIP, SKIP),
    "401 at once": (AUTH, AUTH, TIMEOUT, SKIP, SKIP),
    "401 later": (AUTH, AUTH, TIMEOUT, SKIP, SKIP),
    "unknown job": (UNKNOWN, UNKNOWN, TIMEOUT, SKIP, SKIP),
    "unreadable at once": (UNREADABLE, UNREADABLE, TIMEOUT, SKIP, SKIP),
}
CASES = [
    pytest.param(what, flag, end, id=f"{what}-{flag}")
    for what, row in ENDS.items()
    for flag, end in zip(FLAGS, row, strict=True)
]
RUNNING = {"events": [{"message": "Created", "offset": 0}], "status_timeline": [(0, "running")]}


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(("what", "flag", "end"), CASES)
def test_the_task_ends_as_the_table_says(
    what: str,
    flag: str,
    end: str,
    mode: str,
    simulated: Any,
    connect: Any,
    follow: Any,
    clock: Any,
    end_of: Any,
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    job_id = sim.job_id
    HAPPENINGS[what](sim, clock)
    assert end_of(follow, mode, job_id, timeout=7200, poke_interval=240, **FLAGS[flag]) == end


@pytest.mark.parametrize(
    ("what", "end"),
    [
        ("failed at once", FAILED),
        ("cancelled later", CANCELLED),
        ("timeout", TIMEOUT),
        ("fault at once", TIMEOUT),
        ("fault later", TIMEOUT),
        ("401 later", AUTH),
        ("unknown job", UNKNOWN),
    ],
)
def test_reschedule_mode_ends_the_same_except_that_only_the_timeout_ends_a_fault(
    what: str, end: str, simulated: Any, connect: Any, follow: Any, clock: Any, end_of: Any
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    job_id = sim.job_id
    HAPPENINGS[what](sim, clock)
    assert end_of(follow, "reschedule", job_id, timeout=7200, poke_interval=600) == end


@pytest.mark.every_family
@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_raise_on_failure_false_returns_the_outcome_instead(
    outcome: str, simulated: Any, connect: Any, follow: Any, mode: str
) -> None:
    sim = simulated(outcome=outcome)
    connect(sim)
    result = follow(mode, sim.job_id, raise_on_failure=False)
    assert result["outcome"] == outcome
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("what", ["timeout", "fault later", "401 later"])
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_raise_on_failure_false_covers_no_fault(
    what: str, mode: str, simulated: Any, connect: Any, follow: Any, clock: Any, end_of: Any
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    HAPPENINGS[what](sim, clock)
    end = end_of(follow, mode, sim.job_id, timeout=7200, poke_interval=240, raise_on_failure=False)
    assert end == ENDS[what][0]


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_silent_wait_goes_on_once_the_connection_has_the_new_key(
    mode: str, simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    clock.at(300, lambda: setattr(sim, "api_key", "sk-rotated"))
    clock.at(2400, lambda: connect(sim))
    clock.at(3600, lambda: sim.set_status(sim.job_id, "succeeded"))
    assert follow(mode, sim.job_id, silent_fail=True, timeout=86_400)["outcome"] == "succeeded"


@pytest.mark.every_family
@pytest.mark.parametrize("rotations", [1, 5])
def test_a_wait_goes_on_when_its_key_is_rotated(
    rotations: int, simulated: Any, connect: Any, follow: Any, clock: Any, mode: str
) -> None:
    sim = simulated([RUNNING])
    connect(sim)

    def rotate(number: int) -> None:
        sim.api_key = f"sk-rotated-{number}"
        connect(sim)

    for number in range(rotations):
        clock.at(300 + 400 * number, lambda number=number: rotate(number))
    clock.at(3000, lambda: sim.set_status(sim.job_id, "succeeded"))
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"


@pytest.mark.every_family
def test_the_same_key_after_a_401_ends_the_wait_at_once(
    simulated: Any, connect: Any, follow: Any, clock: Any, mode: str
) -> None:
    sim = simulated()
    connect(sim)
    clock.at(100, lambda: setattr(sim, "api_key", "sk-another"))
    with pytest.raises(FineTuningAuthError, match="fine_tuning_default"):
        follow(mode, sim.job_id)
    assert clock.passed < 200


@pytest.mark.parametrize("reason", ["Trigger failure", "Trigger timeout"])
@pytest.mark.parametrize("flag", FLAGS)
def test_a_trigger_that_dies_is_not_a_failed_job(reason: str, flag: str, follow: Any) -> None:
    sensor = FineTuningEventsSensor(task_id="wait", job_id="ftjob-1", deferrable=True, **FLAGS[flag])
    with pytest.raises(Exception, match="ftjob-1") as ended:
        sensor.resume_execution("__fail__", {"error": reason, "traceback": None}, follow.context)
    timed_out = reason == "Trigger timeout"
    if sensor.never_fail or (sensor.soft_fail and timed_out):
        assert type(ended.value) is AirflowSkipException
    else:
        assert type(ended.value).__name__ == (TIMEOUT if timed_out else "FineTuningError")


OF_ANOTHER_JOB = {"job_id": "ftjob-2", "vendor": "openai", "outcome": "succeeded", "decided_by": "status"}


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "done",
        {"status": "success"},
        {"kind": "outcome"},
        {"kind": "outcome", "outcome": None},
        {"kind": "outcome", "outcome": "succeeded"},
        {"kind": "outcome", "outcome": []},
        {"kind": "outcome", "outcome": {"job_id": "ftjob-1", "outcome": "splendid"}},
        {"kind": "outcome", "outcome": OF_ANOTHER_JOB},
        {"kind": "error"},
        {"kind": "error", "error": "x"},
        {"kind": "error", "error": {}},
        {"kind": "error", "error": {"kind": "Unheard", "message": "x", "extra": 1}},
    ],
    ids=lambda event: json.dumps(event)[:60],
)
def test_an_event_that_is_not_understood_is_never_a_success(event: Any, follow: Any) -> None:
    sensor = FineTuningEventsSensor(task_id="wait", job_id="ftjob-1", deferrable=True, soft_fail=True)
    with pytest.raises(FineTuningError):
        sensor.resume_execution("execute_complete", {"event": event}, follow.context)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    ("flag", "end"),
    [
        ("no flag", "ZeroDivisionError"),
        ("soft_fail", "ZeroDivisionError"),
        ("never_fail", SKIP),
        ("silent_fail", SUCCESS),
    ],
)
def test_whatever_the_first_look_raises_ends_the_task_alike(
    flag: str,
    end: str,
    mode: str,
    simulated: Any,
    connect: Any,
    follow: Any,
    clock: Any,
    end_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow_ft_events.hooks.fine_tuning import FineTuningHook

    sim = simulated([RUNNING])
    connect(sim)
    clock.at(500, lambda: sim.set_status(sim.job_id, "succeeded"))
    poll, polls = FineTuningHook.poll, []

    def breaks_once(*args: Any, **kwargs: Any) -> Any:
        polls.append(1)
        return 1 / 0 if len(polls) == 1 else poll(*args, **kwargs)

    monkeypatch.setattr(FineTuningHook, "poll", breaks_once)
    assert end_of(follow, mode, sim.job_id, timeout=7200, poke_interval=240, **FLAGS[flag]) == end


@pytest.mark.parametrize("what", ["failed at once", "failed later", "401 later", "timeout"])
def test_never_fail_logs_what_it_skips_for(
    what: str, mode: str, simulated: Any, connect: Any, follow: Any, clock: Any, end_of: Any, logs: Any
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    HAPPENINGS[what](sim, clock)
    assert end_of(follow, mode, sim.job_id, timeout=7200, poke_interval=240, never_fail=True) == SKIP
    assert logs.text.count("(never_fail: skipping)") == 1


@pytest.mark.parametrize("silent_fail", [False, True])
@pytest.mark.parametrize("timeout", [3600, 5])
def test_a_deferrable_wait_has_its_time_from_the_start_of_the_first_look(
    timeout: float, silent_fail: bool, simulated: Any, connect: Any, clock: Any, follow: Any
) -> None:
    from airflow.providers.common.compat.sdk import TaskDeferred

    sim = simulated([RUNNING])
    connect(sim)
    sim.fault = lambda request: Answer(status=403, body="{}", headers={})
    if not silent_fail:
        clock.at(4 if timeout == 5 else 29, lambda: setattr(sim, "fault", None))
    sensor = FineTuningEventsSensor(
        task_id="wait", job_id=sim.job_id, deferrable=True, timeout=timeout, silent_fail=silent_fail
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(follow.context)
    assert deferred.value.trigger.end_time == clock.start + timeout
    assert clock.passed <= min(timeout, 40)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_timeout_tells_a_job_that_goes_on_from_one_that_was_never_seen(
    mode: str, simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    with pytest.raises(AirflowSensorTimeout, match=r"'running'\. The job itself goes on: nothing was done"):
        follow(mode, sim.job_id, timeout=600, poke_interval=60)
    sim.stop()
    with pytest.raises(AirflowSensorTimeout, match=r"never seen.*whether it goes on is not known") as ended:
        follow(mode, sim.job_id, timeout=600, poke_interval=60, silent_fail=True)
    assert "goes on:" not in str(ended.value)


def test_only_the_end_of_a_job_forbids_airflow_to_retry() -> None:
    assert issubclass(FineTuningJobFailed, AirflowFailException)
    assert not issubclass(FineTuningAuthError, AirflowFailException)
