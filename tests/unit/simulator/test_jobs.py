"""A simulated job, without a server: what shows at which time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ft_events.simulator.dialects.openai import OpenAIRun
from airflow_ft_events.simulator.jobs import JobEndedError, SimulatedJob, seeded
from airflow_ft_events.simulator.scripts import scripted_job
from airflow_ft_events.simulator.training import training_job

START = 1_800_000_000


def invented(outcome: str, *, duration: float = 300, steps: int = 30, seed: str = "0") -> SimulatedJob:
    return training_job(
        job_id="ftjob-1",
        now=START,
        rng=seeded(seed),
        outcome=outcome,
        duration=duration,
        steps=steps,
        run=OpenAIRun,
    )


def messages(job: SimulatedJob) -> list[str]:
    return [event["message"] for event in job.events]


def scripted(events: list[Any], status_timeline: list[tuple[float, str]] | None = None) -> SimulatedJob:
    return scripted_job(
        job_id="ftjob-1", now=START, events=events, status_timeline=status_timeline or [], rng=seeded("0")
    )


def test_a_job_goes_from_validation_through_the_queue_and_training_to_success() -> None:
    job = invented("succeeded")
    assert [status for _, status in job.states] == ["validating_files", "queued", "running", "succeeded"]
    words = messages(job)
    assert words[0] == "Created fine-tuning job: ftjob-1"
    assert words[1].startswith("Validating training file: file-")
    assert words[2:4] == ["Files validated, moving job to queued state", "Fine-tuning job started"]
    assert words[4].startswith("Step 1/30: training loss=")
    assert words[-4].startswith("Checkpoint created at step 10 with Snapshot ID: ft:")
    assert words[-2].startswith("New fine-tuned model created: ft:")
    assert words[-1] == "The job has successfully completed"


def test_the_job_object_knows_of_the_success_seconds_before_the_log() -> None:
    job = invented("succeeded")
    finished_at = job.as_dict(now=START + 1000)["finished_at"]
    assert job.events[-1]["created_at"] - finished_at == 7
    assert job.as_dict(now=finished_at)["status"] == "succeeded"
    assert job.visible(now=finished_at) < len(job.events)


def test_validation_steps_and_epoch_ends_carry_validation_numbers() -> None:
    by_step = {
        event["data"]["step"]: event for event in invented("succeeded").events if event["type"] == "metrics"
    }
    assert len(by_step) == 30
    assert "valid_loss" not in by_step[1]["data"]
    assert "valid_loss" in by_step[3]["data"]
    assert [step for step, event in by_step.items() if "full_valid_loss" in event["data"]] == [10, 20, 30]
    assert "full validation loss=" in by_step[30]["message"]


def test_a_failed_job_has_an_error_event_and_an_error_that_agree() -> None:
    job = invented("failed")
    last, error = job.events[-1], job.as_dict(now=START + 1000)["error"]
    assert last["level"] == "error"
    assert last["data"] == {"error_code": error["code"], "error_param": error["param"]}
    assert error["message"] == last["message"]


def test_a_job_without_steps_fails_in_validation() -> None:
    job = invented("failed", steps=0, duration=11)
    assert [status for _, status in job.states] == ["validating_files", "failed"]
    assert job.events[-1]["data"] == {"error_code": "invalid_n_examples", "error_param": "training_file"}


def test_a_cancelled_job_says_so_a_minute_before_its_log_and_has_no_finished_at() -> None:
    job = invented("cancelled")
    (asked, status) = job.states[-1]
    assert status == "cancelled"
    assert job.events[-1]["created_at"] - asked == 60
    assert job.events[-1]["level"] == "warn"
    assert job.as_dict(now=START + 1000)["finished_at"] is None


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("duration", [1, 10, 60, 300, 86_400])
def test_a_job_of_any_length_keeps_its_order_and_ends_in_time(outcome: str, duration: float) -> None:
    job = invented(outcome, duration=duration)
    times = [event["created_at"] for event in job.events]
    assert times == sorted(times)
    assert times[-1] == START + duration
    assert [at for at, _ in job.states] == sorted(at for at, _ in job.states)
    assert job.as_dict(now=START + duration)["status"] == outcome


def test_the_same_seed_gives_the_same_job_and_another_seed_another() -> None:
    assert invented("succeeded", seed="7").events == invented("succeeded", seed="7").events
    assert invented("succeeded", seed="7").events != invented("succeeded", seed="8").events


def test_cancelling_drops_what_was_still_to_come() -> None:
    job = invented("succeeded")
    job.cancel(now=START + 100)
    shown = job.as_dict(now=START + 100)
    assert (shown["status"], shown["finished_at"]) == ("cancelled", None)
    assert job.events[-1]["message"] == "The job was stopped due to a cancellation request"
    assert job.events[-1]["created_at"] == START + 160
    assert job.visible(now=START + 159) == len(job.events) - 1
    assert job.as_dict(now=START + 9999)["status"] == "cancelled"


def test_an_ended_job_cannot_be_cancelled() -> None:
    job = invented("succeeded")
    with pytest.raises(JobEndedError, match="succeeded"):
        job.cancel(now=START + 1000)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_joined_are_the_whole_log_once_in_either_order(newest_first: bool, limit: int) -> None:
    job = invented("succeeded")
    seen: list[dict[str, Any]] = []
    after: str | None = None
    more = True
    while more:
        page = job.page(now=START + 1000, after=after, limit=limit, newest_first=newest_first)
        assert page is not None
        seen += [json.loads(item) for item in page.items]
        after, more = seen[-1]["id"], page.has_more
    assert (seen[::-1] if newest_first else seen) == job.events


def test_a_cursor_that_nobody_can_have_seen_is_unknown() -> None:
    job = invented("succeeded")
    last = job.events[-1]["id"]
    assert job.page(now=START, after=last, limit=5, newest_first=True) is None
    assert job.page(now=START + 1000, after="ftevent-x", limit=5, newest_first=True) is None


def test_a_script_serves_its_events_at_their_offsets() -> None:
    job = scripted([{"message": "a", "offset": 0}, {"message": "b", "offset": 30, "data": None, "id": None}])
    assert job.events[0]["created_at"] == START
    assert job.events[1] == {
        "object": "fine_tuning.job.event",
        "id": None,
        "created_at": START + 30,
        "level": "info",
        "message": "b",
        "type": "message",
        "data": None,
    }
    assert (job.visible(now=START + 29), job.visible(now=START + 30)) == (1, 2)


def test_a_script_can_show_an_old_event_late() -> None:
    job = scripted([{"message": "late", "created_at": START - 500, "appears": 60}])
    assert job.visible(now=START + 59) == 0
    assert job.visible(now=START + 60) == 1


def test_a_script_can_serve_what_is_no_event_at_all() -> None:
    job = scripted_job(
        job_id="x",
        now=START,
        events=["text", None, {"created_at": "2027-01-15T08:00:00Z"}],
        status_timeline=[],
        rng=seeded("0"),
        fill=False,
    )
    assert job.events == ["text", None, {"created_at": "2027-01-15T08:00:00Z"}]
    assert job.visible(now=START) == 3


def test_a_script_can_take_an_end_back() -> None:
    job = scripted([], [(0, "running"), (10, "succeeded"), (20, "running")])
    assert [job.as_dict(now=START + at)["status"] for at in (0, 10, 25)] == [
        "running",
        "succeeded",
        "running",
    ]
    assert job.as_dict(now=START + 25)["finished_at"] is None


def test_a_failed_script_takes_its_error_from_its_error_event() -> None:
    event = {"level": "error", "message": "no", "data": {"error_code": "c", "error_param": None}}
    job = scripted([event], [(0, "failed")])
    assert job.as_dict(now=START)["error"] == {"code": "c", "message": "no", "param": None}
