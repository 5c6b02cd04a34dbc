"""The demo behind `make demo`: one example Dag, run by Airflow against a simulated fine-tuning server."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import psutil

from airflow_ft_events.simulator import DIALECTS, RecordingError, Simulator, load_recording

PROJECT = Path(__file__).resolve().parents[1]
HOME = PROJECT / ".airflow"
LOG_FILE = HOME / "demo.log"
DATABASE = HOME / "airflow.db"
DAG_FILE = PROJECT / "example_dags" / "example_gate_deployment.py"
DAG_ID = "example_ft_gate_deployment"
SENSOR, DEPLOY = "wait_for_job", "deploy"

# How a job ends, and the error with which the sensor then closes the gate.
ENDS = {"succeeded": None, "failed": "FineTuningJobFailed", "cancelled": "FineTuningJobCancelled"}
# Seconds: how long the job is shown, when one without an end is given up, and how long Airflow may take.
SHOWN_IN, ENDLESS_AFTER, TOO_LONG = 15.0, 60.0, 170.0

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 if Airflow did what the job's outcome asks for."""
    options = parse(argv)
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    try:
        return show(options)
    except DemoError as error:
        say(f"{red('Error:')} {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Nothing is left running.", file=sys.stderr)
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--scenario", help=f"how the job ends: {', '.join(ENDS)} (make demo SCENARIO=failed)")
    parser.add_argument("--log", type=Path, help="a recorded log to replay (make demo LOG=path)")
    options = parser.parse_args(argv)
    if options.scenario and options.log:
        raise SystemExit("make demo: a log has an outcome of its own; give SCENARIO or LOG, not both.")
    if options.scenario and options.scenario not in ENDS:
        raise SystemExit(f"make demo: no SCENARIO {options.scenario!r}; choose one of: {', '.join(ENDS)}.")
    return options


def show(options: argparse.Namespace) -> int:
    simulator, ends = prepare_job(options)
    job_id = simulator.job_id
    simulator.start()
    try:
        conf = json.dumps({"job_id": job_id})
        what = f"a recorded log, {options.log.name}" if options.log else "a job of the simulator's own"
        fast = f"runs {simulator.speed:.0f} times as fast, so the job's own times run ahead of the clock"
        headline("A Dag waits for a fine-tuning job, and deploys its model only if the job succeeds")
        say("The server is a simulator on this machine: no key is used, and nothing leaves the machine.\n")
        table(
            {
                "Dag": relative(DAG_FILE),
                "Server": simulator.base_url,
                "Job": f"{job_id} ({what})",
                "Its end": ends or "none: the job is still running when the log stops",
                "Time": "real" if simulator.speed == 1 else fast,
                "Command": f"airflow dags test {DAG_ID} --conf '{conf}'",
            }
        )
        environment = airflow_environment(simulator)
        LOG_FILE.parent.mkdir(exist_ok=True)
        with LOG_FILE.open("w", encoding="utf-8") as log:
            migrate(environment, log)
            headline(f"Task logs of {SENSOR} and {DEPLOY}")
            say("  Airflow takes about ten seconds to start ...")
            run = run_dag(
                conf, environment, log, endless=ends is None, polled=lambda: bool(simulator.requests)
            )
        if run.given_up:
            return tell_endless(simulator, run)
        states, xcoms = read_results(environment, run)
        return tell(simulator, ends, run, states, xcoms)
    finally:
        simulator.stop()


# The job


class StartsWhenAsked:
    """A clock that stands still until the first request, so that Airflow's start costs the job no time."""

    def __init__(self) -> None:
        self.simulator: Simulator | None = None
        self._stands_at = time.time()
        self._began: float | None = None

    def __call__(self) -> float:
        now = time.time()
        if self._began is None and self.simulator is not None and self.simulator.requests:
            self._began = now
        return self._stands_at + (0.0 if self._began is None else now - self._began)


