"""Look-alikes that answer what nobody would: the verdict stays right, no wait hangs, no key is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

KEY = "sk-TopSecret-0123456789"
JOB_FIELDS = (
    *("object", "created_at", "finished_at", "fine_tuned_model", "model_output_name", "trained_tokens"),
    *("token_count", "error", "hyperparameters", "estimated_finish", "result_files", "organization_id"),
)
EVENT_FIELDS = ("id", "object", "created_at", "level", "message", "type", "data")
ODD: dict[str, str] = {
    "null": "null",
    "true": "true",
    "minus one": "-1",
    "huge integer": "1" + "0" * 400,
    "huge float": "1e308",
    "infinite": "1e999",
    "NaN": "NaN",
    "empty text": '""',
    "half a surrogate": '"\\ud800"',
    "control characters": '"a\\u0000\\u001b[31m\\n\\u2028b"',
    "empty list": "[]",
    "list of nulls": "[null, [null], {}]",
    "empty object": "{}",
    "deep object": '{"step": {"step": {"step": [1, {"code": null}]}}, "code": {}, "message": [[]]}',
    "the key": f'"Bearer {KEY}"',
}
odd_values = pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())


def object_of(fields: Any, odd: str, **known: Any) -> str:
    """JSON with an odd value in every field but the known ones."""
    parts = [f'"{name}": {odd}' for name in fields if name not in known]
    return (
        "{"
        + ", ".join([*parts, *(f"{json.dumps(name)}: {json.dumps(v)}" for name, v in known.items())])
        + "}"
    )


@pytest.fixture
def hostile(odd_server: Any, answer_bytes: Any, connect: Any) -> Any:
    """Serve a job and a page of events from texts, or from functions of the request."""

    def start(job: Any, events: Any, **options: Any) -> Any:
        def answer(request: Any) -> bytes:
            text = events if "/events" in request.target else job
            text = text(request) if callable(text) else text
            return answer_bytes(text if isinstance(text, bytes) else text.encode(), **options)

        server = odd_server(answer)
        server.api_key = KEY
        connect(server, max_retries=0)
        return server

    return start


@odd_values
def test_odd_values_in_every_field_hide_no_success(
    odd: str, hostile: Any, follow: Any, mode: str, logs: Any
) -> None:
    job = object_of(JOB_FIELDS, odd, id="ftjob-1", status="succeeded", error=None)
    events = f'{{"data": [{object_of(EVENT_FIELDS, odd)}], "has_more": false, "object": {odd}}}'
    hostile(job, events)
    result = follow(mode, "ftjob-1", timeout=3600)
    assert (result["outcome"], result["decided_by"]) == ("succeeded", "status")
    assert json.dumps(result, allow_nan=False)
    # the last event reaches the result as it came; its id is a cursor, which libraries log at DEBUG
    assert KEY not in "\n".join(line for line in logs.text.splitlines() if "after=" not in line)


@odd_values
@pytest.mark.parametrize("level", ["error", "info"])
def test_an_odd_status_is_never_an_end(
    odd: str, level: str, hostile: Any, end_of: Any, follow: Any, mode: str, logs: Any
) -> None:
    job = object_of((*JOB_FIELDS, "status"), odd, id="ftjob-1")
    known = {"id": "e1", "level": level, "message": "Working"}
    events = f'{{"data": [{object_of(EVENT_FIELDS, odd, **known)}], "has_more": false}}'
    hostile(job, events)
    end = end_of(follow, mode, "ftjob-1", timeout=800, poke_interval=100)
    assert not end.startswith("returned")
    assert KEY not in end + logs.text


def page(numbers: Any, *, more: bool) -> str:
    """A page of events, newest first."""
    events = [
        {"id": f"e{n}", "created_at": 1_700_000_000 + n, "level": "info", "message": f"Message {n}"}
        for n in numbers
    ]
    return json.dumps({"object": "list", "data": events, "has_more": more})


LYING_PAGES: dict[str, Any] = {
    "the same page for ever": lambda request: page([3, 2, 1], more=True),
    "one event many times": lambda request: page([2] * 50, more=True),
    "duplicates across pages": lambda request: page(
        [3, 2, 2, 1] if "after" in request.target else [5, 4, 4, 3, 3], more="after" not in request.target
    ),
    "more of nothing": lambda request: json.dumps({"data": [], "has_more": True}),
    "has_more of text": lambda request: page([3, 2, 1], more=False).replace("false", '"false"'),
    "has_more of null": lambda request: page([3, 2, 1], more=False).replace("false", "null"),
}


@pytest.mark.every_family
@pytest.mark.parametrize("pages", LYING_PAGES.values(), ids=LYING_PAGES.keys())
def test_pages_that_lie_end_a_reading_and_hide_no_success(
    pages: Any, family: Any, hostile: Any, both: Any, follow: Any, mode: str
) -> None:
    server = hostile(json.dumps({"id": "ftjob-1", "status": family.word("succeeded")}), pages)
    for found in both(FineTuningHook(), "list_events", "ftjob-1"):
        assert isinstance(found, FineTuningError | list)
        if isinstance(found, list) and family.pages:
            ids = [event["id"] for event in found]
            assert len(ids) == len(set(ids))
    assert follow(mode, "ftjob-1", timeout=3600)["outcome"] == "succeeded"
    assert len(server.requests) < 60


DRESSES: dict[str, dict[str, Any]] = {
    "text/html": {"headers": {"Content-Type": "text/html"}},
    "no content type": {"headers": {"Content-Type": ""}},
    "another charset": {"headers": {"Content-Type": "application/json; charset=utf-16"}},
    "an odd date": {"headers": {"Date": "yesterday, 99:99"}},
    "a date far off": {"headers": {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}},
    "status 206": {"status": "206 Partial Content"},
    "status without a phrase": {"status": "200 "},
}


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES.keys())
def test_a_good_response_in_an_odd_format_is_read(
    dress: dict[str, Any], hostile: Any, follow: Any, mode: str
) -> None:
    job = json.dumps({"id": "ftjob-1", "status": "succeeded"})
    hostile(job, page([3, 2, 1], more=False), **dress)
    assert follow(mode, "ftjob-1", timeout=3600)["outcome"] == "succeeded"


def test_json_with_a_byte_order_mark_is_an_answer(hostile: Any, follow: Any, mode: str) -> None:
    job = json.dumps({"id": "ftjob-1", "status": "succeeded"})
    mark = b"\xef\xbb\xbf"
    hostile(mark + job.encode(), mark + page([3, 2, 1], more=False).encode())
    assert follow(mode, "ftjob-1", timeout=3600)["outcome"] == "succeeded"
