"""A key that is rotated during a wait: neither the old nor the new one is shown, and the wait goes on."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningInputError
from airflow_ft_events.hooks.client import ClientHook

OLD, NEW = "Zq9xT7vW3mN5pL8kJ2hG-4fD6sA", "Yw8uS6rV2lM4oK7jI1gF-3eC5rB"
"""Keys without a vendor's prefix: only knowing them masks them."""


class Gateway:
    """A server whose log quotes keys, and which from a moment on takes the new key alone."""

    def __init__(self, odd_server: Any, answer_bytes: Any, connect: Any, clock: Any) -> None:
        self.clock, self.connect, self.answer_bytes = clock, connect, answer_bytes
        self.rotated_at, self.ends_at = 300.0, 1_500.0
        self.key, self.forbidden = OLD, False
        self.server = odd_server(self._answer)
        self.connect(self.server, key=OLD, max_retries=0)

    def rotate(self) -> None:
        """Put the new key into the connection."""
        self.connect(self.server, key=NEW, max_retries=0)

    def _answer(self, asked: Any) -> bytes:
        now, key = self.clock.passed, asked.headers["authorization"].removeprefix("Bearer ")
        events = asked.target.partition("?")[0].endswith("/events")
        if self.forbidden:
            said = {"error": {"message": f"key {NEW} may not, nor {OLD}", "code": NEW}}
            return self.answer_bytes(said, status="403 Forbidden")
        # the events are still served to the old key, so that a poll has read some when the job refuses it
        if now >= self.rotated_at and key != NEW and not events:
            return self.answer_bytes({"error": {"message": "bad key"}}, status="401 Unauthorized")
        if not events:
            return self.answer_bytes(
                {"id": "ftjob-1", "status": "succeeded" if now >= self.ends_at else "running"}
            )
        quoted = [
            {"id": f"e{at}", "created_at": 1_800_000_000 + at, "level": "warn", "message": f"{OLD}, {NEW}"}
            for at in range(int(now), -1, -100)
        ]
        return self.answer_bytes({"data": quoted, "has_more": False})


@pytest.fixture
def gateway(odd_server: Any, answer_bytes: Any, connect: Any, clock: Any) -> Gateway:
    return Gateway(odd_server, answer_bytes, connect, clock)


class Backend:
    """Airflow's connections, in front of which a secrets backend may be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        read = ClientHook.get_connection

        def get_connection(conn_id: str) -> Any:
            if self.away:
                raise ConnectionError("the vault is away")
            return read(conn_id)

        monkeypatch.setattr(ClientHook, "get_connection", staticmethod(get_connection))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    return Backend(monkeypatch)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_what_was_read_with_the_old_key_shows_neither_key(
    gateway: Gateway, follow: Any, mode: str, clock: Any, logs: Any
) -> None:
    clock.at(gateway.rotated_at, gateway.rotate)
    assert follow(mode, "ftjob-1", poke_interval=100)["outcome"] == "succeeded"
    assert "***, " in logs.text
    assert OLD not in logs.text


@pytest.mark.parametrize("polls", [1, 3])
def test_a_backend_that_is_away_for_some_polls_is_waited_for_on_a_worker(
    polls: int, gateway: Gateway, backend: Backend, follow: Any, clock: Any
) -> None:
    clock.at(gateway.rotated_at, lambda: setattr(backend, "away", True))

    def comes_back() -> None:
        backend.away = False
        gateway.rotate()

    clock.at(gateway.rotated_at + polls * 100 + 50, comes_back)
    assert follow("poke", "ftjob-1", poke_interval=100)["outcome"] == "succeeded"


def test_a_new_key_that_was_read_after_an_outage_of_the_backend_is_masked_in_errors(
    gateway: Gateway, backend: Backend, follow: Any, clock: Any
) -> None:
    clock.at(gateway.rotated_at, lambda: setattr(backend, "away", True))

    def comes_back() -> None:
        backend.away = False
        gateway.rotate()

    clock.at(gateway.rotated_at + 150, comes_back)
    clock.at(1_000, lambda: setattr(gateway, "forbidden", True))
    with pytest.raises(FineTuningApiError, match=r"is unknown.*403") as refused:
        follow("poke", "ftjob-1", poke_interval=100)
    assert NEW not in str(refused.value)
    assert OLD not in str(refused.value)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_connection_that_became_unusable_ends_the_wait_and_its_last_events_are_still_masked(
    gateway: Gateway, connect: Any, follow: Any, mode: str, clock: Any, logs: Any
) -> None:
    clock.at(gateway.rotated_at, lambda: connect("nonsense", key=NEW))
    with pytest.raises(FineTuningInputError, match="nonsense"):
        follow(mode, "ftjob-1", poke_interval=100)
    assert OLD not in logs.text
