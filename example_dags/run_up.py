"""Airflow's own UI behind `make up`: the example Dags and a simulated fine-tuning server, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from run_demo import INTERRUPTS, DemoError, airflow_environment, child, headline, red, relative, say, table

from airflow_ft_events.simulator import Simulator

PROJECT = Path(__file__).resolve().parents[1]
HOME = PROJECT / ".airflow" / "up"
LOG_FILE = HOME / "standalone.log"
DAGS = PROJECT / "example_dags"
GATE, MAPPED, COLLECT = "example_ft_gate_deployment", "example_ft_mapped_jobs", "example_ft_collect_events"
PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")

# Seconds: how long the jobs take, and how long Airflow may take to start.
JOB_TAKES, TOO_LONG = 120.0, 240.0


def main(argv: list[str] | None = None) -> int:
    """Run Airflow and the simulator; 0 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="port of the UI; a free one if it is taken")
    options = parser.parse_args(argv)
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    try:
        show(options.port)
    except DemoError as error:
        say(f"{red('Error:')} {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Nothing is left running.")
        return 0
    return 1


def show(wanted_port: int) -> None:
    """Start everything, say where it is, and wait until Airflow ends, which it should not."""
    HOME.mkdir(parents=True, exist_ok=True)
    port = usable_port(wanted_port)
    with Simulator([]) as simulator, LOG_FILE.open("wb") as log:
        environment = up_environment(simulator, port)
        say(f"Starting Airflow in {relative(HOME)}; that takes about a minute ...")
        command = [sys.executable, "-m", "airflow", "standalone"]
        with child(command, environment, stdout=log, stderr=subprocess.STDOUT) as process:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, process)
            tell(simulator, url)
            process.wait()
        raise DemoError(f"Airflow ended by itself; see {relative(LOG_FILE)}")


def up_environment(simulator: Simulator, port: int) -> dict[str, str]:
    """The demo's environment, with a home, a database and a port of its own."""
    settings = {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        # `airflow standalone` looks for its parts on the PATH
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return airflow_environment(simulator) | settings


def usable_port(wanted: int) -> int:
    """The wanted port of loopback, or a free one where somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
    return wanted


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until every part of Airflow says that it is well."""
    until = time.monotonic() + TOO_LONG
    while time.monotonic() < until:
        if process.poll() is not None:
            raise DemoError(f"Airflow did not start; see {relative(LOG_FILE)}")
        health = read_health(url)
        if all((health.get(part) or {}).get("status") == "healthy" for part in PARTS):
            return
        time.sleep(1)
    raise DemoError(f"Airflow was not ready after {TOO_LONG:.0f} seconds; see {relative(LOG_FILE)}")


def read_health(url: str) -> Mapping[str, dict[str, str]]:
    """What Airflow says of its parts; nothing while it cannot be asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            found: Mapping[str, dict[str, str]] = json.load(answer)
            return found
    except (OSError, ValueError, urllib.error.URLError):
        return {}


def tell(simulator: Simulator, url: str) -> None:
    """Say where everything is, and what to try."""
    jobs = {
        outcome: simulator.add_job(outcome=outcome, duration=JOB_TAKES)
        for outcome in ("succeeded", "failed", "cancelled")
    }
    ids = list(jobs.values())
    headline("Airflow is up")
    table(
        {
            "UI": f"{url}  (no user, no password; it listens on this machine only)",
            "Dags": relative(DAGS),
            "Server": f"{simulator.base_url}, a simulator; the connection fine_tuning_default leads to it",
            "Home": f"{relative(HOME)} (log: {LOG_FILE.name})",
        }
    )
    headline(f"Jobs: they run for {JOB_TAKES:.0f} seconds from now")
    ends = {"succeeded": "will succeed", "failed": "will fail", "cancelled": "will be cancelled"}
    table({job_id: ends[outcome] for outcome, job_id in jobs.items()})
    headline("Trigger a Dag in the UI, or in another terminal")
    program = relative(Path(sys.executable).with_name("airflow"))
    for dag_id, conf in (
        (GATE, {"job_id": jobs["succeeded"]}),
        (GATE, {"job_id": jobs["failed"]}),
        (MAPPED, {"job_ids": ids}),
        (COLLECT, {"job_id": jobs["succeeded"]}),
    ):
        say(f"  AIRFLOW_HOME={relative(HOME)} {program} dags trigger {dag_id} --conf '{json.dumps(conf)}'")
    say("\nCtrl-C stops all of it.")


if __name__ == "__main__":
    sys.exit(main())
