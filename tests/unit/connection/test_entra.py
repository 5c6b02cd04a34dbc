"""Entra tokens: kept, replaced before they end, forgotten when refused; clear words where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.connection import entra
from airflow_ft_events.connection.settings import Settings, settings_of
from airflow_ft_events.errors import FineTuningAuthError, FineTuningInputError

SCOPE = "https://cognitiveservices.azure.com/.default"
HOUR = 3600.0


class StandingClock(Clock):
    def __init__(self) -> None:
        self.moment = 1_800_000_000.0

    def now(self) -> float:
        return self.moment


class FakeCredential:
    """Hands out numbered tokens that live for an hour."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.scopes: list[str] = []
        self.threads: list[str] = []
        self.broken: Exception | None = None

    def get_token(self, scope: str) -> Any:
        self.threads.append(threading.current_thread().name)
        if self.broken:
            raise self.broken
        self.scopes.append(scope)
        return SimpleNamespace(token=f"token-{len(self.scopes)}", expires_on=int(self.now() + HOUR))


@pytest.fixture
def clock() -> Iterator[StandingClock]:
    with driven_by(StandingClock()) as standing:
        assert isinstance(standing, StandingClock)
        yield standing


@pytest.fixture
def credential(clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> FakeCredential:
    """What DefaultAzureCredential makes in this test."""
    fake = FakeCredential(clock.now)
    monkeypatch.setattr(entra, "TOKENS", entra.EntraTokens())
    module = SimpleNamespace(DefaultAzureCredential=lambda: fake)
    monkeypatch.setitem(sys.modules, "azure.identity", module)
    return fake


def connection(host: str = "https://acme.openai.azure.com", **extra: Any) -> Settings:
    return settings_of(conn_id="tuning", host=host, extra={"auth": "entra", **extra})


def test_a_connection_with_entra_needs_no_key_and_sends_a_bearer_token(credential: FakeCredential) -> None:
    settings = connection()
    headers = settings.headers_with(settings.credential.current())
    assert headers["Authorization"] == "Bearer token-1"
    assert "api-key" not in headers
    assert credential.scopes == [SCOPE]


def test_a_key_in_the_password_is_not_sent_beside_a_token(credential: FakeCredential) -> None:
    settings = settings_of(
        conn_id="tuning",
        host="https://acme.openai.azure.com",
        password="a-key-of-old",
        extra={"auth": "entra"},
    )
    assert "a-key-of-old" not in str(settings.headers_with(settings.credential.current()))


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("https://acme.openai.azure.com", SCOPE),
        ("https://acme.services.ai.azure.com/openai/v1", SCOPE),
        ("https://swedencentral.api.cognitive.microsoft.com", SCOPE),
        ("https://acme.openai.azure.us", "https://cognitiveservices.azure.us/.default"),
        ("https://acme.openai.azure.cn", "https://cognitiveservices.azure.cn/.default"),
        ("https://acme.services.ai.azure.com/api/projects/p", "https://ai.azure.com/.default"),
        ("https://acme.services.ai.azure.com/api/projects/p/openai/v1", "https://ai.azure.com/.default"),
        ("https://acme.services.ai.azure.us/api/projects/p", "https://ai.azure.us/.default"),
        ("https://acme.services.ai.azure.cn/api/projects/p", "https://ai.azure.cn/.default"),
    ],
)
def test_the_scope_is_that_of_the_cloud(credential: FakeCredential, host: str, scope: str) -> None:
    connection(host).credential.current()
    assert credential.scopes == [scope]


@pytest.mark.parametrize(
    ("host", "vendor"),
    [("https://acme.openai.azure.com", "azure"), ("https://tuning.example/v1", "openai")],
)
def test_a_scope_of_the_connection_is_asked_for_whatever_the_server(
    credential: FakeCredential, host: str, vendor: str
) -> None:
    settings = connection(host, token_scope="api://tuning/.default")
    assert (settings.vendor.name, settings.credential.current()) == (vendor, "token-1")
    assert settings.headers_with("token-1")["Authorization"] == "Bearer token-1"
    assert credential.scopes == ["api://tuning/.default"]
    assert settings != connection(host, token_scope="api://another/.default")


def test_a_token_may_be_sent_in_another_header(credential: FakeCredential) -> None:
    settings = connection(key_header="X-Token", key_prefix="none")
    assert settings.key_headers(settings.credential.current()) == {"X-Token": "token-1"}


def test_a_refused_token_is_explained_by_its_identity_and_scope(credential: FakeCredential) -> None:
    said = connection().credential.after_refusal("tuning")
    assert SCOPE in said
    assert "'token_scope'" in said
    assert "Password" not in said


def test_a_connection_with_a_key_asks_for_no_token(credential: FakeCredential) -> None:
    settings = settings_of(conn_id="tuning", host="https://acme.openai.azure.com", password="some-key")
    assert settings.credential.current() == settings.credential.renewed() == "some-key"
    assert credential.scopes == []


