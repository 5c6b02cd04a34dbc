"""The folder that an archive lies in, where the store shows uploads before they are complete."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from airflow_ft_events.archive.storage import ObjectStorage, TellingStorage, told_of
from airflow_ft_events.errors import FineTuningArchiveError


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> ObjectStorage:
    return ObjectStorage(
        fsspec.filesystem("memory"), protocol="memory", folder=f"/{request.node.name}/a[b]*?"
    )


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_file_is_moved_into_its_place_whatever_its_name(
    size: int, storage: ObjectStorage, tmp_path: Path
) -> None:
    for content in (b"old", b"n" * size):
        (tmp_path / "local").write_bytes(content)
        storage.put(tmp_path / "local", "parts/[x]*.jsonl")
        assert storage.size("parts/[x]*.jsonl") == len(content)
        assert b"".join(storage.blocks("parts/[x]*.jsonl")) == content
        assert list(storage.names_in("parts")) == ["parts/[x]*.jsonl"]
    storage.remove("parts/[x]*.jsonl")
    storage.remove("parts/[x]*.jsonl")
    assert storage.size("parts/[x]*.jsonl") is None
    assert list(storage.names_in("parts")) == []


def test_leftovers_of_a_killed_task_are_removed_when_the_file_is_written(
    storage: ObjectStorage, tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(b"whole")
    storage.put(tmp_path / "local", "parts/.log.jsonl.0123.writing")
    storage.put(tmp_path / "local", "parts/.other.jsonl.0123.writing")
    storage.put(tmp_path / "local", "parts/log.jsonl")
    assert sorted(storage.names_in("parts")) == ["parts/.other.jsonl.0123.writing", "parts/log.jsonl"]


def test_a_folder_is_not_a_file(storage: ObjectStorage, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")
    storage.put(tmp_path / "local", "parts/log.jsonl")
    assert storage.size("parts") is None


def test_a_store_s_fault_is_one_line_without_the_password_of_a_signed_url() -> None:
    fault = RuntimeError("400, message='Bad', url='https://store/log?sig=abc%3D&se=2026'\nmore\x1b[31m")
    assert told_of(fault) == "RuntimeError: 400, message='Bad', url='https://store/log?…' more [31m"


def test_a_fault_while_reading_is_told_with_path_and_job(storage: ObjectStorage) -> None:
    telling = TellingStorage(storage, about=" (job ftjob-1)")
    with pytest.raises(
        FineTuningArchiveError, match=r"Cannot read memory://.*/none \(job ftjob-1\): FileNot"
    ):
        list(telling.blocks("none"))
