"""The last events of a job whose verdict is known: one try in bounded time, and the verdict stands."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningJobFailed
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.simulator import RandomFaults
from airflow_ft_events.transport import bounded_http, sync
from tests.integration.conftest import Listener, http_answer, read_request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ENDLESS = {
    "silence": (b"", b""),
    "headers and silence": (HEAD + b"\r\n", b""),
    "a stream of events": (HEAD + b"\r\n", b'data: {"id": "e1"}\n\n'),
    "a chunked stream": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\n:\n\n\r\n"),
    "a body that drips": (HEAD + b"Content-Length: 1000000\r\n\r\n{", b" "),
    "headers that drip": (HEAD + b"X-Long: ", b"a"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.fixture
def ended(connect: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Serve a job that has ended and an events route whose answers never end; returns the paths asked for."""
    # only the bound of the last try ends such an answer here
    monkeypatch.setattr(bounded_http, "READ_TIMEOUTS", 1_000_000)
    stopped, asked = threading.Event(), []

    def start(first: bytes, again: bytes, status: str) -> list[str]:
        def talk(served: socket.socket, connection: int) -> None:
            reader, nth = served.makefile("rb"), 0
            while request := read_request(reader, connection=connection, nth=(nth := nth + 1)):
                asked.append(request.target.partition("?")[0].rpartition("/")[2])
                if asked[-1] != "events":
                    served.sendall(http_answer({"id": "ftjob-1", "status": status}))
                    continue
                served.sendall(first)
                while not stopped.wait(0.02):
                    served.sendall(again)

        listener = Listener(talk)
        listener.__enter__()
        listeners.append(listener)
        connect(f"http://127.0.0.1:{listener.port}/v1", timeout=0.2)
        return asked

    listeners: list[Listener] = []
    yield start
    stopped.set()
    for listener in listeners:
        listener.__exit__()


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_without_an_end_is_given_up_in_one_try(
    answer: tuple[bytes, bytes], ended: Any, clock: Any
) -> None:
    asked = ended(*answer, "succeeded")
    with pytest.raises(FineTuningApiError, match=r"no answer in 0\.2 s"):
        FineTuningHook().newest_events("ftjob-1")
    assert asked == ["events"]
    assert clock.naps == []


@pytest.mark.parametrize(
    "answer", [ENDLESS["silence"], ENDLESS["a stream of events"]], ids=["silence", "SSE"]
)
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_the_verdict_stands_with_one_warning(
    answer: tuple[bytes, bytes], status: str, ended: Any, logs: Any, clock: Any
) -> None:
    from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

    asked = ended(*answer, status)
    sensor = FineTuningEventsSensor(task_id="wait", job_id="ftjob-1", deferrable=True)
    outcome = {"job_id": "ftjob-1", "vendor": "openai", "outcome": status, "decided_by": "status"}
    event = json.loads(json.dumps({"kind": "outcome", "outcome": {**outcome, "status": status}}))
    if status == "failed":
        with pytest.raises(FineTuningJobFailed):
            sensor.execute_complete({}, event)
    else:
        result = sensor.execute_complete({}, event)
        assert (result["outcome"], result["last_event"], result["metrics"]) == ("succeeded", None, {})
    assert asked == ["events"]
    assert logs.text.count("its last events could not be read") == 1
    assert "trying again" not in logs.text


@pytest.mark.parametrize("fault", ["sse@events", "slow-close=3@events", "500@events"])
def test_a_wait_on_the_simulator_ends_with_its_verdict(
    fault: str, simulated: Any, connect: Any, follow: Any, logs: Any
) -> None:
    sim = simulated(outcome="succeeded", ended=True)
    connect(sim, timeout=0.3, max_retries=5)
    sim.fault = RandomFaults([fault])
    result = follow("poke", sim.job_id, poke_interval=60)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "status")
    assert "trying again" not in logs.text
    assert logs.text.count("its last events could not be read") == 1


@pytest.mark.parametrize("vendor", ["nebius"])
def test_many_pages_share_the_time(simulated: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sim = simulated([])
    job_id = sim.add_job(events=[{"message": f"m{n}", "offset": 0} for n in range(100)], ended=True)
    connect(sim, page_size=1, timeout=30)
    seconds = itertools.count(time.monotonic())
    monkeypatch.setattr(sync, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with pytest.raises(FineTuningApiError, match="no answer in 30 s"):
        FineTuningHook().newest_events(job_id)
    assert len(sim.requests) == 29


def test_other_reads_keep_their_own_limits_after_it(simulated: Any, connect: Any) -> None:
    sim = simulated()
    connect(sim, timeout=7)
    hook = FineTuningHook()
    hook.newest_events(sim.job_id)
    assert hook.get_conn().timeout == (10, 7)  # type: ignore[attr-defined]
    assert bounded_http._ends_at.get() == float("inf")
