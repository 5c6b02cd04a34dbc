"""A secret that expires is asked for once a try, and a try without one is a fault like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult, FaultKind
from airflow_ft_events.connection.credential import Credential
from airflow_ft_events.errors import FineTuningAuthError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook


class FailsEverySecondTime(Credential):
    """Tokens that are over at once, from an identity service that answers every other time."""

    def __init__(self) -> None:
        self.asked = 0

    def at_hand(self) -> str | None:
        return None

    def renewed(self) -> str:
        self.asked += 1
        if self.asked % 2 == 0:
            raise FineTuningAuthError("The identity service is down.")
        return f"token-number-{self.asked}"

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()


@pytest.fixture(params=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Callable[..., list[ApiResult]]:
    """Send requests through one transport of a hook."""

    def send_all(hook: FineTuningHook, *requests: ApiRequest) -> list[ApiResult]:
        if request.param == "sync":
            with hook._sync_transport() as transport:
                return [transport.send(each) for each in requests]

        async def send_in_turn() -> list[ApiResult]:
            async with hook.async_transport() as transport:
                return [await transport.send(each) for each in requests]

        return asyncio.run(send_in_turn())

    return send_all


def test_a_try_asks_once_for_its_secret_and_its_failure_is_a_fault_of_that_try(
    send: Any, odd_server: Any, answer_bytes: Any, connect: Any
) -> None:
    server = odd_server(lambda request: answer_bytes({}))
    connect(server)
    hook, credential = FineTuningHook(), FailsEverySecondTime()
    hook._settings = replace(hook.settings, credential=credential)
    ask = ApiRequest(what="the job", path="/job")
    first, second, third = send(hook, ask, ask, ask)
    assert isinstance(first, ApiResponse)
    assert second == ApiFault(FaultKind.NO_TOKEN, "The identity service is down")
    assert isinstance(third, ApiResponse)
    assert credential.asked == 3
    sent = [str(request.headers) for request in server.requests]
    assert ["token-number-1" in sent[0], "token-number-3" in sent[1]] == [True, True]


def test_a_try_that_a_closed_connection_repeats_asks_once(
    odd_server: Any, answer_bytes: Any, connect: Any
) -> None:
    server = odd_server(lambda request: answer_bytes({}) if request.nth == 1 else None)
    connect(server)
    hook, credential = FineTuningHook(), FailsEverySecondTime()
    hook._settings = replace(hook.settings, credential=credential)
    ask = ApiRequest(what="the job", path="/job")
    with hook._sync_transport() as transport:
        assert isinstance(transport.send(ask), ApiResponse)
        credential.asked = 2
        assert isinstance(transport.send(ask), ApiResponse)
    assert credential.asked == 3
    assert len(server.requests) == 3
