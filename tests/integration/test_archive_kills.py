"""Archiving tasks that are killed with SIGKILL: run again, the archive is what it would have been."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive
from airflow_ft_events.errors import FineTuningArchiveError
from tests.integration.archive_places import (
    PLACES,
    Place,
    archived,
    aws_connection,
    events_of,
    s3_server,
)
from tests.integration.archive_runs import Runs, task_runs

EVENTS, KILLS = 20_000, 10
WHOLE: dict[str, Any] = {}
ADDING: dict[str, Any] = {"incremental": True}


@pytest.fixture(scope="module")
def s3() -> str:
    return s3_server()


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with task_runs() as running:
        yield running


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE_STORE", aws_connection(s3))
    (tmp_path / "place").mkdir()
    return Place(request.param, folder=tmp_path / "place", s3=s3 if request.param == "s3" else None)


def check(place: Place, name: str, events: list[Any]) -> None:
    """The archive is whole: its events, the sha256 of each file and of all, and nothing lies beside it."""
    files = {path: content for path, content in place.files().items() if path.startswith(name)}
    manifest = json.loads(files.pop(f"{name}.manifest.json"))
    assert read_archive(place.path(name)) == events
    whole = hashlib.sha256()
    for part in manifest["parts"]:
        content = files.pop(part["name"])
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        whole.update(content)
    assert whole.hexdigest() == manifest["sha256"]
    assert manifest["count"] == len(events)
    if manifest["report"]:
        del files[manifest["report"]]
    assert files == {}


RUNS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "first": ([], WHOLE),
    "first-incremental": ([], ADDING),
    "first-incremental-with-report": ([], {"report": True, **ADDING}),
    "replace": ([WHOLE], WHOLE),
    "replace-one-with-a-report": ([{"report": True}], WHOLE),
    "incremental": ([ADDING], ADDING),
    "incremental-becomes-whole": ([ADDING, ADDING], WHOLE),
    "whole-becomes-incremental": ([WHOLE], ADDING),
}
# in S3, where each takes long, those that do all that the others do
IN_S3 = (
    "first-incremental-with-report",
    "replace-one-with-a-report",
    "incremental-becomes-whole",
    "whole-becomes-incremental",
)


@pytest.mark.parametrize(
    ("place", "run"),
    [*(("folder", run) for run in RUNS), *(("s3", run) for run in IN_S3)],
    indirect=["place"],
)
def test_a_task_killed_at_any_storage_operation_is_repaired_by_the_next_run(
    run: str, place: Place, runs: Runs, simulated: Any, connect: Any
) -> None:
    before, killed = RUNS[run]
    for point in range(100):
        sim = simulated([{"events": events_of(20), "status_timeline": [(0, "running")], "fill": False}])
        connect(sim)
        name, old = f"{point}.jsonl", []
        for options in before:
            archived(sim.job_id, place.path(name), **options)
            old = sim.list_events(sim.job_id)
            for event in events_of(5, start=len(old)):
                sim.find_job(sim.job_id).add_event(event, shows_at=sim.now)
        events = sim.list_events(sim.job_id)
        runs.start(sim.job_id, place.path(name), die_at=point, **killed)
        died = runs.end()
        assert died in (0, -9)
        if before and "incremental" in killed:  # readers see the old archive or the new one
            assert read_archive(place.path(name)) in (old, events)
        elif died:
            with contextlib.suppress(FineTuningArchiveError):  # between log and manifest
                assert read_archive(place.path(name)) in (old, events)
        archived(sim.job_id, place.path(name), **killed)
        check(place, name, events)
        sim.stop()
        if not died:
            assert point >= 3, "the task was to die before, between and after two operations at least"
            return
    raise AssertionError("the task has no end")


def test_a_task_killed_at_ten_drawn_moments_leaves_an_archive_that_the_next_run_makes_exact(
    place: Place, runs: Runs, simulated: Any, connect: Any, clock: Any
) -> None:
    seed = int(os.environ.get("ARCHIVE_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"ARCHIVE_KILL_SEED={seed}")
    rng, each, killed = random.Random(seed), EVENTS // KILLS, 0
    events = [
        {**event, "data": {"step": number, "train_loss": number / 7}, "appears": number // each}
        for number, event in enumerate(events_of(EVENTS))
    ]
    sim = simulated([{"events": events, "status_timeline": [(0, "running")], "fill": False}])
    connect(sim)
    for kill in range(KILLS):
        visible = sim.list_events(sim.job_id)
        assert len(visible) == (kill + 1) * each
        sim.reset_requests()
        # in turn while it reads, and while it writes or soon after
        while_reading = kill % 2 == 0
        pages = each // 100
        pause = 0.0 if while_reading else rng.random() * 0.3
        if while_reading:
            pages = rng.randint(1, pages - 10)
        runs.start(sim.job_id, place.path("log.jsonl"), **ADDING)
        while sim.count(route="events") < pages and runs.goes_on():
            pass
        time.sleep(pause)
        runs.kill()
        killed += runs.end() == -9
        runs.start(sim.job_id, place.path("log.jsonl"), **ADDING)
        assert runs.end() == 0
        check(place, "log.jsonl", visible)
        clock.sleep(1)
    assert killed >= KILLS // 2