def prepare_job(options: argparse.Namespace) -> tuple[Simulator, str | None]:
    """Make the simulator, and tell how its job ends; None if it does not."""
    clock = StartsWhenAsked()
    settings: dict[str, Any] = {"clock": clock}
    if options.log:
        path = options.log.expanduser()
        if not path.is_file():
            raise DemoError(f"There is no log {options.log}")
        try:
            outcome = load_recording(path).outcome
        except RecordingError as error:
            raise DemoError(str(error)) from None
        settings |= {"log": path, "vendor": vendor_of(path)}
        ends = outcome if outcome in ENDS else None
    else:
        ends = options.scenario or "succeeded"
        settings["outcome"] = ends
    # Only a job that was made knows how long it is.
    draft = Simulator(**settings)
    job = draft.find_job(draft.job_id)
    length = job.span() if job else 0.0
    simulator = Simulator(**settings, speed=max(1.0, length / SHOWN_IN))
    clock.simulator = simulator
    return simulator, ends


def vendor_of(path: Path) -> str:
    try:
        vendor = json.loads(path.read_text(encoding="utf-8"))["vendor"]
    except (ValueError, KeyError, TypeError):
        return "openai"
    return vendor if vendor in DIALECTS else "openai"


# Airflow


def airflow_environment(simulator: Simulator) -> dict[str, str]:
    """The user's environment without any Airflow or proxy in it, with an Airflow home inside the project."""
    own = re.compile(r"AIRFLOW_|PYTHONPATH$|PYTHONHOME$|(https?|ftp|all|no)_proxy$", re.IGNORECASE)
    environment = {name: value for name, value in os.environ.items() if not own.match(name)}
    connection = json.loads(simulator.connection_json())
    connection.setdefault("extra", {})["vendor"] = simulator.vendor
    return environment | {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{DATABASE}",
        "AIRFLOW__LOGGING__JSON_LOGS": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_FINE_TUNING_DEFAULT": json.dumps(connection),
        "PYTHONUNBUFFERED": "1",
        "no_proxy": "127.0.0.1,localhost",
    }


def migrate(environment: Mapping[str, str], log: IO[str]) -> None:
    """Make Airflow's database, once for each version of Airflow."""
    stamp = HOME / "migrated-to"
    wanted = version("apache-airflow")
    if stamp.exists() and stamp.read_text() == wanted and DATABASE.exists():
        return
    say(f"\nPreparing Airflow {wanted} in {relative(HOME)}, the first time only ...")
    stamp.unlink(missing_ok=True)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    for again in (False, True):
        with child(command, environment, stdout=log, stderr=subprocess.STDOUT) as process:
            if process.wait(timeout=TOO_LONG) == 0:
                stamp.write_text(wanted)
                return
        if not again:
            # Most likely an earlier run was interrupted; nothing in it is worth keeping.
            DATABASE.unlink(missing_ok=True)
    raise DemoError(f"airflow db migrate failed; see {relative(LOG_FILE)}")


class child:  # noqa: N801 - reads as a verb
    """A subprocess that never outlives its with block, nor do its own children."""

    def __init__(self, command: list[str], environment: Mapping[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command, env=environment, cwd=PROJECT, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )

    def __enter__(self) -> subprocess.Popen[Any]:
        return self.process

    def __exit__(self, *error: object) -> None:
        # a second Ctrl-C must not leave half of it running
        before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
            until = time.monotonic() + patience
            for process in self._left():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, number)
            while self._left() and time.monotonic() < until:
                self.process.poll()
                time.sleep(0.1)
        self.process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)

    def _left(self) -> list[int]:
        """What still runs of it: Airflow's tasks have process groups of their own, but the same session."""
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process.pid)
        return left


@dataclass
class Run:
    """What came of `airflow dags test`."""

    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    given_up: bool = False
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Errors of the Dag's tasks: their names and texts."""
    crashes: list[tuple[str, str]] = field(default_factory=list)
    """Errors of Airflow itself, such as a Dag that cannot be imported."""


