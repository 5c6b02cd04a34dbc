"""Nothing that a server says breaks Airflow: what any class gives it in any mode is stored and read back."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_ft_events.connection.carried import carried
from airflow_ft_events.exceptions import FineTuningJobFailed
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.operators.gate import FineTuningGateOperator
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


AWKWARD: dict[str, Any] = {
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800b",
    "large integer": 2**70,
    "class name": {"__classname__": "builtins.set", "__version__": 1, "__data__": [1]},
    "old class name": {"__type": "set", "__var": [1]},
    "deep": nested(250),
    "infinity": float("inf"),
}
JOB = "ftjob-1"


@pytest.fixture(params=sorted(AWKWARD))
def awkward(request: pytest.FixtureRequest) -> Any:
    """A value that Airflow cannot carry."""
    return AWKWARD[request.param]


@pytest.fixture
def server(awkward: Any, odd_server: Any, answer_bytes: Any, connect: Any) -> Any:
    """A server that says the value in every field; its job ends as the test wants."""
    told: dict[str, Any] = {"status": "succeeded", "error": None}
    awkward_words = awkward if isinstance(awkward, str) else "text"
    event = {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-1{awkward_words}",
        "created_at": 1_800_000_000,
        "level": "info",
        "message": awkward_words,
        "type": "metrics",
        "data": {"step": 1, "train_loss": 0.5, "more": awkward, awkward_words: awkward},
        "extra": awkward,
    }
    job = {
        "id": JOB,
        "fine_tuned_model": awkward,
        "trained_tokens": awkward,
        "finished_at": 1_800_000_001,
        "result_files": awkward,
    }

    shown = [event]

    def answer(asked: Any) -> bytes:
        if "/events" in asked.target:
            body: Any = {"object": "list", "data": shown, "has_more": False}
        else:
            body = job | told
        found: bytes = answer_bytes(body)
        return found

    made = odd_server(answer)
    connect(made)
    return SimpleNamespace(told=told, event=event, shown=shown)


def stored_and_read(value: Any) -> Any:
    """What comes out of Airflow's own XCom serializer, through bytes of JSON that PostgreSQL takes."""
    stored = XCom.serialize_value(value, key="k", task_id="t", dag_id="d", run_id="r")
    text = stored.decode() if isinstance(stored, bytes) else json.dumps(stored, allow_nan=False)
    assert "\\u0000" not in text
    assert "\\ud800" not in text
    came = text.encode() if isinstance(stored, bytes) else json.loads(text)
    return XCom.deserialize_value(SimpleNamespace(value=came))


def test_a_sensors_result_is_read_back_as_it_was(server: Any, follow: Any, mode: str) -> None:
    result = follow(mode, JOB)
    assert result["outcome"] == "succeeded"
    assert stored_and_read(result) == result


def test_a_failed_jobs_error_is_read_back_as_it_was(
    server: Any, awkward: Any, follow: Any, mode: str
) -> None:
    server.told |= {"status": "failed", "error": {"code": awkward, "message": awkward, "param": awkward}}
    result = follow(mode, JOB, raise_on_failure=False)
    assert result["outcome"] == "failed"
    assert stored_and_read(result) == result
    with pytest.raises(FineTuningJobFailed) as failed:
        follow(mode, JOB)
    assert carried(str(failed.value)) == str(failed.value)


def test_what_a_trigger_sends_and_keeps_can_be_carried(server: Any, payload_of: Any) -> None:
    trigger = FineTuningEventsTrigger(job_id=JOB, poll_interval=1)
    payload = asyncio.run(payload_of(trigger))
    assert payload["outcome"]["outcome"] == "succeeded"
    assert carried(payload) == payload
    assert carried(trigger.serialize()[1]) == trigger.serialize()[1]


def test_a_wait_that_is_deferred_keeps_only_what_can_be_carried(server: Any, follow: Any) -> None:
    server.told["status"] = "running"
    follow.clock.at(100, lambda: server.told.update(status="succeeded"))
    assert follow("deferrable", JOB)["outcome"] == "succeeded"
    for trigger in follow.triggers:
        assert carried(trigger.serialize()[1]) == trigger.serialize()[1]


def test_events_and_their_summary_are_read_back_and_the_summary_counts_what_was_changed(
    server: Any, task: Any, logs: Any
) -> None:
    operator = FineTuningEventsOperator(task_id="collect", job_id=JOB, settle=0)
    found = operator.execute({"ti": task})
    assert stored_and_read(found) == found
    summary = task.pushed["summary"]
    assert stored_and_read(summary) == summary
    assert summary["changed"] >= 1
    assert f"Airflow cannot carry {summary['changed']} values" in logs.text


def test_a_gates_decision_is_read_back_as_it_was(server: Any, task: Any) -> None:
    gate = FineTuningGateOperator(task_id="gate", job_id=JOB, conditions=["train_loss <= 1.2"])
    decision = gate.execute({"ti": task})
    assert decision["passed"]
    assert stored_and_read(decision) == decision


def test_an_archive_keeps_every_event_as_it_came_and_its_manifest_is_read_back(
    server: Any, task: Any, tmp_path: Path
) -> None:
    from airflow_ft_events.archive import read_archive

    operator = FineTuningEventsToObjectStorageOperator(
        task_id="archive", job_id=JOB, path=f"file://{tmp_path}/log.jsonl", settle=0
    )
    manifest = operator.execute({"ti": task})
    assert stored_and_read(manifest) == manifest
    assert list(read_archive(f"file://{tmp_path}/log.jsonl")) == [server.event]


def test_an_event_is_told_once_however_its_id_reads(server: Any, follow: Any, logs: Any) -> None:
    server.shown[:] = []
    for number in range(4):
        more = server.event | {
            "type": "message",
            "message": f"Number {number}",
            "created_at": 1_800_000_000 + number,
        }
        if number % 2:
            more["id"] = f"ftevent-{number}"
        follow.clock.at(100 * number + 1, partial(server.shown.insert, 0, more))
    server.told["status"] = "running"
    follow.clock.at(600, lambda: server.told.update(status="succeeded"))
    follow("poke", JOB, poke_interval=50, log_events="all")
    lines = logs.text.splitlines()
    assert [sum(f"Number {number}" in line for line in lines) for number in range(4)] == [1, 1, 1, 1]
