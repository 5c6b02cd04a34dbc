"""The cost to a Dag file of importing the sensor and the operator, on top of airflow.sdk, in one process."""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "airflow_ft_events"
ROUNDS, LIMIT_MS = 15, 25.0
_MEASURE = """
import time
import airflow.sdk
from airflow.sdk import BaseSensorOperator, BaseOperator, BaseHook, DAG
import sys
before = set(sys.modules)
started = time.perf_counter()
import airflow_ft_events.sensors.fine_tuning
import airflow_ft_events.operators.fine_tuning
taken = time.perf_counter() - started
print(taken * 1000, len(set(sys.modules) - before), "requests" in sys.modules, "aiohttp" in sys.modules)
"""


def run() -> bool:
    """Print milliseconds and modules; return whether they are within the limit."""
    compileall.compile_dir(PACKAGE, quiet=1)  # as pip does when it installs
    taken: list[float] = []
    modules, heavy = 0, False
    for _ in range(ROUNDS):
        printed = subprocess.run(
            [sys.executable, "-c", _MEASURE], check=True, capture_output=True, text=True
        ).stdout.split()
        taken.append(float(printed[-4]))
        modules, heavy = int(printed[-3]), "True" in printed[-2:]
    median = statistics.median(taken)
    print(f"Importing sensor and operator on top of airflow.sdk, median of {ROUNDS} processes:")
    within = "yes" if median <= LIMIT_MS else "NO"
    print(
        f"  {median:.1f} ms (from {min(taken):.1f} to {max(taken):.1f}), {modules} modules"
        f"  (at most {LIMIT_MS:g} ms: {within})"
    )
    print(f"  requests or aiohttp loaded: {'YES' if heavy else 'no'}")
    return median <= LIMIT_MS and not heavy
