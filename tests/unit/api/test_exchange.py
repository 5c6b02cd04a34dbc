"""Answers and refusals: when to try again, what an error says, and what it never says."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from airflow_ft_events.api.exchange import (
    ApiFault,
    ApiRequest,
    ApiResponse,
    FaultKind,
    decode,
    error_of,
    next_try,
    raise_for_status,
    read_object,
    retry_after,
    unreadable,
)
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningJobNotFound,
    FineTuningRateLimited,
)

NOW = 1_800_000_000.0
DATE_NOW = "Fri, 15 Jan 2027 08:00:00 GMT"
DATE_30_LATER = "Fri, 15 Jan 2027 08:00:30 GMT"
REQUEST = ApiRequest(path="/fine_tuning/jobs/ftjob-1", what="job ftjob-1", job_id="ftjob-1")


def answer(status: int, body: Any = b"", **headers: str) -> ApiResponse:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ApiResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# when to try again


RETRIED = [
    ApiFault(FaultKind.CONNECT, "refused"),
    ApiFault(FaultKind.TIMEOUT, "silence"),
    ApiFault(FaultKind.BROKEN, "broke off"),
    *[answer(status) for status in (408, 409, 429, 500, 502, 503, 504, 520, 529, 599)],
]
NOT_RETRIED = [
    ApiFault(FaultKind.TLS, "certificate"),
    ApiFault(FaultKind.TOO_LARGE, "too large"),
    *[answer(status) for status in (200, 204, 301, 302, 400, 401, 403, 404, 405, 413, 422)],
]


def named(replies: list[Any]) -> list[str]:
    return [reply.kind.value if isinstance(reply, ApiFault) else str(reply.status) for reply in replies]


@pytest.mark.parametrize("reply", RETRIED, ids=named(RETRIED))
def test_temporary_faults_are_retried_with_full_jitter_from_one_second_doubling_to_a_minute(
    reply: Any,
) -> None:
    waits = [
        [next_try(reply, attempt=attempt, max_retries=9, jitter=jitter, now=NOW) for attempt in range(1, 11)]
        for jitter in (0.0, 0.5, 1.0)
    ]
    assert waits[0] == [0.0] * 9 + [None]
    assert waits[1] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, None]
    assert waits[2] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, None]


@pytest.mark.parametrize("reply", NOT_RETRIED, ids=named(NOT_RETRIED))
def test_permanent_faults_are_not_retried(reply: Any) -> None:
    assert next_try(reply, attempt=1, max_retries=5, jitter=0.5, now=NOW) is None


@pytest.mark.parametrize("reply", RETRIED, ids=named(RETRIED))
def test_no_retries_means_none(reply: Any) -> None:
    assert next_try(reply, attempt=1, max_retries=0, jitter=0.5, now=NOW) is None


def test_a_very_late_attempt_still_waits_a_minute_at_most() -> None:
    assert next_try(answer(500), attempt=10_000, max_retries=20_000, jitter=1.0, now=NOW) == 60.0


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        pytest.param(429, {"retry_after": "7"}, 7.0, id="seconds"),
        pytest.param(429, {"retry_after": "0"}, 0.0, id="no-wait"),
        pytest.param(429, {"retry_after": "1.5"}, 1.5, id="a-fraction"),
        pytest.param(503, {"retry_after": "7"}, 7.0, id="on-503"),
        pytest.param(429, {"retry_after": DATE_30_LATER}, 30.0, id="a-date-by-our-clock"),
        pytest.param(
            429,
            {"retry_after": "Fri, 15 Jan 2027 05:00:30 GMT", "date": "Fri, 15 Jan 2027 05:00:00 GMT"},
            30.0,
            id="a-date-by-the-servers-clock",
        ),
        pytest.param(429, {"retry_after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0, id="a-date-in-the-past"),
        pytest.param(429, {"retry_after_ms": "2500"}, 2.5, id="milliseconds"),
        pytest.param(429, {"retry_after_ms": "2500", "retry_after": "9"}, 2.5, id="milliseconds-come-first"),
        pytest.param(429, {"retry_after_ms": "soon", "retry_after": "9"}, 9.0, id="unreadable-milliseconds"),
        pytest.param(429, {"retry_after": "120"}, 120.0, id="two-minutes"),
        pytest.param(429, {"retry_after": "120.1"}, None, id="more-than-two-minutes"),
        pytest.param(429, {"retry_after_ms": "600000"}, None, id="ten-minutes-in-milliseconds"),
        pytest.param(429, {"retry_after": "Fri, 15 Jan 2027 08:10:00 GMT"}, None, id="a-date-too-far-away"),
        pytest.param(429, {"retry_after": "-3"}, 0.5, id="negative"),
        pytest.param(429, {"retry_after": "nan"}, 0.5, id="not-a-number"),
        pytest.param(429, {"retry_after": "later"}, 0.5, id="a-word"),
        pytest.param(429, {"retry_after": ""}, 0.5, id="empty"),
        pytest.param(400, {"x_should_retry": "true"}, 0.5, id="the-server-says-try-again"),
        pytest.param(400, {"x_should_retry": "TRUE", "retry_after": "3"}, 3.0, id="try-again-then"),
        pytest.param(400, {"retry_after": "3"}, None, id="a-refusal-with-retry-after"),
        pytest.param(500, {"x_should_retry": "false"}, None, id="the-server-says-do-not"),
        pytest.param(429, {"x_should_retry": "false", "retry_after": "3"}, None, id="do-not-at-all"),
        pytest.param(200, {"x_should_retry": "true"}, None, id="a-good-answer"),
        pytest.param(500, {"x_should_retry": "perhaps"}, 0.5, id="a-verdict-that-is-none"),
    ],
)
def test_what_the_server_asks_for_counts(status: int, headers: dict[str, str], wait: float | None) -> None:
    found = next_try(answer(status, **headers), attempt=1, max_retries=5, jitter=0.5, now=NOW)
    assert found == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"retry_after": "-1"}, None, id="negative"),
        pytest.param({"retry_after": "nan"}, None, id="nan"),
        pytest.param({"retry_after": "inf"}, None, id="infinity"),
        pytest.param({"retry_after": "1e300"}, None, id="huge"),
        pytest.param({"retry_after": "9" * 500}, None, id="endless-digits"),
        pytest.param({"retry_after": "Fri, 32 Jan 2027 08:00:00 GMT"}, None, id="no-such-day"),
        pytest.param({"retry_after": "Fri, 15 Jan 99999 08:00:00 GMT"}, None, id="no-such-year"),
        pytest.param({"retry_after": "\x00\xff"}, None, id="no-text"),
        pytest.param({"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0, id="a-date-long-past"),
        pytest.param(
            {"retry_after": DATE_30_LATER, "date": "yesterday"}, 30.0, id="an-unreadable-server-clock"
        ),
        pytest.param(
            {"retry_after": "Fri, 15 Jan 2027 08:00:30", "date": DATE_NOW}, 30.0, id="a-date-without-zone"
        ),
        pytest.param({"retry_after": "Friday, 15-Jan-27 08:00:30 GMT"}, 30.0, id="the-old-form-of-a-date"),
        pytest.param({"retry_after": " 12 "}, 12.0, id="white-space"),
    ],
)
def test_a_strange_retry_after_never_breaks_anything(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(answer(429, **headers), now=NOW) == wait


def test_a_date_without_a_zone_is_utc_wherever_this_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT+9")
    time.tzset()
    try:
        assert answer(200, date="Fri, 15 Jan 2027 08:00:00 -0000").server_time == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", ["", "today", "Fri", "15", "Fri, 15 Jan 2027", "\udcff"])
def test_an_unreadable_date_is_read_as_none(date: str) -> None:
    assert not isinstance(answer(200, date=date).server_time, str)


# what an error says


BODIES = {
    "openai": (
        {
            "error": {
                "message": "Could not find it",
                "type": "invalid_request_error",
                "code": "fine_tune_not_found",
            }
        },
        {"x_request_id": "req-1"},
        "Could not find it",
        "fine_tune_not_found",
    ),
    "azure": (
        {"error": {"code": "404", "message": "No job here."}},
        {"apim_request_id": "req-1"},
        "No job here",
        "404",
    ),
    "fastapi": ({"detail": "Nothing of that name"}, {"x_request_id": "req-1"}, "Nothing of that name", None),
    "fastapi-list": (
        {"detail": [{"loc": ["path", "id"], "msg": "too short"}]},
        {"x_request_id": "req-1"},
        "too short",
        None,
    ),
    "gateway": (
        b"<html><head><title>404</title></head><body><h1>Nothing\nhere</h1></body></html>",
        {"cf_ray": "req-1"},
        "Nothing here",
        None,
    ),
    "a-text-for-an-error": ({"error": "went away"}, {"request_id": "req-1"}, "went away", None),
    "only-a-type": (
        {"error": {"message": "No", "type": "not_found_error", "code": None}},
        {"x_ms_request_id": "req-1"},
        "No",
        "not_found_error",
    ),
    "nothing": (b"", {"x_request_id": "req-1"}, "no explanation", None),
}


@pytest.mark.parametrize(("body", "headers", "said", "code"), BODIES.values(), ids=BODIES.keys())
def test_a_refusal_says_what_happened_to_which_job_and_what_to_do(
    kit: Any, body: Any, headers: dict[str, str], said: str, code: str | None
) -> None:
    error = error_of(REQUEST, answer(404, body, **headers), kit.settings())
    assert type(error) is FineTuningJobNotFound
    assert (error.status, error.code, error.request_id) == (404, code, "req-1")
    assert (error.job_id, error.conn_id) == ("ftjob-1", "tuning")
    text = str(error)
    for part in (
        said,
        "req-1",
        "ftjob-1",
        "'tuning'",
        "404",
        "Check the job id",
        "https://tuning.example/v1",
    ):
        assert part in text
    assert code is None or code in text
    assert text.isprintable()


ADVICE: dict[int, tuple[type[FineTuningApiError], str]] = {
    302: (FineTuningApiError, "redirects are not followed"),
    400: (FineTuningApiError, "Check the reason above"),
    401: (FineTuningAuthError, "Check the API key in 'Password' of connection 'tuning'"),
    403: (FineTuningAuthError, "permissions, organization and project"),
    404: (FineTuningJobNotFound, "Check the job id"),
    407: (FineTuningApiError, "This is the proxy on the way and not the server"),
    429: (FineTuningRateLimited, "Too many requests"),
    501: (FineTuningApiError, "This server has no fine-tuning API"),
    500: (FineTuningApiError, "says nothing about the job"),
}


@pytest.mark.parametrize(("status", "expected"), ADVICE.items(), ids=[str(status) for status in ADVICE])
def test_each_status_has_its_type_and_its_next_step(
    kit: Any, status: int, expected: tuple[type[FineTuningApiError], str]
) -> None:
    error = error_of(REQUEST, answer(status, {"error": {"message": "No."}}), kit.settings())
    assert type(error) is expected[0]
    assert expected[1] in str(error)


def test_a_404_that_is_about_no_job_is_about_the_host(kit: Any) -> None:
    error = error_of(
        ApiRequest(path="/fine_tuning/jobs", what="the fine-tuning jobs"), answer(404), kit.settings()
    )
    assert type(error) is FineTuningApiError
    assert "'Host'" in str(error)


@pytest.mark.parametrize(
    ("headers", "words", "missing"),
    [
        pytest.param({"retry_after": "600"}, "asks to wait 600 s", "nothing-like-this", id="seconds"),
        pytest.param({"retry_after": DATE_30_LATER, "date": DATE_NOW}, "asks to wait 30 s", "-", id="date"),
        pytest.param({"retry_after": DATE_30_LATER}, "Too many", "asks to wait", id="date-without-clock"),
        pytest.param({}, "Too many requests", "asks to wait", id="nothing"),
    ],
)
def test_a_429_says_how_long_the_server_asks_to_wait(
    kit: Any, headers: dict[str, str], words: str, missing: str
) -> None:
    text = str(error_of(REQUEST, answer(429, {"error": {"message": "Slow down"}}, **headers), kit.settings()))
    assert words in text
    assert missing == "-" or missing not in text


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (FaultKind.CONNECT, "proxies"),
        (FaultKind.TIMEOUT, "'timeout'"),
        (FaultKind.TLS, "'verify'"),
        (FaultKind.BROKEN, "Check the network"),
        (FaultKind.STALE, "Check the network"),
    ],
)
def test_no_answer_says_why_and_what_to_check(kit: Any, kind: FaultKind, advice: str) -> None:
    error = error_of(REQUEST, ApiFault(kind, "it went wrong", tries=3), kit.settings())
    assert type(error) is FineTuningApiError
    for part in (
        "it went wrong",
        "after 3 tries",
        advice,
        "ftjob-1",
        "'tuning'",
        "https://tuning.example/v1",
    ):
        assert part in str(error)


def test_a_successful_response_is_returned(kit: Any) -> None:
    good = answer(204)
    assert raise_for_status(REQUEST, good, kit.settings()) is good
    with pytest.raises(FineTuningApiError):
        raise_for_status(REQUEST, answer(304), kit.settings())


def test_an_unreadable_answer_shows_its_beginning_and_no_more(kit: Any) -> None:
    reply = answer(200, b"<html>" + b"x y " * 5_000, content_type="text/html; charset=utf-8")
    with pytest.raises(FineTuningAnswerError, match="is not JSON") as caught:
        read_object(REQUEST, reply, kit.settings())
    text = str(caught.value)
    assert "text/html" in text
    assert "x y x y" in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": NaN}', "nan"),
        (b'{"a": Infinity}', "inf"),
        (b'{"a": "\\ud800"}', "'\\ud800'"),
        (b'{"a": 1' + b"0" * 30 + b"}", "1" + "0" * 30),
        (b'{"a": 1, "a": 2}', "2"),
    ],
)
def test_json_that_only_the_standard_library_takes_is_read_too(body: bytes, value: str) -> None:
    assert repr(decode(body)["a"]) == value


def test_a_byte_order_mark_does_not_matter() -> None:
    assert decode(b"\xef\xbb\xbf{}") == {}


# what an error never says


SECRET_HEADER = "gateway-secret-98765"
ECHOES = [
    "Incorrect API key provided: {key}.",
    "Incorrect API key provided: {start}***{end}.",
    "Incorrect API key provided: {start}…{end}",
    "Incorrect API key provided: {start}...{end}, sorry",
    "Incorrect API key provided: {start}**********{end}",
    "Key beginning with {long_start} is not known",
    "Key ending in {long_end} is not known",
    "Authorization: Bearer {key}",
    "authorization: bearer {key}",
    "Got headers {{'X-Gateway': '{header}'}}",
    "Token Bearer eyJhbGciOi1234567.abcdef is stale",
    "sk-abc***xyz is not yours, nor is sk-live_0123456789abcdef",
    '{{"key": "{key}"}}',
    "\u202e{key}\x00\x1b[31m",
]
SETTINGS_WITH_SECRETS = {
    "sk-key": "sk-proj-Zx81QmRt44LpWv09aaKK",
    "hexadecimal-key": "0f3c9d81b7e64a52a1c0ffee12345678",
    "words-for-a-key": "correct-horse-battery-staple-9",
}


def places(text: str, request_id: str) -> dict[str, ApiResponse]:
    return {
        "message": answer(
            401, {"error": {"message": text, "code": "invalid_api_key"}}, x_request_id=request_id
        ),
        "code": answer(401, {"error": {"message": "No", "code": text}}),
        "detail": answer(400, {"detail": [{"msg": text}]}),
        "page": answer(502, f"<html><p>{text}</p></html>".encode("utf-8", "replace")),
        "bare": answer(200, text.encode("utf-8", "replace"), content_type="text/plain"),
        "location": answer(302, location=f"https://elsewhere.example/?said={text}"),
    }


@pytest.mark.parametrize("echo", ECHOES, ids=range(len(ECHOES)))
@pytest.mark.parametrize("key", SETTINGS_WITH_SECRETS.values(), ids=SETTINGS_WITH_SECRETS.keys())
def test_no_secret_and_no_part_of_one_gets_into_an_error(kit: Any, key: str, echo: str) -> None:
    settings = kit.settings(password=key, extra={"headers": {"X-Gateway": SECRET_HEADER}})
    text = echo.format(
        key=key,
        header=SECRET_HEADER,
        start=key[:8],
        end=key[-4:],
        long_start=key[:12],
        long_end=key[-12:],
    )
    hidden = [key, key[:8], key[-4:], key[-12:], SECRET_HEADER, "eyJhbGciOi", "abc***xyz", "0123456789abcdef"]
    for place, reply in places(text, "req-1").items():
        error = (
            unreadable(REQUEST, reply, settings, "is not JSON")
            if place == "bare"
            else error_of(REQUEST, reply, settings)
        )
        for shown in (str(error), repr(error), repr(error.as_dict())):
            assert not [secret for secret in hidden if secret in shown], (place, shown)
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided. You can find your API key at https://platform.example/account/api-keys",
        "Bearer authentication is required",
        "The key_not_found case: see docs/key-management for sk-learn",
        "Training file has 5 example(s), but must have at least 10 examples",
        "New fine-tuned model created: ft:gpt-4o-mini-2024-07-18:acme:suffix:9x8Y7z",
    ],
)
def test_words_that_hold_no_secret_stay_as_they_are(kit: Any, said: str) -> None:
    assert kit.settings().redact.line(said) == said


@pytest.mark.parametrize(
    "word", ["a" * 20_000, "*a" * 10_000, "key-" * 5_000, "sk_" * 6_000, "Bearer " * 3_000]
)
def test_the_longest_texts_are_masked_as_easily_as_short_ones(kit: Any, word: str) -> None:
    # a pattern that looks back over the whole text at each character takes seconds for each of these, and
    # a hundred of them then run into the suite's limit
    assert {len(kit.settings().redact.line(word)) <= 500 for _ in range(100)} == {True}


@pytest.mark.parametrize("request_id", ["req-1\nforged line", "\x1b[31mreq-1", "r" * 500])
def test_a_request_id_is_cleaned_before_it_is_shown(kit: Any, request_id: str) -> None:
    error = error_of(REQUEST, answer(500, x_request_id=request_id), kit.settings())
    assert str(error).isprintable()
    assert isinstance(error, FineTuningApiError)
    assert error.request_id is not None
    assert len(error.request_id) <= 100


def test_the_longest_wait_that_is_read_is_finite() -> None:
    for text in ("999999999", "1e9", "1e308"):
        wait = retry_after(answer(429, retry_after=text), now=NOW)
        assert wait is None or math.isfinite(wait)
