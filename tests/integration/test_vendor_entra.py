"""Azure with Entra tokens: they run out and are replaced, in every mode, and are seen nowhere."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_ft_events.connection import entra
from airflow_ft_events.errors import FineTuningApiError, FineTuningAuthError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

HOUR = 3600.0
pytestmark = pytest.mark.parametrize("vendor", ["azure", "azure-v1"])


class FakeCredential:
    """An identity service: tokens of an hour, which the simulator then takes."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.sims: list[Any] = []
        self.given: list[str] = []
        self.broken: Exception | None = None

    def get_token(self, scope: str) -> Any:
        assert scope == "https://cognitiveservices.azure.com/.default"
        if self.broken:
            raise self.broken
        token = f"entra-token-number-{len(self.given) + 1}"
        self.given.append(token)
        until = self.clock.now() + HOUR
        for sim in self.sims:
            sim.bearer_tokens[token] = until
        return SimpleNamespace(token=token, expires_on=int(until))


@pytest.fixture
def credential(clock: Any, monkeypatch: pytest.MonkeyPatch) -> FakeCredential:
    """What DefaultAzureCredential makes in this test."""
    identity = pytest.importorskip("azure.identity")
    fake = FakeCredential(clock)
    monkeypatch.setattr(entra, "TOKENS", entra.EntraTokens())
    monkeypatch.setattr(identity, "DefaultAzureCredential", lambda: fake)
    return fake


