"""The archiving task: when a log counts as complete, what is checked when a Dag is parsed, what it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, ObjectStoragePath, TaskDeferred

from airflow_ft_events.archive import read_archive
from airflow_ft_events.errors import FineTuningApiError, FineTuningInputError
from airflow_ft_events.events import EventIds, epoch_seconds, flat_numbers
from airflow_ft_events.simulator import Answer
from airflow_ft_events.simulator.faults import ReceivedRequest
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator
from tests.integration.archive_places import archived, events_of
from tests.integration.conftest import Family


def operator(path: object = "/archive/log.jsonl", **options: Any) -> FineTuningEventsToObjectStorageOperator:
    options = {"task_id": "archive", "job_id": "ftjob-1", "path": path, **options}
    return FineTuningEventsToObjectStorageOperator(**options)


# complete


def test_a_running_job_is_archived_as_it_stands_and_an_ended_one_when_it_has_settled(
    tmp_path: Path, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    clock.sleep(100)
    manifest = archived(sim.job_id, tmp_path / "log.jsonl")
    assert (manifest["complete"], manifest["outcome"], clock.naps) == (False, None, [100])
    clock.sleep(5_000)
    manifest = archived(sim.job_id, tmp_path / "log.jsonl")
    assert (manifest["complete"], manifest["outcome"]) == (True, "succeeded")
    assert manifest["status"] == "succeeded"
    assert read_archive(tmp_path / "log.jsonl") == sim.list_events(sim.job_id, future=True)


def test_the_last_events_of_a_job_that_has_just_ended_are_waited_for(
    tmp_path: Path, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated([{"status_timeline": [(0, "running"), (50, "succeeded")], "events": [{"message": "a"}]}])
    connect(sim)
    clock.sleep(60)
    clock.at(100, lambda: sim.add_event(sim.job_id, {"message": "late"}))
    manifest = archived(sim.job_id, tmp_path / "log.jsonl")
    assert (manifest["complete"], manifest["count"]) == (True, 2)
    # 120 s after its end
    assert clock.passed == pytest.approx(170, abs=1.5)


def test_a_wait_for_the_last_events_beyond_ten_seconds_defers_and_then_archives(
    tmp_path: Path, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated([{"status_timeline": [(0, "running"), (50, "succeeded")], "events": [{"message": "a"}]}])
    connect(sim)
    clock.sleep(60)
    task = operator(str(tmp_path / "log.jsonl"), job_id=sim.job_id, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    assert list(tmp_path.iterdir()) == []
    assert deferred.value.method_name == "execute_complete"
    clock.sleep(110)
    again = operator(str(tmp_path / "log.jsonl"), job_id=sim.job_id, deferrable=True)
    manifest = again.resume_execution("execute_complete", {"event": None}, {})
    assert (manifest["complete"], manifest["count"]) == (True, 1)


@pytest.mark.every_family
def test_where_the_server_shows_no_job_its_events_decide_whether_the_log_is_complete(
    tmp_path: Path, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated(job_route=False)
    connect(sim)
    clock.sleep(100)
    manifest = archived(sim.job_id, tmp_path / "log.jsonl")
    assert (manifest["complete"], manifest["outcome"], manifest["status"]) == (False, None, None)
    clock.sleep(5_000)
    manifest = archived(sim.job_id, tmp_path / "log.jsonl")
    assert (manifest["complete"], manifest["outcome"], manifest["status"]) == (True, "succeeded", None)


def test_a_job_that_nobody_knows_leaves_no_archive(tmp_path: Path, simulated: Any, connect: Any) -> None:
    connect(simulated())
    with pytest.raises(FineTuningApiError):
        archived("ftjob-unknown", tmp_path / "log.jsonl")
    assert list(tmp_path.iterdir()) == []


# parquet and the report


@pytest.mark.parametrize("vendor", ["openai", "together"])  # whose ids and times differ most
def test_parquet_holds_the_typed_view_of_every_event(tmp_path: Path, simulated: Any, connect: Any) -> None:
    sim = simulated([{"ended": True, "steps": 30}])
    connect(sim)
    archived(sim.job_id, tmp_path / "log.parquet", file_format="parquet")
    table = pyarrow.parquet.read_table(tmp_path / "log.parquet")
    events, ids = sim.list_events(sim.job_id), EventIds()
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    rows = table.to_pylist()
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        assert json.loads(row["event"]) == event
        assert row["id"] == ids.id_of(event)
        assert row["created_at"].timestamp() == epoch_seconds(event["created_at"])
        assert row["message"] == event["message"]
        data = event.get("data")
        assert (None if row["data"] is None else json.loads(row["data"])) == data
        numbers = dict(flat_numbers(data)) if isinstance(data, dict) and "step" in data else {}
        assert row["step"] == numbers.pop("step", row["step"])
        for name, value in numbers.items():
            assert row[name] == value


def test_the_report_lies_beside_the_log_and_goes_when_it_would_show_another_one(
    tmp_path: Path, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"events": [{"message": "One"}], "status_timeline": [(0, "running")]}])
    connect(sim)
    for incremental in (False, True):
        manifest = archived(sim.job_id, tmp_path / "log.jsonl", report=True, incremental=incremental)
        assert manifest["report"] == "log.jsonl.report.html"
        assert sim.job_id in (tmp_path / manifest["report"]).read_text()
    assert archived(sim.job_id, tmp_path / "log.jsonl") == manifest
    sim.add_event(sim.job_id, {"message": "Two"})
    assert archived(sim.job_id, tmp_path / "log.jsonl")["report"] is None
    assert not (tmp_path / "log.jsonl.report.html").exists()


# what is checked when a Dag is parsed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "log.jsonl"}, "is relative, so every worker would put it somewhere else"),
        ({"path": "file://data/log.jsonl"}, "is relative"),
        ({"path": ""}, "It must be the archive's file"),
        ({"path": None}, "It must be the archive's file"),
        ({"path": "file:///"}, "It must be the archive's file"),
        ({"path": "s3://bucket/logs/"}, "It must be the archive's file"),
        ({"path": "s3://log.jsonl"}, "is not a file in a bucket"),
        ({"path": "s3://aws_default@bucket"}, "is not a file in a bucket"),
        ({"path": "/data/../etc/log.jsonl"}, r"contains . or .. as a folder"),
        ({"path": "/data/a\x00.jsonl"}, "contains a control character"),
        ({"path": "/data/a\n.jsonl"}, "contains a control character"),
        ({"file_format": "csv"}, "must be one of jsonl, parquet"),
        ({"compression": "zip"}, "for jsonl it must be one of 'infer', None, 'gzip'"),
        ({"compression": "snappy"}, "for jsonl it must be one of"),
        (
            {"path": "/a/b", "file_format": "parquet", "compression": "lz4"},
            "'snappy', 'gzip', 'zstd'",
        ),
        ({"compression": "gzip"}, "let it end in .gz"),
        ({"path": "/a/log.jsonl.gz", "compression": None}, "its files would not be gzip files"),
        ({"path": "/a/log.parquet"}, "ends in .parquet, but file_format is 'jsonl'"),
        ({"path": "/a/log.jsonl", "file_format": "parquet"}, "ends in .jsonl, but file_format is 'parquet'"),
        ({"path": "/a/{{ x }}.jsonl", "file_format": "parquet"}, "they must agree"),
        ({"overwrite": "append"}, "must be one of replace, keep, error"),
        ({"incremental": True, "overwrite": "keep"}, "contradicts overwrite"),
        ({"settle": -1}, "seconds from 0 to 86,400"),
        ({"job_id": "../../etc/passwd"}, "The job_id is"),
        ({"conn_id": " "}, "The conn_id is empty"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(options: Any, message: str) -> None:
    with pytest.raises(FineTuningInputError, match=message):
        operator(**options)


@pytest.mark.parametrize(
    "path",
    [
        "s3://user:hunter2@bucket/log.jsonl",
        "s3://AKIA:hun/ter2@bucket/log.jsonl",
        "s3://AKIA:hun@ter2@bucket/log.parquet",
        "s3://:hunter2@bucket/log.jsonl.gz",
    ],
)
def test_a_password_in_a_path_is_refused_and_not_shown(path: str) -> None:
    for options in ({}, {"compression": None}, {"file_format": "parquet"}):
        with pytest.raises(FineTuningInputError, match="contains a password") as caught:
            operator(path, **options)
        assert "ter2" not in str(caught.value)
    with pytest.raises(FineTuningInputError) as caught:
        operator(path + "{{ x }}.parquet")
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/a:b@c.jsonl",
        "hdfs://namenode:8020/x@y.jsonl",
        "sftp://conn@host:22/log.jsonl",
        "abfs://conn@container/log.jsonl",
        "file:///data/log.jsonl",
        "/data/with spaces/ünï[*]?%20.jsonl",
        "memory://x.jsonl",
        "/data/{{ params.job_id }}",
        "/data/plain-name",
    ],
)
def test_other_paths_are_taken(path: str) -> None:
    assert operator(path).path == path


def test_a_path_may_be_an_object_storage_path_or_a_local_one(tmp_path: Path) -> None:
    assert operator(ObjectStoragePath("s3://aws_default@bucket/log.jsonl")).path == (
        "s3://aws_default@bucket/log.jsonl"
    )
    assert operator(tmp_path / "log.jsonl").path == str(tmp_path / "log.jsonl")


def test_a_path_from_an_upstream_task_makes_that_task_upstream() -> None:
    with DAG("d", schedule=None):
        upstream = BaseOperator(task_id="upstream")
        task = operator(upstream.output)
    assert task.upstream_task_ids == {"upstream"}


def test_job_id_path_and_connections_are_templates(tmp_path: Path, simulated: Any, connect: Any) -> None:
    sim = simulated(ended=True)
    connect(sim, conn_id="other")
    path, job_id = "{{ params.folder }}/{{ params.job }}.jsonl", "{{ params.job }}"
    task = operator(path, job_id=job_id, conn_id="{{ params.conn }}")
    task.render_template_fields({"params": {"folder": str(tmp_path), "job": sim.job_id, "conn": "other"}})
    manifest = task.execute({})
    assert manifest["path"] == str(tmp_path / f"{sim.job_id}.jsonl")


@pytest.mark.parametrize("value", ["../../etc/x", "..", "a/../../b", ""])
def test_a_rendered_path_that_leaves_the_folder_is_refused_before_anything_is_touched(
    value: str, tmp_path: Path, simulated: Any, connect: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    task = operator(f"{tmp_path}/in/{{{{ params.name }}}}/", job_id=sim.job_id)
    task.path = f"{tmp_path}/in/{value}/log.jsonl" if value else f"{tmp_path}/in/"
    with pytest.raises(FineTuningInputError):
        task.execute({})
    task = operator(str(tmp_path / "log.jsonl"), job_id="{{ x }}")
    task.job_id = value
    with pytest.raises(FineTuningInputError, match="The job_id"):
        task.execute({})
    assert (list(tmp_path.iterdir()), sim.requests) == ([], [])


# what is told


def test_no_secret_is_in_the_manifest_the_return_value_the_logs_or_an_error(
    tmp_path: Path, simulated: Any, connect: Any, logs: Any
) -> None:
    key = "sk-very-secret-0123456789"
    sim = simulated([{"ended": True}], api_key=key)
    connect(sim, key=key)
    manifest = archived(sim.job_id, tmp_path / "log.jsonl", incremental=True, report=True)
    sim.fail_next(20, route="events", status=401)
    with pytest.raises(FineTuningApiError) as caught:
        archived(sim.job_id, tmp_path / "log.jsonl", incremental=True)
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (json.dumps(manifest), files.decode(), logs.text, str(caught.value)):
        assert key not in text


@pytest.mark.every_family
def test_a_server_that_fails_half_way_leaves_the_archive_as_it_was(
    family: Family, tmp_path: Path, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"events": events_of(300), "status_timeline": [(-600, family.word("succeeded"))]}])
    connect(sim, page_size=50, max_retries=0)
    archived(sim.job_id, tmp_path / "log.jsonl")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    sim.add_event(sim.job_id, {"message": "more"})
    served = iter(range(100))

    def fault(request: ReceivedRequest) -> Answer | None:
        if request.route != "events":
            return None
        if not family.pages:
            return Answer(truncate=True)
        return Answer(status=500) if next(served) > 3 else None

    sim.fault = fault
    with pytest.raises(FineTuningApiError):
        archived(sim.job_id, tmp_path / "log.jsonl")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before
    sim.clear_faults()
    assert archived(sim.job_id, tmp_path / "log.jsonl")["count"] == len(read_archive(tmp_path / "log.jsonl"))