def run_dag(
    conf: str, environment: Mapping[str, str], log: IO[str], *, endless: bool, polled: Callable[[], bool]
) -> Run:
    run = Run()
    command = [sys.executable, "-m", "airflow", "dags", "test", DAG_ID, "--conf", conf]
    began, asked = time.monotonic(), None
    with child(command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=0.5)
            except queue.Empty:
                pass
            else:
                if line is None:
                    return run
                take_line(line, run, log)
            now = time.monotonic()
            if asked is None and polled():
                asked = now
            if endless and asked is not None and now - asked > ENDLESS_AFTER:
                run.given_up = True
                return run
            if now - began > TOO_LONG:
                raise DemoError(f"Airflow took more than {TOO_LONG:.0f} seconds; see {relative(LOG_FILE)}")


def pump(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def take_line(line: str, run: Run, log: IO[str]) -> None:
    """Write a line of Airflow's log to the file, and show it if this package or the user's task wrote it."""
    try:
        record = json.loads(line)
        message, level = str(record["event"]), str(record.get("level", "info"))
    except (ValueError, KeyError, TypeError):
        # What a task prints comes as it is.
        print(line, file=log, flush=True)
        if line and line != "DagRun failed":
            say(f"  {line}")
        return
    clock, logger = local_time(record.get("timestamp")), str(record.get("logger", ""))
    print(f"{clock} {level:<8} {message} [{logger}]", file=log)
    exceptions = record.get("exception") or []
    errors = [(str(error.get("exc_type")), str(error.get("exc_value"))) for error in exceptions]
    for error in exceptions:
        for frame in error.get("frames", ()):
            print(f"  {frame['filename']}:{frame['lineno']} in {frame['name']}", file=log)
        print(f"{error.get('exc_type')}: {error.get('exc_value')}", file=log)
    log.flush()
    if "airflow_ft_events." in logger:
        paint = {"warning": yellow, "error": red}.get(level, str)
        say_indented(paint(message), first=f"  {clock}  ")
    if errors and logger != "task":
        run.crashes += errors
    elif errors:
        run.errors += errors
        name, text = errors[-1]
        say_indented(f"{red(name)}: {text}", first=f"  {clock}  ")


def local_time(timestamp: Any) -> str:
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")
    except (TypeError, ValueError):
        return "        "


READ_RESULTS = """
import json, sys
from datetime import datetime
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

dag_id, began = sys.argv[1], datetime.fromisoformat(sys.argv[2])
with create_session() as session:
    ours = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.logical_date >= began)
    run = session.scalars(ours).one()
    states = {task.task_id: task.state for task in run.get_task_instances(session=session)}
    rows = session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=dag_id, key="return_value")).all()
    xcoms = {row.task_id: XComModel.deserialize_value(row) for row in rows}
print("RESULTS " + json.dumps({"states": states, "xcoms": xcoms}))
"""


def read_results(environment: Mapping[str, str], run: Run) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Ask Airflow's database for the states and XComs of a run."""
    done = subprocess.run(
        [sys.executable, "-c", READ_RESULTS, DAG_ID, run.began.isoformat()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULTS "):
            results = json.loads(line.removeprefix("RESULTS "))
            return results["states"], results["xcoms"]
    with LOG_FILE.open("a", encoding="utf-8") as log:
        log.write(done.stdout + done.stderr)
    why = "".join(f"\n  {name}: {text}" for name, text in run.crashes[-3:])
    raise DemoError(f"Airflow did not get to run the Dag; see {relative(LOG_FILE)}{why}")


# What the reader gets to know


def tell(
    simulator: Simulator,
    ends: str | None,
    run: Run,
    states: Mapping[str, str | None],
    xcoms: Mapping[str, Any],
) -> int:
    job = simulator.get_job(simulator.job_id)
    headline("What happened")
    ran = states.get(DEPLOY) == "success"
    deployed = f"success: deployed {xcoms.get(DEPLOY)}" if ran else f"{states.get(DEPLOY)}: it did not run"
    table(
        {
            "The job": str(job["status"]),
            SENSOR: str(states.get(SENSOR)),
            DEPLOY: green(deployed) if ran else yellow(deployed),
        }
    )
    if xcoms:
        headline(f"XCom of {SENSOR}, what {DEPLOY} was given")
        say(textwrap.indent(json.dumps(xcoms.get(SENSOR), indent=2, ensure_ascii=False), "  "))
    faults = list(find_faults(ends, run, states, xcoms.get(SENSOR)))
    if faults:
        headline("This is wrong")
        for fault in faults:
            say(f"  {red(fault)}")
    elif ends == "succeeded":
        say(f"\n{green('The job succeeded, and the gate opened: the model was deployed.')}")
    else:
        say(f"\n{green(f'The job {was(ends)}, and the gate stayed closed: nothing was deployed.')}")
        say("Airflow calls that a failed Dag run, and that is what should happen here.")
    tell_more(ends)
    return 1 if faults else 0


def find_faults(ends: str | None, run: Run, states: Mapping[str, str | None], result: Any) -> Iterator[str]:
    """Say what differs from what the job's end asks for."""
    sensor, deploy = states.get(SENSOR), states.get(DEPLOY)
    if ends is None:
        yield f"The job has no end, yet {SENSOR} ended in {sensor}, and {DEPLOY} in {deploy}."
        return
    if ends == "succeeded":
        if (sensor, deploy) != ("success", "success"):
            yield f"The job succeeded, yet {SENSOR} ended in {sensor}, and {DEPLOY} in {deploy}."
        elif not isinstance(result, dict) or result.get("outcome") != "succeeded":
            yield f"The job succeeded, yet the XCom of {SENSOR} does not say so."
        return
    if sensor != "failed" or deploy != "upstream_failed":
        yield f"The job {was(ends)}, yet {SENSOR} ended in {sensor}, and {DEPLOY} in {deploy}."
    names = [name for name, _ in run.errors]
    if ENDS[ends] not in names:
        yield f"{SENSOR} should have failed with {ENDS[ends]}, not with {', '.join(names) or 'no error'}."


def tell_endless(simulator: Simulator, run: Run) -> int:
    headline("What happened")
    status = simulator.get_job(simulator.job_id)["status"]
    say(
        f"  The log stops without an end: the job is still {status}, and the Dag keeps waiting, as it should."
    )
    say(f"  Stopped after {ENDLESS_AFTER:.0f} seconds. Nothing is left running.")
    if run.errors:
        headline("This is wrong")
        for name, text in run.errors:
            say(f"  {red(name)}: {text}")
    tell_more(None)
    return 1 if run.errors else 0


def tell_more(ends: str | None) -> None:
    headline("Where it is")
    table(
        {
            "Dag": relative(DAG_FILE),
            "Full log": relative(LOG_FILE),
            "Airflow home": f"{relative(HOME)} (database airflow.db; make clean removes it)",
        }
    )
    headline("What to try next")
    tries = {
        "make demo": "a job that succeeds: the model is deployed",
        "make demo SCENARIO=failed": "a job that fails: the gate stays closed",
        "make demo SCENARIO=cancelled": "a job that is cancelled: the gate stays closed",
        "make demo LOG=path/to/log.json": "replay a log of your own",
    }
    shown = {"succeeded": "make demo", "failed": "make demo SCENARIO=failed"}
    shown["cancelled"] = "make demo SCENARIO=cancelled"
    tries.pop(shown.get(ends or "", ""), None)
    table(tries)


def was(ends: str | None) -> str:
    return "was cancelled" if ends == "cancelled" else str(ends)


def relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def say(text: str = "", *, file: IO[str] | None = None) -> None:
    print(text, file=file or sys.stdout, flush=True)


def say_indented(text: str, *, first: str) -> None:
    say(first + text.replace("\n", "\n" + " " * len(first)))


def headline(text: str) -> None:
    say(f"\n{bold(text)}\n{'-' * min(len(text), shutil.get_terminal_size().columns)}")


def table(rows: Mapping[str, str]) -> None:
    width = max(map(len, rows))
    for name, text in rows.items():
        say(f"  {name:<{width}}  {text}")


def painted(code: str) -> Callable[[str], str]:
    return lambda text: f"\033[{code}m{text}\033[0m" if COLOURS else text


bold, red, green, yellow = painted("1"), painted("31"), painted("32"), painted("33")

if __name__ == "__main__":
    sys.exit(main())
