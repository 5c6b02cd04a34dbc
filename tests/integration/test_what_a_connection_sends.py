"""Query parameters, the key's header and the client certificate: sent, and the same from both clients."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningInputError
from airflow_ft_events.hooks import client
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

KEY = "sk-simulator"


@pytest.fixture
def server(odd_server: Any, answer_bytes: Any) -> Any:
    """A server with one running job, whose log comes in two pages; it answers whatever is sent to it."""

    def answer(request: Any) -> bytes:
        url = urlsplit(request.target)
        job = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "running"}
        if not url.path.endswith("/events"):
            return answer_bytes({"data": [job], "has_more": False} if url.path.endswith("/jobs") else job)
        older = "after" in parse_qs(url.query)
        event = {"id": "e-1" if older else "e-2", "created_at": 1 if older else 2, "message": "Hello"}
        return answer_bytes({"data": [event], "has_more": not older})

    return odd_server(answer)


def queries(server: Any) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(request.target).query) for request in server.requests]


@pytest.mark.parametrize(
    ("conn_type", "extra"),
    [
        ("fine_tuning", {"params": {"provider": "open ai/é", "flag": True}}),
        ("http", {"params": {"provider": "open ai/é", "flag": True}}),
        ("openai", {"openai_client_kwargs": {"default_query": {"provider": "open ai/é", "flag": True}}}),
    ],
)
def test_query_parameters_are_on_every_request(
    conn_type: str, extra: dict[str, Any], server: Any, connect: Any, call: Any
) -> None:
    connect(server.url, conn_type=conn_type, **extra)
    hook = FineTuningHook()
    call(hook, "get_job", "ftjob-1")
    assert [event["id"] for event in call(hook, "list_events", "ftjob-1")] == ["e-1", "e-2"]
    call(hook, "list_jobs", limit=1)
    call(hook, "cancel_job", "ftjob-1")
    assert len(server.requests) == 5
    for query in queries(server):
        assert (query["provider"], query["flag"]) == (["open ai/é"], ["true"])
    assert queries(server)[2]["after"] == ["e-2"]


def test_query_parameters_are_on_the_requests_of_the_session_too(server: Any, connect: Any) -> None:
    connect(server.url, params={"team": "tuning"})
    FineTuningHook().get_conn().get("/fine_tuning/jobs/ftjob-1", params={"mine": "1"})
    assert queries(server) == [{"team": ["tuning"], "mine": ["1"]}]


SENT = {
    "its own header": ({"key_header": "X-Api-Key"}, {"x-api-key": KEY}),
    "a prefix": ({"key_header": "X-Auth", "key_prefix": "Token"}, {"x-auth": f"Token {KEY}"}),
    "basic": ({"key_prefix": "Basic"}, {"authorization": f"Basic {KEY}"}),
    "raw": ({"key_prefix": "none"}, {"authorization": KEY}),
    "none": ({"auth": "none"}, {}),
}


@pytest.mark.parametrize(("extra", "sent"), SENT.values(), ids=SENT.keys())
def test_the_key_is_sent_as_the_connection_says_and_in_no_other_header(
    extra: dict[str, Any], sent: dict[str, str], server: Any, connect: Any, call: Any
) -> None:
    connect(server.url, **extra)
    hook = FineTuningHook()
    call(hook, "get_job", "ftjob-1")
    call(hook, "list_events", "ftjob-1")
    hook.get_conn().get("/fine_tuning/jobs/ftjob-1")
    for request in server.requests:
        told = {name: text for name, text in request.headers.items() if KEY in text}
        assert told == sent
        assert ("authorization" in request.headers) == ("authorization" in sent)


def test_a_wait_sends_the_same_in_every_mode(simulated: Any, connect: Any, follow: Any, mode: str) -> None:
    sim = simulated()
    connect(sim, params={"team": "tuning"})
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"
    assert {request.query.get("team") for request in sim.requests} == {"tuning"}


def test_a_refusal_without_a_key_does_not_advise_about_a_password(
    simulated: Any, connect: Any, call: Any
) -> None:
    connect(simulated().base_url, auth="none")
    with pytest.raises(
        FineTuningApiError, match=r"401.*'fine_tuning_default' sends no key \('auth' is 'none'\)"
    ):
        call(FineTuningHook(), "get_job", "ftjob-1")


# what is said about it


def test_short_values_are_not_registered_with_airflows_masker(
    server: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[str] = []
    monkeypatch.setattr(client, "mask_secret", registered.append)
    headers = {"x-portkey-provider": "openai", "x-portkey-api-key": "pk-gateway-secret"}
    connect(
        server.url, key="sk-of-the-user", headers=headers, params={"code": "a-long-secret", "kind": "chat"}
    )
    hook = FineTuningHook()
    hook.get_job("ftjob-1")
    assert set(registered) == {"sk-of-the-user", "pk-gateway-secret", "a-long-secret"}
    # the package's own redaction goes further
    assert hook.redact.text("openai pk-gateway-secret") == "*** ***"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            {"conn_type": "http", "extra": {"X-Team": "a", "cert": "a.pem"}},
            r"unknown settings in its extra: X-Team, cert\. Headers belong under 'headers'\.",
        ),
        ({"conn_type": "http", "login": "me"}, r"\(type http\): ignoring Login\."),
        ({"conn_type": "http", "schema": "https"}, r"\(type http\): ignoring Schema\."),
        ({"conn_type": "openai", "login": "me", "extra": {"acme": 1}}, r"its extra: acme\."),
        ({"conn_type": "fine_tuning", "extra": {"tiemout": 1}}, r"its extra: tiemout\."),
    ],
)
def test_what_a_connection_holds_and_nothing_uses_is_named(
    made: dict[str, Any], said: str, server: Any, call: Any, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"host": server.url, "password": KEY, **made}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(made))
    call(FineTuningHook(), "get_job", "ftjob-1")
    logged = "\n".join(
        record.getMessage() for record in logs._caplog.records if record.levelno >= logging.WARNING
    )
    assert re.search(said, logged or logs.text)


def test_a_connection_of_type_http_that_uses_all_it_holds_is_silent(
    server: Any, call: Any, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(server.url)
    made = {
        "conn_type": "http",
        "schema": "http",
        "host": f"{parts.hostname}{parts.path}",
        "port": parts.port,
    }
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps({**made, "password": KEY}))
    call(FineTuningHook(), "get_job", "ftjob-1")
    assert "ignoring" not in logs.text


# client certificates


@dataclass(frozen=True)
class ClientCa:
    """A CA of clients, a certificate of it in several files, and a server that asks for one."""

    server: ssl.SSLContext
    both: Path
    cert: Path
    key: Path
    locked_key: Path
    another: Path


@pytest.fixture(scope="module")
def client_ca(private_ca: Any, tmp_path_factory: pytest.TempPathFactory) -> ClientCa:
    """Make a CA of clients, and have the private CA's server ask for its certificates."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("clients")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8

    def certificate(name: str, key: Any, issuer: str, signing: Any, *, ca: bool) -> bytes:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        made = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        return made.sign(signing, hashes.SHA256()).public_bytes(pem)

    def private(key: Any, locked: bytes | None = None) -> bytes:
        plain = serialization.NoEncryption()
        return key.private_bytes(
            pem, pkcs8, serialization.BestAvailableEncryption(locked) if locked else plain
        )

    ca_key, own, another = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    files = {
        "ca.pem": certificate("A CA of clients", ca_key, "A CA of clients", ca_key, ca=True),
        "cert.pem": (cert := certificate("a worker", own, "A CA of clients", ca_key, ca=False)),
        "key.pem": private(own),
        "both.pem": cert + private(own),
        "locked.pem": private(own, b"TopSecret-of-the-key"),
        "another.pem": private(another),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(private_ca.bundle.with_name("server.pem"))
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    paths = (folder / name for name in ("both.pem", "cert.pem", "key.pem", "locked.pem", "another.pem"))
    return ClientCa(context, *paths)


@pytest.fixture
def guarded(odd_server: Any, answer_bytes: Any, client_ca: ClientCa) -> Any:
    """A server that asks for a client certificate."""
    job = {"id": "ftjob-1", "status": "running"}
    return odd_server(lambda _: answer_bytes(job), tls=client_ca.server)


@pytest.mark.parametrize("form", ["one file", "two files", "locked key", "as text"])
def test_a_client_certificate_is_shown(
    form: str, guarded: Any, client_ca: ClientCa, private_ca: Any, connect: Any, call: Any
) -> None:
    cert = str(client_ca.cert)
    given: Any = {
        "one file": str(client_ca.both),
        "two files": {"cert": cert, "key": str(client_ca.key)},
        "locked key": {"cert": cert, "key": str(client_ca.locked_key), "password": "TopSecret-of-the-key"},
        "as text": json.dumps({"cert": cert, "key": str(client_ca.key)}),
    }[form]
    connect(guarded.url, verify=str(private_ca.bundle), client_cert=given)
    hook = FineTuningHook()
    assert call(hook, "get_job", "ftjob-1")["status"] == "running"
    assert hook.get_conn().get("/fine_tuning/jobs/ftjob-1").status_code == 200


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_client_certificate_is_shown_to_a_server_that_is_not_verified(
    guarded: Any, client_ca: ClientCa, connect: Any, call: Any
) -> None:
    connect(guarded.url, verify=False, client_cert=str(client_ca.both))
    assert call(FineTuningHook(), "get_job", "ftjob-1")["status"] == "running"


def test_a_client_certificate_is_shown_through_a_proxy(
    guarded: Any,
    client_ca: ClientCa,
    private_ca: Any,
    connect: Any,
    call: Any,
    proxy_to: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy_to(guarded.url).address}")
    connect("https://ft.example/v1", verify=str(private_ca.bundle), client_cert=str(client_ca.both))
    assert call(FineTuningHook(), "get_job", "ftjob-1")["status"] == "running"


def test_a_wait_shows_its_certificate_in_every_mode(
    guarded: Any,
    client_ca: ClientCa,
    private_ca: Any,
    connect: Any,
    follow: Any,
    mode: str,
    answer_bytes: Any,
) -> None:
    ended = {"id": "ftjob-1", "status": "succeeded", "data": [], "has_more": False}
    guarded._answer = lambda _: answer_bytes(
        {**ended, "status": "running" if len(guarded.requests) < 4 else "succeeded"}
    )
    connect(guarded.url, verify=str(private_ca.bundle), client_cert=str(client_ca.both))
    assert follow(mode, "ftjob-1")["outcome"] == "succeeded"


def test_a_server_that_misses_the_certificate_leads_to_the_setting(
    guarded: Any, client_ca: ClientCa, private_ca: Any, connect: Any, call: Any, clock: Any
) -> None:
    def refuse(served: Any, connection: int) -> None:
        # the socket stays open until the client has read the alert: a reset could overtake it
        with contextlib.suppress(ssl.SSLError):
            client_ca.server.wrap_socket(served.dup(), server_side=True).close()
        while served.recv(65536):
            pass

    with type(guarded.listener)(refuse) as listener:
        connect(f"https://127.0.0.1:{listener.port}/v1", verify=str(private_ca.bundle), max_retries=0)
        with pytest.raises(FineTuningApiError, match="'client_cert'"):
            call(FineTuningHook(), "get_job", "ftjob-1")


@pytest.mark.parametrize(
    "case", ["missing", "missing key", "another key", "wrong password", "no password", "no pem"]
)
def test_a_certificate_that_cannot_be_used_is_refused_before_anything_is_sent(
    case: str, guarded: Any, client_ca: ClientCa, private_ca: Any, connect: Any, call: Any, tmp_path: Path
) -> None:
    (tmp_path / "not.pem").write_text("no certificate")
    cert, locked = str(client_ca.cert), str(client_ca.locked_key)
    given: Any = {
        "missing": str(tmp_path / "none.pem"),
        "missing key": {"cert": cert, "key": str(tmp_path / "none.pem")},
        "another key": {"cert": cert, "key": str(client_ca.another)},
        "wrong password": {"cert": cert, "key": locked, "password": "TopSecret-but-wrong"},
        "no password": {"cert": cert, "key": locked},
        "no pem": str(tmp_path / "not.pem"),
    }[case]
    connect(guarded.url, verify=str(private_ca.bundle), client_cert=given)
    with pytest.raises(FineTuningInputError, match=r"'fine_tuning_default'.*'client_cert'") as refused:
        call(FineTuningHook(), "get_job", "ftjob-1")
    assert "TopSecret" not in str(refused.value)
    if case.startswith("missing"):
        assert "none.pem" in str(refused.value)
    assert guarded.requests == []


def test_a_renewed_certificate_is_shown_by_the_next_wait_of_the_same_process(
    guarded: Any, client_ca: ClientCa, private_ca: Any, connect: Any, call: Any, tmp_path: Path
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(client_ca.both.read_bytes().replace(b"BEGIN CERT", b"BEGIN WORN", 1))
    connect(guarded.url, verify=str(private_ca.bundle), client_cert=str(own))
    with pytest.raises(FineTuningInputError, match="'client_cert'"):
        call(FineTuningHook(), "get_job", "ftjob-1")
    own.write_bytes(client_ca.both.read_bytes())
    os.utime(own, ns=(1, 1))
    assert call(FineTuningHook(), "get_job", "ftjob-1")["status"] == "running"


BASE_PATHS = {
    "/é/v1": "/%C3%A9/v1",
    "/[x]/v1": "/%5Bx%5D/v1",
    "/a|b/v1": "/a%7Cb/v1",
    "/100%/v1": "/100%25/v1",
    "/./v1/../v1": "/v1",
    "/a/%2e%2e/v1": "/v1",
    "/%7Ex/%e9": "/~x/%E9",
    "/my%20api/a%2Fb": "/my%20api/a%2Fb",
    "/v1;p=1/(x)/a+b,c'd!*$&=@:~": "/v1;p=1/(x)/a+b,c'd!*$&=@:~",
    "/v1//x": "/v1//x",
}


@pytest.mark.parametrize(("written", "sent"), BASE_PATHS.items(), ids=BASE_PATHS)
def test_the_path_of_the_base_url_is_sent_in_one_way(
    written: str, sent: str, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
) -> None:
    server = odd_server(
        lambda request: answer_bytes({"id": "ftjob-1", "status": "running"}), base_path=written
    )
    connect(server.url)
    call(FineTuningHook(), "get_job", "ftjob-1")
    assert [request.target for request in server.requests] == [f"{sent}/fine_tuning/jobs/ftjob-1"]


def test_an_international_host_name_is_sent_as_dns_needs_it(
    odd_server: Any, answer_bytes: Any, connect: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = odd_server(lambda request: answer_bytes({"id": "ftjob-1", "status": "running"}), base_path="")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    connect("http://Bücher.example/v1", allow_http=True)
    call(FineTuningHook(), "get_job", "ftjob-1")
    [request] = proxy.requests
    assert request.target == "http://xn--bcher-kva.example/v1/fine_tuning/jobs/ftjob-1"
    assert request.headers["host"] == "xn--bcher-kva.example"
