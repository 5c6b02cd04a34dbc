"""What docs/connection.md gives to copy is what works: as JSON, as a URI, and as the form's fields."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.models.connection import Connection

from airflow_ft_events.connection.settings import Settings, settings_of
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.provider_info import get_provider_info

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "connection.md").read_text()
NAME = "AIRFLOW_CONN_FINE_TUNING_DEFAULT"
EXPORT = re.compile(rf"^export {NAME}='(.*)'$", re.MULTILINE)
ROW = re.compile(r"^\| ([\w ]+?) \| (.+) \|$", re.MULTILINE)
KEY = "a-key-of-ones-own-0123"
PARTS: dict[str, str] = dict(
    re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE.partition("ready to copy")[2], re.MULTILINE | re.DOTALL)
)
# which server a section leads to: the simulator's dialect, and the address that the page names
SERVERS = {
    "OpenAI": ("openai", "https://api.openai.com/v1"),
    "Azure OpenAI, v1 path": ("azure-v1", "https://acme.openai.azure.com/openai/v1"),
    "Azure OpenAI, classic path": ("azure", "https://acme.openai.azure.com/openai"),
    "Azure OpenAI with Microsoft Entra": ("azure-v1", "https://acme.openai.azure.com/openai/v1"),
    "Nebius": ("nebius", "https://api.tokenfactory.nebius.com/v1"),
    "Together": ("together", "https://api.together.ai/v1"),
    "Amazon Bedrock": ("bedrock", "https://bedrock-mantle.us-west-2.api.aws/v1"),
    "Amazon Bedrock with an AWS identity": ("bedrock", "https://bedrock-mantle.us-west-2.api.aws/v1"),
    "A compatible server, self-hosted or behind a gateway": ("openai", "https://llm.example.com/v1"),
}
sections = pytest.mark.parametrize(
    ("section", "vendor", "root"),
    [pytest.param(name, *server, id=name) for name, server in SERVERS.items()],
)


def key_set(text: str) -> str:
    """The page's text with a key where it has dots."""
    return text.replace("sk-…", KEY).replace("…", KEY)


def by_the_form(section: str) -> dict[str, Any]:
    """The connection that somebody makes who follows the section's table."""
    rows = {name.strip(): value for name, value in ROW.findall(PARTS[section]) if name != "field"}
    said = {name: found[0] for name, value in rows.items() if (found := re.findall(r"`([^`]+)`", value))}
    extra = said.get("Extra", "{}")
    assert rows["Connection Type"] == get_provider_info()["connection-types"][0]["hook-name"]
    return {
        "conn_type": "fine_tuning",
        "host": said.get("Base URL", ""),
        "password": KEY if rows.get("API key", "").strip() != "empty; any value is ignored" else "",
        "extra": json.loads(key_set(extra)) if extra.startswith("{") else {},
    }


def read(value: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a connection as the hook reads them, but for a token, which is not asked for."""
    monkeypatch.setenv(NAME, value)
    found = FineTuningHook.get_connection("fine_tuning_default")
    fields = {name: getattr(found, name) for name in ("conn_type", "host", "schema", "port", "password")}
    return settings_of(conn_id=found.conn_id, extra=found.extra_dejson, **fields)


def test_the_page_has_the_sections_that_are_proven_here() -> None:
    assert list(PARTS) == list(SERVERS)


@sections
def test_json_uri_and_form_lead_to_the_server_that_the_section_is_about(
    section: str, vendor: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = [key_set(text) for text in EXPORT.findall(PARTS[section])]
    assert [text.startswith("{") for text in exports] == [True, False]
    found = [read(text, monkeypatch) for text in (*exports, json.dumps(by_the_form(section)))]
    for settings in found:
        assert settings.root == root
        assert settings.vendor.name == vendor.partition("-")[0]
        assert settings.unknown == ()
        assert settings.params == found[0].params
        assert settings.credential == found[0].credential


@sections
def test_what_is_copied_reads_that_server(
    section: str, vendor: str, root: str, simulated: Any, monkeypatch: pytest.MonkeyPatch, both: Any
) -> None:
    sim = simulated(["succeeded"], ended=True, api_key=KEY)
    text = key_set(EXPORT.findall(PARTS[section])[0])
    made = json.loads(text)
    if made.get("extra", {}).pop("auth", None):
        # where its tokens come from is in test_vendor_entra_identity and test_vendor_bedrock_identity
        made["password"] = KEY
    # the address of the simulator for the page's own, which only the internet has
    made["host"] = sim.base_url
    if not urlsplit(root).hostname.endswith("example.com"):
        made.setdefault("extra", {})["vendor"] = sim.vendor
    monkeypatch.setenv(NAME, json.dumps(made))
    job = sim.get_job(sim.job_id)
    assert both(FineTuningHook(), "get_job", sim.job_id) == (job, job)
    assert both(FineTuningHook(), "list_events", sim.job_id) == (sim.list_events(sim.job_id),) * 2
    working, said = FineTuningHook().test_connection()
    assert working
    told = f"Connected to {sim.base_url} (vendor {sim.vendor}); the newest job is {sim.job_id}"
    assert said.startswith(told)
    assert {request.status for request in sim.requests} == {200}


def test_every_other_way_to_write_it_says_the_same() -> None:
    part = PAGE.partition("## Ways to write it")[2].partition("\n## ")[0]
    told, uri = (key_set(text) for text in EXPORT.findall(part))
    command = key_set(re.search(r"^airflow connections add .*?(?=```)", part, re.MULTILINE | re.DOTALL)[0])
    options = dict(re.findall(r"--conn-(\w+) ('[^']*'|\S+)", command.replace("\\\n", " ")))
    parsed, made = Connection(uri=uri), json.loads(told)
    extra = {name: float(value) for name, value in parsed.extra_dejson.items()}
    assert (parsed.host, parsed.password, extra) == (made["host"], made["password"], made["extra"])
    assert options["type"] == made["conn_type"] == parsed.conn_type.replace("-", "_")
    assert (options["host"], options["password"]) == (made["host"], made["password"])
    assert json.loads(options["extra"].strip("'")) == made["extra"]
