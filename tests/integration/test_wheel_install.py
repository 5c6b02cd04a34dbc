"""The wheel, installed from scratch as a user would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import airflow
import pytest

import airflow_ft_events

pytestmark = pytest.mark.timeout(900)

LINE = ".".join(airflow.__version__.split(".")[:2])
UNREACHABLE = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|Network is unreachable")


def _pip(*arguments: str | Path, environment: dict[str, str], python: str | Path = sys.executable) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr) and "CI" not in os.environ:
        pytest.skip("needs the package registry, which cannot be reached")
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def wheel(project: Path, pip_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, project, environment=pip_environment)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_environment(
    wheel: Path, project: Path, pip_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of programs of a new virtual environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    constraints = project / "constraints" / f"airflow-{LINE}.txt"
    # Compiling thousands of modules of which this test imports a few takes a third of the time.
    options = ["--quiet", "--no-compile", "--constraint", constraints]
    programs = folder / "bin"
    _pip("install", *options, wheel, environment=pip_environment, python=programs / "python")
    return programs


def _airflow(programs: Path, home: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [programs / "airflow", *arguments, "--output", "json"],
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # A log line may stand before the answer.
    return json.loads(done.stdout[done.stdout.index("[{") :])


def test_wheel_holds_the_package_its_licence_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"airflow_ft_events-{airflow_ft_events.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"airflow_ft_events", info}
    assert {"airflow_ft_events/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    page = {"page.html.jinja", "page.css", "page.js"}
    assert {f"airflow_ft_events/report/{name}" for name in page} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".orig"))]


def test_airflow_lists_the_installed_provider_its_hook_and_connection_type(
    clean_environment: Path, tmp_path: Path
):
    providers = _airflow(clean_environment, tmp_path, "providers", "list")
    (ours,) = [row for row in providers if row["package_name"] == "airflow-ft-events"]
    assert ours["version"] == airflow_ft_events.__version__
    hooks = _airflow(clean_environment, tmp_path, "providers", "hooks")
    (ours,) = [row for row in hooks if row["connection_type"] == "fine_tuning"]
    assert ours["class"] == "airflow_ft_events.hooks.fine_tuning.FineTuningHook"


def test_installed_simulator_command_runs(clean_environment: Path, tmp_path: Path):
    command = [clean_environment / "airflow-ft-simulator", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert "--port" in done.stdout
