"""Archiving tasks in processes of their own that may be killed, at a storage operation or at any moment.

Run as a script it is a process that has imported everything and forks for each task, so that tasks start at
once.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PREPARED = (
    "airflow_ft_events.hooks.fine_tuning",
    "airflow_ft_events.archive.parquet",
    "airflow_ft_events.archive.writer",
    "airflow_ft_events.report.figure",
    "airflow.providers.amazon.aws.fs.s3",
    "airflow.providers.amazon.aws.hooks.s3",
    "aiobotocore.session",
    "s3fs",
    "tests.integration.archive_places",
)


class Runs:
    """Runs tasks, each in a process of its own, one at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pid = 0

    def start(self, job_id: str, path: str, *, die_at: int | None = None, **options: Any) -> None:
        """Begin a task; with ``die_at`` it kills itself at that storage operation, counted from 0."""
        told = {"job_id": job_id, "path": path, "die_at": die_at, "options": options, "env": dict(os.environ)}
        self._tell(json.dumps(told))
        self._pid = int(self._answer())

    def kill(self) -> None:
        """Send SIGKILL; nothing happens where the task has ended."""
        os.kill(self._pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for the end: 0 where the task went through, -9 where it was killed."""
        status = int(self._answer())
        self._tell("")  # from now on the pid may be another process's
        return status

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    def goes_on(self) -> bool:
        """Whether the task has not ended in the next two milliseconds."""
        return not select.select([self._process.stdout], [], [], 0.002)[0]

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process that runs tasks has gone"
        return line.decode()


@contextmanager
def task_runs() -> Iterator[Runs]:
    """Keep a process that runs tasks."""
    command = [sys.executable, "-m", "tests.integration.archive_runs"]
    with tempfile.TemporaryDirectory(prefix="archive-runs-") as left:  # what killed tasks leave goes with it
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "TMPDIR": left},
        )
        try:
            yield Runs(process)
        finally:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            process.wait(timeout=30)
            process.stdout.close()


def _die_at(point: int) -> None:
    """Let this process be killed before the first storage operation, or after any, or in the midst of one."""
    from airflow_ft_events.archive import storage

    passed = -1

    def pass_by() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if passed < 0:
                pass_by()
            found = original(*args, **kwargs)
            pass_by()
            return found

        setattr(owner, name, wrapped)

    for kind in (storage.LocalStorage, storage.ObjectStorage):
        for name in ("put", "remove"):
            wrap(kind, name)
    wrap(storage.os, "fsync")  # a local file is written, and not yet in its place


def _run(told: dict[str, Any]) -> None:
    from tests.integration.archive_places import archived

    os.environ.update(told["env"] | {"TMPDIR": os.environ["TMPDIR"]})
    if told["die_at"] is not None:
        _die_at(told["die_at"])
    if most := told["options"].pop("most_bytes", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    archived(told["job_id"], told["path"], **told["options"])


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Airflow logs is no answer
    for name in PREPARED:
        __import__(name)
    # readline, since a forked child must not find a buffer with the parent's next lines
    while line := sys.stdin.readline():
        told = json.loads(line)
        if not (pid := os.fork()):
            try:
                _run(told)
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(1)
        print(pid, file=answers, flush=True)
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(
            -status.si_status if status.si_code == os.CLD_KILLED else status.si_status,
            file=answers,
            flush=True,
        )
        sys.stdin.readline()
        os.waitpid(pid, 0)


if __name__ == "__main__":
    _serve()
