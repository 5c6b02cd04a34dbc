"""Bedrock: what the openai client's own provider sends, and short-term keys that are made and replaced."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest

from airflow_ft_events.connection import bedrock
from airflow_ft_events.connection.settings import settings_of
from airflow_ft_events.errors import FineTuningAuthError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

HOUR = 3600.0
KEY = "bedrock-api-key-of-the-user"
pytestmark = pytest.mark.parametrize("vendor", ["bedrock"])


# the openai client's provider


@pytest.fixture
def server(odd_server: Any, answer_bytes: Any) -> Any:
    """A server that answers whatever is asked of it, and keeps the whole requests."""

    def answer(request: Any) -> bytes:
        job = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "cancelled"}
        event = {"id": "e-1", "object": "fine_tuning.job.event", "created_at": 1, "message": "Hello"}
        listing = {"object": "list", "data": [event], "has_more": False}
        path = urlsplit(request.target).path
        return answer_bytes(
            listing
            if path.endswith("/events")
            else {**listing, "data": [job]}
            if path.endswith("/jobs")
            else job
        )

    return odd_server(answer)


def asked(request: Any) -> tuple[str, str, dict[str, list[str]], str]:
    url = urlsplit(request.target)
    return request.method, url.path, parse_qs(url.query), request.headers["authorization"]


def test_the_openai_clients_provider_sends_what_the_hook_sends(
    server: Any, connect: Any, call: Any, vendor: str
) -> None:
    providers = pytest.importorskip("openai.providers")
    provider = providers.bedrock(region="us-west-2", api_key=KEY, base_url=server.url)
    with openai.OpenAI(provider=provider, max_retries=0) as client:
        jobs = client.fine_tuning.jobs
        jobs.retrieve("ftjob-1")
        list(jobs.list_events("ftjob-1", limit=100))
        jobs.list_events("ftjob-1", limit=100, after="e-1")
        jobs.list(limit=1)
        jobs.cancel("ftjob-1")
    theirs = [asked(request) for request in server.requests]
    server.requests.clear()
    connect(server, key=KEY)
    hook = FineTuningHook()
    call(hook, "get_job", "ftjob-1")
    call(hook, "list_events", "ftjob-1")
    call(hook, "iter_pages", "ftjob-1", after="e-1")
    call(hook, "list_jobs", limit=1)
    call(hook, "cancel_job", "ftjob-1")
    ours = [asked(request) for request in server.requests]
    assert ours == theirs
    assert theirs[1][:2] == ("GET", "/v1/fine_tuning/jobs/ftjob-1/events")
    assert {authorization for *_, authorization in theirs} == {f"Bearer {KEY}"}


def test_the_address_that_the_openai_client_uses_leads_to_the_same_server(vendor: str) -> None:
    providers = pytest.importorskip("openai.providers")
    with openai.OpenAI(provider=providers.bedrock(region="eu-west-1", api_key=KEY)) as client:
        address = str(client.base_url).rstrip("/")
    settings = settings_of(conn_id="tuning", host=address, password=KEY)
    assert (settings.root, settings.vendor.name) == (address, "bedrock")
    assert settings.vendor.region_of(urlsplit(address).hostname) == "eu-west-1"


# keys that an AWS identity makes


class KeyMaker:
    """Stands for AWS's token package: numbered keys, which the simulator then takes."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.sims: list[Any] = []
        self.given: list[str] = []
        self.threads: set[str] = set()
        self.broken: Exception | None = None

    def __call__(self, *, region: str, aws_credentials_provider: Any, expiry: timedelta) -> str:
        self.threads.add(threading.current_thread().name)
        assert region == "us-west-2"
        if self.broken:
            raise self.broken
        signer = aws_credentials_provider.load()
        key = f"bedrock-api-key-{signer.access_key}-{len(self.given) + 1}"
        self.given.append(key)
        for sim in self.sims:
            sim.bearer_tokens[key] = self.clock.now() + expiry.total_seconds()
        return key


def set_aws(monkeypatch: pytest.MonkeyPatch, name: str = "aws_default", **fields: Any) -> None:
    made = {"conn_type": "aws", "login": "AKIAFIRST", "password": "aws-TopSecret", **fields}
    made["extra"] = {"region_name": "us-west-2"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(made))


@pytest.fixture
def maker(clock: Any, monkeypatch: pytest.MonkeyPatch) -> KeyMaker:
    """What makes the keys in this test, and an AWS connection to make them with."""
    package = pytest.importorskip("aws_bedrock_token_generator")
    fake = KeyMaker(clock)
    monkeypatch.setattr(bedrock, "KEYS", bedrock.BedrockKeys())
    monkeypatch.setattr(package, "provide_token", fake)
    set_aws(monkeypatch)
    return fake


