"""The command airflow-ft-simulator."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from airflow_ft_events.simulator.__main__ import main

COMMAND = [sys.executable, "-m", "airflow_ft_events.simulator"]
PROJECT = Path(__file__).resolve().parents[2]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = ""
    try:
        for line in process.stdout:
            told += line
            if line.startswith("Stop with"):
                break
        yield process, told
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_how_to_reach_it_and_exits_with_0_when_stopped(stop: signal.Signals) -> None:
    with running("--jobs", "3", "--outcome", "failed", "--seed", "7", "--speed", "1000", "--ended") as (
        process,
        told,
    ):
        exported = re.search(r"^export AIRFLOW_CONN_FINE_TUNING_DEFAULT='(.*)'$", told, re.MULTILINE)
        assert exported
        connection = json.loads(exported[1])
        assert f"Base URL: {connection['host']}" in told
        ids = re.findall(r"^Job: +(\S+)$", told, re.MULTILINE)
        assert len(ids) == 3
        headers = {"Authorization": f"Bearer {connection['password']}"}
        answer = requests.get(f"{connection['host']}/fine_tuning/jobs", headers=headers, timeout=20).json()
        assert {job["id"]: job["status"] for job in answer["data"]} == dict.fromkeys(ids, "failed")
        process.send_signal(stop)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("again", ["SIGINT", "SIGTERM"])
def test_a_second_ctrl_c_ends_it_at_once_and_quietly(again: str) -> None:
    stops_twice = f"""
import os, signal, sys, threading
from airflow_ft_events.simulator import __main__ as command

def tell(simulator):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

def stop(simulator):
    os.kill(os.getpid(), signal.{again})
    threading.Event().wait()

command._tell, command.Simulator.stop = tell, stop
sys.exit(command.main(["--port", "0"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", stops_twice], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_routes_order_key_logs_and_faults_are_as_asked(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"message": "one"}\n{"message": "two"}\n')
    options = ["--log", str(log), "--no-job-route", "--order", "oldest", "--api-key", "sk-mine", "--ended"]
    with running(*options, "--job-id", "ftjob-mine") as (_, told):
        base_url = re.findall(r"Base URL: (\S+)", told)[0]
        job = f"{base_url}/fine_tuning/jobs/ftjob-mine"
        headers = {"Authorization": "Bearer sk-mine"}
        assert requests.get(job, headers=headers, timeout=20).status_code == 404
        events = requests.get(f"{job}/events", headers=headers, timeout=20).json()["data"]
        assert [event["message"] for event in events] == ["one", "two"]
    with running("--fault", "503:1") as (_, told):
        base_url = re.findall(r"Base URL: (\S+)", told)[0]
        assert requests.get(f"{base_url}/fine_tuning/jobs", timeout=20).status_code == 503


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--log", "no/such/file"], "no/such/file"),
        (["--fault", "bogus"], "bogus"),
        (["--fault", "500:7"], "500:7"),
        (["--fault", "limit=1"], "limit=1/s"),
        (["--speed", "0"], "--speed"),
        (["--speed", "-1"], "--speed"),
        (["--speed", "fast"], "--speed"),
        (["--speed", "nan"], "--speed"),
        (["--port", "65536"], "--port"),
        (["--vendor", "acme"], "--vendor"),
        (["--outcome", "great"], "--outcome"),
        (["--jobs", "-1"], "--jobs"),
        (["--api-key", "schlüssel"], "--api-key"),
        (["--bogus"], "--bogus"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert reason in printed.err
    assert printed.err.count("\n") == 1


def test_a_log_that_is_not_json_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"message": "one"}\n{"message"\n')
    assert main(["--port", "0", "--log", str(log)]) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    printed = capsys.readouterr()
    assert f"port {port} cannot be used" in printed.err
    assert printed.out == ""


def test_importing_the_simulator_does_not_load_airflow() -> None:
    code = (
        "import sys, airflow_ft_events.simulator.__main__;"
        "print([name for name in sys.modules if name.split('.')[0] == 'airflow'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
