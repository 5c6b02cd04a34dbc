"""A live Airflow on PostgreSQL whose every process is ended."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg2

from airflow_ft_events.simulator import Simulator

DAGS = Path(__file__).with_name("dags")
BIN = Path(sys.executable).parent
DEAD_AFTER = 15
"""Seconds of silence after which Airflow gives a triggerer's waits to another one; its default is 30."""
STARTS_WITHIN = 180.0
PRELOADED = """
import airflow.sdk.execution_time.task_runner, requests
import airflow_ft_events.hooks.fine_tuning, airflow_ft_events.sensors.fine_tuning
import airflow_ft_events.api.sync, airflow_ft_events.triggers.fine_tuning
"""
"""What the scheduler imports once, so that hundreds of forked workers need not."""

T = TypeVar("T")


def wait_for(
    what: str,
    ask: Callable[[], T | None],
    *,
    within: float,
    every: float = 0.5,
    also: Callable[[], None] | None = None,
) -> T:
    """
    Ask until the answer is true.

    :param what: what is waited for, for the message.
    :param ask: the question.
    :param within: seconds after which the test fails.
    :param every: seconds between two questions.
    :param also: done before each question.
    """
    until = time.monotonic() + within
    while True:
        if also:
            also()
        if answer := ask():
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {within:.0f} s: {what}")
        time.sleep(every)


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(session: int) -> list[psutil.Process]:
    """Every process of a session, whichever group it moved to."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Component:
    """A program in a session of its own, so that it can be ended with all that it started."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        """Start it, or start it again."""
        self.starts += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.options,
            )

    @property
    def runs(self) -> bool:
        """Whether its first process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL for all of it, as when its machine is lost."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop all of it, as when its machine is paused."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def terminate(self, number: int = signal.SIGTERM, *, within: float = 30.0) -> None:
        """
        Ask its first process to end, as a service manager does, and wait for it.

        :param number: the signal.
        :param within: seconds after which the test fails.
        """
        assert self.process is not None
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            text = f"{self.name} did not end within {within:.0f} s of signal {number}"
            raise AssertionError(text) from None

    def end(self) -> None:
        """End all of it, whatever state it is in."""
        if self.process is None:
            return
        self.thaw()
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            until = time.monotonic() + patience
            self._signal(number)
            while processes_of(self.process.pid) and time.monotonic() < until:
                self.process.poll()
                time.sleep(0.1)
        self.process.wait(timeout=10)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        for process in processes_of(self.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(timeout=10)

    def tail(self, lines: int = 40) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def all_ended() -> Iterator[list[Component]]:
    """A list for everything that is started; it is ended, last started first, and nothing may be left."""
    components: list[Component] = []
    # who is told to end, by a CI for instance, ends what it started as well
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield components
    finally:
        for component in reversed(components):
            component.end()
        signal.signal(signal.SIGTERM, before)
    left = [f"{c.name}: {p}" for c in components if c.process for p in processes_of(c.process.pid)]
    assert not left, f"still running: {left}"


# PostgreSQL


def _postgresql_folder() -> Path | None:
    """The folder of PostgreSQL's server programs: on the PATH, or where Debian has them, the newest first."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    return found[0].parent if found else None


class MissingError(Exception):
    """What a live Airflow needs is not on this machine; the message says what."""


def _unprivileged() -> dict[str, Any]:
    """Options that make a process run as somebody else than root, as PostgreSQL demands."""
    if os.getuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise MissingError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody here"
    )


@dataclass
class Database:
    """A PostgreSQL server of the tests' own."""

    port: int
    server: Component

    @property
    def dsn(self) -> str:
        """Where it is, for psycopg2."""
        return f"host=127.0.0.1 port={self.port} user=airflow dbname=postgres"

    def url(self, driver: str) -> str:
        """
        Where it is, for SQLAlchemy.

        :param driver: psycopg2 or asyncpg.
        """
        return f"postgresql+{driver}://airflow@127.0.0.1:{self.port}/postgres"

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """
        Run a query.

        :param query: the SQL.
        :param values: its parameters.
        """
        connection = psycopg2.connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.server.start()
        wait_for("PostgreSQL answers", self._answers, within=60)

    def _answers(self) -> bool:
        if not self.server.runs:
            raise AssertionError(f"PostgreSQL ended:\n{self.server.tail()}")
        with contextlib.suppress(psycopg2.OperationalError):
            return self.ask("select 1") == [(1,)]
        return False

    def stop(self) -> None:
        """Break every connection and stop it (a fast shutdown)."""
        self.server.terminate(signal.SIGINT)


@contextlib.contextmanager
def postgresql(started: list[Component]) -> Iterator[Database]:
    """
    Run a PostgreSQL server on a free port of loopback, as an unprivileged user, in a temporary folder.

    :param started: where every process is noted.
    """
    programs = _postgresql_folder()
    if programs is None:
        raise MissingError(
            "PostgreSQL's server programs are not here (on Debian: apt-get install postgresql)"
        )
    as_user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="ft-events-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if as_user:
            os.chown(folder, as_user["user"], as_user["group"])
        port = free_port()
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        data = folder / "data"
        made = subprocess.run(
            [str(programs / "initdb"), "-D", str(data), "-U", "airflow", "-A", "trust", "-E", "UTF8", "-N"],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **as_user,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        for setting in (
            "listen_addresses=127.0.0.1",
            "max_connections=300",
            "fsync=off",
            "logging_collector=off",
        ):
            command += ["-c", setting]
        log = Path(tempfile.mkstemp(prefix="ft-events-pg-", suffix=".log")[1])
        server = Component("postgresql", command, environment, log, {"cwd": folder, **as_user})
        started.append(server)
        found = Database(port, server)
        try:
            found.start()
            yield found
        finally:
            server.end()
            log.unlink(missing_ok=True)


# Airflow


class Api:
    """Airflow's REST API, as a user who may do everything."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._token: str | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: object = None) -> Any:
        """
        Call it.

        :param method: GET, POST, PATCH, …
        :param path: from ``/api/v2`` on.
        :param body: what to send as JSON.
        :returns: what came, read from JSON.
        """
        if self._token is None:
            self._token = self._send("GET", "/auth/token")["access_token"]
        return self._send(method, f"/api/v2{path}", body)

    def _send(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
        return json.loads(text) if text else None

    @property
    def answers(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError, AssertionError, ValueError):
            self._send("GET", "/api/v2/monitor/health")
            return True
        return False

    def knows(self, dag_id: str) -> bool:
        """
        Tell whether a Dag was parsed.

        :param dag_id: the Dag.
        """
        with contextlib.suppress(OSError, AssertionError):
            return bool(self.call("GET", f"/dags/{dag_id}"))
        return False

    def add_connection(self, conn_id: str, sim: Simulator) -> None:
        """
        Add a connection to a simulator.

        :param conn_id: its name.
        :param sim: the simulator.
        """
        body = {"connection_id": conn_id, "conn_type": "fine_tuning", "host": sim.base_url}
        self.call("POST", "/connections", {**body, "password": sim.api_key})

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """
        Start a run of a Dag.

        :param dag_id: the Dag.
        :param conf: its parameters.
        :returns: the run's id.
        """
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        return str(
            self.call("POST", f"/dags/{dag_id}/dagRuns", {"conf": conf, "logical_date": None})["dag_run_id"]
        )

    def tasks(self, dag_id: str, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
        """
        Read the task instances of a run.

        :param dag_id: the Dag.
        :param run_id: the run.
        :returns: by task id and map index.
        """
        found: list[dict[str, Any]] = []
        while True:
            page = self.call(
                "GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            )
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return {(task["task_id"], task["map_index"]): task for task in found}

    def states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        """
        Read the states of the tasks of a run.

        :param dag_id: the Dag.
        :param run_id: the run.
        """
        return {key: task["state"] for key, task in self.tasks(dag_id, run_id).items()}

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """
        Mark a task, as a user does.

        :param dag_id: the Dag.
        :param run_id: the run.
        :param task_id: the task.
        :param state: its new state.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.call("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """
        Clear tasks, as a user does.

        :param dag_id: the Dag.
        :param run_id: the run.
        :param task_ids: the tasks.
        """
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(task_ids), "only_failed": False}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)


def airflow_environment(home: Path, dags: Path, port: int, database_url: str) -> dict[str, str]:
    """
    The environment of an Airflow of the tests' own.

    :param home: its home.
    :param dags: its Dags folder.
    :param port: the port of its API server.
    :param database_url: its database.
    """
    own = re.compile(r"AIRFLOW_|PYTHONPATH$|PYTHONHOME$|(https?|ftp|all|no)_proxy$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not own.match(name)}
    settings = {
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__SECRET_KEY": "a secret of the tests, known to everybody",
        "API_AUTH__JWT_SECRET": "another secret of the tests, long enough for a signature: " + "x" * 32,
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": "",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
        "CORE__MAX_ACTIVE_RUNS_PER_DAG": "1000",
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "DATABASE__SQL_ALCHEMY_CONN": database_url,
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(DEAD_AFTER),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        **kept,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "no_proxy": "127.0.0.1,localhost",
    }


class LiveAirflow:
    """
    Airflow's components, each in a session of its own.

    :param home: its home.
    :param database: its database.
    :param started: where every process is noted.
    :param dags: the Dags that it gets; default those of the system tests.
    """

    def __init__(
        self, home: Path, database: Database, started: list[Component], *, dags: Path = DAGS
    ) -> None:
        port = free_port()
        self.home, self.database, self.api = home, database, Api(port)
        self.dags = home / "dags"
        shutil.copytree(dags, self.dags, ignore=shutil.ignore_patterns("__pycache__"))
        (home / "config").mkdir()
        (home / "config" / "airflow_local_settings.py").write_text(PRELOADED)
        self._environment = airflow_environment(home, self.dags, port, database.url("psycopg2"))
        self._started = started
        self.components: list[Component] = []
        self.triggerers: list[Component] = []

    def _component(self, name: str, *command: str) -> Component:
        made = Component(
            name, [sys.executable, "-m", "airflow", *command], self._environment, self.home / f"{name}.log"
        )
        self._started.append(made)
        made.start()
        return made

    def start(self) -> None:
        """Make the database and start everything but a triggerer."""
        made = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
        self.components = [
            self._component("api-server", "api-server"),
            self._component("scheduler", "scheduler", "--skip-serve-logs"),
            self._component("dag-processor", "dag-processor"),
        ]
        wait_for("the API server answers", lambda: self.api.answers, within=STARTS_WITHIN, also=self._all_run)
        for dag in self.dags.glob("*.py"):
            wait_for(f"Dag {dag.stem} is parsed", lambda d=dag.stem: self.api.knows(d), within=STARTS_WITHIN)  # type: ignore[misc]

    def _all_run(self) -> None:
        for component in (*self.components, *self.triggerers):
            if not component.runs:
                raise AssertionError(f"{component.name} ended:\n{component.tail()}")

    def start_triggerer(self) -> Component:
        """Start one more triggerer and wait until Airflow knows it."""
        known = self._triggerers_ever()
        made = self._component(f"triggerer-{known + 1}", "triggerer", "--skip-serve-logs")
        self.triggerers.append(made)
        wait_for("one more triggerer is known", lambda: self._triggerers_ever() > known, within=STARTS_WITHIN)
        return made

    def _triggerers_ever(self) -> int:
        query = "select count(*) from job where job_type = 'TriggererJob'"
        return int(self.database.ask(query)[0][0])

    def triggers_of_each(self) -> list[int]:
        """How many waits each triggerer holds."""
        query = "select count(*) from trigger where triggerer_id is not null group by triggerer_id"
        return sorted(row[0] for row in self.database.ask(query))

    def revive(self) -> None:
        """Start again what ended, as the service manager of a deployment does."""
        for component in (*self.components, *self.triggerers):
            if not component.runs:
                component.start()

    def lose(self, triggerer: Component) -> None:
        """
        Kill a triggerer, as when its machine is lost; it is not revived.

        :param triggerer: it.
        """
        triggerer.kill()
        self.triggerers.remove(triggerer)

    def end_triggerers(self) -> None:
        """End every triggerer, at once: a polite end takes each ten seconds."""
        for triggerer in self.triggerers:
            if triggerer.process is not None:
                triggerer.kill()
        self.triggerers.clear()

    def end(self) -> None:
        """End everything."""
        self.end_triggerers()
        for component in reversed(self.components):
            component.end()

    def tails(self) -> str:
        """The ends of what the components printed, for a failed test."""
        return "\n".join(f"--- {c.name}\n{c.tail(15)}" for c in (*self.components, *self.triggerers))

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, attempt: int = 1
    ) -> str:
        """
        Read what a task logged on its workers.

        :param dag_id: the Dag.
        :param run_id: the run.
        :param task_id: the task.
        :param map_index: its map index.
        :param attempt: which try.
        """
        mapped = f"/map_index={map_index}" if map_index >= 0 else ""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}{mapped}"
        return (folder / f"attempt={attempt}.log").read_text()


class Lever:
    """A clock that a test moves forward; in between it goes at the pace of the real one."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def pass_by(self, seconds: float) -> None:
        """
        Let time pass.

        :param seconds: how much.
        """
        self._ahead += seconds
