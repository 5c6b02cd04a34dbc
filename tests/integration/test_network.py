"""Proxies and certificates of the environment work, and the same in both clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningInputError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

FAR_AWAY = "http://ft.example"


@pytest.fixture
def connect_afar(connect: Any) -> Any:
    """Define a connection to a server at a host that only a proxy can reach."""

    def define(host: str = FAR_AWAY, **extra: Any) -> None:
        connect(f"{host}/v1", **{"allow_http": True, **extra})

    return define


@pytest.fixture
def connect_by_tls(connect: Any, tls_front: Any) -> Any:
    """Define a connection to a simulator behind a front with the private CA's certificate."""

    def define(sim: Any, **extra: Any) -> None:
        connect(tls_front(sim.base_url), **extra)

    return define


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no CA bundle of whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["with scheme", "host and port only"])
def test_a_proxy_of_the_environment_is_used(
    variable: str,
    scheme: str,
    simulated: Any,
    connect_afar: Any,
    proxy_to: Any,
    call: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sim = simulated(ended=True)
    proxy = proxy_to(sim.base_url)
    connect_afar()
    monkeypatch.setenv(variable, f"{scheme}{proxy.address}")
    assert len(call(FineTuningHook(), "list_events", sim.job_id)) == len(sim.list_events(sim.job_id))
    root = f"{FAR_AWAY}/v1/fine_tuning/jobs/"
    assert {asked.target.startswith(root) for asked in proxy.requests} == {True}
    assert len(proxy.requests) == len(sim.requests)


def test_a_proxy_with_a_password_gets_it(
    simulated: Any, connect_afar: Any, proxy_to: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulated()
    proxy = proxy_to(sim.base_url)
    connect_afar()
    monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40ss@{proxy.address}")
    assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id
    # user:p@ss
    assert [asked.headers["proxy-authorization"] for asked in proxy.requests] == ["Basic dXNlcjpwQHNz"]


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "localhost,127.0.0.0/8"])
def test_no_proxy_is_respected(
    no_proxy: str, simulated: Any, connect: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulated()
    connect(sim)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id


def test_an_unreachable_proxy_is_reported_as_a_network_problem(
    connect_afar: Any, call: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    connect_afar(max_retries=0)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(FineTuningApiError, match="prox"):
        call(FineTuningHook(), "get_job", "ftjob-1")


def test_a_proxy_that_neither_client_can_use_is_refused_before_anything_is_asked(
    connect_afar: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_afar()
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(FineTuningInputError, match="socks5"):
        call(FineTuningHook(), "get_job", "ftjob-1")


def test_a_wait_goes_through_the_proxy_in_every_mode(
    simulated: Any, connect_afar: Any, proxy_to: Any, follow: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulated()
    proxy = proxy_to(sim.base_url)
    connect_afar()
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"
    assert len(proxy.requests) == len(sim.requests) > 4


class TestPrivateCa:
    """A server whose certificate comes from a CA of one's own."""

    def test_it_is_refused_if_no_bundle_vouches_for_it(
        self, simulated: Any, connect_by_tls: Any, call: Any, clock: Any
    ) -> None:
        sim = simulated()
        connect_by_tls(sim)
        with pytest.raises(FineTuningApiError, match="the TLS connection failed") as refused:
            call(FineTuningHook(), "get_job", sim.job_id)
        assert "verify" in str(refused.value)
        assert "certificate verify failed" in str(refused.value)
        assert sim.requests == []
        assert clock.naps == []

    def test_it_is_trusted_through_the_connection(
        self, simulated: Any, connect_by_tls: Any, call: Any, private_ca: Any
    ) -> None:
        sim = simulated()
        connect_by_tls(sim, verify=str(private_ca.bundle))
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_it_is_trusted_through_the_environment(
        self,
        variable: str,
        simulated: Any,
        connect_by_tls: Any,
        call: Any,
        private_ca: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sim = simulated()
        connect_by_tls(sim)
        monkeypatch.setenv(variable, str(private_ca.bundle))
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id

    @pytest.mark.parametrize("verify", [False, "false", "no"])
    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", None], ids=["bundle set", "no bundle"])
    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_it_is_not_needed_if_verify_is_off(
        self,
        verify: Any,
        variable: str | None,
        simulated: Any,
        connect_by_tls: Any,
        call: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import certifi

        sim = simulated()
        connect_by_tls(sim, verify=verify)
        if variable:
            monkeypatch.setenv(variable, certifi.where())
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id

    def test_it_is_trusted_in_every_mode(
        self, simulated: Any, connect_by_tls: Any, follow: Any, private_ca: Any, mode: str
    ) -> None:
        sim = simulated()
        connect_by_tls(sim, verify=str(private_ca.bundle))
        assert follow(mode, sim.job_id)["outcome"] == "succeeded"

    def test_it_is_trusted_behind_a_proxy(
        self,
        simulated: Any,
        tls_front: Any,
        connect_afar: Any,
        call: Any,
        proxy_to: Any,
        private_ca: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sim = simulated()
        proxy = proxy_to(tls_front(sim.base_url))
        connect_afar("https://ft.example", verify=str(private_ca.bundle))
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{proxy.address}")
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id
        (asked,) = proxy.requests
        assert (asked.method, asked.target) == ("CONNECT", "ft.example:443")
        assert "authorization" not in asked.headers
        assert asked.headers["proxy-authorization"].startswith("Basic ")

    def test_it_is_trusted_by_the_test_button_once_the_connection_is_corrected(
        self, simulated: Any, connect_by_tls: Any, private_ca: Any
    ) -> None:
        sim = simulated()
        hook = FineTuningHook()
        connect_by_tls(sim)
        assert not hook.test_connection()[0]
        connect_by_tls(sim, verify=str(private_ca.bundle))
        assert hook.test_connection()[0]

    @pytest.mark.parametrize("through", ["verify", "REQUESTS_CA_BUNDLE"])
    def test_a_missing_bundle_is_named_in_the_error(
        self, through: str, connect: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        missing = str(tmp_path / "missing.pem")
        connect("https://127.0.0.1:1/v1", **({"verify": missing} if through == "verify" else {}))
        if through != "verify":
            monkeypatch.setenv(through, missing)
        with pytest.raises(FineTuningInputError, match=r"missing\.pem"):
            call(FineTuningHook(), "get_job", "ftjob-1")

    def test_a_bundle_that_is_not_one_is_named_in_the_error(
        self, connect_by_tls: Any, call: Any, tmp_path: Path, clock: Any, simulated: Any
    ) -> None:
        (tmp_path / "odd.pem").write_text("no certificate in here")
        connect_by_tls(simulated(), verify=str(tmp_path / "odd.pem"))
        with pytest.raises(FineTuningInputError, match=r"fine_tuning_default.*odd\.pem"):
            call(FineTuningHook(), "get_job", "ftjob-1")


@pytest.mark.every_family
@pytest.mark.parametrize("where", ["home", "NETRC"])
def test_a_netrc_entry_never_replaces_the_key(
    family: Any,
    where: str,
    odd_server: Any,
    answer_bytes: Any,
    connect: Any,
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = {"id": "ftjob-1", "status": "running"}
    server = odd_server(lambda asked: answer_bytes(job))
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    if where == "NETRC":
        monkeypatch.setenv("NETRC", str(netrc))
    connect(server)
    assert call(FineTuningHook(), "get_job", "ftjob-1") == job
    sent = [
        {name: asked.headers[name] for name in ("authorization", "api-key") if name in asked.headers}
        for asked in server.requests
    ]
    assert sent == [{family.key_header: family.key_sent("sk-simulator")}]


def test_a_session_is_shared_by_what_reaches_its_server_the_same_way_only(
    simulated: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_ft_events.connection.network import network_of

    def network(**extra: Any) -> Any:
        connect("https://ft.example/v1", **extra)
        return network_of(FineTuningHook().settings)

    plain = network()
    assert network() == plain
    assert network(verify=False) != plain
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:3128")
    assert network() != plain
    assert "secret" not in repr(network())
