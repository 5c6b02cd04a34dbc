"""One shape out: ids where a server gives none, times, levels, unknown words, and jobs that come back."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningAuthError, FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator

togethers = pytest.mark.parametrize("vendor", ["together"])
PLACE = {"id", "created_at"}


@pytest.fixture
def serve(simulated: Any, connect: Any) -> Any:
    """Start a vendor's server and connect to it."""

    def start(**options: Any) -> Any:
        sim = simulated([], **options)
        connect(sim)
        return sim

    return start


@pytest.mark.every_family
def test_the_operator_returns_the_verbatim_log_and_a_summary_of_one_shape(serve: Any, task: Any) -> None:
    sim = serve()
    job_id = sim.add_job(ended=True)
    found = FineTuningEventsOperator(task_id="collect", job_id=job_id).execute({"ti": task})
    assert found == sim.list_events(job_id)
    summary = task.pushed["summary"]
    assert summary["vendor"] == sim.vendor
    assert summary["job_ended"] is True
    for place in ("first_event", "last_event", "last_read_event"):
        assert summary[place].keys() == PLACE
        assert summary[place]["id"]
        assert summary[place]["created_at"].endswith("+00:00")


@pytest.mark.every_family
def test_a_second_reading_brings_exactly_what_is_new_since_the_first(
    serve: Any, task: Any, clock: Any
) -> None:
    sim = serve()
    job_id = sim.add_job(events=[{"message": f"Line {n}", "offset": n // 3} for n in range(250)])
    clock.sleep(50)
    first = FineTuningEventsOperator(task_id="collect", job_id=job_id).execute({"ti": task})
    known = task.pushed["summary"]["last_read_event"]["id"]
    clock.sleep(50)
    second = FineTuningEventsOperator(task_id="collect", job_id=job_id, newer_than=known)
    new = second.execute({"ti": task})
    assert first
    assert new
    assert first + new == sim.list_events(job_id)
    assert task.pushed["summary"]["newer_than_found"] is True


@togethers
def test_equal_events_of_a_server_without_ids_are_all_kept_and_told_apart(
    serve: Any, call: Any, clock: Any
) -> None:
    sim = serve()
    job_id = sim.add_job(events=[{"message": "Uploading", "offset": n // 4} for n in range(12)])
    clock.sleep(1)
    hook = FineTuningHook()
    before = [event.id for event in hook.read_events(job_id).collected_events()]
    clock.sleep(5)
    events = hook.read_events(job_id).collected_events()
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids)) == 12
    assert ids[: len(before)] == before
    assert all("id" not in event.raw for event in events)
    after = call(hook, "list_events", job_id, newer_than=ids[6])
    assert after == sim.list_events(job_id)[7:]


@togethers
def test_an_id_that_a_log_does_not_have_brings_the_whole_log_on_together(serve: Any, call: Any) -> None:
    sim = serve()
    job_id = sim.add_job(ended=True)
    assert call(FineTuningHook(), "list_events", job_id, newer_than="none-0") == sim.list_events(job_id)


@togethers
def test_times_and_levels_of_together_read_as_those_of_the_others(serve: Any, clock: Any) -> None:
    sim = serve()
    levels = ("", "info", "warning", "legacy_iwarning", "error", "legacy_ierror", "WARN")
    job_id = sim.add_job(events=[{"message": "A", "level": level, "offset": 7} for level in levels])
    clock.sleep(10)
    events = FineTuningHook().read_events(job_id).collected_events()
    assert [event.level for event in events] == ["", "info", "warn", "warn", "error", "error", "warn"]
    assert {event.created_at for event in events} == {clock.start + 7}


@togethers
@pytest.mark.parametrize("kind", ["JOB_RESTARTED", "job_restarted"])
def test_a_restart_brings_a_together_job_back(
    kind: str, serve: Any, follow: Any, mode: str, clock: Any
) -> None:
    sim = serve(job_route=False)
    events = [
        {"type": "JOB_START", "message": "Job started", "offset": 0},
        {"type": "JOB_ERROR", "message": "A node was lost", "level": "error", "offset": 300},
        {"type": kind, "message": "Job restarted", "offset": 360},
        {"type": "JOB_COMPLETE", "message": "Job finished", "offset": 2000},
    ]
    job_id = sim.add_job(events=events)
    result = follow(mode, job_id, poke_interval=30)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "event")
    assert clock.passed >= 2000


@pytest.mark.every_family
def test_an_unknown_status_does_not_end_the_wait(
    serve: Any, follow: Any, mode: str, clock: Any, logs: Any
) -> None:
    sim = serve()
    states = [(0, "running"), (100, "reticulating"), (700, "succeeded")]
    job_id = sim.add_job(events=[{"message": "Working"}], status_timeline=states)
    assert follow(mode, job_id)["outcome"] == "succeeded"
    assert clock.passed >= 700
    assert "reticulating" in logs.text


@pytest.mark.every_family
def test_a_wrong_key_reads_alike_from_each_vendor(serve: Any, both: Any, connect: Any) -> None:
    sim = serve()
    connect(sim, key="sk-wrong-0123456789abcdefghij")
    for error in both(FineTuningHook(), "list_jobs"):
        assert isinstance(error, FineTuningAuthError)
        assert error.status == 401
        assert "refused with 401" in str(error)
        assert "'fine_tuning_default'" in str(error)
        assert "sk-wrong-0" not in str(error)
        assert "{" not in str(error)


@pytest.mark.every_family
def test_an_unknown_job_reads_alike_from_each_vendor(serve: Any, both: Any) -> None:
    serve()
    for error in both(FineTuningHook(), "get_job", "job-none"):
        assert isinstance(error, FineTuningJobNotFound)
        assert "job job-none" in str(error)
        assert "Could not find fine tune" in str(error)
        assert "{" not in str(error)


@pytest.mark.every_family
@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_refusal_names_its_request_wherever_the_vendor_keeps_the_id(
    status: int, serve: Any, both: Any, clock: Any
) -> None:
    sim = serve()
    sim.fail_next(100, status=status)
    for error in both(FineTuningHook(), "list_jobs"):
        assert isinstance(error, FineTuningApiError)
        assert error.status == status
        assert error.request_id is not None
        assert error.request_id.startswith("req_")
        assert error.request_id in str(error)


@pytest.mark.every_family
def test_cancelling_through_the_hook_ends_the_wait(serve: Any, follow: Any, mode: str, clock: Any) -> None:
    sim = serve()
    job_id = sim.add_job(duration=9000)
    clock.at(600, lambda: FineTuningHook().cancel_job(job_id))
    assert follow(mode, job_id, raise_on_failure=False)["outcome"] == "cancelled"
    assert clock.passed <= 600 + 150
