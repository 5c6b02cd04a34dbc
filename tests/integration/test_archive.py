"""The archive of a log, in a folder and on an S3 server: what goes in comes out, whatever a server sends."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive
from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import EventIds
from tests.integration.archive_places import PLACES, Place, archived, aws_connection, events_of, s3_server
from tests.integration.conftest import Family

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
def s3() -> str:
    return s3_server()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder of each kind."""
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE_STORE", aws_connection(s3))
    (tmp_path / "place").mkdir()
    return Place(request.param, folder=tmp_path / "place", s3=s3 if request.param != "folder" else None)


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each form of an archive: its name, and the task's options."""
    name, options = FORMS[request.param]
    return name, dict(options)


# storage knows nothing of forms: in S3 one that is whole and one in parts will do
FORMS_AND_PLACES = pytest.mark.parametrize(
    ("form", "place"),
    [*((form, "folder") for form in FORMS), ("jsonl", "s3"), ("incremental-parquet", "s3")],
    indirect=True,
)


@pytest.fixture
def serve(simulated: Any, connect: Any) -> Callable[[list[Any]], Any]:
    """Serve these events of job ftjob-1 from now on."""

    def start(events: list[Any]) -> Any:
        sim = simulated([{**script(events)[0], "job_id": "ftjob-1"}])
        connect(sim)
        return sim

    return start


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
    named |= {manifest["report"]} if manifest["report"] else set()
    named |= {manifest["metrics"]["name"]} if "metrics" in manifest else set()
    assert set(place.names()) == named


# what goes in comes out


@pytest.mark.every_family
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


@FORMS_AND_PLACES
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


# growing, replacing, keeping


ADDS = pytest.mark.parametrize("incremental", [False, True], ids=["whole", "incremental"])
LOCAL = pytest.mark.parametrize("place", ["folder"], indirect=True)


def grow(sim: Any, count: int) -> list[Any]:
    for number in range(count):
        sim.add_event(sim.job_id, {"message": f"Grown {number}"})
    events: list[Any] = sim.list_events(sim.job_id)
    return events


@pytest.mark.every_family
@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_longer_log_takes_the_place_of_a_shorter_one(
    form: Any, place: Place, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated(script(events_of(30)))
    connect(sim, page_size=7)
    name, options = form
    rounds = [0, 1, 25, 0, 40]
    for added in rounds:
        events = grow(sim, added)
        check(place, name, archived(sim.job_id, place.path(name), **options), events)
    manifest = archived(sim.job_id, place.path(name), **options)
    assert len(manifest["parts"]) == (4 if options.get("incremental") else 1)


@pytest.mark.every_family
def test_an_incremental_run_reads_and_writes_only_what_is_new(
    family: Family, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(500)))
    connect(sim)
    archived(sim.job_id, place.path("log.jsonl"), incremental=True)
    before, asked = place.files(), sim.count(route="events")
    events = grow(sim, 3)
    manifest = archived(sim.job_id, place.path("log.jsonl"), incremental=True)
    # one that goes on from a cursor may not have known it: its first page tells, beside an empty last one
    assert sim.count(route="events") == asked + (3 if family.oldest_first and family.pages else 1)
    check(place, "log.jsonl", manifest, events)
    assert [part["count"] for part in manifest["parts"]] == [500, 3]
    after = place.files()
    assert {name: after[name] for name in before if ".parts/" in name}.items() <= before.items()


def test_an_incremental_run_without_new_events_changes_nothing(
    place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated([{"ended": True}])
    connect(sim)
    manifest = archived(sim.job_id, place.path("log.jsonl"), incremental=True)
    files = place.files()
    assert archived(sim.job_id, place.path("log.jsonl"), incremental=True) == manifest
    assert place.files() == files


def test_an_archive_may_go_from_whole_to_incremental_and_back(
    place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(10)))
    connect(sim)
    counts = []
    for incremental in (False, True, True, False, False, True):
        events = grow(sim, 4)
        manifest = archived(sim.job_id, place.path("log.jsonl"), incremental=incremental)
        check(place, "log.jsonl", manifest, events)
        counts.append([part["count"] for part in manifest["parts"]])
    assert counts == [[14], [14, 4], [14, 4, 4], [26], [30], [30, 4]]


