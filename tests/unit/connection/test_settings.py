"""Connections: what is read from the three types, what is refused and in which words; job ids."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.connection.address import unused_fields
from airflow_ft_events.connection.settings import Settings, settings_of
from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.jobs import JobState
from airflow_ft_events.parameters import check_count, check_early, check_job_id, check_log_events

KEY = "sk-proj-Zx81QmRt44LpWv09"
OPENAI_ROOT = "https://api.openai.com/v1"


def connection(**fields: Any) -> Settings:
    return settings_of(**{"conn_id": "tuning", "password": KEY, **fields})


def extra(**fields: Any) -> dict[str, Any]:
    return {"extra": fields}


def openai(**client: Any) -> dict[str, Any]:
    return {"conn_type": "openai", "extra": {"openai_client_kwargs": client}}


GOOD: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing-but-a-key": ({}, OPENAI_ROOT, "openai"),
    "blank-host": ({"host": "  "}, OPENAI_ROOT, "openai"),
    "the-old-spelling-of-the-type": ({"conn_type": "fine-tuning"}, OPENAI_ROOT, "openai"),
    "a-trailing-slash": ({"host": "https://api.openai.com/v1/"}, OPENAI_ROOT, "openai"),
    "openai-without-a-path": ({"host": "https://api.openai.com"}, OPENAI_ROOT, "openai"),
    "capital-letters": ({"host": "HTTPS://API.OpenAI.com"}, OPENAI_ROOT, "openai"),
    "a-region-of-openai": (
        {"host": "https://eu.api.openai.com/v1"},
        "https://eu.api.openai.com/v1",
        "openai",
    ),
    "white-space-around": ({"host": " https://api.openai.com/v1\n"}, OPENAI_ROOT, "openai"),
    "a-look-alike": ({"host": "https://tuning.example/api"}, "https://tuning.example/api", "openai"),
    "a-port": ({"host": "https://tuning.example:8443/v1"}, "https://tuning.example:8443/v1", "openai"),
    "an-ipv6-address": ({"host": "https://[2001:db8::1]:8443/v1"}, "https://[2001:db8::1]:8443/v1", "openai"),
    "loopback-by-name": ({"host": "http://localhost:8000/v1"}, "http://localhost:8000/v1", "openai"),
    "loopback-below-localhost": ({"host": "http://ft.localhost:8000"}, "http://ft.localhost:8000", "openai"),
    "loopback-by-number": ({"host": "http://127.0.0.1:8000"}, "http://127.0.0.1:8000", "openai"),
    "loopback-anywhere-in-127": ({"host": "http://127.9.9.9"}, "http://127.9.9.9", "openai"),
    "loopback-by-ipv6": ({"host": "http://[::1]:8000"}, "http://[::1]:8000", "openai"),
    "allowed-http": (
        {"host": "http://tuning.example", **extra(allow_http=True)},
        "http://tuning.example",
        "openai",
    ),
    "allowed-http-in-words": (
        {"host": "http://tuning.example", **extra(allow_http="Yes")},
        "http://tuning.example",
        "openai",
    ),
    "nebius-by-name": (extra(vendor="nebius"), "https://api.tokenfactory.nebius.com/v1", "nebius"),
    "nebius-by-host": (
        {"host": "https://api.tokenfactory.nebius.com/v1"},
        "https://api.tokenfactory.nebius.com/v1",
        "nebius",
    ),
    "together-by-name": (extra(vendor=" Together "), "https://api.together.ai/v1", "together"),
    "together-by-host": ({"host": "https://api.together.xyz"}, "https://api.together.xyz/v1", "together"),
    "a-vendor-behind-a-gateway": (
        {"host": "https://gateway.example/nebius", **extra(vendor="nebius")},
        "https://gateway.example/nebius",
        "nebius",
    ),
    "azure-v1": (
        {"host": "https://acme.openai.azure.com"},
        "https://acme.openai.azure.com/openai/v1",
        "azure",
    ),
    "azure-v1-with-its-path": (
        {"host": "https://acme.openai.azure.com/openai/v1/"},
        "https://acme.openai.azure.com/openai/v1",
        "azure",
    ),
    "azure-classic": (
        {"host": "https://acme.openai.azure.com/", **extra(api_version="2024-10-21")},
        "https://acme.openai.azure.com/openai",
        "azure",
    ),
    "azure-classic-from-its-v1-path": (
        {"host": "https://acme.openai.azure.com/openai/v1", **extra(api_version="2024-10-21")},
        "https://acme.openai.azure.com/openai",
        "azure",
    ),
    "azure-foundry": (
        {"host": "https://acme.services.ai.azure.com"},
        "https://acme.services.ai.azure.com/openai/v1",
        "azure",
    ),
    "azure-foundry-project": (
        {"host": "https://acme.services.ai.azure.com/api/projects/tuning"},
        "https://acme.services.ai.azure.com/api/projects/tuning/openai/v1",
        "azure",
    ),
    "azure-by-its-region": (
        {"host": "https://swedencentral.api.cognitive.microsoft.com/"},
        "https://swedencentral.api.cognitive.microsoft.com/openai/v1",
        "azure",
    ),
    "azure-in-china-classic": (
        {"host": "https://acme.openai.azure.cn", **extra(api_version="2024-10-21")},
        "https://acme.openai.azure.cn/openai",
        "azure",
    ),
    "bedrock-by-host": (
        {"host": "https://bedrock-mantle.us-west-2.api.aws"},
        "https://bedrock-mantle.us-west-2.api.aws/v1",
        "bedrock",
    ),
    "bedrock-with-its-path": (
        {"host": "https://bedrock-mantle.eusc-de-east-1.api.aws/openai/v1/"},
        "https://bedrock-mantle.eusc-de-east-1.api.aws/openai/v1",
        "bedrock",
    ),
    "bedrock-behind-a-gateway": (
        {"host": "https://gateway.example", **extra(vendor="bedrock")},
        "https://gateway.example/v1",
        "bedrock",
    ),
    "azure-behind-a-gateway": (
        {"host": "https://gateway.example/team", **extra(vendor="azure")},
        "https://gateway.example/team/openai/v1",
        "azure",
    ),
    "a-host-that-only-ends-alike": (
        {"host": "https://notopenai.azure.com.example/v1"},
        "https://notopenai.azure.com.example/v1",
        "openai",
    ),
    "openai-type": (openai(), OPENAI_ROOT, "openai"),
    "openai-type-with-a-host": (
        {**openai(), "host": "https://tuning.example/v1"},
        "https://tuning.example/v1",
        "openai",
    ),
    "openai-type-whose-client-has-the-url": (
        {**openai(base_url="https://tuning.example/v1"), "host": "https://other.example"},
        "https://tuning.example/v1",
        "openai",
    ),
    "http-type": (
        {"conn_type": "http", "host": "tuning.example", "schema": "https"},
        "https://tuning.example",
        "openai",
    ),
    "http-type-with-a-port": (
        {"conn_type": "http", "host": "tuning.example/v1", "schema": "https", "port": 8443},
        "https://tuning.example:8443/v1",
        "openai",
    ),
    "http-type-with-a-whole-url": (
        {"conn_type": "http", "host": "https://tuning.example/v1", "schema": "http"},
        "https://tuning.example/v1",
        "openai",
    ),
    "http-type-with-two-ports": (
        {"conn_type": "http", "host": "https://tuning.example:1/v1", "port": 2},
        "https://tuning.example:1/v1",
        "openai",
    ),
    "http-type-on-loopback": (
        {"conn_type": "http", "host": "localhost", "port": 8000},
        "http://localhost:8000",
        "openai",
    ),
    "http-type-with-an-ipv6-address": (
        {"conn_type": "http", "host": "[::1]", "port": 8000},
        "http://[::1]:8000",
        "openai",
    ),
}


@pytest.mark.parametrize(("fields", "root", "vendor"), GOOD.values(), ids=GOOD.keys())
def test_a_good_connection_leads_to_its_servers_root(fields: dict[str, Any], root: str, vendor: str) -> None:
    settings = connection(**fields)
    assert (settings.root, settings.vendor.name, settings.credential.current()) == (root, vendor, KEY)


def test_what_is_not_given_has_a_sensible_value() -> None:
    settings = connection()
    assert (settings.timeout, settings.connect_timeout, settings.max_retries, settings.page_size) == (
        30,
        10,
        5,
        100,
    )
    assert settings.verify is True
    assert settings.params == {}
    assert settings.headers_with(KEY) == {"Accept": "application/json", "Authorization": f"Bearer {KEY}"}


def test_azure_takes_the_key_in_a_header_of_its_own_and_the_version_as_a_parameter() -> None:
    settings = connection(host="https://acme.openai.azure.com", **extra(api_version="2024-10-21"))
    assert settings.headers_with(KEY)["api-key"] == KEY
    assert "Authorization" not in settings.headers_with(KEY)
    assert settings.params == {"api-version": "2024-10-21"}


def test_organization_project_and_headers_become_headers() -> None:
    settings = connection(**extra(organization="org-1", project=" proj_1 ", headers='{"X-Team": "tuning"}'))
    assert settings.headers == {
        "X-Team": "tuning",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj_1",
    }


def test_numbers_may_come_as_text_as_a_form_sends_them() -> None:
    settings = connection(**extra(timeout="2.5", max_retries="0", page_size="7", verify=""))
    assert (settings.timeout, settings.max_retries, settings.page_size, settings.verify) == (2.5, 0, 7, True)


@pytest.mark.parametrize(
    ("given", "verify"),
    [(False, False), ("false", False), ("0", False), ("TRUE", True), (None, True), ("ca.pem", "ca.pem")],
)
def test_verify_is_a_flag_or_a_bundle(given: Any, verify: bool | str) -> None:
    assert connection(**extra(verify=given)).verify == verify


def test_a_key_with_white_space_around_it_is_stripped() -> None:
    assert connection(password=f" {KEY}\n").credential.current() == KEY


def test_an_openai_connection_lends_all_that_can_be_honoured() -> None:
    settings = connection(
        password="sk-not-this-one",
        **openai(
            api_key=KEY,
            organization="org-1",
            project="proj-1",
            default_headers={"X-Team": "tuning"},
            timeout=12,
            max_retries=2,
        ),
    )
    assert settings.credential.current() == KEY
    assert settings.headers == {
        "X-Team": "tuning",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
    }
    assert (settings.timeout, settings.max_retries) == (12, 2)


@pytest.mark.parametrize("given", [None, {}, {"openai_client_kwargs": None}, {"openai_client_kwargs": {}}])
def test_an_openai_connection_may_have_no_extra(given: Any) -> None:
    assert connection(conn_type="openai", extra=given).root == OPENAI_ROOT


@pytest.mark.parametrize("given", [{"all done": "Succeeded"}, '{"ALL_DONE": "succeeded"}'])
def test_states_teach_a_servers_own_status_words(given: Any) -> None:
    assert connection().vendor.state_of("ALL-DONE") is JobState.UNKNOWN
    assert connection(**extra(states=given)).vendor.state_of("ALL-DONE") is JobState.SUCCEEDED


def test_signals_add_a_servers_own_words() -> None:
    settings = connection(**extra(signals={r"All done \d+": "succeeded", "OOPS": "failed"}))
    assert [meaning.value for _, meaning in settings.vendor.signals][:2] == ["succeeded", "failed"]


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no-key": ({"password": None}, ("no API key", "'Password'")),
    "a-blank-key": ({"password": "  \n"}, ("no API key", "'Password'")),
    "a-key-with-a-line-break": ({"password": "sk-one\nsk-two"}, ("'Password'", "line break")),
    "a-key-with-a-null-byte": ({"password": "sk-one\x00"}, ("'Password'",)),
    "a-key-that-is-not-ascii": ({"password": "sk-ключ-123456"}, ("'Password'", "not ASCII")),
    "a-host-without-scheme": ({"host": "tuning.example/v1"}, ("'Host'", "https://tuning.example/v1")),
    "a-host-and-port-without-scheme": ({"host": "tuning.example:8443"}, ("'Host'", "needs http")),
    "another-scheme": ({"host": "ftp://tuning.example"}, ("'Host'", "ftp://tuning.example")),
    "a-file": ({"host": "file:///etc/passwd"}, ("'Host'", "host name")),
    "a-scheme-only": ({"host": "https://"}, ("'Host'", "host name")),
    "a-user-in-the-url": ({"host": "https://me:hunter22@tuning.example"}, ("'Host'", "user", "'Password'")),
    "a-user-without-a-password": ({"host": "https://me@tuning.example"}, ("'Host'", "user")),
    "a-user-without-a-scheme": ({"host": "me:hunter22@tuning.example"}, ("'Host'", "tuning.example")),
    "a-query": ({"host": "https://tuning.example/v1?key=hunter22"}, ("'Host'", "query")),
    "a-query-without-a-scheme": ({"host": "tuning.example/v1?key=hunter22"}, ("'Host'", "tuning.example/v1")),
    "a-fragment": ({"host": "https://tuning.example/v1#hunter22"}, ("'Host'", "fragment")),
    "a-port-that-is-none": ({"host": "https://tuning.example:abc/"}, ("'Host'", "not a URL")),
    "a-port-too-high": ({"host": "https://tuning.example:99999/"}, ("'Host'", "not a URL")),
    "half-an-ipv6-address": ({"host": "https://[::1"}, ("'Host'", "not a URL")),
    "white-space-inside": ({"host": "https://tuning.example/a b"}, ("'Host'", "white space")),
    "a-line-break-inside": ({"host": "https://tuning.example/a\nb"}, ("'Host'", "white space")),
    "http-to-a-remote-host": (
        {"host": "http://tuning.example"},
        ("not encrypted", "https://", "'allow_http'"),
    ),
    "http-to-a-name-that-begins-like-loopback": ({"host": "http://localhost.example"}, ("not encrypted",)),
    "http-to-an-address-that-begins-like-loopback": (
        {"host": "http://127.0.0.1.example"},
        ("not encrypted",),
    ),
    "http-that-is-not-allowed": (
        {"host": "http://tuning.example", **extra(allow_http="no")},
        ("not encrypted",),
    ),
    "http-allowed-by-a-strange-word": (
        {"host": "http://tuning.example", **extra(allow_http="perhaps")},
        ("allow_http", "perhaps", "true or false"),
    ),
    "an-unknown-vendor": (extra(vendor="acme"), ("'acme'", "auto, openai, azure, nebius, together, bedrock")),
    "a-vendor-that-is-no-text": (extra(vendor=7), ("'vendor'", "text")),
    "azure-without-an-address": (extra(vendor="azure"), ("azure", "'Host'")),
    "an-api-version-that-is-not-azures": (extra(api_version="2024-10-21"), ("'api_version'", "openai")),
    "an-auth-that-is-unknown": (extra(auth="magic"), ("'auth'", "'magic'")),
    "schema-on-fine-tuning": ({"host": "api.openai.com", "schema": "https"}, ("'Schema'", "'Host'")),
    "port-on-fine-tuning": ({"host": "https://tuning.example", "port": 8443}, ("'Port'", "'Host'")),
    "an-unknown-type": ({"conn_type": "postgres"}, ("'postgres'", "fine_tuning, openai or http")),
    "an-http-type-without-encryption": ({"conn_type": "http", "host": "tuning.example"}, ("not encrypted",)),
    "an-http-type-with-a-user": (
        {"conn_type": "http", "host": "https://me:hunter22@tuning.example", "port": 8443},
        ("'Host'", "user"),
    ),
    "an-http-type-with-a-bad-port": (
        {"conn_type": "http", "host": "tuning.example:abc", "port": 8443},
        ("'Host'", "not a URL"),
    ),
    "an-http-type-with-half-an-address": (
        {"conn_type": "http", "host": "https://[::1", "port": 8443},
        ("'Host'", "not a URL"),
    ),
    "a-client-that-is-no-object": (
        {"conn_type": "openai", "extra": {"openai_client_kwargs": "no"}},
        ("'openai_client_kwargs'", "object"),
    ),
    "client-settings-that-cannot-be-honoured": (
        openai(workload_identity={}, http_client=1, timeout=3),
        ("http_client, workload_identity", "'fine_tuning'"),
    ),
    "client-timeouts-that-are-objects": (openai(timeout={"read": 3}), ("'timeout'", "number")),
    "client-headers-that-carry-a-key": (openai(default_headers={"Authorization": KEY}), ("'Authorization'",)),
}
BAD |= {
    f"{name}-{value!r}"[:40]: (extra(**{name: value}), (f"'{name}'", "number from"))
    for name, values in {
        "timeout": (0, -1, "soon", float("nan"), float("inf"), True, [3], 4000),
        "page_size": (0, -5, "all", 10_001, False, {}),
        "max_retries": (-1, 101, "many", True),
    }.items()
    for value in values
}
BAD |= {
    f"header-{name}": (extra(headers={name: "x"}), ("'headers'",))
    for name in (
        "Authorization",
        "authorization",
        "api-key",
        "API-Key",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Accept-Encoding",
        "Content-Encoding",
        "Cookie",
        "Proxy-Authorization",
        "X Team",
        "X-Team:",
        "X\nTeam",
        "",
        "Ü",
    )
}
BAD |= {
    "a-header-value-with-a-line-break": (extra(headers={"X-Team": "a\r\nb"}), ("'X-Team'", "line break")),
    "a-header-value-that-is-not-ascii": (extra(headers={"X-Team": "Zoë"}), ("'X-Team'",)),
    "headers-that-are-no-json": (extra(headers="{no"), ("'headers'", "not JSON")),
    "headers-that-are-a-list": (extra(headers='["a"]'), ("'headers'", "object with text values")),
    "headers-that-hold-numbers": (extra(headers={"X-Team": 7}), ("'headers'", "object with text values")),
    "an-organization-with-a-line-break": (extra(organization="org\n1"), ("'organization'",)),
    "a-project-that-is-a-number": (extra(project=7), ("'project'", "text")),
    "a-signal-that-is-no-pattern": (extra(signals={"(": "failed"}), ("'('", "regular expression")),
    "a-signal-to-no-outcome": (
        extra(signals={"Done": "finished"}),
        ("'finished'", "succeeded, failed, cancelled"),
    ),
    "a-signal-to-a-meaning-that-is-no-outcome": (extra(signals={"Done": "restarted"}), ("'restarted'",)),
    "signals-that-are-a-text": (extra(signals="Done"), ("'signals'", "not JSON")),
}
BAD |= {
    "a-state-to-no-meaning": (
        extra(states={"done": "finished"}),
        ("'states'", "'done'", "'finished'", "succeeded, failed, cancelled, running"),
    ),
    "a-state-without-a-word": (extra(states={" ": "failed"}), ("'states'", "no status word")),
    "a-state-with-two-meanings": (
        extra(states={"done": "failed", "JOB_DONE": "succeeded"}),
        ("'states'", "'JOB_DONE'", "two meanings"),
    ),
    "states-to-numbers": (extra(states={"done": 1}), ("'states'", "object with text values")),
    "states-that-are-a-text": (extra(states="done"), ("'states'", "not JSON")),
}
BAD |= {
    f"params-{name}": (extra(params=value), ("'params'", *words))
    for name, (value, words) in {
        "that-are-no-json": ("{no", ("not JSON",)),
        "that-are-a-list": ('["a"]', ("object",)),
        "that-hold-an-object": ({"a": {"b": "hunter22"}}, ("'a'", "dict")),
        "that-hold-a-list": ({"a": ["hunter22"]}, ("'a'", "list")),
        "that-hold-null": ({"a": None}, ("'a'",)),
        "without-a-name": ({" ": "x"}, ("name",)),
        "with-a-line-break": ({"a": "x\r\nhunter22"}, ("'a'", "control character")),
        "with-a-line-break-in-a-name": ({"a\nb": "x"}, ("name",)),
        "that-page": ({"after": "x"}, ("'after'", "each request")),
        "that-limit": ({"limit": 5}, ("'limit'", "'page_size'")),
    }.items()
}
BAD |= {
    "a-version-twice": (
        {"host": "https://a.openai.azure.com", **extra(api_version="1", params={"api-version": "2"})},
        ("'api-version'", "'api_version' of the extra sets"),
    ),
    "bedrock-without-an-address": (extra(vendor="bedrock"), ("bedrock", "'Host'")),
    "an-api-version-of-bedrock": (
        {"host": "https://bedrock-mantle.us-west-2.api.aws", **extra(api_version="1")},
        ("'api_version'", "bedrock"),
    ),
    "a-key-header-that-is-none": (extra(key_header="X Key"), ("'key_header'", "'X Key'")),
    "a-key-header-with-a-line-break": (extra(key_header="X-Key\r\nX-Other"), ("'key_header'",)),
    "a-key-header-for-something-else": (extra(key_header="Content-Length"), ("'key_header'",)),
    "a-key-header-that-is-a-number": (extra(key_header=7), ("'key_header'", "text")),
    "a-prefix-with-a-line-break": (extra(key_prefix="Basic\r\nX"), ("'key_prefix'", "line break")),
    "a-prefix-that-is-a-number": (extra(key_prefix=7), ("'key_prefix'", "text")),
    "a-key-header-twice": (
        extra(key_header="X-Key", headers={"x-key": "hunter22"}),
        ("'x-key'", "'key_header'"),
    ),
    "a-key-header-and-no-key": (extra(auth="none", key_header="X-Key"), ("'key_header'", "'none'")),
    "a-prefix-and-no-key": (extra(auth="none", key_prefix="Basic"), ("'key_prefix'", "'none'")),
    "a-scope-without-entra": (
        {"host": "https://a.openai.azure.com", **extra(token_scope="https://ai.azure.com/.default")},
        ("'token_scope'", "'entra'", "'key'"),
    ),
    "a-scope-with-white-space": (
        {"host": "https://a.openai.azure.com", **extra(auth="entra", token_scope="a b")},
        ("'token_scope'", "white space"),
    ),
    "a-scope-that-is-a-list": (
        {"host": "https://a.openai.azure.com", **extra(auth="entra", token_scope=["a"])},
        ("'token_scope'", "text"),
    ),
    "aws-keys-for-another-vendor": (extra(auth="aws"), ("'aws'", "Bedrock", "openai")),
    "an-aws-connection-without-aws-keys": (extra(aws_conn_id="aws_default"), ("'aws_conn_id'", "'aws'")),
    "client-queries-that-are-no-object": (openai(default_query="a=b"), ("'default_query'", "not JSON")),
    "client-headers-that-are-no-object": (openai(default_headers=["a"]), ("'default_headers'", "object")),
}
BAD |= {
    f"a-certificate-{name}": (extra(client_cert=value), ("'client_cert'", *words))
    for name, (value, words) in {
        "that-is-a-number": (7, ("path",)),
        "that-is-a-list": (["a.pem"], ("path",)),
        "that-is-no-json": ("{no", ("not JSON",)),
        "without-a-path": ({"key": "key.pem"}, ("'cert'",)),
        "with-a-key-that-is-a-number": ({"cert": "a.pem", "key": 7}, ("texts",)),
        "with-other-settings": ({"cert": "a.pem", "passphrase": "hunter22"}, ("passphrase", "'password'")),
        "with-a-line-break": ("a\nb.pem", ("'cert'",)),
    }.items()
}
BAD |= {
    "a-certificate-without-tls": (
        {"host": "http://127.0.0.1:8000", **extra(client_cert="a.pem")},
        ("'client_cert'", "https://"),
    ),
}
BAD |= {
    f"a-page-{name}": (extra(dashboard_url=value), ("'dashboard_url'", *words))
    for name, (value, words) in {
        "without-tls": ("http://llm.example/{job_id}", ("https://",)),
        "without-a-host": ("https:///{job_id}", ("https://",)),
        "that-is-a-script": ("javascript:alert('{job_id}')", ("https://",)),
        "without-the-job": ("https://llm.example/jobs", ("{job_id}",)),
        "with-the-job-as-its-host": ("https://{job_id}/jobs", ("{job_id}", "after its host")),
        "with-another-name": ("https://llm.example/{job_id}/{run_id}", ("{job_id}", "braces")),
        "with-a-password": ("https://me:hunter22@llm.example/{job_id}", ("no user",)),
        "with-white-space": ("https://llm.example/a b/{job_id}", ("https://",)),
        "with-a-line-break": ("https://llm.example/\n/{job_id}", ("https://",)),
        "that-is-a-number": (7, ("text",)),
    }.items()
}


@pytest.mark.parametrize(("fields", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_connection_is_refused_by_name_and_without_its_secrets(
    fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(FineTuningInputError) as caught:
        connection(**fields)
    text = str(caught.value)
    assert text.startswith("Connection 'tuning': ")
    assert [word for word in words if word not in text] == []
    assert caught.value.conn_id == "tuning"
    for secret in (KEY, "hunter22", "sk-one", "sk-two"):
        assert secret not in text
        assert secret not in repr(caught.value)
    assert text.isprintable()
    assert caught.value.__cause__ is None


def test_the_repr_of_settings_shows_no_secret() -> None:
    settings = connection(**extra(headers={"X-Gateway": "gateway-secret"}, organization="org-secret"))
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "tuning" in text
        for secret in (KEY, "gateway-secret", "org-secret"):
            assert secret not in text


def test_the_secrets_are_the_key_and_the_values_of_the_headers() -> None:
    settings = connection(**extra(headers={"X-Gateway": "gateway-secret", "X-Flag": "1"}))
    assert set(settings.redact.secrets) == {KEY, "gateway-secret"}


def test_the_short_values_are_not_for_airflows_masker_which_masks_them_in_every_log() -> None:
    settings = connection(**extra(headers={"x-portkey-provider": "openai", "X-Gateway": "gateway-secret"}))
    assert set(settings.redact.for_airflow) == {KEY, "gateway-secret"}
    assert connection(password="EMPTY").redact.for_airflow == ()


# how the key is sent

SENT: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a-header-of-its-own": ({"key_header": "X-Api-Key"}, {"X-Api-Key": KEY}),
    "a-header-and-a-prefix": (
        {"key_header": "X-Auth", "key_prefix": "Token"},
        {"X-Auth": f"Token {KEY}"},
    ),
    "a-prefix-that-ends-in-a-sign": (
        {"key_header": "X-Auth", "key_prefix": "key="},
        {"X-Auth": f"key={KEY}"},
    ),
    "basic-authentication": ({"key_prefix": "Basic"}, {"Authorization": f"Basic {KEY}"}),
    "basic-authentication-with-its-space": ({"key_prefix": "Basic "}, {"Authorization": f"Basic {KEY}"}),
    "a-raw-token": ({"key_prefix": ""}, {"Authorization": KEY}),
    "a-raw-token-in-words": ({"key_prefix": "None"}, {"Authorization": KEY}),
    "the-usual-header-by-name": ({"key_header": "Authorization"}, {"Authorization": f"Bearer {KEY}"}),
    "what-an-empty-form-says": (
        {"key_header": None, "key_prefix": None},
        {"Authorization": f"Bearer {KEY}"},
    ),
    "no-key": ({"auth": "none"}, {}),
}


@pytest.mark.parametrize(("given", "sent"), SENT.values(), ids=SENT.keys())
@pytest.mark.parametrize("conn_type", ["fine_tuning", "openai", "http"])
def test_the_key_is_sent_as_the_connection_says(
    given: dict[str, Any], sent: dict[str, str], conn_type: str
) -> None:
    settings = connection(conn_type=conn_type, host="https://tuning.example/v1", **extra(**given))
    secret = settings.credential.current()
    assert settings.headers_with(secret) == {"Accept": "application/json", **sent}
    assert settings.unknown == ()


def test_a_connection_without_authentication_needs_no_password() -> None:
    settings = connection(password=None, **extra(auth="None"))
    assert (settings.credential.current(), settings.redact.secrets) == ("", ())
    assert settings.redact.line("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize(
    "given", [{"a": "x y", "b": 1, "c": True, "d": 0.5}, '{"a": "x y", "b": 1, "c": true, "d": 0.5}']
)
def test_query_parameters_are_written_as_the_openai_client_writes_them(given: Any) -> None:
    assert connection(**extra(params=given)).params == {"a": "x y", "b": "1", "c": "true", "d": "0.5"}


def test_an_openai_connections_queries_and_headers_are_joined_by_those_of_the_extra() -> None:
    client = {"default_query": {"a": "1", "b": "1"}, "default_headers": {"X-A": "1", "X-B": "1"}}
    given = {"openai_client_kwargs": client, "params": {"b": "2"}, "headers": {"X-B": "2"}}
    settings = connection(conn_type="openai", extra=given)
    assert settings.params == {"a": "1", "b": "2"}
    assert settings.headers == {"X-A": "1", "X-B": "2"}


def test_a_version_as_a_parameter_reaches_azures_v1_path() -> None:
    settings = connection(host="https://a.openai.azure.com", **extra(params={"api-version": "preview"}))
    assert (settings.root, settings.params) == (
        "https://a.openai.azure.com/openai/v1",
        {"api-version": "preview"},
    )


def test_a_secret_among_the_parameters_is_masked_however_a_url_writes_it() -> None:
    settings = connection(
        host="https://a.openai.azure.com",
        **extra(params={"code": "a/secret+code", "custom_llm_provider": "openai"}, api_version="2024-10-21"),
    )
    said = "?code=a%2Fsecret%2Bcode a/secret+code openai 2024-10-21"
    assert settings.redact.text(said) == "?code=*** *** openai 2024-10-21"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("own.pem", ("own.pem",)),
        ({"cert": " own.pem "}, ("own.pem",)),
        ('{"cert": "own.pem", "key": "key.pem", "password": "hunter22"}', ("own.pem", "key.pem")),
        ({"cert": "own.pem", "key": None, "password": None}, ("own.pem",)),
    ],
)
def test_a_client_certificate_is_a_path_or_its_parts(given: Any, paths: tuple[str, ...]) -> None:
    settings = connection(**extra(client_cert=given))
    assert settings.client_cert is not None
    assert settings.client_cert.paths == paths
    assert "hunter22" not in repr(settings)
    assert settings.redact.text("own.pem hunter22") == (
        "own.pem ***" if len(paths) == 2 else "own.pem hunter22"
    )


def test_a_page_for_people_is_kept_as_it_is_written() -> None:
    url = "https://llm.example:8443/org-1/jobs/{job_id}?tab=events#top"
    assert connection(**extra(dashboard_url=url)).dashboard_url == url
    assert connection().dashboard_url is None


CHANGED: dict[str, dict[str, Any]] = {
    "key": {"password": "another-key-1234567"},
    "host": {"host": "https://tuning.example/v1"},
    **{
        name: extra(**{name: value})
        for name, value in {
            "vendor": "nebius",
            "organization": "org-1",
            "project": "proj-1",
            "headers": {"X-Team": "1"},
            "params": {"team": "1"},
            "client_cert": "own.pem",
            "key_header": "X-Key",
            "key_prefix": "Basic",
            "auth": "none",
            "signals": {"Done": "succeeded"},
            "states": {"done": "succeeded"},
            "timeout": 3,
            "max_retries": 3,
            "page_size": 3,
            "verify": False,
            "dashboard_url": "https://llm.example/{job_id}",
        }.items()
    },
}


@pytest.mark.parametrize("fields", CHANGED.values(), ids=CHANGED.keys())
def test_settings_of_an_edited_connection_are_not_equal_to_what_they_were(fields: dict[str, Any]) -> None:
    assert connection(**fields) == connection(**fields)
    assert connection(**fields) != connection()


@pytest.mark.parametrize(
    ("cert", "other"),
    [
        ({"cert": "own.pem"}, {"cert": "new.pem"}),
        ({"cert": "own.pem", "key": "a.pem"}, {"cert": "own.pem", "key": "b.pem"}),
        ({"cert": "own.pem", "password": "hunter22"}, {"cert": "own.pem", "password": "hunter23"}),
    ],
)
def test_settings_with_another_certificate_are_not_equal(cert: Any, other: Any) -> None:
    assert connection(**extra(client_cert=cert)) != connection(**extra(client_cert=other))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"host": "tuning.example", "schema": "https", "port": 8443}, ()),
        ({"host": "tuning.example", "login": "me"}, ("Login",)),
        ({"host": "https://tuning.example", "schema": "http"}, ("Schema",)),
        ({"host": "https://tuning.example", "schema": "https"}, ()),
        ({"host": "https://tuning.example:1", "port": 2}, ("Port",)),
        ({"host": "https://tuning.example:2", "port": 2}, ()),
        ({"host": "https://tuning.example", "port": 2}, ()),
        ({"host": "https://[::1", "port": 2, "login": "me"}, ()),
        ({}, ()),
    ],
)
def test_fields_that_nothing_comes_from_are_named(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    assert unused_fields(**{"host": None, "schema": None, "port": None, "login": None, **fields}) == names


# job ids and other input


@pytest.mark.parametrize(
    "job_id",
    ["ftjob-abc123", "a", "x" * 512, "a/b", "a%2fb", "ft:gpt.1_a-b", "...a", "0", "-", "None1", "none"],
)
def test_a_good_job_id_is_returned_unchanged(job_id: str) -> None:
    assert check_job_id(job_id) == job_id
    check_early(job_id)


@pytest.mark.parametrize(
    ("job_id", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("   ", "is '   '", id="blank"),
        pytest.param(None, "is empty", id="null"),
        pytest.param("None", "is 'None'", id="a-rendered-null"),
        pytest.param("x" * 513, "has 513 characters", id="over-long"),
        pytest.param("../x", "is '../x'", id="path-like"),
        pytest.param(".", "is '.'", id="a-dot"),
        pytest.param("..", "is '..'", id="two-dots"),
        pytest.param("...", "is '...'", id="three-dots"),
        pytest.param("/", "is '/'", id="a-slash"),
        pytest.param("a/../b", "is 'a/../b'", id="a-way-up"),
        pytest.param("a%2F%2e%2E", "is 'a%2F%2e%2E'", id="an-encoded-way-up"),
        pytest.param("%252e%252e%252fb", "is '%252e", id="a-way-up-that-is-encoded-twice"),
        pytest.param("a%00b", "is 'a%00b'", id="an-encoded-null-byte"),
        pytest.param("a%3Fb", "is 'a%3Fb'", id="an-encoded-query"),
        pytest.param("a%C3%B6", "is 'a%C3%B6'", id="an-encoded-letter-beyond-ascii"),
        pytest.param("a\\b", "is", id="a-backslash"),
        pytest.param("a?b", "is 'a?b'", id="a-query"),
        pytest.param("a#b", "is 'a#b'", id="a-fragment"),
        pytest.param("a b", "is 'a b'", id="a-space"),
        pytest.param("ftjob-1\n", r"is 'ftjob-1\n'", id="a-line-break-at-the-end"),
        pytest.param("ftjob\n-1", r"is 'ftjob\n-1'", id="a-line-break"),
        pytest.param("ftjob-\x00", "is", id="a-null-byte"),
        pytest.param("ftjob-١٢", "is 'ftjob-", id="digits-of-another-script"),
        pytest.param("jöb", "is 'jöb'", id="a-letter-beyond-ascii"),
        pytest.param("{{ ti.xcom_pull() }}", "is '{{", id="a-template-that-was-not-rendered"),
        pytest.param(7, "is 7", id="a-number"),
        pytest.param(True, "is True", id="a-truth-value"),
        pytest.param(b"ftjob-1", "is b'ftjob-1'", id="bytes"),
        pytest.param(["ftjob-1"], "is ['ftjob-1']", id="a-list"),
        pytest.param({"id": "ftjob-1"}, "is {'id'", id="a-whole-job"),
        pytest.param(["x" * 10_000], "is ['xxx", id="something-long"),
    ],
)
def test_a_bad_job_id_is_shown_and_refused(job_id: object, words: str) -> None:
    with pytest.raises(FineTuningInputError) as caught:
        check_job_id(job_id)
    text = str(caught.value)
    assert words in text
    assert "ftjob-abc123" in text
    assert len(text) < 700
    assert text.isprintable()


@pytest.mark.parametrize("job_id", ["", "../x", "a b"])
def test_a_plainly_bad_job_id_is_refused_when_the_dag_is_parsed(job_id: str) -> None:
    with pytest.raises(FineTuningInputError):
        check_early(job_id)


@pytest.mark.parametrize("job_id", ["{{ params.job }}", "{% if x %}a{% endif %}"])
def test_what_only_the_task_can_know_is_let_through_when_the_dag_is_parsed(job_id: object) -> None:
    assert check_early(job_id) is None


@pytest.mark.parametrize("value", [0, -1, True, "3", 2.0, [], float("nan")])
def test_an_invalid_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(FineTuningInputError, match=r"max_events is .*whole number of at least 1"):
        check_count("max_events", value)


def test_none_is_a_count_only_where_it_is_allowed() -> None:
    assert check_count("max_events", None) is None
    with pytest.raises(FineTuningInputError):
        check_count("max_events", None, optional=False)
    assert check_count("max_events", 1) is None


@pytest.mark.parametrize("mode", ["", "ALL", None, True, ["all"], "message"])
def test_an_invalid_log_mode_is_refused(mode: object) -> None:
    with pytest.raises(FineTuningInputError, match="messages, all, none"):
        check_log_events(mode)


def test_no_repr_of_settings_or_of_what_masks_them_shows_a_secret() -> None:
    settings = connection(**extra(headers={"X-Gateway": "gateway-secret"}))
    edited = connection(password="another-key-1234567").after(settings)
    for shown in (settings, settings.redact, settings.redact.json, edited, edited.redact, edited.redact.text):
        for secret in (KEY, "gateway-secret", "another-key-1234567"):
            assert secret not in repr(shown)


def test_an_edited_connection_still_masks_its_earlier_secrets_and_is_compared_without_them() -> None:
    settings = connection(**extra(headers={"X-Gateway": "gateway-secret"}))
    edited = connection(password="another-key-1234567").after(settings)
    assert edited.redact.text(f"{KEY} gateway-secret another-key-1234567") == "*** *** ***"
    assert edited == connection(password="another-key-1234567")
    for number in range(100):
        edited = connection(password=f"key-number-{number:06}").after(edited)
    assert len(edited.retired_keys) == 16


@pytest.mark.parametrize("host", ["a..é", "-é-.example", "é" * 70], ids=["empty", "hyphens", "long"])
def test_an_international_name_that_dns_cannot_carry_is_refused(host: str) -> None:
    with pytest.raises(FineTuningInputError, match="its host is no valid name"):
        connection(host=f"https://{host}/v1")


@pytest.mark.parametrize("path", ["", "/", "/.", "/..", "/a/..", "/a/../..", "/%2E"])
def test_a_base_url_does_not_lead_above_its_host(path: str) -> None:
    assert connection(host=f"https://tuning.example{path}").root == "https://tuning.example"
