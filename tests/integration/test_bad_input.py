"""Bad input and bad answers: a clear error, or the wait goes on by the other route; nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout

from airflow_ft_events.connection.carried import carried
from airflow_ft_events.exceptions import FineTuningAnswerError, FineTuningInputError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import Answer

OPERATORS = [FineTuningEventsSensor, FineTuningEventsOperator]
BAD_JOB_IDS = {
    "empty": "",
    "blank": "   ",
    "over-long": "f" * 513,
    "path": "../files",
    "way up": "a/../b",
    "dots": "..",
    "query": "a?b=c",
    "fragment": "a#b",
    "encoded": "a%2F%2e%2e",
    "line break": "ftjob-1\n",
    "not ASCII": "ftjob-é",
}
bad_job_ids = pytest.mark.parametrize("job_id", BAD_JOB_IDS.values(), ids=BAD_JOB_IDS.keys())


@bad_job_ids
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_bad_job_id_is_an_error_when_the_dag_is_parsed(operator: Any, job_id: str) -> None:
    with pytest.raises(FineTuningInputError, match="job_id"):
        operator(task_id="t", job_id=job_id)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("job_id", ["{{ params.job_id }}", "{% if a %}x{% endif %}"])
def test_a_template_is_not_an_error_when_the_dag_is_parsed(operator: Any, job_id: str) -> None:
    assert operator(task_id="t", job_id=job_id).job_id == job_id


# what else is no job id is in tests/unit/test_settings.py
@pytest.mark.parametrize("job_id", ["", "../files", None, "None", ["ftjob-1"]], ids=repr)
def test_a_bad_job_id_is_an_error_when_the_task_runs_and_nothing_is_asked(
    job_id: Any, simulated: Any, connect: Any, follow: Any, mode: str, task: Any
) -> None:
    sim = simulated()
    connect(sim)

    def rendered(operator: Any) -> Any:
        made = operator(task_id="t", job_id="{{ x }}", **({} if operator is OPERATORS[1] else sensor))
        made.job_id = job_id
        return made

    sensor: dict[str, Any] = {"deferrable": mode == "deferrable"}
    if mode == "reschedule":
        sensor["mode"] = "reschedule"
    for operator in OPERATORS:
        with pytest.raises(FineTuningInputError, match="job_id"):
            rendered(operator).execute({"ti": task})
    assert sim.requests == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"poke_interval": -1}, "poke_interval"),
        ({"timeout": -1}, "timeout"),
        ({"max_poll_failures": 0}, "max_poll_failures"),
        ({"max_poll_failures": -3}, "max_poll_failures"),
        ({"max_poll_failures": 2.5}, "max_poll_failures"),
        ({"log_events": "everything"}, "log_events"),
        ({"soft_fail": True, "never_fail": True}, "mutually exclusive"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_bad_sensor_parameter_is_an_error_when_the_dag_is_parsed(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises((ValueError, AirflowException), match=named):
        FineTuningEventsSensor(task_id="t", job_id="ftjob-1", **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"levels": "error"}, "levels"),
        ({"levels": []}, "levels"),
        ({"levels": ["fatal"]}, "levels"),
        ({"types": "message"}, "types"),
        ({"types": [1]}, "types"),
        ({"max_events": 0}, "max_events"),
        ({"max_events": -1}, "max_events"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": None}, "max_bytes"),
        ({"settle": -1}, "settle"),
        ({"settle": float("nan")}, "settle"),
        ({"settle": True}, "settle"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_bad_operator_parameter_is_an_error_when_the_dag_is_parsed(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(FineTuningInputError, match=named):
        FineTuningEventsOperator(task_id="t", job_id="ftjob-1", **options)


GOOD = {"conn_type": "fine_tuning", "host": "http://127.0.0.1:1/v1", "password": "sk-1"}
BAD_CONNECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"password": ""}, "no API key"),
    "blank key": ({"password": "  "}, "no API key"),
    "no scheme": ({"host": "api.example.com/v1"}, "https://api.example.com/v1"),
    "host and port only": ({"host": "localhost:8089"}, "needs http"),
    "no host name": ({"host": "https:///v1"}, "host name"),
    "ftp": ({"host": "ftp://api.example.com"}, "needs http"),
    "http to a remote host": ({"host": "http://api.example.com/v1"}, "allow_http"),
    "http to a look-alike of loopback": ({"host": "http://127.0.0.1.example.com/v1"}, "allow_http"),
    "query": ({"host": "https://api.example.com/v1?a=b"}, "query"),
    "user": ({"host": "https://me@api.example.com/v1"}, "user"),
    "white space": ({"host": "https://api.example.com/v 1"}, "white space"),
    "odd port": ({"host": "https://api.example.com:port/v1"}, "URL"),
    "schema": ({"schema": "https"}, "Schema"),
    "port": ({"port": 8089}, "Port"),
    "unknown vendor": ({"extra": {"vendor": "acme"}}, "acme"),
    "odd vendor": ({"extra": {"vendor": 7}}, "vendor"),
    "another type": ({"conn_type": "postgres"}, "postgres"),
    "negative timeout": ({"extra": {"timeout": -1}}, "timeout"),
    "timeout of words": ({"extra": {"timeout": "soon"}}, "timeout"),
    "timeout null": ({"extra": {"timeout": "nan"}}, "timeout"),
    "negative retries": ({"extra": {"max_retries": -1}}, "max_retries"),
    "page size 0": ({"extra": {"page_size": 0}}, "page_size"),
    "signals": ({"extra": {"signals": {"(": "failed"}}}, "regular expression"),
    "signals to nowhere": ({"extra": {"signals": {"Done": "splendid"}}}, "splendid"),
    "headers": ({"extra": {"headers": ["a"]}}, "headers"),
    "auth": ({"extra": {"auth": "magic"}}, "auth"),
    "api_version": ({"extra": {"api_version": "2024-10-21"}}, "api_version"),
}


@pytest.mark.parametrize("bad", BAD_CONNECTIONS)
def test_a_connection_that_cannot_work_is_an_error_that_names_it_and_the_field(
    bad: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, named = BAD_CONNECTIONS[bad]
    monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(GOOD | fields))
    with pytest.raises(FineTuningInputError, match=named) as refused:
        call(FineTuningHook(), "get_job", "ftjob-1")
    assert "fine_tuning_default" in str(refused.value)


@pytest.mark.usefixtures("airflow_db")
def test_an_unknown_connection_is_an_error_that_says_how_to_make_it(call: Any) -> None:
    with pytest.raises(FineTuningInputError, match="AIRFLOW_CONN_NOWHERE"):
        call(FineTuningHook("nowhere"), "get_job", "ftjob-1")


@pytest.mark.usefixtures("airflow_db")
def test_an_unknown_connection_ends_a_wait_at_once(follow: Any, mode: str, clock: Any) -> None:
    with pytest.raises(FineTuningInputError, match="nowhere"):
        follow(mode, "ftjob-1", conn_id="nowhere")
    assert clock.passed == 0


def test_http_to_a_remote_host_is_allowed_where_that_is_said(
    simulated: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("http://api.example.com/v1", allow_http=True)
    assert FineTuningHook().settings.root == "http://api.example.com/v1"


# answers

BAD_ANSWERS: dict[str, Answer] = {
    "HTML": Answer(status=200, body="<html>It works!</html>", headers={"Content-Type": "text/html"}),
    "empty": Answer(status=200, body=""),
    "no content": Answer(status=204, body=""),
    "a list": Answer(status=200, body=[]),
    "null": Answer(status=200, body="null"),
    "a number": Answer(status=200, body="7"),
    "an empty object": Answer(status=200, body={}),
    "data is null": Answer(status=200, body={"data": None, "status": None}),
    "data is an object": Answer(status=200, body={"data": {}, "status": {}}),
    "events are no objects": Answer(status=200, body={"data": [1, "two", None], "status": ["running"]}),
    "half a JSON": Answer(status=200, body='{"data": [{"id": "a", "created_at": 1}'),
    "binary": Answer(status=200, body=b"\xff\xfe\x00\x01"),
    "deep": Answer(status=200, body="[" * 100_000),
    "truncated": Answer(truncate=True),
}
bad_answers = pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())


def only(route: str, answer: Answer) -> Callable[[Any], Answer | None]:
    return lambda request: answer if request.route == route else None


@bad_answers
@pytest.mark.parametrize(("method", "route"), [("get_job", "job"), ("list_events", "events")])
def test_an_answer_that_cannot_be_read_is_a_typed_error(
    answer: Answer, method: str, route: str, simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim, max_retries=0)
    sim.fault = only(route, answer)
    with pytest.raises(Exception, match=sim.job_id) as error:
        call(FineTuningHook(), method, sim.job_id)
    expected = "FineTuningApiError" if answer.truncate else "FineTuningAnswerError"
    assert type(error.value).__name__ == expected


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    ("broken", "decided_by", "answer"),
    [
        pytest.param(broken, decided_by, answer, id=f"{broken}-{name}")
        for broken, decided_by in (("events", "status"), ("job", "event"))
        for name, answer in BAD_ANSWERS.items()
        # a broken connection is a fault and no missing route
        if not (answer.truncate and broken == "job")
    ],
)
def test_where_one_route_cannot_be_read_the_other_decides(
    broken: str, decided_by: str, answer: Answer, mode: str, simulated: Any, connect: Any, follow: Any
) -> None:
    sim = simulated()
    connect(sim, max_retries=0)
    sim.fault = only(broken, answer)
    result = follow(mode, sim.job_id)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", decided_by)


@bad_answers
def test_a_server_whose_every_answer_is_bad_never_ends_a_wait_in_success(
    answer: Answer, simulated: Any, connect: Any, follow: Any, mode: str
) -> None:
    sim = simulated(ended=True)
    connect(sim, max_retries=0)
    sim.fault = lambda request: answer
    with pytest.raises(Exception, match=sim.job_id):
        follow(mode, sim.job_id, timeout=7200, poke_interval=600)


@bad_answers
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_bad_responses_for_a_while_do_not_end_the_wait(
    answer: Answer, mode: str, simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    clock.at(50, lambda: setattr(sim, "fault", lambda request: answer))
    clock.at(500, sim.clear_faults)
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"


def with_null_ids(end: Mapping[str, str]) -> list[dict[str, Any]]:
    """A log, newest first, whose ids are null, with the event that announces the end."""
    return [
        {"id": None, "created_at": 3, "level": "info", **end},
        {"id": None, "created_at": 2, "level": "info", "message": "Same"},
        {"id": None, "created_at": 2, "level": "info", "message": "Same"},
        {"created_at": 1, "message": "Begun"},
    ]


def test_events_whose_ids_are_null_are_all_listed(
    odd_server: Any, answer_bytes: Any, connect: Any, call: Any
) -> None:
    log = with_null_ids({"message": "Begun again"})
    connect(odd_server(lambda asked: answer_bytes({"data": log, "has_more": False})))
    assert call(FineTuningHook(), "list_events", "ftjob-1") == log[::-1]


@pytest.mark.every_family
def test_events_whose_ids_are_null_can_decide(
    family: Any, odd_server: Any, answer_bytes: Any, connect: Any, follow: Any, mode: str
) -> None:
    log = with_null_ids(family.success)

    def answer(asked: Any) -> bytes:
        if "/events" in asked.target:
            return answer_bytes({"data": log, "has_more": False})
        return answer_bytes({"error": {"message": "no such route"}}, status="404 Not Found")

    connect(odd_server(answer))
    result = follow(mode, "ftjob-1")
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "event")
    assert result["last_event"] == log[0]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"id": 7, "created_at": "never", "level": None, "message": None, "data": "x", "type": 3},
        {"id": ["a"], "created_at": -1e300, "level": {}, "message": ["x"], "data": []},
        {"id": "e", "created_at": 1e15, "message": {"a": 1}, "data": {"step": "many", "train_loss": None}},
        {"id": "e", "created_at": True, "message": "x" * 1_000_000, "data": {"step": 1e400}},
        {"id": "e", "created_at": 5, "data": {"a": {"b": {"c": {"d": [1]}}}}, "type": "metrics"},
        {"id": "\ud800", "created_at": 5, "message": "\ud800 lone surrogate"},
    ],
    ids=["empty", "odd types", "odder types", "odd numbers", "huge message", "nested", "surrogate"],
)
def test_an_odd_event_is_kept_as_it_came_and_breaks_no_wait(
    event: dict[str, Any],
    odd_server: Any,
    answer_bytes: Any,
    connect: Any,
    follow: Any,
    mode: str,
    clock: Any,
) -> None:
    def answer(asked: Any) -> bytes:
        if "/events" in asked.target:
            return answer_bytes({"data": [event], "has_more": False})
        status = "succeeded" if clock.passed > 100 else "running"
        return answer_bytes({"id": "ftjob-1", "status": status})

    connect(odd_server(answer))
    result = follow(mode, "ftjob-1")
    assert result["outcome"] == "succeeded"
    assert result["last_event"] == carried(event)  # no database takes Infinity


@pytest.mark.parametrize(
    "job",
    [
        {"id": "ftjob-2", "status": "succeeded"},
        {"id": "ftjob-1"},
        {"id": "ftjob-1", "status": ""},
        {"id": 7, "status": "succeeded"},
        {"id": "ftjob-1", "status": None},
        {"id": "ftjob-1", "status": True},
        {"error": {"message": "no"}},
        {"status": "success", "data": {"id": "ftjob-1", "status": "running"}},
        {"status": "completed", "result": {"id": "ftjob-1", "status": "running"}},
        {"status": "error", "message": "upstream timed out"},
        {"status": "timeout", "code": 504},
    ],
    ids=[
        "another job",
        "no status",
        "empty status",
        "a number",
        "null status",
        "status true",
        "an error with 200",
        "an envelope",
        "another envelope",
        "a gateway's report",
        "a gateway's timeout",
    ],
)
def test_an_answer_about_no_job_or_another_is_never_a_success(
    job: dict[str, Any],
    odd_server: Any,
    answer_bytes: Any,
    connect: Any,
    follow: Any,
    mode: str,
    both: Any,
) -> None:
    page = {"data": [{"id": "e", "created_at": 5, "message": "Working"}], "has_more": False}
    server = odd_server(lambda asked: answer_bytes(page if "/events" in asked.target else job))
    connect(server)
    assert {type(error) for error in both(FineTuningHook(), "get_job", "ftjob-1")} == {FineTuningAnswerError}
    with pytest.raises(AirflowSensorTimeout, match="ftjob-1"):
        follow(mode, "ftjob-1", timeout=3600, poke_interval=600)


@pytest.mark.parametrize(
    "job",
    [
        {"status": "SUCCEEDED "},
        {"status": "succeeded", "error": {}, "fine_tuned_model": 7, "trained_tokens": "many"},
        {"status": "JOB_STATE_SUCCEEDED", "error": "None", "finished_at": "2026-01-01T00:00:00Z"},
        {"status": {"state": "Completed"}, "error": [0], "finished_at": 1e300},
        {"state": "success", "error": {"code": {"a": None}, "message": []}, "finished_at": {}},
    ],
    ids=["odd case", "odd fields", "an enumeration", "an object", "another name"],
)
def test_an_odd_job_that_succeeded_is_a_success_with_a_result_of_plain_values(
    job: dict[str, Any],
    odd_server: Any,
    answer_bytes: Any,
    connect: Any,
    follow: Any,
    mode: str,
) -> None:
    page: dict[str, Any] = {"data": [], "has_more": False}
    server = odd_server(lambda asked: answer_bytes(page if "/events" in asked.target else job))
    connect(server)
    result = follow(mode, "ftjob-1")
    assert result["outcome"] == "succeeded"
    assert json.loads(json.dumps(result)) == result


def test_a_success_that_reports_an_error_is_no_verdict_in_any_mode(
    odd_server: Any, answer_bytes: Any, connect: Any, follow: Any, mode: str
) -> None:
    page: dict[str, Any] = {"data": [], "has_more": False}
    job = {"status": "succeeded", "error": {"code": {"a": 1}, "message": ["x"]}}
    server = odd_server(lambda asked: answer_bytes(page if "/events" in asked.target else job))
    connect(server)
    with pytest.raises(AirflowSensorTimeout, match="ftjob-1"):
        follow(mode, "ftjob-1", timeout=3600, poke_interval=600)


def test_a_word_that_the_connection_teaches_ends_a_wait_in_every_mode(
    odd_server: Any, answer_bytes: Any, connect: Any, follow: Any, mode: str
) -> None:
    page: dict[str, Any] = {"data": [], "has_more": False}
    server = odd_server(
        lambda asked: answer_bytes(page if "/events" in asked.target else {"status": "JOB_STATE_ARCHIVED"})
    )
    connect(server, states={"archived": "succeeded"})
    result = follow(mode, "ftjob-1")
    assert (result["outcome"], result["decided_by"], result["status"]) == (
        "succeeded",
        "status",
        "JOB_STATE_ARCHIVED",
    )