@pytest.fixture
def sim(simulated: Any, credential: FakeCredential, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An Azure server and a connection to it that holds no key."""
    made = simulated([])
    credential.sims.append(made)
    extra = {**made.connection_extra, "auth": "entra"}
    connection = {"conn_type": "fine_tuning", "host": made.base_url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(connection))
    return made


def test_both_faces_read_with_a_token_and_without_a_key(sim: Any, call: Any) -> None:
    job_id = sim.add_job(ended=True)
    assert call(FineTuningHook(), "list_events", job_id) == sim.list_events(job_id)
    assert {request.status for request in sim.requests} == {200}


def test_a_wait_of_a_day_goes_on_over_many_tokens_in_each_mode(
    sim: Any, credential: FakeCredential, follow: Any, mode: str, clock: Any
) -> None:
    job_id = sim.add_job(duration=24 * HOUR, steps=0)
    assert follow(mode, job_id, timeout=3 * 24 * HOUR, poke_interval=600)["outcome"] == "succeeded"
    assert {request.status for request in sim.requests} == {200}
    assert 24 <= len(credential.given) <= 30


def test_a_token_is_in_no_log_and_no_kwargs_and_no_result(
    sim: Any, credential: FakeCredential, follow: Any, logs: Any
) -> None:
    job_id = sim.add_job(duration=3 * HOUR, steps=0)
    result = follow("deferrable", job_id, timeout=24 * HOUR, poke_interval=600)
    (trigger,) = follow.triggers
    seen = f"{logs.text}{trigger.serialize()}{trigger!r}{vars(trigger)}{result}{follow.task.pushed}"
    assert len(credential.given) >= 3
    assert "entra-token" not in seen


def test_a_session_of_the_hook_outlives_its_first_token(sim: Any, clock: Any) -> None:
    job_id = sim.add_job()
    session = FineTuningHook().get_conn()
    url = f"{sim.base_url}/fine_tuning/jobs/{job_id}"
    assert session.get(url, timeout=20).status_code == 200
    clock.sleep(3 * HOUR)
    assert session.get(url, timeout=20).status_code == 200
    assert "entra-token" not in repr(session.auth)


def test_a_token_that_is_refused_before_its_end_is_replaced(
    sim: Any, credential: FakeCredential, follow: Any, mode: str, clock: Any
) -> None:
    job_id = sim.add_job(duration=2000, steps=0)
    clock.at(1000, sim.bearer_tokens.clear)
    assert follow(mode, job_id, timeout=24 * HOUR, poke_interval=100)["outcome"] == "succeeded"
    assert len(credential.given) == 2
    assert sum(request.status == 401 for request in sim.requests) in (1, 2)


def test_an_identity_without_a_role_ends_the_wait_at_once(
    sim: Any, credential: FakeCredential, follow: Any, mode: str
) -> None:
    job_id = sim.add_job()
    credential.sims.clear()
    with pytest.raises(FineTuningAuthError, match="401"):
        follow(mode, job_id)
    assert sim.count() <= 2


def test_a_revoked_role_ends_the_wait_without_a_burst_of_requests(
    sim: Any, credential: FakeCredential, follow: Any, mode: str, clock: Any
) -> None:
    job_id = sim.add_job(duration=24 * HOUR, steps=0)

    def take_away() -> None:
        credential.sims.clear()
        sim.bearer_tokens.clear()

    clock.at(2000, take_away)
    with pytest.raises(FineTuningAuthError, match="401"):
        follow(mode, job_id, timeout=24 * HOUR, poke_interval=100)
    assert 2000 <= clock.passed <= 2200
    # three polls of both routes, since a refusal must stay for 30 s, and a second try with a fresh token
    assert sum(request.status == 401 for request in sim.requests) <= 8


def test_a_credential_that_fails_at_the_start_ends_the_task_and_sends_nothing(
    sim: Any, credential: FakeCredential, follow: Any, mode: str
) -> None:
    credential.broken = ValueError("No credential is configured")
    with pytest.raises(FineTuningAuthError, match=r"fine_tuning_default.*No credential is configured.*role"):
        follow(mode, sim.add_job())
    assert sim.count() == 0
    working, said = FineTuningHook().test_connection()
    assert not working
    assert "No credential is configured" in said


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_identity_service_that_is_unavailable_for_a_while_ends_no_wait(
    sim: Any, credential: FakeCredential, follow: Any, mode: str, clock: Any, logs: Any
) -> None:
    job_id = sim.add_job(duration=4 * HOUR, steps=0)

    def away() -> None:
        credential.broken = OSError("no way to the identity service")

    def back() -> None:
        credential.broken = None

    clock.at(2000, away)
    clock.at(HOUR + 600, back)
    assert follow(mode, job_id, timeout=24 * HOUR, poke_interval=300)["outcome"] == "succeeded"
    assert "no way to the identity service" in logs.text
    assert {request.status for request in sim.requests} == {200}


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_identity_service_that_stays_unavailable_leaves_the_jobs_state_unknown(
    sim: Any, credential: FakeCredential, follow: Any, mode: str, clock: Any
) -> None:
    job_id = sim.add_job(duration=48 * HOUR, steps=0)

    def away() -> None:
        credential.broken = OSError("no way to the identity service")

    clock.at(2000, away)
    with pytest.raises(FineTuningApiError, match=r"is unknown.*no way to the identity service"):
        follow(mode, job_id, timeout=48 * HOUR, poke_interval=300)


def test_the_real_credential_gets_its_token_from_a_managed_identity(
    odd_server: Any,
    answer_bytes: Any,
    simulated: Any,
    clock: Any,
    follow: Any,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("azure.identity")
    monkeypatch.setattr(entra, "TOKENS", entra.EntraTokens())

    def identity(request: Any) -> bytes:
        body = {"access_token": "managed-token", "expires_on": str(int(clock.now() + HOUR))}
        return answer_bytes({**body, "resource": "any", "token_type": "Bearer"})

    service = odd_server(identity)
    monkeypatch.setenv("IDENTITY_ENDPOINT", service.url)
    monkeypatch.setenv("IDENTITY_HEADER", "header-of-the-platform")
    sim = simulated(ended=True)
    sim.bearer_tokens["managed-token"] = clock.now() + HOUR
    extra = {**sim.connection_extra, "auth": "entra"}
    connection = {"conn_type": "fine_tuning", "host": sim.base_url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(connection))
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"
    (asked,) = service.requests
    assert unquote(asked.target).endswith("resource=https://cognitiveservices.azure.com")
    assert {request.status for request in sim.requests} == {200}


def test_a_missing_extra_ends_a_wait_by_its_name(
    sim: Any, end_of: Any, follow: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    assert end_of(follow, mode, sim.add_job()) == "FineTuningInputError"
    assert sim.count() == 0
