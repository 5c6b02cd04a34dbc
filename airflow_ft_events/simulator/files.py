"""Files: those that clients upload, within limits, and the results of jobs that have succeeded."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_ft_events.simulator.jobs import SimulatedJob, random_id

MOST_FILES = 1_000
MOST_BYTES = 128 * 1024 * 1024
RESULTS = "fine-tune-results"
RESULTS_NAME = "step_metrics.csv"
_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_mean_token_accuracy": "train_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""What OpenAI's result files always have: the number of an event, and its column."""
_LEFT_OUT = frozenset({"total_steps"})


class FilesFullError(ValueError):
    """There is no room for another file; the message says what the limit is."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """
    One file.

    :param file_id: its id.
    :param filename: its name, as the client told it.
    :param purpose: what it is for.
    :param created_at: seconds since 1970.
    :param content: its bytes; None while a client has announced it and not sent it.
    """

    file_id: str
    filename: str
    purpose: str
    created_at: int
    content: bytes | None


@dataclass(kw_only=True)
class FileStore:
    """
    The files that clients uploaded.

    :param ids: source of their ids.
    :param most_files: how many are kept at most; default 1,000.
    :param most_bytes: how many bytes they have together at most; default 128 MiB.
    """

    ids: random.Random
    most_files: int = MOST_FILES
    most_bytes: int = MOST_BYTES
    _files: dict[str, StoredFile] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)

    def add(self, *, filename: str, purpose: str, created_at: int, content: bytes | None) -> StoredFile:
        """
        Keep a new file.

        :param filename: its name.
        :param purpose: what it is for.
        :param created_at: seconds since 1970.
        :param content: its bytes; None if they follow.
        :returns: the file.
        :raises FilesFullError: if there is no room for it.
        """
        file = StoredFile(
            file_id=random_id(self.ids, "file-"),
            filename=filename,
            purpose=purpose,
            created_at=created_at,
            content=content,
        )
        self.keep(file)
        return file

    def keep(self, file: StoredFile) -> None:
        """
        Keep a file, in the place of one with the same id.

        :raises FilesFullError: if there is no room for it.
        """
        others = [each for each in self._files.values() if each.file_id != file.file_id]
        if len(others) >= self.most_files:
            raise FilesFullError(f"There is no room for more than {self.most_files} files; delete some.")
        if sum(len(each.content or b"") for each in [*others, file]) > self.most_bytes:
            raise FilesFullError(
                f"There is no room for more than {self.most_bytes} bytes; delete some files."
            )
        self._files[file.file_id] = file

    def find(self, file_id: str, *, jobs: Iterable[SimulatedJob], now: float) -> StoredFile | None:
        """
        Return a file that was uploaded, or that a job has written; None if there is none.

        :param file_id: its id.
        :param jobs: the server's jobs.
        :param now: the simulated time.
        """
        if file := self._files.get(file_id):
            return file
        return next((file for file in self._results(jobs, now) if file.file_id == file_id), None)

    def all(self, *, jobs: Iterable[SimulatedJob], now: float) -> list[StoredFile]:
        """Return every file, oldest first."""
        return sorted([*self._files.values(), *self._results(jobs, now)], key=lambda file: file.created_at)

    def delete(self, file_id: str) -> None:
        """Forget a file."""
        self._files.pop(file_id, None)
        self._deleted.add(file_id)

    def _results(self, jobs: Iterable[SimulatedJob], now: float) -> Iterable[StoredFile]:
        for job in jobs:
            status, since = job.state(now=now)
            for file_id in job.result.get(status, {}).get("result_files") or ():
                if file_id not in self._deleted:
                    content = step_csv(job.events[: job.visible(now=now)])
                    yield StoredFile(
                        file_id=file_id,
                        filename=RESULTS_NAME,
                        purpose=RESULTS,
                        created_at=int(since),
                        content=content,
                    )


def step_csv(events: Iterable[Any]) -> bytes:
    """
    Write the metrics of a log as OpenAI's result files have them: one line a step.

    :param events: the log, oldest first.
    :returns: the CSV; other numbers than losses and accuracies have columns of their own behind them.
    """
    rows: list[dict[str, Any]] = []
    columns = list(_COLUMNS.values())
    for event in events:
        data = event.get("data") if isinstance(event, Mapping) else None
        if not isinstance(data, Mapping) or not _is_number(data.get("step")):
            continue
        row: dict[str, Any] = {
            _COLUMNS.get(str(name), str(name)): value for name, value in data.items() if _is_number(value)
        }
        columns += [name for name in row if name not in columns and name not in _LEFT_OUT]
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
