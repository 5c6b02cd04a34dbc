"""Programs that cannot live beside Airflow, each in an environment of its own that is built once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|Network is unreachable"
    r"|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT"
)
READY = "ready"
# Their pins clash with those of Airflow.
TOGETHER = "together==3.1.1"
LITELLM = "litellm==1.110.2"


def python_with(*requirements: str, project: Path, environment: Mapping[str, str]) -> Path:
    """
    A Python that has some packages, and what these ask for.

    :param requirements: the packages, each with its version.
    :param project: the checkout; the environment stays in its .venv.
    :param environment: the user's, where pip finds its settings.
    :returns: the interpreter.
    """

    def build(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        options = ["--quiet", "--no-compile", "--disable-pip-version-check", "--no-input"]
        _install([folder / "bin" / "python", "-m", "pip", "install", *options, *requirements], environment)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return _built(project, build, "python", version, *requirements) / "bin" / "python"


def node_with(package: str, *, project: Path, environment: Mapping[str, str]) -> Path:
    """
    The folder of a package of npm's.

    :param package: it, with its version: ``@scope/name@1.2.3``.
    :param project: the checkout; the package stays in its .venv.
    :param environment: the user's, where npm finds its settings.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        _missing("node and npm are not installed (Debian: nodejs, npm)")

    def build(folder: Path) -> None:
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"]
        # not --prefix, which takes the machine's own settings away from npm, its certificates among them
        (folder / "package.json").write_text('{"private": true}')
        _install(["npm", "install", *options, package], environment, folder=folder)

    return _built(project, build, "node", package) / "node_modules" / package.rpartition("@")[0]


def _built(project: Path, build: Callable[[Path], None], kind: str, *parts: str) -> Path:
    """Build what is not there, while no other test process does."""
    key = hashlib.sha256("\n".join([str(project), kind, *parts]).encode()).hexdigest()[:12]
    folder = project / ".venv" / f"tests-{kind}-{key}"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            (folder / READY).write_text("\n".join(parts))
    return folder


def _install(
    command: list[str | Path], environment: Mapping[str, str], *, folder: Path | None = None
) -> None:
    done = subprocess.run(
        command, env=dict(environment), cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr):
        _missing("needs the package registry, which cannot be reached")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def _missing(reason: str) -> None:
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)