@pytest.mark.every_family
@LOCAL
@ADDS
def test_what_the_server_has_forgotten_stays_in_the_archive(
    incremental: bool, place: Place, serve: Any
) -> None:
    serve(events_of(40))
    archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    serve(events_of(30, start=25))
    manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    check(place, "log.jsonl", manifest, events_of(55))
    assert archived("ftjob-1", place.path("log.jsonl"), incremental=incremental) == manifest


@LOCAL
@ADDS
def test_a_server_that_has_forgotten_everything_takes_nothing_from_the_archive(
    incremental: bool, place: Place, serve: Any, logs: Any
) -> None:
    serve(events_of(40))
    archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    serve(events_of(3, start=90))
    for _ in range(2):
        manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
        check(place, "log.jsonl", manifest, events_of(40) + events_of(3, start=90))
    assert "no longer has all events" in logs.text


@LOCAL
@ADDS
def test_an_event_that_is_gone_from_the_middle_of_the_log_stays(
    incremental: bool, place: Place, serve: Any
) -> None:
    events = events_of(40)
    serve(events)
    archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    later = [event for event in events_of(45) if event["id"] != "ev-7"]
    serve(later)
    manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    check(place, "log.jsonl", manifest, events_of(45))


@LOCAL
@ADDS
def test_a_server_that_makes_up_new_ids_at_each_reading_does_not_double_the_archive(
    incremental: bool, place: Place, serve: Any
) -> None:
    for round_ in range(3):
        events = events_of(12 + 2 * round_)
        serve([{**event, "id": f"{round_}-{number}"} for number, event in enumerate(events)])
        manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
        found = [event["message"] for event in read_archive(place.path("log.jsonl"))]
        assert found == [event["message"] for event in events]
        assert manifest["count"] == len(events)


# overwrite


def test_keep_leaves_a_complete_archive_and_asks_the_server_nothing(
    place: Place, simulated: Any, connect: Any, logs: Any
) -> None:
    sim = simulated([{"ended": True}])
    connect(sim)
    manifest = archived(sim.job_id, place.path("log.jsonl"))
    files = place.files()
    grow(sim, 3)
    sim.reset_requests()
    assert archived(sim.job_id, place.path("log.jsonl"), overwrite="keep") == manifest
    assert (place.files(), sim.requests) == (files, [])
    assert "is kept" in logs.text


@LOCAL
def test_keep_replaces_an_archive_that_is_not_complete_or_lost_its_file(
    place: Place, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    clock.sleep(100)
    assert archived(sim.job_id, place.path("log.jsonl"))["complete"] is False
    clock.sleep(5_000)
    manifest = archived(sim.job_id, place.path("log.jsonl"), overwrite="keep")
    assert manifest["complete"] is True
    check(place, "log.jsonl", manifest, sim.list_events(sim.job_id))
    place.remove("log.jsonl")
    assert archived(sim.job_id, place.path("log.jsonl"), overwrite="keep") == manifest
    check(place, "log.jsonl", manifest, sim.list_events(sim.job_id))


def test_error_refuses_another_log_and_takes_the_same_one(place: Place, simulated: Any, connect: Any) -> None:
    sim = simulated(script(events_of(5)))
    connect(sim)
    manifest = archived(sim.job_id, place.path("log.jsonl"), overwrite="error")
    assert archived(sim.job_id, place.path("log.jsonl"), overwrite="error") == manifest
    files = place.files()
    grow(sim, 1)
    with pytest.raises(
        FineTuningArchiveError, match=r"was left as it is: .* already is an archive of 5 events.*6 events now"
    ):
        archived(sim.job_id, place.path("log.jsonl"), overwrite="error")
    assert place.files() == files


@LOCAL
def test_error_lets_the_same_log_become_complete(
    place: Place, simulated: Any, connect: Any, clock: Any
) -> None:
    sim = simulated(script(events_of(5)))
    connect(sim)
    assert archived(sim.job_id, place.path("log.jsonl"), overwrite="error")["complete"] is False
    sim.set_status(sim.job_id, "succeeded")
    clock.sleep(5_000)
    assert archived(sim.job_id, place.path("log.jsonl"), overwrite="error")["complete"] is True
    assert json.loads(place.read("log.jsonl.manifest.json"))["complete"] is True


@pytest.mark.parametrize("overwrite", ["keep", "error"])
@pytest.mark.parametrize("form", ["jsonl", "gzip", "parquet"], indirect=True)
@pytest.mark.parametrize("events", [ODD_EVENTS, events_of(5)], ids=["odd", "plain"])
@LOCAL
def test_a_retry_after_a_crash_between_log_and_manifest_goes_through(
    overwrite: str, events: list[Any], form: Any, place: Place, simulated: Any, connect: Any
) -> None:
    name, options = form
    sim = simulated(script(events))
    connect(sim)
    archived(sim.job_id, place.path(name), overwrite=overwrite, **options)
    place.remove(f"{name}.manifest.json")
    later = grow(sim, 2)
    check(place, name, archived(sim.job_id, place.path(name), overwrite=overwrite, **options), later)


@pytest.mark.parametrize("overwrite", ["keep", "error"])
@pytest.mark.parametrize(
    "content", [b"my notes", b'{"id": "mine"}\n', b"\x1f\x8b\x08 damaged", b"PAR1 damaged", b"[1]\n"]
)
@LOCAL
def test_keep_and_error_never_replace_a_foreign_file(
    overwrite: str, content: bytes, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(5)))
    connect(sim)
    place.write("log.jsonl", content)
    with pytest.raises(FineTuningArchiveError, match="a file that this task did not write"):
        archived(sim.job_id, place.path("log.jsonl"), overwrite=overwrite)
    assert place.files() == {"log.jsonl": content}


