"""Connections that people already have, and every way to store one, lead to every vendor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from airflow.models.connection import Connection

from airflow_ft_events.hooks.fine_tuning import FineTuningHook

NAME = "AIRFLOW_CONN_FINE_TUNING_DEFAULT"


@pytest.fixture
def sim(simulated: Any, clock: Any) -> Any:
    """A vendor's server with one job that has ended."""
    return simulated(["succeeded"], ended=True, api_key="key/with@odd?signs")


@pytest.fixture
def reads(sim: Any, both: Any) -> Any:
    """Check that both faces of the hook read the server through the connection."""

    def check() -> None:
        job = sim.get_job(sim.job_id)
        assert both(FineTuningHook(), "get_job", sim.job_id) == (job, job)
        assert FineTuningHook().list_events(sim.job_id) == sim.list_events(sim.job_id)
        assert FineTuningHook().settings.vendor.name == sim.vendor
        assert {request.status for request in sim.requests} == {200}

    return check


@pytest.mark.every_family
def test_the_simulators_json_connection_works(sim: Any, reads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, sim.connection_json())
    reads()


@pytest.mark.every_family
def test_the_simulators_uri_connection_works(sim: Any, reads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, sim.connection_uri)
    reads()


@pytest.mark.every_family
@pytest.mark.parametrize("style", ["json", "uri"])
def test_a_connection_of_type_openai_reads_each_vendor(
    style: str, sim: Any, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if style == "json":
        made = {"conn_type": "openai", "host": sim.base_url, "password": sim.api_key}
        monkeypatch.setenv(NAME, json.dumps({**made, "extra": sim.connection_extra}))
    else:
        address = f"openai://:{quote(sim.api_key, safe='')}@{quote(sim.base_url, safe='')}/"
        monkeypatch.setenv(NAME, f"{address}?{urlencode(sim.connection_extra)}")
    reads()


@pytest.mark.every_family
def test_a_connection_of_type_openai_may_keep_all_in_its_client_arguments(
    sim: Any, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = {"base_url": sim.base_url, "api_key": sim.api_key, "timeout": 20, "max_retries": 1}
    extra = {"openai_client_kwargs": client, **sim.connection_extra}
    monkeypatch.setenv(NAME, json.dumps({"conn_type": "openai", "extra": extra}))
    reads()


@pytest.mark.every_family
@pytest.mark.parametrize("style", ["json", "uri"])
def test_a_connection_of_type_http_reads_each_vendor(
    style: str, sim: Any, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(sim.base_url)
    host = f"{parts.hostname}{parts.path}"
    if style == "json":
        made = {"conn_type": "http", "schema": "http", "host": host, "port": parts.port}
        made |= {"password": sim.api_key, "extra": sim.connection_extra}
        monkeypatch.setenv(NAME, json.dumps(made))
    else:
        address = f"http://:{quote(sim.api_key, safe='')}@{quote(host, safe='')}:{parts.port}/http"
        monkeypatch.setenv(NAME, f"{address}?{urlencode(sim.connection_extra)}")
    reads()


@pytest.mark.every_family
def test_azures_endpoint_is_found_in_whichever_form_the_connection_holds_it(
    sim: Any, reads: Any, connect: Any
) -> None:
    root = sim.base_url
    forms = [root, f"{root}/"]
    if sim.vendor == "azure":
        endpoint = root.partition("/openai")[0]
        forms += [endpoint, f"{endpoint}/", f"{endpoint}/openai", f"{endpoint}/openai/v1/"]
    for form in forms:
        connect(form, key=sim.api_key, **sim.connection_extra)
        reads()


@pytest.mark.parametrize("vendor", ["azure"])  # whose connection holds most
def test_a_connection_in_a_secrets_backend_reads_its_vendor(
    sim: Any, tmp_path: Path, project: Path, airflow_home: Path
) -> None:
    file = tmp_path / "connections.json"
    connection = json.loads(sim.connection_json())
    file.write_text(json.dumps({"fine_tuning_default": connection}))
    program = (
        "from airflow_ft_events.hooks.fine_tuning import FineTuningHook\n"
        "print('FOUND', FineTuningHook().test_connection())\n"
    )
    backend = {
        "PYTHONPATH": str(project),
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)}),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | backend,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "FOUND (True, " in done.stdout, done.stderr[-3000:]
    assert f"(vendor {sim.vendor}); the newest job is {sim.job_id}" in done.stdout
    assert sim.api_key not in done.stdout + done.stderr
    assert sim.count(route="list") == 1


@pytest.mark.every_family
def test_a_uri_and_json_of_one_connection_say_the_same(sim: Any) -> None:
    told = json.loads(sim.connection_json())
    parsed = Connection(uri=sim.connection_uri)
    assert (parsed.host, parsed.password) == (told["host"], told["password"])
    assert parsed.conn_type.replace("-", "_") == told["conn_type"]
    assert parsed.extra_dejson == told.get("extra", {})