@pytest.mark.parametrize("vendor", ["openai", "nebius", "together"])
def test_entra_is_refused_for_a_vendor_that_has_no_such_thing(vendor: str) -> None:
    with pytest.raises(FineTuningInputError, match=f"'tuning'.*'entra'.*Azure.*{vendor}"):
        connection("https://tuning.example/v1", vendor=vendor)


def test_a_token_is_kept_until_five_minutes_before_its_end(
    credential: FakeCredential, clock: StandingClock
) -> None:
    token = connection().credential
    assert token.current() == "token-1"
    clock.moment += HOUR - entra.REFRESH_BEFORE - 1
    assert token.current() == "token-1"
    clock.moment += 2
    assert token.at_hand() is None
    assert token.current() == "token-2"
    assert len(credential.scopes) == 2


def test_connections_of_one_process_share_a_token(credential: FakeCredential) -> None:
    first = connection().credential
    second = connection("https://other.openai.azure.com").credential
    assert first.current() == second.current() == "token-1"
    assert len(credential.scopes) == 1


def test_a_token_that_cannot_be_replaced_is_used_to_its_end_and_asked_for_every_half_minute(
    credential: FakeCredential, clock: StandingClock
) -> None:
    token = connection().credential
    assert token.current() == "token-1"
    credential.broken = OSError("no way to the identity service")
    clock.moment += HOUR - entra.REFRESH_BEFORE + 1
    for _ in range(60):
        assert token.current() == "token-1"
        clock.moment += 1
    assert len(credential.threads) == 1 + 2
    clock.moment += entra.REFRESH_BEFORE
    with pytest.raises(FineTuningAuthError, match="no way to the identity service"):
        token.current()
    credential.broken = None
    assert token.current() == "token-2"


def test_a_credential_that_fails_names_the_connection_and_what_to_do(credential: FakeCredential) -> None:
    credential.broken = ValueError("Nothing is configured.\nTo mitigate this issue, see a page")
    with pytest.raises(FineTuningAuthError) as refused:
        connection().credential.current()
    text = str(refused.value)
    for part in ("'tuning'", "Nothing is configured.", "managed identity", "AZURE_CLIENT_ID", "role"):
        assert part in text
    assert "\n" not in text
    assert refused.value.__suppress_context__


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entra, "TOKENS", entra.EntraTokens())
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(FineTuningInputError, match=r"'tuning'.*azure-identity.*airflow-ft-events\[azure\]"):
        connection().credential.current()


def test_a_refused_token_is_replaced_if_it_was_not_new(
    credential: FakeCredential, clock: StandingClock
) -> None:
    token = connection().credential
    assert token.current() == "token-1"
    assert not token.refused("token-1")  # its identity lacks a role, and no connection says another one
    assert token.at_hand() == "token-1"
    clock.moment += entra.REFUSED_AFTER + 1
    assert token.refused("token-1")
    assert token.at_hand() is None
    assert token.current() == "token-2"
    # another wait that met the same refusal finds the new one
    clock.moment += entra.REFUSED_AFTER + 1
    token.refused("token-1")
    assert token.at_hand() == "token-2"


def test_settings_show_no_token(credential: FakeCredential) -> None:
    settings = connection()
    settings.credential.current()
    assert "token-1" not in repr(settings) + repr(settings.credential) + repr(settings.redact)
    assert "token-1" in settings.redact.secrets


def test_settings_are_the_same_whatever_token_is_in_use(
    credential: FakeCredential, clock: StandingClock
) -> None:
    first = connection()
    first.credential.current()
    clock.moment += HOUR
    first.credential.current()
    assert first == connection()
    with pytest.raises(TypeError):
        first.headers["Authorization"] = "another"  # type: ignore[index]


def test_a_token_that_was_replaced_is_still_masked(credential: FakeCredential, clock: StandingClock) -> None:
    settings = connection()
    settings.credential.current()
    clock.moment += HOUR
    settings.credential.current()
    assert settings.redact.text("token-1 and token-2") == "*** and ***"


def test_azure_identity_is_not_imported_by_a_connection_with_a_key(project: Path) -> None:
    program = (
        "import sys\n"
        "from airflow_ft_events.connection import entra\n"
        "from airflow_ft_events.transport import aio, sync\n"
        "from airflow_ft_events.triggers import shared_client\n"
        "from airflow_ft_events.connection.settings import settings_of\n"
        "made = settings_of(conn_id='a', host='https://a.openai.azure.com', password='some-key')\n"
        "assert made.credential.current() == 'some-key'\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('azure', 'msal')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


def test_a_token_that_is_given_again_does_not_push_an_earlier_one_out_of_the_mask(
    credential: FakeCredential, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, given = connection(), iter(["earlier-token", *["same-token"] * 5])
    monkeypatch.setattr(
        credential,
        "get_token",
        lambda scope: SimpleNamespace(token=next(given), expires_on=int(clock.now() + HOUR)),
    )
    for _ in range(6):
        settings.credential.current()
        clock.moment += 2 * HOUR
    assert settings.credential.secrets == ("earlier-token", "same-token")
