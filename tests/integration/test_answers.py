"""Answers that take their time, and numbers that no database takes."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_ft_events.api.errors import FineTuningApiError
from airflow_ft_events.events import json_safe
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server whose body never ends: a byte now and then, each well within the read timeout."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
            while not stopped.wait(0.02):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    stopped.set()
    listener.close()


def test_a_body_that_drips_ends_as_a_timeout(dripping: str, connect: Any, call: Callable[..., Any]) -> None:
    connect(dripping, timeout=0.1, max_retries=0)
    began = time.monotonic()
    with pytest.raises(FineTuningApiError, match="no answer in"):
        call(FineTuningHook(), "get_job", "ftjob-1")
    assert time.monotonic() - began < 60


def test_numbers_that_are_none_become_null_at_any_depth() -> None:
    given = {"a": math.nan, "b": [1.5, -math.inf, {"c": math.inf}], "d": "NaN", "e": 7}
    assert json_safe(given) == {"a": None, "b": [1.5, None, {"c": None}], "d": "NaN", "e": 7}


def test_a_session_knows_the_root_and_never_waits_for_ever(
    family: Any, simulated: Any, connect: Any, mocker: Any
) -> None:
    sim = simulated()
    connect(sim, timeout=7)
    session = FineTuningHook().get_conn()
    send = mocker.spy(session, "send")
    assert session.get(f"{family.jobs_path}/{sim.job_id}").json()["id"] == sim.job_id
    assert send.call_args.kwargs["timeout"] == (10, 7)


def test_a_misspelt_name_in_the_extra_is_warned_about(simulated: Any, connect: Any, logs: Any) -> None:
    sim = simulated()
    connect(sim, time_out=7)
    assert FineTuningHook().get_job(sim.job_id)["id"] == sim.job_id
    assert "time_out" in logs.text


def test_a_key_that_changes_at_every_reading_and_is_always_refused_ends_the_wait(
    odd_server: Any, answer_bytes: Any, connect: Any, payload_of: Any, clock: Any
) -> None:
    asked: list[Any] = []

    def refuse(request: Any) -> Any:
        asked.append(request)
        connect(server, key=f"sk-{len(asked)}-of-many-keys")
        return answer_bytes({"error": {"message": "No."}}, status="401 Unauthorized")

    server = odd_server(refuse)
    connect(server)
    trigger = FineTuningEventsTrigger(job_id="ftjob-1", poll_interval=60, end_time=clock.now() + 7200)
    payload = asyncio.run(payload_of(trigger))
    assert (payload["kind"], payload["error"]["status"]) == ("error", 401)
    assert len(asked) <= 4
