"""What every test stands on: an Airflow home of its own, and nothing of the user's environment."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# Airflow reads its settings when it is first imported, so all this has to happen before any test module is.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-ft-events-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


_USER_ENVIRONMENT = dict(os.environ)


def _isolate_environment() -> None:
    proxies = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}
    prefixes = ("AIRFLOW_", "OPENAI_", "AZURE_", "AWS_", "OTEL_")
    for name in list(os.environ):
        if name.startswith(prefixes) or name.lower() in proxies or name == "NETRC":
            del os.environ[name]
    (_HOME / "dags").mkdir()
    # A ~/.netrc must not lend a test its passwords.
    (_HOME / "home").mkdir()
    os.environ |= {
        "HOME": str(_HOME / "home"),
        "AIRFLOW_HOME": str(_HOME),
        # without credentials, no test looks for those of a machine in a cloud
        "AWS_EC2_METADATA_DISABLED": "true",
        "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_HOME / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


_isolate_environment()


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The recordings and specifications beside the checkout; tests that need them skip without them."""
    folder = PROJECT.parent / "shared"
    if folder.is_dir():
        return folder
    reason = "needs the folder of recordings beside the checkout, which is not there"
    if os.environ.get("CI_REQUIRES_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def pip_environment() -> dict[str, str]:
    """The user's environment, where pip finds its settings, cache and proxies; without any Airflow in it."""
    dropped = ("AIRFLOW_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
    return {name: value for name, value in _USER_ENVIRONMENT.items() if not name.startswith(dropped)}


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The Airflow home of this test session; its folder `dags` is the configured Dags folder."""
    return _HOME


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path) -> Path:
    """A migrated Airflow database; the path is that of the Airflow home."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"airflow db migrate failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return airflow_home