@LOCAL
def test_error_does_not_replace_a_log_that_somebody_edited(
    place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(5)))
    connect(sim)
    archived(sim.job_id, place.path("log.jsonl"))
    place.write("log.jsonl", b'{"id": "edited"}\n')
    with pytest.raises(FineTuningArchiveError, match="a file that this task did not write"):
        archived(sim.job_id, place.path("log.jsonl"), overwrite="error")
    assert place.read("log.jsonl") == b'{"id": "edited"}\n'


@pytest.mark.parametrize(
    "options", [{"overwrite": "keep"}, {"overwrite": "error"}, {"incremental": True}], ids=str
)
def test_the_archive_of_another_job_is_refused_before_anything_is_asked(
    options: Any, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(2, ended=True)
    connect(sim)
    one, other = sim.job_ids
    archived(one, place.path("log.jsonl"))
    files = place.files()
    sim.reset_requests()
    with pytest.raises(
        FineTuningArchiveError, match=f"archive of job {one}, but this is job {other}"
    ) as caught:
        archived(other, place.path("log.jsonl"), **options)
    assert caught.value.job_id == other
    assert (place.files(), sim.requests) == (files, [])


@LOCAL
def test_replace_replaces_the_archive_of_another_job_and_warns(
    place: Place, simulated: Any, connect: Any, logs: Any
) -> None:
    sim = simulated(2, ended=True)
    connect(sim)
    one, other = sim.job_ids
    archived(one, place.path("log.jsonl"), incremental=True)
    check(place, "log.jsonl", archived(other, place.path("log.jsonl")), sim.list_events(other))
    assert f"belongs to job {one} and is replaced" in logs.text


# damage


@FORMS_AND_PLACES
def test_a_damaged_archive_is_not_read(form: Any, place: Place, simulated: Any, connect: Any) -> None:
    sim = simulated(script(events_of(20)))
    connect(sim)
    name, options = form
    manifest = archived(sim.job_id, place.path(name), **options)
    part = manifest["parts"][-1]["name"]
    good = place.read(part)
    damaged = bytes([*good[:-1], good[-1] ^ 1])
    place.write(part, damaged)
    with pytest.raises(FineTuningArchiveError, match="does not match its manifest: the sha256"):
        read_archive(place.path(name))
    # the next run mends it, though the log is the same and the file has its size
    check(place, name, archived(sim.job_id, place.path(name), **options), events_of(20))
    place.remove(part)
    with pytest.raises(FineTuningArchiveError, match=r"no .* at"):
        read_archive(place.path(name))
    check(place, name, archived(sim.job_id, place.path(name), **options), events_of(20))


@LOCAL
@ADDS
def test_what_a_damaged_archive_has_left_is_put_together_with_what_the_server_has(
    incremental: bool, place: Place, serve: Any
) -> None:
    for count in (10, 20, 30):
        serve(events_of(count))
        manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=True)
    assert len(manifest["parts"]) == 3
    place.remove(manifest["parts"][1]["name"])
    files = place.files()
    serve(events_of(10, start=25))
    with pytest.raises(FineTuningArchiveError, match=r"together have 25 events, while the archive had 30"):
        archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    assert place.files() == files
    serve(events_of(30, start=5))
    manifest = archived("ftjob-1", place.path("log.jsonl"), incremental=incremental)
    left = events_of(10) + events_of(10, start=20)
    check(place, "log.jsonl", manifest, left + events_of(10, start=10) + events_of(5, start=30))


