"""The key is in no log, exception, chain, repr, XCom, rendered field or trigger, whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_ft_events.archive import read_archive
from airflow_ft_events.exceptions import FineTuningError, FineTuningInputError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import Answer
from airflow_ft_events.transfers.fine_tuning_to_object_storage import (
    FineTuningEventsToObjectStorageOperator,
)
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

KEY = "sk-proj-Zx9Qw7TopSecretKey42AbCdEf"
HEADER_VALUE = "gw-TopSecretHeaderValue77"
PARTS = (KEY, KEY[8:], "TopSecret", "opSecretKey")


def everything_of(error: BaseException | None) -> str:
    """All that a task log or an error tracker could print of an exception and its chain."""
    if error is None:
        return ""
    lines = traceback.TracebackException.from_exception(error, capture_locals=False).format(chain=True)
    texts = [*lines, repr(error), repr(error.args)]
    if isinstance(error, FineTuningError):
        texts.append(json.dumps(error.as_dict()))
    linked = [error.__cause__, error.__context__]
    return "\n".join(texts + [everything_of(link) for link in linked])


def raised_by(call: Any, *args: Any, **kwargs: Any) -> BaseException | None:
    try:
        call(*args, **kwargs)
    except (Exception, TaskDeferred) as error:
        return error
    return None


def assert_clean(text: str) -> None:
    for part in PARTS:
        assert part not in text


def echo(request: Any) -> Answer:
    error = {
        "message": f"Incorrect API key provided: {KEY}. Sent: Bearer {KEY}; gateway {HEADER_VALUE}",
        "type": "invalid_request_error",
        "param": KEY,
        "code": f"invalid_{KEY}",
    }
    return Answer(status=401, body={"error": error}, headers={"x-request-id": f"req-{KEY}"})


def echo_in(status: int, body: Any) -> Any:
    def fault(request: Any) -> Any:
        headers = {"Content-Type": f"text/{KEY}", "Location": f"http://127.0.0.1:1/?key={KEY}"}
        return Answer(status=status, body=body, headers=headers)

    return fault


FAULTS = {
    "401 with the key": echo,
    "500 with the key": echo_in(500, f"<html>{KEY}</html>"),
    "200 with the key": echo_in(200, f"not JSON: Authorization: Bearer {KEY}"),
    "302 with the key": echo_in(302, f"{KEY}"),
    "429 with the key": echo_in(429, {"error": KEY}),
    "400 with the key": echo_in(400, {"detail": [{"input": {"authorization": f"Bearer {KEY}"}}]}),
}


@pytest.fixture
def secret_sim(simulated: Any, connect: Any) -> Any:
    """A simulator behind a connection whose key and header must never be seen."""
    sim = simulated(api_key=KEY)
    connect(sim, headers={"X-Gateway": HEADER_VALUE}, max_retries=1, timeout=0.2)
    return sim


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["get_job", "list_events", "cancel_job", "list_jobs"])
def test_a_server_that_repeats_the_key_does_not_get_it_into_errors_or_logs(
    fault: str, method: str, secret_sim: Any, call: Any, logs: Any
) -> None:
    secret_sim.fault = FAULTS[fault]
    args = () if method == "list_jobs" else (secret_sim.job_id,)
    error = raised_by(call, FineTuningHook(), method, *args)
    assert isinstance(error, FineTuningError)
    assert_clean(everything_of(error))
    assert_clean(logs.text)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wait_shows_no_key_in_its_end_its_logs_or_its_trigger(
    fault: str, secret_sim: Any, follow: Any, logs: Any, mode: str, clock: Any
) -> None:
    clock.at(100, lambda: setattr(secret_sim, "fault", FAULTS[fault]))
    job_id = secret_sim.add_job(duration=9000)
    error = raised_by(follow, mode, job_id, timeout=3600, poke_interval=300)
    assert isinstance(error, Exception)
    assert_clean(everything_of(error))
    assert_clean(logs.text)
    for trigger in follow.triggers:
        assert_clean(repr(trigger.serialize()) + repr(trigger) + repr(vars(trigger)))


@pytest.mark.every_family
@pytest.mark.parametrize("fault", FAULTS)
def test_a_triggers_event_holds_no_key(fault: str, secret_sim: Any, payload_of: Any, logs: Any) -> None:
    secret_sim.fault = FAULTS[fault]
    trigger = FineTuningEventsTrigger(job_id=secret_sim.job_id, end_time=secret_sim.clock() + 3600)
    assert_clean(json.dumps(asyncio.run(payload_of(trigger))))
    assert_clean(logs.text)


@pytest.mark.parametrize("trouble", ["refused", "stall", "drop", "truncate"])
def test_a_broken_connection_shows_no_key(
    trouble: str, secret_sim: Any, call: Any, logs: Any, clock: Any
) -> None:
    if trouble == "refused":
        secret_sim.stop()
    else:
        secret_sim.fail_next(99, **{trouble: 1 if trouble == "stall" else True})
    error = raised_by(call, FineTuningHook(), "get_job", "ftjob-1")
    assert isinstance(error, FineTuningError)
    assert_clean(everything_of(error) + logs.text)


def test_a_tls_failure_shows_no_key(
    simulated: Any, tls_front: Any, connect: Any, call: Any, logs: Any
) -> None:
    connect(tls_front(simulated().base_url), key=KEY, headers={"X-Gateway": HEADER_VALUE})
    error = raised_by(call, FineTuningHook(), "get_job", "ftjob-1")
    assert isinstance(error, FineTuningError)
    assert_clean(everything_of(error) + logs.text)


@pytest.mark.parametrize(
    "key",
    [f"{KEY}\nX-Injected: yes", f"{KEY}\r\n", f"a{KEY}\x00b", f"{KEY}é", f"{KEY}\u4e2d", f"\ufeff{KEY}"],
    ids=["line break", "trailing line break", "null", "latin-1", "chinese", "byte order mark"],
)
def test_a_key_that_no_header_can_carry_is_not_shown(
    key: str, simulated: Any, connect: Any, call: Any, logs: Any
) -> None:
    sim = simulated(api_key=KEY)
    connect(sim, key=key)
    error = raised_by(call, FineTuningHook(), "get_job", sim.job_id)
    if key.strip() == KEY:
        assert error is None
    else:
        assert isinstance(error, FineTuningInputError)
        assert "fine_tuning_default" in str(error)
        assert sim.requests == []
    assert_clean(everything_of(error) + logs.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Gateway": f"{HEADER_VALUE}\nX: y"},
        {"Authorization": f"Bearer {KEY}"},
        {"api-key": KEY},
        {"Cookie": KEY},
        {f"X {KEY}": "x"},
        {"X-Gateway": [KEY]},
        f"{{{KEY}",
    ],
    ids=["line break", "authorization", "api-key", "cookie", "odd name", "list", "no JSON"],
)
def test_a_header_that_cannot_be_sent_is_refused_and_its_value_not_shown(
    headers: Any, simulated: Any, connect: Any, call: Any, logs: Any
) -> None:
    sim = simulated(api_key=KEY)
    connect(sim, headers=headers)
    error = raised_by(call, FineTuningHook(), "get_job", sim.job_id)
    assert isinstance(error, FineTuningInputError)
    if not (isinstance(headers, dict) and any(" " in name for name in headers)):
        assert_clean(everything_of(error) + logs.text)
    assert sim.requests == []


@pytest.mark.parametrize(
    "host",
    [f"https://user:{KEY}@ft.example/v1", f"https://ft.example/v1?key={KEY}", f"https://{KEY}@ft.example/v1"],
    ids=["password", "query", "user"],
)
def test_a_base_url_with_a_secret_in_it_is_refused_and_the_secret_not_shown(
    host: str, connect: Any, call: Any, logs: Any
) -> None:
    connect(host, key="sk-other")
    error = raised_by(call, FineTuningHook(), "get_job", "ftjob-1")
    assert isinstance(error, FineTuningInputError)
    assert_clean(everything_of(error) + logs.text)


@pytest.mark.parametrize(
    "proxy",
    [
        f"http://user:{KEY}@127.0.0.1:1",
        f"http://user:a/{KEY}@127.0.0.1:1",
        f"http://user:a#{KEY}@127.0.0.1:1",
        f"http://user:{KEY}@127.0.0.1:port",
        f"http://user:{KEY}@",
        f"user:{KEY}@127.0.0.1:1",
        f"socks5://user:{KEY}@127.0.0.1:1",
        f"http://user:[{KEY}@127.0.0.1:1",
    ],
    ids=["away", "slash", "hash", "odd port", "no host", "no scheme", "socks", "bracket"],
)
@pytest.mark.parametrize("host", ["http://ft.example/v1", "https://ft.example/v1"], ids=["http", "https"])
def test_a_proxys_password_is_not_shown(
    proxy: str, host: str, connect: Any, call: Any, logs: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    connect(host, allow_http=True, max_retries=0)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = raised_by(call, FineTuningHook(), "get_job", "ftjob-1")
    assert isinstance(error, FineTuningError)
    assert_clean(everything_of(error) + logs.text)


def test_a_proxy_that_refuses_its_password_shows_neither_it_nor_the_key(
    odd_server: Any,
    answer_bytes: Any,
    connect: Any,
    call: Any,
    logs: Any,
    monkeypatch: pytest.MonkeyPatch,
    clock: Any,
) -> None:
    said = {"error": f"Bearer {KEY}"}
    proxy = odd_server(lambda asked: answer_bytes(said, status=f"407 Who is {KEY}"))
    address = proxy.url.removeprefix("http://").removesuffix("/v1")
    for host in ("http://ft.example/v1", "https://ft.example/v1"):
        connect(host, key=KEY, allow_http=True, max_retries=0)
        monkeypatch.setenv("HTTP_PROXY", f"http://user:proxy-TopSecret@{address}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:proxy-TopSecret@{address}")
        error = raised_by(call, FineTuningHook(), "get_job", "ftjob-1")
        assert isinstance(error, FineTuningError)
        assert_clean(everything_of(error) + logs.text)
    assert proxy.requests


@pytest.mark.every_family
def test_nothing_that_holds_the_key_shows_it_in_its_repr(secret_sim: Any) -> None:
    hook = FineTuningHook()
    session = hook.get_conn()
    hook.get_job(secret_sim.job_id)
    shown = [hook, hook.settings, session, session.auth, hook._transport, hook._network, hook.settings.vendor]
    assert_clean("\n".join(f"{thing!r} {thing!s}" for thing in shown))


def test_results_rendered_fields_and_xcoms_hold_no_key(secret_sim: Any, follow: Any, task: Any) -> None:
    result = follow("poke", secret_sim.job_id, timeout=3600)
    operator = FineTuningEventsOperator(task_id="collect", job_id=secret_sim.job_id, settle=0)
    events = operator.execute({"ti": task})
    assert_clean(json.dumps([result, events, task.pushed]))
    sensor = FineTuningEventsSensor(task_id="wait2", job_id=secret_sim.job_id)
    for operator_like in (operator, sensor):
        fields = {name: getattr(operator_like, name) for name in operator_like.template_fields}
        assert_clean(repr(fields) + repr(operator_like) + repr(vars(operator_like)))


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x1b[31mred", "a\u2028b", "\u202ereversed"], ids=repr)
def test_a_servers_words_cannot_forge_log_lines(
    text: str, simulated: Any, connect: Any, follow: Any, mode: str, logs: Any
) -> None:
    sim = simulated()
    connect(sim)
    sim.add_event(sim.job_id, {"message": f"before {text} after", "level": "error"})
    sim.set_status(sim.job_id, "failed", result={"error": {"code": text, "message": text, "param": text}})
    failed = raised_by(follow, mode, sim.job_id)
    assert type(failed).__name__ == "FineTuningJobFailed"
    assert text not in str(failed)
    assert text not in logs.text


def test_an_event_that_repeats_the_key_comes_into_xcom_without_it_and_else_as_it_came(
    simulated: Any, connect: Any, follow: Any, mode: str, task: Any, tmp_path: Any
) -> None:
    sim = simulated([], api_key=KEY)
    said = {"message": f"Sent Bearer {KEY} to prod", "offset": -600, "data": {KEY: [KEY, 1.5, None]}}
    job_id = sim.add_job(events=[said], status_timeline=[(-600, "succeeded")])
    connect(sim, headers={"X-Stage": "prod"})
    result = follow(mode, job_id)
    events = FineTuningEventsOperator(task_id="collect", job_id=job_id).execute({"ti": task})
    archive = FineTuningEventsToObjectStorageOperator(
        task_id="archive", job_id=job_id, path=str(tmp_path / "log.jsonl")
    ).execute({"ti": task})
    assert_clean(json.dumps([result, events, archive, task.pushed]))
    assert events[0]["message"] == "Sent Bearer *** to prod"
    assert events[0]["data"] == {"***": ["***", 1.5, None]}
    assert result["last_event"] == events[0]
    assert read_archive(tmp_path / "log.jsonl") == sim.list_events(job_id)
