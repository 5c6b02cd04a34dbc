"""Answers that take their time, and numbers that no database takes."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from airflow_ft_events.connection.carried import carried
from airflow_ft_events.errors import FineTuningApiError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.transport import aio, bounded_http
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger
from tests.integration.conftest import Listener

DRIPS = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.fixture(params=["plain", "TLS", "proxy"])
def dripping(request: pytest.FixtureRequest, private_ca: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a server whose answers never end: a few bytes now and then, each well within the read timeout."""
    stopped = threading.Event()
    way: str = request.param
    with ExitStack() as stack:

        def start(first: bytes, again: bytes) -> dict[str, Any]:
            def drip(served: socket.socket, connection: int) -> None:
                served.recv(65_536)
                served.sendall(first)
                while not stopped.wait(0.02):
                    served.sendall(again)

            tls = private_ca.server if way == "TLS" else None
            listener = stack.enter_context(Listener(drip, tls=tls))
            address = f"127.0.0.1:{listener.port}"
            if way == "proxy":
                monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
                return {"host": "http://ft.example/v1", "allow_http": True}
            scheme = "https" if tls else "http"
            return {"host": f"{scheme}://{address}/v1", "verify": str(private_ca.bundle)}

        yield start
        stopped.set()


@pytest.mark.parametrize("what", DRIPS)
def test_an_answer_that_drips_ends_as_a_timeout(
    what: str, dripping: Any, connect: Any, call: Callable[..., Any], mocker: Any
) -> None:
    mocker.patch.object(bounded_http, "READ_TIMEOUTS", 2)
    mocker.patch.object(aio, "READ_TIMEOUTS", 2)
    extra = dripping(*DRIPS[what])
    connect(extra.pop("host"), timeout=0.1, max_retries=0, **extra)
    hook = FineTuningHook()
    hook._settings = replace(hook.settings, connect_timeout=0.5)  # part of the bound, and 10 s for everybody
    whole = r"the response was not complete after 0\.[27] s"  # aiohttp's counts the connecting, too
    with pytest.raises(FineTuningApiError, match=whole):
        call(hook, "get_job", "ftjob-1")


def test_non_finite_numbers_become_null_at_any_depth() -> None:
    given = {"a": math.nan, "b": [1.5, -math.inf, {"c": math.inf}], "d": "NaN", "e": 7}
    assert carried(given) == {"a": None, "b": [1.5, None, {"c": None}], "d": "NaN", "e": 7}


def test_a_session_knows_the_root_and_never_waits_for_ever(simulated: Any, connect: Any, mocker: Any) -> None:
    sim = simulated()
    connect(sim, timeout=7)
    session = FineTuningHook().get_conn()
    send = mocker.spy(session, "send")
    assert session.get(f"/fine_tuning/jobs/{sim.job_id}").json()["id"] == sim.job_id
    assert send.call_args.kwargs["timeout"] == (10, 7)


def test_a_misspelt_name_in_the_extra_is_warned_about(simulated: Any, connect: Any, logs: Any) -> None:
    sim = simulated()
    connect(sim, time_out=7)
    assert FineTuningHook().get_job(sim.job_id)["id"] == sim.job_id
    assert "time_out" in logs.text


@pytest.mark.every_family
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
