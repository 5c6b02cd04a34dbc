"""What archiving a 100,000-event log costs compared with reading it, in time and memory."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.server import running_simulator

EVENTS, ROUNDS = 100_000, 3
LIMIT_RATIO, LIMIT_MEGABYTES = 1.5, 150
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "jsonl": ("log.jsonl", {}),
    "jsonl.gz": ("log.jsonl.gz", {}),
    "parquet": ("log.parquet", {"file_format": "parquet"}),
    "incremental": ("log.jsonl", {"incremental": True}),
}
LIMITED = "jsonl"


def _archive(job_id: str, form: str, folder: str) -> int:
    from airflow_ft_events.transfers.fine_tuning_to_object_storage import (
        FineTuningEventsToObjectStorageOperator,
    )

    name, options = FORMS[form]
    task = FineTuningEventsToObjectStorageOperator(
        task_id="archive", job_id=job_id, path=f"{folder}/{name}", **options
    )
    return int(task.execute({})["count"])


def _seconds(job_id: str, form: str) -> tuple[float, float]:
    """Read the log with ``iter_pages`` alone, then archive it."""
    from airflow_ft_events.hooks.fine_tuning import FineTuningHook

    hook = FineTuningHook()
    started = time.perf_counter()
    read = sum(len(page.data) for page in hook.iter_pages(job_id))
    between = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        archived = _archive(job_id, form, folder)
        ended = time.perf_counter()
    if not read == archived:
        raise AssertionError(f"{read} events were read and {archived} archived")
    return between - started, ended - between


def _peak() -> int:
    """Peak memory of this program so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts a parent's peak into ru_maxrss
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024  # type: ignore[index]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _measure_memory(job_id: str, form: str) -> None:
    """In a process of its own: what archiving adds to the memory that the imports took."""
    import airflow_ft_events.archive.writer
    import airflow_ft_events.hooks.fine_tuning
    import airflow_ft_events.transfers.fine_tuning_to_object_storage  # noqa: F401

    before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        count = _archive(job_id, form, folder)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(json.dumps({"added": _peak() - before, "count": count, "size": size}))


def _memory(job_id: str, form: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.archive", job_id, form]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def run() -> bool:
    """Print seconds, ratios and megabytes; return whether those of jsonl are within their limits."""
    logging.getLogger("airflow").setLevel(logging.ERROR)
    logging.getLogger("airflow.task").setLevel(logging.ERROR)
    with running_simulator("--steps", str(EVENTS - 8), "--ended") as server:
        os.environ["AIRFLOW_CONN_FINE_TUNING_DEFAULT"] = server.connection
        job_id = server.job_ids[0]
        _seconds(job_id, LIMITED)  # the first time includes imports that the others need as well
        print(
            f"Archiving {EVENTS:,} events to a local folder, compared with only reading them with iter_pages;"
        )
        print(f"medians of {ROUNDS} pairs; memory is the peak above that of the process after its imports:")
        good = True
        for form in FORMS:
            pairs = [_seconds(job_id, form) for _ in range(ROUNDS)]
            ratio = statistics.median(archived / read for read, archived in pairs)
            seconds = statistics.median(archived for _, archived in pairs)
            memory = _memory(job_id, form)
            megabytes = memory["added"] / 1e6
            limits = ""
            if form == LIMITED:
                within = ratio <= LIMIT_RATIO and megabytes <= LIMIT_MEGABYTES
                good = good and within
                limits = f"  (at most {LIMIT_RATIO} and {LIMIT_MEGABYTES} MB: {'yes' if within else 'NO'})"
            print(
                f"  {form:<12} {seconds:6.2f} s  {ratio:5.2f} of reading  {megabytes:6.1f} MB more memory  "
                f"{memory['size'] / 1e6:5.1f} MB written{limits}"
            )
    return good


if __name__ == "__main__":
    _measure_memory(*sys.argv[1:])
