"""A simulator in a process of its own, so that its work is not counted as the client's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    """Where the simulator listens, and what it plays."""

    base_url: str
    key: str
    job_ids: list[str]

    @property
    def connection(self) -> str:
        """The connection as JSON for an environment variable."""
        return json.dumps({"conn_type": "fine_tuning", "host": self.base_url, "password": self.key})


@contextmanager
def running_simulator(*arguments: str) -> Iterator[Server]:
    """
    Run a simulator while the block runs.

    :param arguments: further command-line arguments.
    """
    key = "sk-benchmark"
    command = [sys.executable, "-u", "-m", "airflow_ft_events.simulator", "--port", "0", "--api-key", key]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        base_url, job_ids = "", []
        for line in process.stdout:
            base_url = base_url or (found[0] if (found := re.search(r"http://[\d.]+:\d+/v1", line)) else "")
            job_ids += re.findall(r"\bftjob-[\w-]+", line)
            if "AIRFLOW_CONN" in line:
                break
        yield Server(base_url, key, list(dict.fromkeys(job_ids)))
    finally:
        process.terminate()
        process.wait(timeout=10)
