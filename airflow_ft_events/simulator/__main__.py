"""The command ``airflow-ft-simulator``: starts a simulator, says how to reach it, runs until stopped."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_ft_events.simulator.dialects import DEFAULT, DIALECTS
from airflow_ft_events.simulator.fault_specs import RandomFaults
from airflow_ft_events.simulator.simulator import Simulator
from airflow_ft_events.simulator.training import OUTCOMES

_STOPS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: its arguments; default those of the process.
    :returns: 0 after Ctrl-C or SIGTERM, 2 if the arguments are invalid or the port cannot be used.
    """
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        simulator = _simulator(options)
    except ValueError as error:
        return _refuse(parser, str(error))
    with _sigterm_like_ctrl_c():
        try:
            simulator.start()
            _tell(simulator)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            return 0
        except OSError as error:
            return _refuse(parser, f"port {options.port} cannot be used: {error.strerror}")
        finally:
            simulator.stop()
    return 0


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        _refuse(self, message)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="airflow-ft-simulator",
        description="A local server that behaves like a real fine-tuning server, on 127.0.0.1 only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=_port, default=8089, help="port to listen on; 0 takes a free one (default 8089)")
    add("--log", nargs="+", action="extend", metavar="FILE", help="replay recorded logs, one job for each")
    add("--speed", type=_positive, default=1.0, help="simulated seconds per second (default 1)")
    add("--outcome", choices=OUTCOMES, default="succeeded", help="how the jobs end (default succeeded)")
    add("--jobs", type=_count, default=1, metavar="N", help="number of jobs, or of replays of each log")
    add("--job-id", help="id of the first job")
    add(
        "--duration",
        type=_positive,
        default=300.0,
        metavar="SECONDS",
        help="length of a generated job (default 300)",
    )
    add(
        "--steps",
        type=_count,
        default=100,
        metavar="N",
        help="training steps of a generated job (default 100)",
    )
    add("--ended", action="store_true", help="the jobs have already ended, with complete logs")
    add(
        "--vendor",
        choices=tuple(DIALECTS),
        help=f"server to simulate; azure is the classic path (default that of the logs, else {DEFAULT})",
    )
    add("--order", choices=("newest", "oldest"), help="order of events (default the vendor's)")
    add("--any-file", action="store_true", help="take files for training that nobody has uploaded")
    add("--no-job-route", action="store_true", help="answer 404 when a job is read")
    add("--no-events-route", action="store_true", help="answer 404 when events are read")
    add("--seed", type=int, default=0, help="the same seed gives the same jobs (default 0)")
    add("--api-key", default="sk-simulator", help="key that requests must send (default sk-simulator)")
    add(
        "--latency",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait before each response (default 0)",
    )
    add(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help="faults, for example 500:0.1, 403@events, limit=1/s,burst=2 or cache=3; may be repeated",
    )
    return parser


def _simulator(options: argparse.Namespace) -> Simulator:
    if not (options.api_key.isascii() and options.api_key.isprintable() and options.api_key.strip()):
        raise ValueError("--api-key must be printable ASCII text")
    faults = RandomFaults(options.fault, seed=options.seed)
    run = {"outcome": options.outcome, "duration": options.duration, "steps": options.steps}
    jobs = [
        run | {"ended": options.ended, "log": log}
        for log in options.log or [None]
        for _ in range(options.jobs)
    ]
    simulator = Simulator(
        jobs,
        vendor=options.vendor,
        order=options.order,
        job_route=not options.no_job_route,
        events_route=not options.no_events_route,
        speed=options.speed,
        seed=options.seed,
        api_key=options.api_key,
        job_id=options.job_id,
        port=options.port,
        latency=options.latency,
        created_jobs=run,
        any_file=options.any_file,
    )
    simulator.fault = faults if options.fault else None
    return simulator


def _tell(simulator: Simulator) -> None:
    connection = simulator.connection_json().replace("'", "'\\''")
    lines = [f"Base URL: {simulator.base_url}", f"API key:  {simulator.api_key}"]
    lines += [f"Job:      {job_id}" for job_id in simulator.job_ids]
    lines += ["", f"export AIRFLOW_CONN_FINE_TUNING_DEFAULT='{connection}'", "", "Stop with Ctrl-C."]
    print("\n".join(lines), flush=True)


@contextlib.contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A shell starts background jobs with Ctrl-C ignored.
    before = {number: signal.signal(number, _stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # once asked to stop, the process ends: until then a second Ctrl-C must show no traceback
            if signal.getsignal(number) is _stop:
                signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    for each in _STOPS:
        signal.signal(each, _stop_at_once)
    raise KeyboardInterrupt


def _stop_at_once(number: int, frame: object) -> None:
    os._exit(0)


def _refuse(parser: argparse.ArgumentParser, message: str) -> int:
    print(f"{parser.prog}: {message}", file=sys.stderr)
    return 2


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, not {text}")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 1000000, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"must be a port number from 0 to 65535, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
