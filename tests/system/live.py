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
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

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
import airflow_ft_events.transport.sync, airflow_ft_events.triggers.fine_tuning
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


def processes_of(session: int) -> set[psutil.Process]:
    """Every process of a session, and what these started in sessions of their own, as PostgreSQL does."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if lives(process)}


def lives(process: psutil.Process) -> bool:
    """
    Tell whether a process runs; a zombie does not.

    :param process: it.
    """
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Component:
    """A program in a session of its own, so that it can be ended with all that it started."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again, when its first process has ended."""
        self.end()  # what its first process left behind
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

    def terminate(self, number: int = signal.SIGTERM, *, within: float = 90.0) -> None:
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
        """End all of it, whatever state it is in; nothing may be left."""
        if self.process is None:
            return
        self.thaw()
        left = processes_of(self.process.pid)
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 20.0)):
            until = time.monotonic() + patience
            _send(number, left)
            while left and time.monotonic() < until:
                self.process.poll()
                time.sleep(0.1)
                # noted once, never lost: who loses its parent is in no list of children any more
                left = {process for process in left | processes_of(self.process.pid) if lives(process)}
        assert not left, f"{self.name} cannot be ended: {left}"
        self.process.wait(timeout=10)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        _send(number, processes_of(self.process.pid))
        if number == signal.SIGKILL:
            self.process.wait(timeout=10)

    def tail(self, lines: int = 40) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _send(number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextlib.contextmanager
def all_ended() -> Iterator[list[Component]]:
    """A list for everything that is started; all of it is ended, last started first."""
    components: list[Component] = []
    # who is told to end, by a CI for instance, ends what it started as well
    before = {number: signal.signal(number, signal.default_int_handler) for number in _TOLD_TO_END}
    try:
        yield components
    finally:
        # a second Ctrl-C must not leave half of it running
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        faults = []
        for component in reversed(components):
            try:
                component.end()
            except (AssertionError, subprocess.TimeoutExpired) as fault:
                faults.append(str(fault))
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not faults, faults


_TOLD_TO_END = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""SIGINT as well: a shell starts its background jobs with Ctrl-C ignored."""


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


def unprivileged() -> dict[str, Any]:
    """Options that make a process run as somebody else than root, as PostgreSQL and squid demand."""
    if os.getuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise MissingError(
        "This program does not run as root, and there is neither a user postgres nor nobody here"
    )


def folder_for_all() -> Path:
    """A folder for temporary files that everybody may enter, as another user than root must here."""
    usual = Path(tempfile.gettempdir()).resolve()
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (usual, *usual.parents)):
        return usual
    return Path("/tmp")


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

    def drivers(self) -> set[str]:
        """The drivers through which Airflow's processes are connected now."""
        query = (
            "select distinct application_name from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        return {name or "asyncpg" for (name,) in self.ask(query)}

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.server.start()
        wait_for("PostgreSQL answers", self._answers, within=STARTS_WITHIN)

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
    as_user = unprivileged()
    with tempfile.TemporaryDirectory(
        prefix="ft-events-pg-", dir=folder_for_all(), ignore_cleanup_errors=True
    ) as name:
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
            self._token = json.loads(self._send("GET", "/auth/token"))["access_token"]
        text = self._send(method, f"/api/v2{path}", body)
        return json.loads(text) if text else None

    def _send(self, method: str, path: str, body: object = None, *, timeout: float = 30) -> str:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return str(answer.read(), "utf-8")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None

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

    def end_of_run(self, dag_id: str, run_id: str) -> str:
        """
        Wait for the end of a run; Airflow asks its database for that through its asynchronous driver.

        :param dag_id: the Dag.
        :param run_id: the run.
        :returns: its last state.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/wait?interval=1"
        lines = self._send("GET", path, timeout=STARTS_WITHIN).splitlines()
        return str(json.loads(lines[-1])["state"])

    def fail_unfinished(self, dag_id: str) -> None:
        """
        Bookmark the runs of a Dag that have not ended as failed.

        :param dag_id: the Dag.
        """
        runs = self.call("GET", f"/dags/{dag_id}/dagRuns?state=running&state=queued&limit=100")["dag_runs"]
        for run in runs:
            self.call("PATCH", f"/dags/{dag_id}/dagRuns/{quote(run['dag_run_id'])}", {"state": "failed"})

    def states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        """
        Read the states of the tasks of a run.

        :param dag_id: the Dag.
        :param run_id: the run.
        """
        return {key: task["state"] for key, task in self.tasks(dag_id, run_id).items()}

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """
        Bookmark a task, as a user does.

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
        "PGAPPNAME": "psycopg2",  # what it calls itself to PostgreSQL; asyncpg does not read this
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
        self._ids: dict[str, int] = {}

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
        known = self._newest_triggerer()
        made = self._component(f"triggerer-after-{known}", "triggerer", "--skip-serve-logs")
        self.triggerers.append(made)
        wait_for(
            "one more triggerer is known",
            lambda: self._newest_triggerer() > known,
            within=STARTS_WITHIN,
            also=self._all_run,
        )
        self._ids[made.name] = self._newest_triggerer()
        return made

    def _newest_triggerer(self) -> int:
        query = "select coalesce(max(id), 0) from job where job_type = 'TriggererJob'"
        return int(self.database.ask(query)[0][0])

    def waits_of(self, triggerer: Component) -> int:
        """
        Count the waits that a triggerer holds.

        :param triggerer: it; one that was never started again.
        """
        query = "select count(*) from trigger where triggerer_id = %s"
        return int(self.database.ask(query, self._ids[triggerer.name])[0][0])

    def waits_held(self, run_id: str) -> int:
        """
        Count the waits of a run that any triggerer holds.

        :param run_id: the run.
        """
        query = (
            "select count(*) from trigger join task_instance on task_instance.trigger_id = trigger.id "
            "where triggerer_id is not null and run_id = %s"
        )
        return int(self.database.ask(query, run_id)[0][0])

    def triggers(self) -> int:
        """Count all triggers there are."""
        return int(self.database.ask("select count(*) from trigger")[0][0])

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

    def restore(self) -> None:
        """Undo what a test did: no triggerer, no unfinished run, and everything else runs."""
        self.end_triggerers()
        if not self.database.server.runs:
            self.database.start()
        wait_for("the API server answers", lambda: self.api.answers, within=STARTS_WITHIN, also=self.revive)
        for dag in self.dags.glob("*.py"):
            self.api.fail_unfinished(dag.stem)

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
