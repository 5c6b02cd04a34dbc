"""What happens to archives at three in the morning: full disks, dead stores, tasks that should be dead."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive
from airflow_ft_events.archive.storage import LocalStorage, ObjectStorage
from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.errors import FineTuningArchiveError, FineTuningInputError
from tests.integration.archive_places import (
    PLACES,
    SECRET,
    Place,
    archived,
    aws_connection,
    events_of,
    s3_server,
)
from tests.integration.archive_runs import task_runs

ADDS = pytest.mark.parametrize("incremental", [False, True], ids=["whole", "incremental"])


@pytest.fixture(scope="module")
def s3() -> str:
    return s3_server()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE_STORE", aws_connection(s3))
    (tmp_path / "place").mkdir()
    return Place(request.param, folder=tmp_path / "place", s3=s3 if request.param == "s3" else None)


@pytest.fixture
def sim(simulated: Any, connect: Any) -> Any:
    """A running job with 20 events."""
    sim = simulated([{"events": events_of(20), "status_timeline": [(0, "running")], "fill": False}])
    connect(sim)
    return sim


def grow(sim: Any, count: int = 5) -> list[Any]:
    for event in events_of(count, start=len(sim.list_events(sim.job_id))):
        sim.find_job(sim.job_id).add_event(event, shows_at=sim.now)
    events: list[Any] = sim.list_events(sim.job_id)
    return events


@contextlib.contextmanager
def crossing_is_told(job_id: str) -> Iterator[None]:
    """The task may go through; if it does not, it says that another one wrote its archive."""
    faults = []
    try:
        yield
    except FineTuningArchiveError as error:
        faults.append(error)
    for fault in faults:
        assert "was written by another run while this one worked on it" in str(fault)
        assert fault.job_id == job_id


class Interruption:
    """Does something at the nth time that a file is put, before or after it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, nth: int, act: Callable[[], None], *, after: bool
    ) -> None:
        self.count, self.busy = 0, False
        for kind in (LocalStorage, ObjectStorage):
            original = kind.put

            def put(storage: Any, local: Path, name: str, original: Any = original) -> None:
                if not after:
                    self._pass(nth, act)
                original(storage, local, name)
                if after:
                    self._pass(nth, act)

            monkeypatch.setattr(kind, "put", put)

    def _pass(self, nth: int, act: Callable[[], None]) -> None:
        if self.busy:
            return
        self.count += 1
        if self.count == nth:
            self.busy = True
            act()
            self.busy = False


@ADDS
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("archived_before", [False, True], ids=["new", "old"])
def test_two_tasks_that_write_one_archive_leave_a_whole_one(
    archived_before: bool, nth: int, after: bool, incremental: bool, place: Place, sim: Any, monkeypatch: Any
) -> None:
    path = place.path("log.jsonl")
    if archived_before:
        archived(sim.job_id, path, incremental=incremental)
        grow(sim)

    def another_task() -> None:
        grow(sim)
        archived(sim.job_id, path, incremental=incremental)

    crossing = Interruption(monkeypatch, nth, another_task, after=after)
    with crossing_is_told(sim.job_id):
        archived(sim.job_id, path, incremental=incremental)
    assert crossing.count >= nth
    events = sim.list_events(sim.job_id)
    assert read_archive(path) in (events, events[:-5])
    archived(sim.job_id, path, incremental=incremental)
    assert read_archive(path) == events


def test_a_task_that_should_be_dead_does_not_undo_what_its_retry_wrote(
    place: Place, sim: Any, monkeypatch: Any
) -> None:
    path, manifests = place.path("log.jsonl"), []

    def retry(*_: object) -> str:
        grow(sim)
        if not manifests:
            manifests.append(None)
            manifests[0] = archived(sim.job_id, path)
        return "<html></html>"

    monkeypatch.setattr("airflow_ft_events.report.figure.report_page", lambda *_, **__: retry())
    with pytest.raises(FineTuningArchiveError, match="was written by another run"):
        archived(sim.job_id, path, report=True)
    assert read_archive(path) == events_of(25)


@pytest.mark.parametrize("incremental", [False, True])
def test_readers_see_the_old_events_or_the_new_ones_while_the_archive_is_replaced(
    incremental: bool, place: Place, sim: Any
) -> None:
    path, stop, seen, faults = place.path("log.jsonl"), threading.Event(), set(), []
    archived(sim.job_id, path)

    def read() -> None:
        try:
            while not stop.is_set():
                events = read_archive(path)
                assert events == events_of(len(events))
                seen.add(len(events))
        except BaseException as fault:
            faults.append(fault)

    with driven_by(Clock()):  # the reader's pauses are real here
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(25 if place.kind == "folder" else 8):
            grow(sim)
            archived(sim.job_id, path, incremental=incremental and number % 3 != 2)
        stop.set()
        reader.join()
    assert faults == []
    assert seen <= set(range(20, 200, 5))


