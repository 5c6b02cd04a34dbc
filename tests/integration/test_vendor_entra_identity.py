"""azure-identity itself gets its tokens from a local identity service, in each way that it knows on Azure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_ft_events.connection import entra
from airflow_ft_events.exceptions import FineTuningAuthError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

HOUR = 3600.0
TENANT = "5c4aff0e-7b1e-4f4c-9f0e-0123456789ab"
CLIENT = "0f1e2d3c-0000-4000-8000-00000000feed"
SECRET = "client-TopSecret-of-the-identity"
SCOPE = "https://cognitiveservices.azure.com/.default"
ASSERTION = "federated-TopSecret-assertion"
pytestmark = pytest.mark.parametrize("vendor", ["azure", "azure-v1"])


class IdentityService:
    """Microsoft Entra and a host's metadata service, as far as a token needs them."""

    def __init__(self, clock: Any, answer_bytes: Callable[..., bytes]) -> None:
        self.clock, self.answer = clock, answer_bytes
        self.sims: list[Any] = []
        self.given: list[str] = []
        self.secret = SECRET
        self.assertion = ASSERTION

    def __call__(self, request: Any) -> bytes:
        url = urlsplit(request.target)
        host = f"https://{request.headers['host']}"
        if url.path == "/common/discovery/instance":
            # the authority whose tenant is asked for, whichever it is
            asked = urlsplit(parse_qs(url.query)["authorization_endpoint"][0])
            found = f"https://{asked.netloc}/{TENANT}/v2.0/.well-known/openid-configuration"
            return self.answer({"tenant_discovery_endpoint": found, "metadata": []})
        if url.path.endswith("/.well-known/openid-configuration"):
            root = f"{host}/{TENANT}/oauth2/v2.0"
            told = {"authorization_endpoint": f"{root}/authorize", "token_endpoint": f"{root}/token"}
            return self.answer({**told, "issuer": f"{host}/{TENANT}/v2.0"})
        if url.path == f"/{TENANT}/oauth2/v2.0/token" and request.method == "POST":
            return self._to_client(
                {name: given[0] for name, given in parse_qs(request.body.decode()).items()}
            )
        managed = "resource=https://cognitiveservices.azure.com" in unquote(url.query)
        if managed and {"metadata", "x-identity-header"} & request.headers.keys():
            until = int(self.clock.now() + HOUR)
            return self.answer({"access_token": self._token(), "expires_on": str(until), "expires_in": 3600})
        return self.answer({"error": "unheard_of", "error_description": url.path}, status="404 Not Found")

    def _to_client(self, form: dict[str, str]) -> bytes:
        known = (form.get("client_id"), form.get("scope"), form.get("grant_type"))
        right = known == (CLIENT, SCOPE, "client_credentials")
        right = right and (
            form.get("client_secret") == self.secret or form.get("client_assertion") == self.assertion
        )
        if not right:
            said = "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value."
            refused = {"error": "invalid_client", "error_description": said, "error_codes": [7000215]}
            return self.answer(refused, status="401 Unauthorized")
        return self.answer({"token_type": "Bearer", "expires_in": 3600, "access_token": self._token()})

    def _token(self) -> str:
        token = f"entra-TopSecret-token-{len(self.given) + 1}"
        self.given.append(token)
        for sim in self.sims:
            sim.bearer_tokens[token] = self.clock.now() + HOUR
        return token


@pytest.fixture
def service(clock: Any, answer_bytes: Any, monkeypatch: pytest.MonkeyPatch) -> IdentityService:
    """The identity service; azure-identity goes by the driven clock too."""
    pytest.importorskip("azure.identity")
    monkeypatch.setattr(entra, "TOKENS", entra.EntraTokens())
    monkeypatch.setattr(time, "time", clock.now)
    return IdentityService(clock, answer_bytes)


@pytest.fixture
def sim(simulated: Any, service: IdentityService, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An Azure server that takes the service's tokens, and a connection to it without a key."""
    made = simulated([])
    service.sims.append(made)
    extra = {**made.connection_extra, "auth": "entra"}
    connection = {"conn_type": "fine_tuning", "host": made.base_url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(connection))
    return made


@pytest.fixture
def entra_over_tls(
    service: IdentityService,
    odd_server: Any,
    proxy_to: Any,
    private_ca: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Lead login.microsoftonline.com to the service, by a proxy, with a certificate of the private CA."""
    server = odd_server(service, tls=private_ca.server)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy_to(server.url).address}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(private_ca.bundle))
    return server


@pytest.fixture(
    params=["client secret", "client secret of another cloud", "workload identity", "metadata", "platform"]
)
def identity(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each way to have an identity, as the environment of a worker or triggerer tells it."""
    way: str = request.param
    if way in ("metadata", "platform"):
        service = request.getfixturevalue("service")
        url = request.getfixturevalue("odd_server")(service, base_path="").url
        if way == "metadata":
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
        else:
            monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/MSI/token")
            monkeypatch.setenv("IDENTITY_HEADER", "header-of-the-platform")
        return way
    request.getfixturevalue("entra_over_tls")
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    if way == "workload identity":
        (tmp_path / "assertion").write_text(ASSERTION)
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
    else:
        monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    if way.endswith("another cloud"):
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://ft.example")
    return way


def test_each_identity_gets_a_token_that_arrives_as_bearer(
    identity: str, sim: Any, service: IdentityService, call: Any
) -> None:
    job_id = sim.add_job(ended=True)
    sim.api_key = "a key that nobody sends"
    assert call(FineTuningHook(), "list_events", job_id) == sim.list_events(job_id)
    assert {request.status for request in sim.requests} == {200}
    assert len(service.given) == 1


def test_each_identity_replaces_its_tokens_before_they_end_in_a_long_wait(
    identity: str, sim: Any, service: IdentityService, follow: Any, mode: str
) -> None:
    job_id = sim.add_job(duration=5 * HOUR, steps=0)
    assert follow(mode, job_id, timeout=24 * HOUR, poke_interval=600)["outcome"] == "succeeded"
    assert {request.status for request in sim.requests} == {200}
    assert 5 <= len(service.given) <= 8


def test_no_token_and_no_secret_of_an_identity_is_stored_or_logged(
    identity: str, sim: Any, service: IdentityService, follow: Any, mode: str, logs: Any
) -> None:
    job_id = sim.add_job(duration=2 * HOUR, steps=0)
    result = follow(mode, job_id, timeout=24 * HOUR, poke_interval=600)
    told = [(trigger.serialize(), repr(trigger), vars(trigger)) for trigger in follow.triggers]
    seen = f"{logs.text}{told}{result}{follow.task.pushed}"
    assert len(service.given) >= 2
    assert "TopSecret" not in seen


def test_a_refused_client_secret_is_an_error_that_names_the_connection_and_what_to_do(
    entra_over_tls: Any,
    sim: Any,
    service: IdentityService,
    follow: Any,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    logs: Any,
) -> None:
    for name, value in (("TENANT_ID", TENANT), ("CLIENT_ID", CLIENT), ("CLIENT_SECRET", SECRET)):
        monkeypatch.setenv(f"AZURE_{name}", value)
    service.secret = "a newer secret"
    with pytest.raises(FineTuningAuthError) as refused:
        follow(mode, sim.add_job())
    text = str(refused.value)
    for part in ("'fine_tuning_default'", "AADSTS7000215", "AZURE_CLIENT_SECRET", "role"):
        assert part in text
    assert "TopSecret" not in text + logs.text
    assert sim.requests == []
    asked = [request for request in entra_over_tls.requests if request.method == "POST"]
    assert len(asked) == 1