@pytest.fixture
def sim(simulated: Any, maker: KeyMaker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server, and a connection to it without a key."""
    made = simulated([])
    maker.sims.append(made)
    define(made, monkeypatch)
    return made


def define(sim: Any, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    extra = {**sim.connection_extra, "auth": "aws", **extra}
    connection = {"conn_type": "fine_tuning", "host": sim.base_url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(connection))


def test_both_faces_read_with_a_key_that_was_made_for_them(sim: Any, call: Any, vendor: str) -> None:
    job_id = sim.add_job(ended=True)
    assert call(FineTuningHook(), "list_events", job_id) == sim.list_events(job_id)
    assert {request.status for request in sim.requests} == {200}


def test_a_wait_of_a_day_goes_on_over_many_keys_in_each_mode(
    sim: Any, maker: KeyMaker, follow: Any, mode: str, vendor: str
) -> None:
    job_id = sim.add_job(duration=24 * HOUR, steps=0)
    assert follow(mode, job_id, timeout=3 * 24 * HOUR, poke_interval=600)["outcome"] == "succeeded"
    assert {request.status for request in sim.requests} == {200}
    assert 24 <= len(maker.given) <= 30


def test_nothing_that_may_wait_happens_on_an_event_loops_thread(
    sim: Any, maker: KeyMaker, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    take = bedrock.KEYS.take

    def noted(*given: Any) -> None:
        maker.threads.add(threading.current_thread().name)
        take(*given)

    monkeypatch.setattr(bedrock.KEYS, "take", noted)
    asyncio.run(FineTuningHook().aget_job(sim.add_job()))
    assert len(maker.given) == 1
    assert maker.threads
    assert threading.current_thread().name not in maker.threads


def test_a_key_is_in_no_log_and_no_kwargs_and_no_result(
    sim: Any, maker: KeyMaker, follow: Any, logs: Any, vendor: str
) -> None:
    job_id = sim.add_job(duration=3 * HOUR, steps=0)
    result = follow("deferrable", job_id, timeout=24 * HOUR, poke_interval=600)
    (trigger,) = follow.triggers
    seen = f"{logs.text}{trigger.serialize()}{trigger!r}{vars(trigger)}{result}{follow.task.pushed}"
    assert len(maker.given) >= 3
    assert "bedrock-api-key" not in seen
    assert "TopSecret" not in seen


def test_an_edited_aws_connection_goes_on_with_new_keys(
    sim: Any,
    maker: KeyMaker,
    follow: Any,
    mode: str,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
) -> None:
    job_id = sim.add_job(duration=20 * HOUR, steps=0)

    def rotate() -> None:
        sim.bearer_tokens.clear()
        set_aws(monkeypatch, login="AKIASECOND")

    clock.at(HOUR * 5 + 200, rotate)
    assert follow(mode, job_id, timeout=48 * HOUR, poke_interval=100)["outcome"] == "succeeded"
    assert any("AKIASECOND" in key for key in maker.given)
    assert sum(request.status == 401 for request in sim.requests) <= 2


def test_another_aws_connection_is_used_by_its_name(
    sim: Any, maker: KeyMaker, call: Any, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    set_aws(monkeypatch, "aws_tuning", login="AKIATUNING")
    define(sim, monkeypatch, aws_conn_id="aws_tuning")
    call(FineTuningHook(), "get_job", sim.add_job())
    assert ["AKIATUNING" in key for key in maker.given] == [True]


def test_an_identity_that_may_not_call_ends_the_wait_with_its_name(
    sim: Any, maker: KeyMaker, follow: Any, mode: str, vendor: str
) -> None:
    job_id = sim.add_job()
    maker.sims.clear()
    with pytest.raises(FineTuningAuthError, match=r"401.*AWS identity of connection 'aws_default'"):
        follow(mode, job_id)
    assert sim.count() <= 3


def test_an_aws_connection_that_is_missing_ends_the_task_by_its_name(
    sim: Any, end_of: Any, follow: Any, mode: str, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    define(sim, monkeypatch, aws_conn_id="aws_nowhere")
    assert end_of(follow, mode, sim.add_job()) == "FineTuningInputError"
    working, said = FineTuningHook().test_connection()
    assert not working
    assert "'aws_nowhere'" in said
    assert sim.count() == 0


def test_keys_that_cannot_be_made_for_a_while_end_no_wait(
    sim: Any, maker: KeyMaker, follow: Any, mode: str, clock: Any, logs: Any, vendor: str
) -> None:
    job_id = sim.add_job(duration=4 * HOUR, steps=0)

    def away() -> None:
        maker.broken = OSError("no way to the token service")

    def back() -> None:
        maker.broken = None

    clock.at(2000, away)
    clock.at(HOUR - 100, back)
    assert follow(mode, job_id, timeout=24 * HOUR, poke_interval=100)["outcome"] == "succeeded"
    assert {request.status for request in sim.requests} == {200}


def test_a_missing_extra_ends_a_wait_by_its_name(
    sim: Any, end_of: Any, follow: Any, mode: str, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    monkeypatch.setitem(sys.modules, "aws_bedrock_token_generator", None)
    assert end_of(follow, mode, sim.add_job()) == "FineTuningInputError"
    assert sim.count() == 0


def test_the_keys_of_a_role_are_signed_by_what_it_lends(
    simulated: Any, clock: Any, call: Any, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    package = pytest.importorskip("aws_bedrock_token_generator")
    moto = pytest.importorskip("moto")
    real, made = package.provide_token, []
    monkeypatch.setattr(bedrock, "KEYS", bedrock.BedrockKeys())

    def noted(**how: Any) -> str:
        key = real(**how)
        made.append((how["aws_credentials_provider"].load(), key))
        sim.bearer_tokens[key] = clock.now() + HOUR
        return key

    monkeypatch.setattr(package, "provide_token", noted)
    sim = simulated(ended=True)
    define(sim, monkeypatch)
    extra = {"region_name": "us-west-2", "role_arn": "arn:aws:iam::123456789012:role/tuning"}
    aws = {"conn_type": "aws", "login": "AKIAFIRST", "password": "aws-TopSecret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    with moto.mock_aws():
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id
    ((signer, _),) = made
    assert signer.token
    assert signer.access_key != "AKIAFIRST"