@ADDS
@pytest.mark.parametrize("nth", [1, 2])
def test_a_store_that_fails_in_the_middle_loses_nothing_and_is_named(
    nth: int, incremental: bool, place: Place, sim: Any, monkeypatch: Any
) -> None:
    path = place.path("log.jsonl")
    archived(sim.job_id, path, incremental=incremental)
    events = grow(sim)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        Interruption(patched, nth, fail, after=False)
        with pytest.raises(FineTuningArchiveError) as caught:
            archived(sim.job_id, path, incremental=incremental)
    told = str(caught.value)
    assert "Cannot write" in told
    assert "log.jsonl" in told
    assert sim.job_id in told
    assert "No space left on device" in told
    assert "then run this again" in told
    if incremental or nth == 1:
        assert read_archive(path) == events_of(20)
    archived(sim.job_id, path, incremental=incremental)
    assert read_archive(path) == events


def test_an_s3_server_that_is_gone_is_named_with_path_job_and_connection(
    sim: Any, monkeypatch: Any, logs: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setenv("AIRFLOW_CONN_GONE", aws_connection(url))
    with pytest.raises(FineTuningArchiveError) as caught:
        archived(sim.job_id, "s3://gone@bucket/logs/log.jsonl")
    told = str(caught.value)
    assert "s3://bucket/logs/log.jsonl" in told
    assert f"job {sim.job_id}, connection 'gone'" in told
    assert "Could not connect" in told
    assert SECRET not in told + logs.text


def test_a_bucket_that_is_not_there_is_named(s3: str, sim: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE_STORE", aws_connection(s3))
    with pytest.raises(FineTuningArchiveError, match=r"Cannot write s3://no-such-bucket/log\.jsonl"):
        archived(sim.job_id, "s3://archive_store@no-such-bucket/log.jsonl")


def test_storage_conn_id_says_which_connection_and_wins_over_the_path(
    s3: str, sim: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STORE", aws_connection(s3))
    place = Place("s3", folder=Path("/nowhere"), s3=s3)
    for before_the_at in ("", "aws_default@"):
        path = f"s3://{before_the_at}{place.bucket}/root.jsonl"
        archived(sim.job_id, path, storage_conn_id="store")
        assert read_archive(path, storage_conn_id="store") == events_of(20)


@pytest.mark.parametrize("protocol", ["nosuch", "memory"])
def test_a_protocol_that_airflow_does_not_know_is_named(protocol: str, sim: Any) -> None:
    with pytest.raises(FineTuningInputError, match=rf"{protocol}://bucket/log\.jsonl .* cannot be used"):
        archived(sim.job_id, f"{protocol}://bucket/log.jsonl")


@pytest.mark.parametrize(
    "name",
    [
        "a b/c d.jsonl",
        "ünï/日本 😀.jsonl",
        "[a]/*?/{x}.jsonl",
        "50%20/a%2Fb.jsonl",
        "a#b/c?d=e.jsonl",
        ".jsonl",
    ],
)
@ADDS
def test_odd_names_are_names(name: str, incremental: bool, place: Place, sim: Any) -> None:
    for _ in range(2):
        grow(sim)
        archived(sim.job_id, place.path(name), incremental=incremental)
        assert read_archive(place.path(name)) == sim.list_events(sim.job_id)
    assert all(found.startswith(name) for found in place.names())


@pytest.mark.parametrize("below", ["file/log.jsonl", "folder", "x" * 300 + ".jsonl"])
def test_a_folder_that_cannot_be_written_is_named(below: str, tmp_path: Path, sim: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FineTuningArchiveError, match=rf"Cannot .*{below[-10:]}.* \(job {sim.job_id}\)"):
        archived(sim.job_id, str(tmp_path / below))
    assert not list(tmp_path.rglob("*.writing"))


def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, sim: Any) -> None:
    path = tmp_path / "log.jsonl"
    archived(sim.job_id, path)
    grow(sim, 3_000)
    with task_runs() as runs:
        runs.start(sim.job_id, str(path), most_bytes=100_000)
        assert runs.end() == 1
    assert read_archive(path) == events_of(20)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["log.jsonl", "log.jsonl.manifest.json"]
    archived(sim.job_id, path)
    assert read_archive(path) == events_of(3_020)
