"""Requests to send, responses to read, and whether and when to retry; no socket, no clock."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from airflow_ft_events.api.refusals import refusal_of
from airflow_ft_events.api.server_words import MOST_OF_A_PAGE, readable, words_of
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningError,
)
from airflow_ft_events.events import one_line

BACKOFF_START = 1.0
BACKOFF_MOST = 60.0
LONGEST_RETRY_AFTER = 120.0
"""A call on a worker gives up if told to wait longer (the official client's limit)."""
_JSON = msgspec.json.Decoder()
_RETRIED = {408, 409, 429}
_REQUEST_ID_HEADERS = ("x-request-id", "apim-request-id", "x-ms-request-id", "request-id", "cf-ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """
    One request, below the API's root.

    :param path: path below the root, percent-encoded.
    :param what: what it asks for, for messages: "the events of job ftjob-1".
    :param method: GET or POST; default GET.
    :param params: query parameters.
    :param job_id: the job concerned, or None.
    :param asks_state: whether it only asks for the job's state, so that a shared poll may answer it.
    """

    path: str
    what: str
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    job_id: str | None = None
    asks_state: bool = False


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """
    A whole response.

    :param status: HTTP status.
    :param headers: header values by lower-case name.
    :param body: the decoded body.
    :param tries: how many tries it took; default 1.
    :param parsed: the object in the body, if it was parsed before; default None.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 1
    parsed: dict[str, Any] | None = None

    @property
    def server_time(self) -> float | None:
        """The server's clock, seconds since 1970, from its Date header; None if that cannot be read."""
        return server_time(self.headers)

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, from whichever header carries it."""
        found = next((self.headers[name] for name in _REQUEST_ID_HEADERS if self.headers.get(name)), None)
        return one_line(found, limit=100) if found else None


class FaultKind(StrEnum):
    """Why there is no response."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    STALE = "stale"
    """A reused connection that the server had closed: retried once, uncounted."""
    TLS = "tls"
    TOO_LARGE = "too_large"
    NO_TOKEN = "no_token"  # noqa: S105
    """Could not get an Entra token, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class ApiFault:
    """
    No response.

    :param kind: why.
    :param text: one line for people, without secrets.
    :param tries: how often it was tried; default 1.
    """

    kind: FaultKind
    text: str
    tries: int = 1


ApiResult = ApiResponse | ApiFault


@lru_cache(maxsize=256)
def _http_date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime

    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        # without a zone it is UTC, never this machine's own
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def server_time(headers: Mapping[str, str]) -> float | None:
    """
    Read the server's clock.

    :param headers: a response's headers.
    :returns: seconds since 1970, from the Date header; None if that cannot be read.
    """
    return _http_date(headers.get("date", ""))


def retry_after(answer: ApiResponse, *, now: float) -> float | None:
    """
    Read how long the server asks to wait.

    :param answer: its response; ``retry-after-ms``, or ``Retry-After`` in seconds or as an HTTP date.
    :param now: our clock, used if the response has no Date header.
    :returns: seconds, at least 0; None if it asks for nothing that can be read.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(answer.headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if 0 <= wait < 1e9:
            return wait
    moment = _http_date(answer.headers.get("retry-after", ""))
    if moment is None:
        return None
    server_now = answer.server_time
    return max(0.0, moment - (server_now if server_now is not None else now))


def next_try(reply: ApiResult, *, attempt: int, max_retries: int, jitter: float, now: float) -> float | None:
    """
    Decide whether a call on a worker is retried, and when.

    Connection errors, timeouts, 408, 409, 429 and 5xx but 501 are; ``x-should-retry`` overrides. The
    wait is what the server asks for, or else exponential backoff with full jitter (1 s doubling to 60 s).

    :param reply: the result of the last try.
    :param attempt: tries made so far, from 1.
    :param max_retries: tries allowed after the first.
    :param jitter: a random number from 0 to 1, for the jitter.
    :param now: seconds since 1970, to read a Retry-After date.
    :returns: seconds to wait, or None to give up (also when told to wait more than 120 s).
    """
    if attempt > max_retries:
        return None
    if isinstance(reply, ApiFault):
        if reply.kind in (FaultKind.TLS, FaultKind.TOO_LARGE, FaultKind.NO_TOKEN):
            return None
    else:
        verdict = reply.headers.get("x-should-retry", "").lower()
        retried = reply.status in _RETRIED or (reply.status >= 500 and reply.status != 501)
        if reply.status < 300 or not (retried or verdict == "true") or verdict == "false":
            return None
        asked = retry_after(reply, now=now)
        if asked is not None:
            return asked if asked <= LONGEST_RETRY_AFTER else None
    return jitter * min(BACKOFF_MOST, BACKOFF_START * 2.0 ** min(attempt - 1, 30))


def decode(body: bytes) -> Any:
    """
    Decode JSON (msgspec reads a page of events in about a third of the standard library's time).

    :param body: the bytes.
    :returns: the value.
    :raises ValueError: if they are not JSON.
    """
    try:
        return _JSON.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        # the standard library also takes NaN, Infinity, lone surrogates and a byte order mark
        return json.loads(body)


def read_object(request: ApiRequest, answer: ApiResponse, settings: Settings) -> dict[str, Any]:
    """
    Read a response that must be a JSON object.

    :param request: the request.
    :param answer: the response, with a status below 300.
    :param settings: the connection, for messages.
    :returns: the object.
    :raises FineTuningAnswerError: if it is something else.
    """
    if answer.parsed is not None:
        return answer.parsed
    try:
        found = decode(answer.body)
    except (ValueError, RecursionError):
        raise unreadable(request, answer, settings, "is not JSON") from None
    if not isinstance(found, dict):
        raise unreadable(request, answer, settings, "is not a JSON object")
    return found


def unreadable(
    request: ApiRequest, answer: ApiResponse, settings: Settings, problem: str
) -> FineTuningAnswerError:
    """
    Make the error for a response that cannot be read.

    :param request: the request.
    :param answer: the response.
    :param settings: the connection.
    :param problem: what is wrong with it: "is not JSON".
    :returns: the error, which shows the first 200 characters of its text.
    """
    came = settings.redact.line(_text_of(answer), limit=200) or "nothing that people can read"
    kind = settings.redact.line(answer.headers.get("content-type", ""), limit=60) or "no content type"
    return FineTuningAnswerError(
        f"Asking for {request.what} through connection {settings.conn_id!r}: the answer {problem} "
        f"({answer.status}, {kind}): {came}. Check that 'Host' ({settings.root}) is the root of a "
        "fine-tuning API and not a web page or another service.",
        job_id=request.job_id,
        conn_id=settings.conn_id,
    )


def raise_for_fault(request: ApiRequest, reply: ApiResult, settings: Settings) -> ApiResponse:
    """
    Return a response, whatever its status, and raise the error for "no response".

    :param request: the request.
    :param reply: the response, or the fault.
    :param settings: the connection.
    :raises FineTuningApiError: there is no response.
    :raises FineTuningAnswerError: the body exceeds the byte limit.
    """
    if isinstance(reply, ApiFault):
        raise error_of(request, reply, settings)
    return reply


def raise_for_status(request: ApiRequest, reply: ApiResult, settings: Settings) -> ApiResponse:
    """
    Return a successful response, and raise everything else as a typed error.

    :param request: the request.
    :param reply: the response, or the fault.
    :param settings: the connection.
    :returns: the response, with a status from 200 to 299.
    :raises FineTuningApiError: a refusal or no response; or a subclass.
    :raises FineTuningAnswerError: the body exceeds the byte limit.
    """
    if isinstance(reply, ApiResponse) and 200 <= reply.status < 300:
        return reply
    raise error_of(request, reply, settings)


def error_of(request: ApiRequest, reply: ApiResult, settings: Settings) -> FineTuningError:
    """
    Turn a refusal, or no response, into the typed error that says what to do next.

    :param request: the request.
    :param reply: the response, or the fault.
    :param settings: the connection.
    :returns: the error.
    """
    asked = f"{'Asking for' if request.method == 'GET' else 'Asking to'} {request.what}"
    asked += f" through connection {settings.conn_id!r}"
    after = f" after {reply.tries} tries" if reply.tries > 1 else ""
    if isinstance(reply, ApiFault):
        if reply.kind is FaultKind.TOO_LARGE:
            return FineTuningAnswerError(
                f"{asked}: {reply.text}.", job_id=request.job_id, conn_id=settings.conn_id
            )
        advice = {
            FaultKind.TLS: "Check the certificate, set 'verify' in the extra to your CA bundle, or "
            "'client_cert' if the server asks for a certificate",
            FaultKind.NO_TOKEN: "Nothing was sent",
            FaultKind.TIMEOUT: "Check the network, or raise 'timeout' in the connection's extra",
        }.get(reply.kind, "Check the network, proxies and 'Host'")
        return FineTuningApiError(
            f"{asked} got no answer{after}: {reply.text}. {advice} (server {settings.root}). This says "
            "nothing about the job itself.",
            job_id=request.job_id,
            conn_id=settings.conn_id,
        )
    code, said = _server_words(reply, settings)
    said = said if reply.status >= 400 else "a redirect"
    request_id = settings.redact.line(reply.request_id) if reply.request_id else None
    kind, advice = refusal_of(
        reply.status,
        settings,
        asks=request.method == "GET",
        job_id=request.job_id,
        wait=retry_after(reply, now=math.inf),  # a date is usable only with the server's own clock
        leads_to=reply.headers.get("location", "nowhere"),
    )
    facts = [f"code {code}"] if code else []
    facts += [f"request id {request_id}"] if request_id else []
    return kind(
        f"{asked} was refused with {reply.status}{after}: "
        f"{said}{' (' + ', '.join(facts) + ')' if facts else ''}. {advice}",
        job_id=request.job_id,
        conn_id=settings.conn_id,
        status=reply.status,
        code=code,
        request_id=request_id,
    )


def _server_words(answer: ApiResponse, settings: Settings) -> tuple[str | None, str]:
    """Read code and message of an error's body, in whatever form it has."""
    try:
        code, message = words_of(decode(answer.body))
    except (ValueError, RecursionError):
        code, message = None, None
    said = settings.redact.line(message or _text_of(answer), limit=400).rstrip(".")
    return (settings.redact.line(code, limit=100) if code else None), said or "no explanation"


def _text_of(answer: ApiResponse) -> str:
    """Return a body's beginning as people would read it."""
    return readable(answer.body[: 4 * MOST_OF_A_PAGE].decode("utf-8", "replace"))
