"""Bedrock's short-term keys: made by AWS's package from an AWS connection, replaced before they end."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from airflow.models.connection import Connection

from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.connection import bedrock
from airflow_ft_events.connection.settings import Settings, settings_of
from airflow_ft_events.connection.tokens import REFRESH_BEFORE, REFUSED_AFTER
from airflow_ft_events.errors import FineTuningAuthError, FineTuningInputError

HOST = "https://bedrock-mantle.us-west-2.api.aws"
ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLEOFAWS", "aws-TopSecret-of-the-identity"


class StandingClock(Clock):
    def __init__(self) -> None:
        self.moment = 1_800_000_000.0

    def now(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Iterator[StandingClock]:
    with driven_by(StandingClock()) as standing:
        assert isinstance(standing, StandingClock)
        yield standing


@pytest.fixture(autouse=True)
def new_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aws_bedrock_token_generator")
    monkeypatch.setattr(bedrock, "KEYS", bedrock.BedrockKeys())


def connection(host: str = HOST, **extra: Any) -> Settings:
    return settings_of(conn_id="tuning", host=host, extra={"auth": "aws", **extra})


def aws(**fields: Any) -> Connection:
    fields = {"login": ACCESS_KEY, "password": SECRET_KEY, **fields}
    return Connection(conn_id="aws_default", conn_type="aws", **fields)


def told(key: str) -> dict[str, str]:
    """What a key says, of which it is a signed question."""
    assert key.startswith("bedrock-api-key-")
    url = base64.b64decode(key.removeprefix("bedrock-api-key-")).decode()
    host, _, query = url.partition("?")
    return {"host": host, **{name: given[0] for name, given in parse_qs(query).items()}}


def test_a_key_is_made_for_the_hosts_region_from_the_aws_connection(clock: StandingClock) -> None:
    settings = connection()
    assert settings.credential.needs_connection == "aws_default"
    settings.credential.take_connection(aws())
    key = settings.credential.current()
    said = told(key)
    assert said["host"] == "bedrock.amazonaws.com/"
    assert said["Action"] == "CallWithBearerToken"
    assert said["X-Amz-Credential"].startswith(f"{ACCESS_KEY}/")
    assert said["X-Amz-Credential"].endswith("/us-west-2/bedrock/aws4_request")
    assert said["X-Amz-Expires"] == "3600"
    assert settings.headers_with(key)["Authorization"] == f"Bearer {key}"
    assert SECRET_KEY not in key


def test_behind_a_gateway_the_aws_connection_names_the_region(clock: StandingClock) -> None:
    credential = connection("https://gateway.example", vendor="bedrock").credential
    credential.take_connection(aws(extra={"region_name": "eu-central-1"}))
    assert "/eu-central-1/bedrock/" in told(credential.current())["X-Amz-Credential"]


def test_a_region_that_nobody_names_is_asked_for(clock: StandingClock) -> None:
    credential = connection("https://gateway.example", vendor="bedrock").credential
    credential.take_connection(aws())
    with pytest.raises(FineTuningInputError, match=r"'tuning'.*region.*'region_name'.*'aws_default'"):
        credential.current()


def test_a_key_is_kept_until_five_minutes_before_its_end(clock: StandingClock) -> None:
    credential = connection().credential
    credential.take_connection(aws())
    first = credential.current()
    clock.moment += bedrock.LIFETIME - REFRESH_BEFORE - 1
    assert credential.at_hand() == first
    clock.moment += 2
    assert credential.at_hand() is None
    credential.current()
    assert credential.at_hand() is not None


def test_a_key_is_replaced_before_the_aws_credentials_end_that_signed_it(
    clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = connection().credential
    credential.take_connection(aws())
    made = credential.current()
    (session,) = bedrock.KEYS._sessions.values()
    ends_in = 3000.0
    temporary = session.get_credentials()
    monkeypatch.setattr(type(temporary), "refresh_needed", lambda self, soon: ends_in < soon, raising=False)
    clock.moment += 60
    assert credential.at_hand() == made
    ends_in = 299.0
    assert credential.at_hand() is None
    credential.current()
    # made again from credentials that still end soon: not asked for at every poll
    assert credential.at_hand() is not None


def test_the_process_own_identity_is_used_where_no_aws_connection_is_defined(
    clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEPROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    credential = connection().credential
    credential.take_connection(None)
    assert told(credential.current())["X-Amz-Credential"].startswith("AKIAOFTHEPROCESS/")


def test_an_aws_connection_that_is_named_must_be_defined() -> None:
    credential = connection(aws_conn_id="aws_tuning").credential
    assert credential.needs_connection == "aws_tuning"
    with pytest.raises(FineTuningInputError, match=r"'tuning'.*'aws_tuning'.*not defined"):
        credential.take_connection(None)


def test_an_identity_without_credentials_is_named_with_what_to_do(
    clock: StandingClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    credential = connection().credential
    credential.take_connection(None)
    with pytest.raises(FineTuningAuthError, match=r"'tuning'.*no credentials.*'aws_conn_id'") as refused:
        credential.current()
    assert refused.value.__suppress_context__


def test_an_edited_aws_connection_makes_new_keys_and_an_unchanged_one_does_not(clock: StandingClock) -> None:
    credential = connection().credential
    credential.take_connection(aws())
    first = credential.current()
    credential.take_connection(aws())
    assert credential.at_hand() == first
    credential.take_connection(aws(login="AKIAANOTHERKEYID"))
    assert credential.at_hand() is None
    assert told(credential.current())["X-Amz-Credential"].startswith("AKIAANOTHERKEYID/")
    assert set(credential.secrets) == {first, credential.at_hand()}


def test_a_refused_key_is_replaced_if_it_was_not_new(clock: StandingClock) -> None:
    credential = connection().credential
    credential.take_connection(aws())
    key = credential.current()
    assert credential.refused(key)
    assert credential.at_hand() == key
    clock.moment += REFUSED_AFTER + 1
    assert credential.refused(key)
    assert credential.at_hand() is None


def test_connections_with_one_aws_connection_and_region_share_a_key(clock: StandingClock) -> None:
    first, second = connection().credential, connection(f"{HOST}/openai/v1").credential
    elsewhere = connection("https://bedrock-mantle.us-east-1.api.aws").credential
    first.take_connection(aws())
    assert first.current() == second.current() != elsewhere.current()
    assert first == second != elsewhere
    assert connection() != connection(aws_conn_id="aws_tuning")


def test_settings_show_no_key(clock: StandingClock) -> None:
    settings = connection()
    settings.credential.take_connection(aws())
    key = settings.credential.current()
    shown = repr(settings) + repr(settings.credential) + repr(settings.redact) + repr(bedrock.KEYS)
    assert key not in shown
    assert SECRET_KEY not in shown
    assert settings.redact.text(f"refused: {key}") == "refused: ***"


def test_a_plain_key_needs_no_aws_identity() -> None:
    settings = settings_of(conn_id="tuning", host=HOST, password="bedrock-api-key-abc")
    assert settings.credential.needs_connection is None
    assert (
        settings.headers_with(settings.credential.current())["Authorization"] == "Bearer bedrock-api-key-abc"
    )


@pytest.mark.parametrize(
    "package", ["aws_bedrock_token_generator", "airflow.providers.amazon.aws.hooks.base_aws"]
)
def test_a_missing_extra_is_named(
    package: str, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    credential = connection().credential
    credential.take_connection(aws())
    with pytest.raises(FineTuningInputError, match=r"'tuning'.*airflow-ft-events\[bedrock\]"):
        credential.current()


def test_aws_packages_are_not_imported_by_a_connection_with_a_key(project: Path) -> None:
    program = (
        "import sys\n"
        "from airflow_ft_events.connection import bedrock\n"
        "from airflow_ft_events.connection.settings import settings_of\n"
        f"made = settings_of(conn_id='a', host={HOST!r}, password='some-key')\n"
        "assert made.credential.current() == 'some-key'\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('boto3', 'botocore', 'airflow')))\n"
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