@LOCAL
def test_a_log_without_its_new_manifest_loses_nothing_although_the_server_forgot(
    place: Place, serve: Any
) -> None:
    serve(events_of(10))
    archived("ftjob-1", place.path("log.jsonl"))
    old = place.read("log.jsonl.manifest.json")
    serve(events_of(10, start=8))
    archived("ftjob-1", place.path("log.jsonl"))
    place.write("log.jsonl.manifest.json", old)  # as after a kill between the two
    serve(events_of(4, start=20))
    manifest = archived("ftjob-1", place.path("log.jsonl"))
    check(place, "log.jsonl", manifest, events_of(18) + events_of(4, start=20))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object"),
        (b'{"manifest_version": 2}', "version is 2"),
        (b'{"manifest_version": 1}', "job_id"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe", ""),
    ],
)
@LOCAL
def test_a_file_that_is_not_a_manifest_is_named_and_left(
    content: bytes, problem: str, place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    place.write("log.jsonl.manifest.json", content)
    gc.collect()  # what other tests left behind must not be cleared away at the bottom of the stack
    with pytest.raises(FineTuningArchiveError, match=rf"is not the manifest of an archive \(.*{problem}"):
        archived(sim.job_id, place.path("log.jsonl"))
    assert place.files() == {"log.jsonl.manifest.json": content}


@LOCAL
def test_a_forged_manifest_reads_and_removes_nothing_outside(
    place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(3)))
    connect(sim)
    manifest = archived(sim.job_id, place.path("log.jsonl"))
    for name in ("../secret", "/etc/passwd", "a/../../secret", "..\\secret"):
        manifest["parts"][0]["name"] = name
        place.write("log.jsonl.manifest.json", json.dumps(manifest).encode())
        with pytest.raises(FineTuningArchiveError, match="leads out of the archive's folder"):
            read_archive(place.path("log.jsonl"))
    # of another archive in the same folder, whose files are not ours
    other = json.dumps({"id": "x"}).encode()
    place.write("other.jsonl", other)
    manifest["parts"][0] |= {"name": "other.jsonl", "bytes": len(other), "count": 1}
    manifest["parts"][0]["sha256"] = hashlib.sha256(other).hexdigest()
    manifest["report"] = "other.jsonl"
    place.write("log.jsonl.manifest.json", json.dumps(manifest).encode())
    archived(sim.job_id, place.path("log.jsonl"))
    assert place.read("other.jsonl") == other


def test_what_killed_runs_left_is_removed_and_nothing_else(
    place: Place, simulated: Any, connect: Any
) -> None:
    sim = simulated(script(events_of(3)))
    connect(sim)
    left = [
        "log.jsonl.parts/00000-0123456789ab.jsonl",
        "log.jsonl.parts/.00007-0123456789ab.jsonl.0123456789abcdef0123456789abcdef.writing",
        "log.jsonl.report.html",
    ]
    if place.kind == "folder":
        left.append(".log.jsonl.0123456789abcdef0123456789abcdef.writing")
        left.append(".log.jsonl.manifest.json.0123456789abcdef0123456789abcdef.writing")
    others = ["log.jsonl.parts/README", "log.jsonl.old", "log2.jsonl.parts/00000-0123456789ab.jsonl"]
    for name in (*left, *others):
        place.write(name, b"x")
    for incremental in (False, True):
        archived(sim.job_id, place.path("log.jsonl"), incremental=incremental)
        assert set(place.names()) == {*others, "log.jsonl", "log.jsonl.manifest.json"}
        place.write(left[0], b"x")
    archived(sim.job_id, place.path("log.jsonl"), incremental=True)
    assert set(place.names()) == {*others, "log.jsonl", "log.jsonl.manifest.json"}


def test_there_is_no_archive_where_none_is(place: Place) -> None:
    with pytest.raises(FineTuningArchiveError, match=r"There is no .* at .*log\.jsonl"):
        read_archive(place.path("log.jsonl"))


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n", b"[" * 100_000, b'{"a": 1}\n{"b"'])
@LOCAL
def test_a_file_of_something_else_is_not_an_archive(content: bytes, place: Place) -> None:
    place.write("log.jsonl", content)
    with pytest.raises(FineTuningArchiveError, match=r"its event \d is not a JSON object"):
        read_archive(place.path("log.jsonl"))
