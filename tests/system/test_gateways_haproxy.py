"""Behind a real HAProxy every wait ends rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_ft_events.exceptions import FineTuningApiError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.simulator import Simulator
from tests.system.gateways import Gateways, Waits, identity

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("training", "outcome"), [("succeeded", "succeeded"), ("failed", "failed")], indirect=["training"]
)
def test_behind_a_stick_table_limit_the_end_is_seen_within_two_polls(
    mode: str, training: Simulator, outcome: str, gateways: Gateways, wait: Waits
) -> None:
    limit = """
    stick-table type ip size 1k expire 60s store http_req_rate(300ms)
    http-request track-sc0 src
    http-request deny deny_status 429 hdr Retry-After 1 if { sc_http_req_rate(0) gt 1 }
    """
    haproxy = gateways.haproxy(frontend=limit, to=training)
    wait.connect(f"http://127.0.0.1:{haproxy.port}/v1")
    result = wait(mode, training.job_id, raise_on_failure=False)
    assert (result["outcome"], result["decided_by"]) == (outcome, "status")
    assert " 429 " in haproxy.log
    assert wait.since_end(training, training.job_id) <= 2


@pytest.mark.parametrize(("status", "at_once"), [(401, True), (403, False)])
def test_a_required_header_may_be_rotated_while_a_wait_is_under_way(
    status: int, at_once: bool, mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    haproxy = gateways.haproxy(
        frontend=f"http-request deny deny_status {status} unless {{ req.hdr(x-team) -f teams }}",
        to=training,
        files={"teams": "team-before-1111\n"},
    )
    base_url = f"http://127.0.0.1:{haproxy.port}/v1"
    wait.connect(base_url, headers={"X-Team": "team-before-1111"})

    def rotate() -> None:
        (haproxy.folder / "teams").write_text("team-after-2222\n")
        haproxy.restart()
        if at_once:
            tell_airflow()

    def tell_airflow() -> None:
        wait.connect(base_url, headers={"X-Team": "team-after-2222"})

    wait.before_poll(2, rotate)
    if not at_once:
        wait.before_poll(3, tell_airflow)
    assert wait(mode, training.job_id)["outcome"] == "succeeded"
    assert f" {status} " in haproxy.log


def test_a_gateway_that_asks_for_a_client_certificate_is_shown_it(
    mode: str, training: Simulator, gateways: Gateways, wait: Waits, tmp_path: Path
) -> None:
    ca = identity("A private CA")
    server, worker = identity("a gateway", issuer=ca), identity("a worker", issuer=ca)
    haproxy = gateways.haproxy(
        bind="ssl crt server.pem ca-file ca.pem verify required",
        frontend="",
        to=training,
        files={"server.pem": server.certificate + server.key, "ca.pem": ca.certificate},
    )
    for name, content in (("ca", ca.certificate), ("cert", worker.certificate), ("key", worker.key)):
        (tmp_path / f"{name}.pem").write_text(content)
    base_url, verify = f"https://127.0.0.1:{haproxy.port}/v1", str(tmp_path / "ca.pem")
    own = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    wait.connect(base_url, verify=verify, client_cert=own)
    assert wait(mode, training.job_id)["outcome"] == "succeeded"

    wait.connect(base_url, verify=verify, max_retries=0)
    with pytest.raises(FineTuningApiError, match="'client_cert'"):
        FineTuningHook().get_job(training.job_id)
