"""What importing loads: the pure core no Airflow, and neither it nor a Dag's modules an HTTP library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "airflow_ft_events"
ROOMS = ("vendors", "gate", "api", "waiting", "report")
SINGLE = ("events", "jobs", "errors", "parameters")
IN_CONNECTION = ("connection.settings", "connection.credential", "connection.redaction")
CORE = [
    f"airflow_ft_events.{name}"
    for name in (
        *SINGLE,
        *IN_CONNECTION,
        *(f"{room}.{path.stem}" for room in ROOMS for path in sorted((PACKAGE / room).glob("[a-z]*.py"))),
    )
]
DAG_MODULES = ["airflow_ft_events.sensors.fine_tuning", "airflow_ft_events.operators.fine_tuning"]


def loaded_by(modules: list[str], project: Path) -> set[str]:
    """Import in a process of its own; return the names of all that was loaded."""
    program = (
        f"import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print('LOADED ' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED "))
    return set(json.loads(line.removeprefix("LOADED ")))


@pytest.fixture(scope="module")
def core_loads(project: Path) -> set[str]:
    return loaded_by(CORE, project)


@pytest.fixture(scope="module")
def dag_loads(project: Path) -> set[str]:
    return loaded_by(DAG_MODULES, project)


@pytest.mark.parametrize(
    "module",
    [
        "airflow",
        "requests",
        "urllib3",
        "httpx",
        "aiohttp",
        "urllib.request",
        "http.client",
        "ssl",
        "asyncio",
        "socket",
    ],
)
def test_the_pure_core_does_not_load(core_loads: set[str], module: str) -> None:
    assert "airflow_ft_events.waiting.poller" in core_loads
    assert module not in core_loads


@pytest.mark.parametrize("module", CORE)
def test_each_module_of_the_core_can_be_imported_first(project: Path, module: str) -> None:
    loaded = loaded_by([module], project)
    assert module in loaded
    assert "airflow" not in loaded


def test_the_modules_of_a_dag_load_no_http_library_that_airflow_does_not(
    project: Path, dag_loads: set[str]
) -> None:
    libraries = {"requests", "aiohttp", "airflow_ft_events.transport.sync", "airflow_ft_events.transport.aio"}
    before = loaded_by(["airflow.providers.common.compat.sdk", "airflow.triggers.base"], project)
    assert "airflow_ft_events.sensors.fine_tuning" in dag_loads
    assert libraries & dag_loads <= libraries & before


def test_on_airflow_3_the_modules_of_a_dag_load_no_http_library_at_all(dag_loads: set[str]) -> None:
    from airflow import __version__ as airflow_version

    if airflow_version.startswith("2."):
        pytest.skip("Airflow 2 itself loads requests")
    assert not {"requests", "aiohttp"} & dag_loads
