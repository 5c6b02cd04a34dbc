"""Recorded logs, whatever they kept and whatever they lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.simulator.jobs import SimulatedJob, seeded
from airflow_ft_events.simulator.recordings import (
    RecordingError,
    load_recording,
    recorded_job_id,
    replay_job,
)

START = 1_800_000_000
SUCCESS = "The job has successfully completed"
CANCEL = "The job was stopped due to a cancellation request"


def replay(source: Any, *, seed: str = "0") -> SimulatedJob:
    return replay_job(load_recording(source), job_id="ftjob-1", now=START, rng=seeded(seed))


def event(at: int, message: str, **more: Any) -> dict[str, Any]:
    return {"id": f"ftevent-{at}", "created_at": at, "level": "info", "message": message} | more


def final_status(job: SimulatedJob) -> str:
    return str(job.as_dict(now=START + 10**7)["status"])


def test_only_created_at_moves() -> None:
    raw = event(1000, "Hm", data={"b": 1, "a": None}, type="odd", extra=[1])
    (served,) = replay([raw]).events
    assert served == raw | {"created_at": START, "object": "fine_tuning.job.event"}


def test_gaps_of_a_log_are_kept() -> None:
    job = replay([event(1000, "a"), event(1000, "b"), event(1042, SUCCESS)])
    assert [served["created_at"] - START for served in job.events] == [0, 0, 42]


@pytest.mark.parametrize("order", ["newest_first", None])
def test_a_newest_first_log_is_reversed(order: str | None) -> None:
    events = [event(1042, SUCCESS), event(1000, "Fine-tuning job started")]
    job = replay({"events": events, **({"order": order} if order else {})})
    assert [served["message"] for served in job.events] == ["Fine-tuning job started", SUCCESS]


def test_a_recorded_api_answer_is_a_log() -> None:
    answer = {"object": "list", "has_more": False, "data": [event(1042, SUCCESS), event(1000, "b")]}
    assert final_status(replay(answer)) == "succeeded"


def test_messages_alone_get_ids_times_and_levels() -> None:
    job = replay({"order": "oldest_first", "events": [{"message": "Hm"}, {"message": SUCCESS}]})
    first, last = job.events
    assert first["id"].startswith("ftevent-")
    assert first["id"] != last["id"]
    assert (first["level"], first["type"]) == ("info", "message")
    assert first["created_at"] == START < last["created_at"]


def test_generated_ids_and_gaps_are_the_same_for_a_seed() -> None:
    log = [{"message": f"line {number}"} for number in range(20)]
    assert replay(log, seed="3").events == replay(log, seed="3").events
    assert replay(log, seed="3").events != replay(log, seed="4").events


def test_times_of_day_give_gaps_also_over_midnight() -> None:
    log = {"events": [{"time": "00:00:10", "message": SUCCESS}, {"time": "23:59:50", "message": "b"}]}
    job = replay(log | {"order": "newest_first"})
    assert [served["created_at"] - START for served in job.events] == [0, 20]
    assert "time" not in job.events[0]


def test_a_step_line_without_data_gets_the_numbers_that_it_says() -> None:
    (served,) = replay([{"message": "Step 11/300: training loss=1.67, validation loss=2.5E-06"}]).events
    assert served["type"] == "metrics"
    assert served["data"] == {"step": 11, "train_loss": 1.67, "valid_loss": 2.5e-06, "total_steps": 300}


def test_iso_times_are_understood() -> None:
    events = [event(0, "a") | {"created_at": "2025-04-09T19:48:05Z"}]
    events.append(event(0, "b") | {"created_at": "2025-04-09T19:48:45+00:00"})
    assert [served["created_at"] - START for served in replay(events).events] == [0, 40]


def test_an_event_without_a_time_stays_between_its_neighbours() -> None:
    job = replay([event(1000, "a"), {"message": "b"}, event(1001, "c")])
    times = [served["created_at"] for served in job.events]
    assert times == sorted(times)
    assert times[-1] == START + 1


@pytest.mark.parametrize(
    ("message", "more", "outcome"),
    [
        (SUCCESS, {}, "succeeded"),
        ("Fine-tuning job successfully completed", {}, "succeeded"),
        (CANCEL, {"level": "warn"}, "cancelled"),
        ("Too few examples", {"level": "error", "data": {"error_code": "x"}}, "failed"),
        ("Something went wrong, trying again", {"level": "error"}, "running"),
        ("New fine-tuned model created: ft:x", {}, "running"),
        ("Step 3/3: training loss=0.1", {}, "running"),
    ],
)
def test_without_an_outcome_the_last_message_tells(message: str, more: dict[str, Any], outcome: str) -> None:
    assert final_status(replay([event(1000, "a"), event(1100, message, **more)])) == outcome


def test_billing_lines_after_the_end_do_not_hide_it() -> None:
    log = [
        event(1, "Job succeeded."),
        event(31, "Completed results file: f"),
        event(31, "Training hours billed: 1"),
    ]
    assert final_status(replay(log)) == "succeeded"


def test_a_failure_without_a_failure_event_comes_after_the_last_line() -> None:
    job = replay({"outcome": "failed", "events": [event(1000, "a"), event(1100, "Postprocessing started.")]})
    assert job.as_dict(now=START + 100)["status"] == "running"
    assert job.as_dict(now=START + 105)["status"] == "failed"
    assert len(job.events) == 2


def test_the_job_ends_seconds_before_its_success_event() -> None:
    job = replay([event(1000, "Fine-tuning job started"), event(1100, SUCCESS)])
    assert job.as_dict(now=START + 100)["finished_at"] == START + 93


def test_a_recorded_finished_at_is_kept() -> None:
    job = replay({"job": {"finished_at": 1090}, "events": [event(1000, "a"), event(1100, SUCCESS)]})
    assert job.as_dict(now=START + 100)["finished_at"] == START + 90


def test_the_model_is_the_one_that_the_log_names() -> None:
    log = [event(1, "New fine-tuned model created: ft:gpt-4o-mini:me::abc"), event(5, SUCCESS)]
    assert replay(log).as_dict(now=START + 99)["fine_tuned_model"] == "ft:gpt-4o-mini:me::abc"


def test_a_recorded_error_and_model_come_back() -> None:
    error = {"code": "c", "message": "m", "param": None}
    job = replay({"job": {"status": "failed", "error": error, "model": "base"}, "events": [event(1, "a")]})
    shown = job.as_dict(now=START + 99)
    assert (shown["status"], shown["error"], shown["model"]) == ("failed", error, "base")


def test_the_recorded_job_id_is_found() -> None:
    assert recorded_job_id(load_recording([event(1, "Created fine-tuning job: ftjob-abc")])) == "ftjob-abc"
    assert recorded_job_id(load_recording({"job": {"id": "ftjob-x"}, "events": [event(1, "a")]})) == "ftjob-x"
    assert recorded_job_id(load_recording([event(1, "a")])) is None


def test_json_lines_are_read_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('\n{"message": "Fine-tuning job started"}\n\n' + json.dumps({"message": SUCCESS}) + "\n")
    recording = load_recording(path)
    assert [kept["message"] for kept in recording.events] == ["Fine-tuning job started", SUCCESS]
    assert recording.outcome == "succeeded"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"message": "a"}\n{"message":\n', "line 2"),
        ('{\n "events": [\n}', "line 3"),
        ("", "no events"),
        ("[]", "no events"),
        ("5", "no list of events"),
        ('{"events": 5}', "no list of events"),
        ('{"events": [5]}', "event 1 is not an object"),
        ('{"events": [{"message": 5}]}', "event 1 is not an object"),
        ('{"events": [{"message": "a"}], "outcome": "great"}', "unknown outcome 'great'"),
        ('{"events": [{"message": "a"}], "order": "random"}', "unknown order 'random'"),
        ('{"events": [{"message": "a"}], "job": 3}', "job is not an object"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_an_invalid_log_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RecordingError, match=reason) as raised:
        load_recording(path)
    assert "\n" not in str(raised.value)
    assert "bad.json" in str(raised.value)


def test_a_missing_file_and_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        load_recording(tmp_path / "none.json")
    path = tmp_path / "bytes.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match="not UTF-8"):
        load_recording(str(path))
