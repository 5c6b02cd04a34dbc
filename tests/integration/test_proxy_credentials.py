"""A proxy that wants credentials: the same on plain http and on CONNECT, for both clients and for waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningAuthError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from tests.integration.conftest import Listener, RawRequest, read_request

PAGE = b"<html><!-- licence --><h1>Cache Access Denied</h1></html>"
REFUSAL = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=p\r\n"
    b"Connection: close\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE
)


@pytest.fixture(params=["http", "https"])
def asked(request: pytest.FixtureRequest, connect: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The requests of a proxy that answers 407 to each, on plain http and to a CONNECT."""
    requests: list[RawRequest] = []

    def talk(served: Any, connection: int) -> None:
        if found := read_request(served.makefile("rb"), connection=connection, nth=1):
            requests.append(found)
            served.sendall(REFUSAL)

    with Listener(talk) as listener:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.port}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.port}")
        connect(f"{request.param}://ft.example/v1", allow_http=True)
        yield requests


def test_a_call_is_told_about_the_proxy_and_is_tried_once(asked: Any, call: Any, clock: Any) -> None:
    with pytest.raises(FineTuningApiError) as caught:
        call(FineTuningHook(), "get_job", "ftjob-1")
    assert not isinstance(caught.value, FineTuningAuthError)
    assert caught.value.status == 407
    for part in ("the proxy on the way", "HTTPS_PROXY or HTTP_PROXY", "add ft.example to NO_PROXY"):
        assert part in str(caught.value)
    assert "licence" not in str(caught.value)
    assert "vendor" not in str(caught.value)
    assert len(asked) == 1
    assert clock.naps == []


def test_a_wait_takes_it_for_no_missing_route_and_ends_with_the_advice(
    asked: Any, follow: Any, mode: str, logs: Any
) -> None:
    with pytest.raises(Exception, match=r"HTTPS_PROXY or HTTP_PROXY|did not end") as caught:
        follow(mode, "ftjob-1", poke_interval=60, timeout=3600, max_poll_failures=3)
    assert type(caught.value).__name__ in ("FineTuningApiError", "AirflowSensorTimeout")
    assert "does not show" not in logs.text
    assert 2 <= len(asked) <= 130


def test_the_connection_test_tells_about_the_proxy(asked: Any) -> None:
    works, text = FineTuningHook().test_connection()
    assert not works
    assert "HTTPS_PROXY or HTTP_PROXY" in text
    assert len(asked) == 1
