"""Behind a real nginx every wait ends rightly."""

from __future__ import annotations

import re

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.gateways import INTERVAL, Gateways, Waits

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def upstream(sim: Simulator) -> str:
    """Where nginx passes requests on to."""
    return sim.base_url.removesuffix("/v1")


@pytest.mark.parametrize("status", [429, 503])
def test_behind_a_limiter_without_burst_the_end_is_seen_within_two_polls(
    status: int, mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    nginx = gateways.nginx(
        http="limit_req_zone $server_port zone=all:1m rate=2r/s;",
        # without Retry-After the triggerer pauses for 30 s after a 429: right, and longer than this test
        server=f"limit_req zone=all; limit_req_status {status}; add_header Retry-After 1 always; "
        f"location / {{ proxy_pass {upstream(training)}; }}",
    )
    wait.connect(f"http://127.0.0.1:{nginx.port}/v1")
    result = wait(mode, training.job_id)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "status")
    assert re.search(rf"^{status} GET", nginx.log, re.MULTILINE)
    assert wait.since_end(training, training.job_id) <= 2


def test_behind_a_path_prefix_the_base_url_is_all_that_has_to_be_set(
    mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    nginx = gateways.nginx(server=f"location /team-a/llm/ {{ proxy_pass {training.base_url}/; }}")
    wait.connect(f"http://127.0.0.1:{nginx.port}/team-a/llm")
    assert wait(mode, training.job_id)["outcome"] == "succeeded"
    assert {request.path.split("/")[1] for request in training.requests} == {"v1"}


@pytest.mark.parametrize("training", ["failed"], indirect=True)
def test_where_the_events_are_denied_the_job_decides(
    mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    nginx = gateways.nginx(
        server=f"location ~ /events$ {{ deny all; }} location / {{ proxy_pass {upstream(training)}; }}"
    )
    wait.connect(f"http://127.0.0.1:{nginx.port}/v1")
    result = wait(mode, training.job_id)
    assert (result["outcome"], result["decided_by"]) == ("failed", "status")
    assert re.search(r"^403 GET .*/events$", nginx.log, re.MULTILINE)
    assert wait.since_end(training, training.job_id) <= 2


@pytest.mark.parametrize("training", ["cancelled"], indirect=True)
def test_behind_a_cache_of_3_s_the_wait_ends_rightly_once_it_is_stale(
    mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    nginx = gateways.nginx(
        http="proxy_cache_path cache keys_zone=answers:1m;",
        server=f"location / {{ proxy_pass {upstream(training)}; proxy_cache answers; "
        "proxy_cache_valid 200 3s; proxy_ignore_headers Cache-Control Expires; }",
    )
    wait.connect(f"http://127.0.0.1:{nginx.port}/v1")
    result = wait(mode, training.job_id)
    assert (result["outcome"], result["decided_by"]) == ("cancelled", "status")
    assert nginx.log.count("200 GET") > len(training.requests)
    assert wait.since_end(training, training.job_id) <= 3 / INTERVAL + 2


def test_an_upstream_that_dies_and_comes_back_ends_no_wait(
    mode: str, training: Simulator, gateways: Gateways, wait: Waits
) -> None:
    nginx = gateways.nginx(server=f"location / {{ proxy_pass {upstream(training)}; }}")
    wait.connect(f"http://127.0.0.1:{nginx.port}/v1")
    wait.before_poll(2, training.stop)
    wait.before_poll(4, training.start)
    assert wait(mode, training.job_id)["outcome"] == "succeeded"
    assert re.search(r"^502 GET", nginx.log, re.MULTILINE)
