"""The archive of a log, in a folder and on an S3 server: what goes in comes out, whatever a server sends."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive
from airflow_ft_events.events import EventIds
from tests.integration.archive_places import PLACES, Place, archived, aws_connection, s3_server

FORMS = {
    "jsonl": ("log.jsonl", {}),
    "gzip": ("log.jsonl.gz", {}),
    "parquet": ("log.parquet", {"file_format": "parquet"}),
    "incremental": ("log.jsonl", {"incremental": True}),
    "incremental-gzip": ("log.jsonl.gz", {"incremental": True}),
    "incremental-parquet": ("log.parquet", {"incremental": True, "file_format": "parquet"}),
}
ODD_EVENTS: list[dict[str, Any]] = [
    {"id": "nan", "created_at": 1, "message": "NaN", "data": {"step": 1, "train_loss": math.nan}},
    {"id": "inf", "created_at": 1, "data": {"step": 2, "train_loss": math.inf, "valid_loss": -math.inf}},
    {"id": "big", "created_at": 2, "data": {"step": 3, "n": 10**300, "tiny": 5e-324, "m": -(2**63) - 1}},
    {"id": "half", "created_at": 2, "message": "\ud83d alone \udc00", "level": "\ud800"},
    {"id": "ünï\u2028\x00\n", "created_at": 2, "message": "日本 😀 \u2028\u0000\r\n\\", "type": "tÿpe"},
    {"id": "deep", "created_at": 3, "data": {"a": {"b": {"c": [1, {"d": None}]}}, "step": 4, "": 1, "id": 7}},
    {"id": "null", "created_at": None, "level": None, "message": None, "type": None, "data": None},
    {"id": "bare"},
    {"id": "types", "created_at": "2026-01-01T00:00:00Z", "message": 5, "level": 3, "type": {}, "data": [1]},
    {"id": "false", "created_at": True, "data": {"step": "5", "train_loss": "0.5", "ok": True}},
]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder of each kind."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(s3))
    (tmp_path / "place").mkdir()
    return Place(request.param, folder=tmp_path / "place", s3=s3 if request.param != "folder" else None)


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each form of an archive: its name, and the task's options."""
    name, options = FORMS[request.param]
    return name, dict(options)


def written(events: list[Any]) -> list[str]:
    """Events as text: two dicts with NaN in them are never equal."""
    return [json.dumps(event) for event in events]


def script(events: list[dict[str, Any]], *, status: str = "running") -> list[dict[str, Any]]:
    return [{"events": events, "status_timeline": [(0, status)], "fill": False}]


def check(place: Place, name: str, manifest: dict[str, Any], events: list[Any]) -> None:
    """The archive holds these events and is what its manifest says, and nothing lies beside it."""
    assert json.loads(place.read(f"{name}.manifest.json")) == manifest
    assert written(read_archive(place.path(name))) == written(events)
    whole = b""
    for part in manifest["parts"]:
        content = place.read(part["name"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part["bytes"], part["sha256"])
        whole += content
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (manifest["bytes"], manifest["sha256"])
    assert sum(part["count"] for part in manifest["parts"]) == manifest["count"] == len(events)
    named = {part["name"] for part in manifest["parts"]} | {f"{name}.manifest.json"}
    assert set(place.names()) == named | ({manifest["report"]} if manifest["report"] else set())


# what goes in comes out


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_log_reads_back_oldest_first_each_event_once_whatever_the_vendor(
    form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"ended": True, "steps": 130}])
    connect(sim, page_size=50)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    events = sim.list_events(sim.job_id)
    assert sim.count(route="events") > (1 if len(events) > 50 and sim.dialect.pages else 0)
    check(place, name, manifest, events)
    assert (manifest["complete"], manifest["outcome"]) == (True, "succeeded")
    ids = EventIds()
    known = [ids.id_of(event) for event in events]
    assert (manifest["first_event"]["id"], manifest["last_event"]["id"]) == (known[0], known[-1])


@pytest.mark.parametrize("vendor", ["openai"])
def test_the_same_log_gives_the_same_bytes_again_and_in_an_empty_place(
    form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"ended": True}])
    connect(sim)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, sim.list_events(sim.job_id))
    files = place.files()
    assert archived(sim.job_id, place.path(name), **options) == manifest
    assert place.files() == files
    place.remove(*files)
    assert archived(sim.job_id, place.path(name), **options) == manifest
    assert place.files() == files


@pytest.mark.parametrize("place", ["folder"], indirect=True)
@pytest.mark.parametrize("vendor", ["openai", "nebius"])
def test_what_no_sane_server_sends_reads_back_as_it_came(
    form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(ODD_EVENTS))
    connect(sim)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, ODD_EVENTS)
    assert archived(sim.job_id, place.path(name), **options) == manifest


@pytest.mark.parametrize("place", ["folder"], indirect=True)
@pytest.mark.parametrize("vendor", ["together"])
def test_events_without_ids_are_all_kept_and_equal_ones_counted(
    form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    same = {"created_at": "2026-01-01T00:00:00Z", "message": "Again"}
    events = [same, {"message": "A"}, same, {**same, "id": None}, {**same, "id": ""}, same]
    sim = simulated(script(events))
    connect(sim)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, events)
    for event in (same, {"message": "B"}, same):
        sim.find_job(sim.job_id).add_event(dict(event), shows_at=sim.now)
        events.append(event)
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, events)


@pytest.mark.parametrize("place", ["folder"], indirect=True)
@pytest.mark.parametrize("vendor", ["openai", "together"])
def test_an_empty_log_is_an_archive_of_no_events(
    form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"status_timeline": [(0, "running")]}])
    connect(sim)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, [])
    assert (manifest["first_event"], manifest["last_event"], manifest["resume"]) == (None, None, None)
    sim.add_event(sim.job_id, {"message": "It begins"})
    manifest = archived(sim.job_id, place.path(name), **options)
    check(place, name, manifest, sim.list_events(sim.job_id))
