"""What an archive is good for: the gate judges by it, and the simulator replays it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive
from airflow_ft_events.errors import FineTuningArchiveError, FineTuningInputError
from airflow_ft_events.exceptions import FineTuningGateViolated
from airflow_ft_events.operators.fine_tuning import FineTuningGateOperator
from airflow_ft_events.simulator import RecordingError, load_recording, simulate
from airflow_ft_events.transfers.fine_tuning_to_object_storage import (
    FineTuningEventsToObjectStorageOperator,
)

FORMS = [
    pytest.param("log.jsonl", {}, id="jsonl"),
    pytest.param("log.jsonl.gz", {}, id="gzip"),
    pytest.param("log.parquet", {"file_format": "parquet"}, id="parquet"),
    pytest.param("log.jsonl", {"incremental": True}, id="incremental"),
]


def archive(job_id: str, path: object, task: Any, **options: Any) -> dict[str, Any]:
    operator = FineTuningEventsToObjectStorageOperator(
        task_id="archive", job_id=job_id, path=str(path), **options
    )
    found: dict[str, Any] = operator.execute({"ti": task})
    return found


def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event | {"created_at": None} for event in events]


def gate(job_id: str, task: Any, condition: str, **options: Any) -> Any:
    operator = FineTuningGateOperator(task_id="gate", job_id=job_id, conditions=[condition], **options)
    return operator.execute({"ti": task, "task": operator})


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_the_gate_evaluates_an_archive_and_reads_no_event_from_the_server(
    name: str, options: Any, simulated: Any, connect: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    archive(sim.job_id, tmp_path / name, task, **options)
    losses = [event["data"]["train_loss"] for event in sim.list_events(sim.job_id) if event.get("data")]
    asked = sim.count(route="events")
    decision = gate(sim.job_id, task, f"min(train_loss) == {min(losses)}", archive=str(tmp_path / name))
    assert decision["passed"] is True
    assert decision["conditions"][0]["value"] == min(losses)
    with pytest.raises(FineTuningGateViolated):
        gate(sim.job_id, task, "train_loss > 1000", archive=str(tmp_path / name))
    assert sim.count(route="events") == asked


def test_the_gate_refuses_an_archive_that_is_not_complete(
    simulated: Any, connect: Any, clock: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated()
    connect(sim)
    clock.sleep(200)
    assert archive(sim.job_id, tmp_path / "log.jsonl", task)["complete"] is False
    clock.sleep(2000)
    with pytest.raises(FineTuningArchiveError, match=r"archive .*log\.jsonl is not complete"):
        gate(sim.job_id, task, "train_loss < 100", archive=str(tmp_path / "log.jsonl"))


def test_the_gate_refuses_the_archive_of_another_job(
    simulated: Any, connect: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated(2, ended=True)
    connect(sim)
    one, other = sim.job_ids
    archive(one, tmp_path / "log.jsonl", task)
    with pytest.raises(FineTuningArchiveError, match=f"belongs to job {one}"):
        gate(other, task, "train_loss < 100", archive=str(tmp_path / "log.jsonl"))


def test_the_gate_refuses_a_file_of_which_nothing_is_known(
    simulated: Any, connect: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    lines = [json.dumps(event) for event in sim.list_events(sim.job_id)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    with pytest.raises(FineTuningArchiveError, match="has no manifest"):
        gate(sim.job_id, task, "train_loss < 100", archive=str(tmp_path / "log.jsonl"))
    with pytest.raises(FineTuningArchiveError, match="There is no archive at"):
        gate(sim.job_id, task, "train_loss < 100", archive=str(tmp_path / "none.jsonl"))


def test_the_gate_takes_events_or_an_archive_and_not_both() -> None:
    with pytest.raises(FineTuningInputError, match="Both events and archive"):
        FineTuningGateOperator(task_id="g", job_id="ftjob-1", conditions=["a < 1"], events=[], archive="/a")


@pytest.mark.parametrize("vendor", ["openai", "together"])  # where the type of an event tells the end
@pytest.mark.parametrize(("name", "options"), FORMS)
def test_a_replayed_archive_is_the_job_again_with_nothing_but_its_times_moved(
    name: str, options: Any, simulated: Any, connect: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated([{"ended": True, "outcome": "failed"}])
    connect(sim)
    archive(sim.job_id, tmp_path / name, task, **options)
    moment = [2_000_000_000.0]
    with simulate(log=tmp_path / name, clock=lambda: moment[0]) as again:
        assert again.job_id == sim.job_id
        assert again.vendor == sim.vendor
        moment[0] += 86_400
        assert again.get_job(again.job_id)["status"] == sim.get_job(sim.job_id)["status"]
        served, original = again.list_events(again.job_id), sim.list_events(sim.job_id)
        connect(again)
        archive(again.job_id, tmp_path / f"again-{name}", task, **options)
    assert [event | {"created_at": 0} for event in served] == [
        event | {"created_at": 0} for event in original
    ]
    assert read_archive(tmp_path / f"again-{name}") == served


def test_a_manifest_names_an_archive_as_well_as_its_own_path_does(
    simulated: Any, connect: Any, task: Any, tmp_path: Path
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    archive(sim.job_id, tmp_path / "log.jsonl", task, incremental=True)
    by_path = load_recording(tmp_path / "log.jsonl")
    assert load_recording(f"{tmp_path / 'log.jsonl'}.manifest.json") == by_path
    assert by_path.events == sim.list_events(sim.job_id)
    assert (by_path.outcome, by_path.vendor) == ("succeeded", sim.vendor)


def test_events_without_a_message_replay_too(simulated: Any, connect: Any, task: Any, tmp_path: Path) -> None:
    events = [{"id": "a", "created_at": 1_700_000_000, "message": None}, {"id": "b", "level": "info"}]
    sim = simulated([{"events": events, "status_timeline": [(0, "running")], "fill": False}])
    connect(sim)
    archive(sim.job_id, tmp_path / "log.jsonl", task)
    moment = [2_000_000_000.0]
    with simulate(log=tmp_path / "log.jsonl", clock=lambda: moment[0]) as again:
        moment[0] += 86_400
        assert again.list_events(again.job_id) == [events[0] | {"created_at": 2_000_000_000}, events[1]]


def test_a_damaged_archive_is_refused_as_a_log_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(RecordingError, match=r"log\.jsonl\.gz cannot be read"):
        load_recording(tmp_path / "log.jsonl.gz")
