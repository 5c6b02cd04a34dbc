"""Through a real squid, which opens tunnels for users that it knows, every wait ends rightly."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_ft_events.exceptions import FineTuningApiError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.simulator import Simulator
from tests.system.gateways import Gateway, Gateways, Waits, identity

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

# the password of "worker" is "right-1234"
PASSWORDS = "worker:$apr1$gateways$JNu.j3vblQzH5OEJZLJHs.\n"


@pytest.fixture
def squid(training: Simulator, gateways: Gateways, wait: Waits, tmp_path: Path) -> Gateway:
    """A squid on the way to a server that is reached over TLS."""
    ca = identity("A private CA")
    server = identity("a server", issuer=ca)
    front = gateways.haproxy(
        bind="ssl crt server.pem", to=training, files={"server.pem": server.certificate + server.key}
    )
    (tmp_path / "ca.pem").write_text(ca.certificate)
    wait.connect(f"https://127.0.0.1:{front.port}/v1", verify=str(tmp_path / "ca.pem"), max_retries=0)
    return gateways.squid(passwords=PASSWORDS)


def test_a_wait_goes_through_a_tunnel_with_the_right_credentials(
    mode: str, training: Simulator, squid: Gateway, wait: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://worker:right-1234@127.0.0.1:{squid.port}")
    assert wait(mode, training.job_id)["outcome"] == "succeeded"
    squid.component.end()  # it logs a tunnel when that ends
    assert "TCP_TUNNEL/200" in squid.log


def test_wrong_credentials_are_no_verdict_and_are_shown_nowhere(
    mode: str,
    training: Simulator,
    squid: Gateway,
    wait: Waits,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://worker:wrong-9876@127.0.0.1:{squid.port}")
    with pytest.raises(AirflowSensorTimeout, match="its status was never seen"):
        wait(mode, training.job_id, timeout=2)
    with pytest.raises(FineTuningApiError, match="proxy") as refused:
        FineTuningHook().get_job(training.job_id)
    assert "TCP_DENIED/407" in squid.log
    assert training.requests == []
    assert "wrong-9876" not in str(refused.value) + "".join(capsys.readouterr())
