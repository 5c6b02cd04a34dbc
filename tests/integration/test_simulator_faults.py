"""What gateways do, on demand, over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_ft_events.simulator import Limiter, RandomFaults, Simulator, simulate

EVENTS, JOB = "/ftjob-test/events", "/ftjob-test"


@pytest.fixture
def sim(moment: Any) -> Iterator[Simulator]:
    with simulate(clock=lambda: moment.now, job_id="ftjob-test") as running:
        yield running


def get(sim: Simulator, path: str = JOB, *, key: str | None = None, **options: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or sim.api_key}"}
    url = f"{sim.base_url}/fine_tuning/jobs{path}"
    return requests.get(url, headers=headers, timeout=20, **options)  # type: ignore[arg-type]


def test_a_limiter_goes_by_the_clock_whatever_the_speed(moment: Any) -> None:
    with simulate(clock=lambda: moment.now, job_id="ftjob-test", speed=60) as sim:
        sim.fault = Limiter(rate=1, status=503)
        assert [get(sim, EVENTS).status_code, get(sim).status_code] == [200, 503]
        moment.now += 0.9
        assert get(sim).status_code == 503
        moment.now += 0.1
        assert [get(sim).status_code, get(sim, EVENTS).status_code] == [200, 503]


def test_a_limiter_tells_keys_apart_and_shows_none(sim: Simulator) -> None:
    sim.fault = Limiter(rate=1, per_client=True)
    assert [get(sim).status_code, get(sim, key="sk-other-key").status_code] == [200, 401]
    assert [get(sim).status_code, get(sim, key="sk-other-key").status_code] == [429, 429]
    assert "sk-other-key" not in repr(sim.requests)


def test_a_route_may_be_refused_while_the_others_answer(sim: Simulator, moment: Any) -> None:
    sim.fault = RandomFaults(["403@events", "404@job,from=60,to=120"])
    seen = []
    for _ in range(3):
        seen.append((get(sim, EVENTS).status_code, get(sim).status_code, get(sim, "").status_code))
        moment.now += 60
    assert seen == [(403, 200, 200), (403, 404, 200), (403, 200, 200)]


def test_a_cache_answers_as_it_did_until_its_time_is_over(sim: Simulator, moment: Any) -> None:
    sim.fault = RandomFaults(["cache=3"])
    assert get(sim).json()["status"] == "validating_files"
    sim.set_status("ftjob-test", "failed")
    moment.now += 2.9
    again = get(sim)
    assert (again.json()["status"], again.headers["Age"]) == ("validating_files", "2")
    # it keeps answers by their address
    assert get(sim, JOB + "?x=1").json()["status"] == "failed"
    moment.now += 0.1
    assert get(sim).json()["status"] == "failed"
    assert get(sim, "/ftjob-none").status_code == 404
    sim.add_job(job_id="ftjob-none")
    assert get(sim, "/ftjob-none").status_code == 200


def test_a_stale_server_is_always_some_seconds_behind(sim: Simulator, moment: Any) -> None:
    moment.now += 296
    assert get(sim).json()["status"] == "succeeded"
    sim.fault = RandomFaults(["stale=5"])
    assert get(sim).json()["status"] == "running"
    new = sim.add_job()
    assert get(sim, f"/{new}").status_code == 404
    assert new not in [job["id"] for job in get(sim, "").json()["data"]]
    moment.now += 5
    assert [get(sim).json()["status"], get(sim, f"/{new}").status_code] == ["succeeded", 200]


def test_a_connection_may_be_reset_in_the_middle_of_a_body(sim: Simulator) -> None:
    sim.fail_next(reset=True)
    with pytest.raises(requests.exceptions.RequestException):
        get(sim)
    whole = len(get(sim).content)
    sim.fail_next(reset=True)
    address = urlsplit(sim.base_url)
    raw = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    path = f"{address.path}/fine_tuning/jobs{JOB}"
    raw.request("GET", path, headers={"Authorization": f"Bearer {sim.api_key}"})
    response = raw.getresponse()
    assert response.headers["Content-Length"] == str(whole)
    with pytest.raises(ConnectionResetError):
        response.read(whole)
    raw.close()


def test_a_slow_close_keeps_a_complete_body_open(sim: Simulator) -> None:
    sim.fail_next(linger=600)
    answer = get(sim, stream=True)
    assert "Content-Length" not in answer.headers
    whole = len(get(sim).content)
    assert json.loads(answer.raw.read(whole))["id"] == "ftjob-test"
    answer.close()
    sim.fail_next(linger=0.01)
    assert get(sim).json()["id"] == "ftjob-test"


def test_a_body_comes_at_the_bandwidth_that_was_asked_for(sim: Simulator) -> None:
    whole = len(get(sim).content)
    sim.fail_next(bandwidth=whole * 10)
    began = time.monotonic()
    assert get(sim).json()["id"] == "ftjob-test"
    assert time.monotonic() - began >= 0.09


def test_an_event_stream_brings_the_events_and_stays_open(sim: Simulator, moment: Any) -> None:
    moment.now += 40
    sim.fault = RandomFaults(["sse"])
    with get(sim, EVENTS, stream=True) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = answer.iter_lines()
        told = [
            json.loads(line.removeprefix(b"data: ")) for line in (next(lines), next(lines), next(lines))[::2]
        ]
        assert told == sim.list_events("ftjob-test")[:-3:-1]
    assert get(sim).headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("fault", ["sse", "slow-close=600", "bandwidth=1"])
def test_stopping_waits_for_no_response_that_a_fault_keeps_open(fault: str, moment: Any) -> None:
    before = set(threading.enumerate())
    with simulate(clock=lambda: moment.now, job_id="ftjob-test") as sim:
        sim.fault = RandomFaults([fault])
        address = urlsplit(sim.base_url)
        waiting = socket.create_connection((str(address.hostname), address.port or 0), timeout=20)
        key = f"Authorization: Bearer {sim.api_key}\r\n"
        path = f"{address.path}/fine_tuning/jobs{EVENTS}"
        waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{key}\r\n".encode())
        assert waiting.recv(10)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert set(threading.enumerate()) == before
    waiting.close()
