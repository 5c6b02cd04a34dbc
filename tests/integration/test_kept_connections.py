"""Several requests on one kept connection: each gets its own answer, whatever else the server sends."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.transport import bounded_http
from tests.integration.conftest import Listener, http_answer, read_request

Talk = Callable[[socket.socket, str], None]
PATHS = ("/one", "/two", "/three")


@pytest.fixture
def serve(connect: Any) -> Iterator[Callable[[Talk], list[int]]]:
    """Start a server that answers each request by a function of its path; the connections used are kept."""
    with ExitStack() as stack:

        def start(talk: Talk) -> list[int]:
            used: list[int] = []

            def converse(served: socket.socket, connection: int) -> None:
                reader, nth = served.makefile("rb"), 0
                while request := read_request(reader, connection=connection, nth=(nth := nth + 1)):
                    used.append(connection)
                    talk(served, request.target.removeprefix("/v1"))

            listener = stack.enter_context(Listener(converse))
            connect(f"http://127.0.0.1:{listener.port}/v1", max_retries=0, timeout=5)
            return used

        yield start


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[[], list[ApiResult]]:
    """Ask for the paths one after the other, through one transport; wait between them as a wait does."""

    def ask_all() -> list[ApiResult]:
        hook = FineTuningHook()
        requests = [ApiRequest(what="ask", method="GET", path=path) for path in PATHS]
        if request.param == "sync":
            answers = []
            for each in requests:
                answers.append(hook._sync_transport().send(each))
                time.sleep(0.05)
            hook._sync_transport().close()
            return answers

        async def ask_in_turn() -> list[ApiResult]:
            answers = []
            async with hook.async_transport() as transport:
                for each in requests:
                    answers.append(await transport.send(each))
                    await asyncio.sleep(0.05)
            return answers

        return asyncio.run(ask_in_turn())

    return ask_all


def answer_to(path: str) -> bytes:
    """The answer that says what it answers."""
    return http_answer({"to": path})


def told(answers: list[ApiResult]) -> list[Any]:
    """What each answer says it answers, or what there was instead."""
    return [
        json.loads(answer.body)["to"]
        if isinstance(answer, ApiResponse) and answer.body
        else answer.status
        if isinstance(answer, ApiResponse)
        else answer.kind.name
        for answer in answers
    ]


INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103 with headers": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n",
    "199": b"HTTP/1.1 199\r\nX-Odd: 1\r\n\r\n",
    "several": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" * 3,
}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "a moment later"])
@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM.keys())
def test_an_interim_answer_is_not_taken_for_the_answer(
    interim: bytes, at_once: bool, serve: Any, ask: Any
) -> None:
    def talk(served: socket.socket, path: str) -> None:
        if at_once:
            served.sendall(interim + answer_to(path))
        else:
            served.sendall(interim)
            time.sleep(0.02)
            served.sendall(answer_to(path))

    used = serve(talk)
    assert told(ask()) == list(PATHS)
    assert used == [1, 1, 1]


def test_interim_answers_without_an_end_are_no_answer(serve: Any) -> None:
    serve(
        lambda served, path: served.sendall(
            INTERIM["102"] * (bounded_http.MOST_INTERIM_ANSWERS + 1) + answer_to(path)
        )
    )
    with FineTuningHook()._sync_transport() as transport:
        fault = transport.send(ApiRequest(what="ask", method="GET", path="/one"))
    assert isinstance(fault, ApiFault)
    assert "more than 100 interim answers" in fault.text


def test_a_connection_that_the_server_wants_to_upgrade_is_not_used_again(serve: Any, ask: Any) -> None:
    def talk(served: socket.socket, path: str) -> None:
        if path == "/one":
            served.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
            time.sleep(0.02)
        served.sendall(answer_to(path))

    used = serve(talk)
    assert told(ask()) == [101, "/two", "/three"]
    assert used == [1, 2, 2]


UNASKED = {
    "another answer": http_answer({"to": "nobody"}),
    "a late 408": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    "part of an answer": http_answer({"to": "nobody"})[:-4],
    "part of its headers": http_answer({"to": "nobody"})[:30],
}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "a moment later"])
@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED.keys())
def test_what_comes_behind_an_answer_is_not_the_answer_to_the_next_request(
    unasked: bytes, at_once: bool, serve: Any, ask: Any
) -> None:
    def talk(served: socket.socket, path: str) -> None:
        if at_once:
            served.sendall(answer_to(path) + unasked)
        else:
            served.sendall(answer_to(path))
            time.sleep(0.02)
            served.sendall(unasked)

    serve(talk)
    assert told(ask()) == list(PATHS)


def test_what_came_while_the_event_loop_was_busy_is_not_the_answer_to_the_next_request(serve: Any) -> None:
    def talk(served: socket.socket, path: str) -> None:
        served.sendall(answer_to(path))
        time.sleep(0.02)
        served.sendall(http_answer({"to": "nobody"}))

    serve(talk)

    async def ask_without_a_rest() -> list[ApiResult]:
        answers = []
        async with FineTuningHook().async_transport() as transport:
            for path in PATHS:
                answers.append(await transport.send(ApiRequest(what="ask", path=path)))
                time.sleep(0.1)  # noqa: ASYNC251 - another wait that takes the loop for itself
        return answers

    assert told(asyncio.run(ask_without_a_rest())) == list(PATHS)


@pytest.mark.parametrize("size", [9_000, 60_000])
def test_long_header_lines_are_read(size: int, serve: Any, ask: Any) -> None:
    serve(
        lambda served, path: served.sendall(
            http_answer({"to": path}, headers={"Content-Security-Policy": "a" * size})
        )
    )
    assert told(ask()) == list(PATHS)
