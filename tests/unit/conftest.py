"""What the tests of the pure core share: a connection, and a small server that is a function."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import pytest

from airflow_ft_events.api.exchange import ApiRequest, ApiResponse
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.connection.settings import Settings, settings_of

KEY = "sk-proj-Zx81QmRt44LpWv09"


def made_settings(*, page_size: int | None = None, **fields: Any) -> Settings:
    """Settings of a connection with a key; ``page_size`` may be smaller than a form would allow."""
    fields = {"conn_id": "tuning", "host": "https://tuning.example/v1", "password": KEY, **fields}
    settings = settings_of(**fields)
    return replace(settings, page_size=page_size) if page_size else settings


def made_event(number: int, *, at: float = 0, **fields: Any) -> dict[str, Any]:
    """An event as EVENTS_API.md describes it; its number tells it from the others."""
    return {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{number}",
        "created_at": 1_700_000_000 + at,
        "level": "info",
        "message": f"Message {number}",
        "type": "message",
        "data": None,
    } | fields


def made_log(size: int, *, gap: float = 1) -> list[dict[str, Any]]:
    """A log, oldest first."""
    return [made_event(number, at=number * gap) for number in range(size)]


def json_answer(body: Any, *, status: int = 200, **headers: str) -> ApiResponse:
    """An answer with a JSON body; underscores in header names stand for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiResponse(
        status,
        {"content-type": "application/json", **given},
        body if isinstance(body, bytes) else _dump(body),
    )


def _dump(body: Any) -> bytes:
    return json.dumps(body).encode()


_ANSWERS = itertools.count()
NOT_FOUND = {"error": {"message": "No such thing.", "type": "invalid_request_error", "code": "not_found"}}


@dataclass
class EventsServer:
    """
    The events route of one job.

    :param log: the events, oldest first; a test may add to it.
    :param newest_first: which end the first page shows.
    :param most: events a page at most, whatever was asked for.
    :param says_more: ``truth``, ``nothing`` (no has_more), ``always``, or whether the page has as many events
        as asked for, ``if equal``, or at least as many, ``if enough``.
    :param limit: ``works``, or ``ignored``: each page is ``most`` events long.
    :param cursor: what ``after`` does: ``works``, ``ignored``, or ``refused`` with this status.
    :param ids: ``kept``, ``changing`` with every answer, ``none`` (missing) or ``null``.
    :param before_answer: called with the number of the request, from 1, before it is answered.
    """

    log: list[dict[str, Any]]
    newest_first: bool = True
    most: int = 10_000
    says_more: str = "truth"
    limit: str = "works"
    cursor: str = "works"
    refusal: int = 404
    ids: str = "kept"
    before_answer: Callable[[int], None] | None = None
    date: float | None = None
    requests: list[ApiRequest] = field(default_factory=list)

    def __call__(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        if self.before_answer:
            self.before_answer(len(self.requests))
        shown = self.log[::-1] if self.newest_first else list(self.log)
        start = 0
        after = request.params.get("after")
        if after is not None and self.cursor != "ignored":
            known = [event.get("id") for event in shown]
            if self.cursor == "refused" or after not in known:
                return json_answer(NOT_FOUND, status=self.refusal)
            start = known.index(after) + 1
        limit = int(request.params.get("limit", 20))
        size = min(limit, self.most) if self.limit == "works" else self.most
        page = [self._shown(event, start + at) for at, event in enumerate(shown[start : start + size])]
        body: dict[str, Any] = {"object": "list", "data": page}
        if self.says_more != "nothing":
            body["has_more"] = {
                "truth": start + size < len(shown),
                "always": True,
                "if equal": len(page) == limit,
                "if enough": len(page) >= limit,
            }[self.says_more]
        headers = {} if self.date is None else {"date": formatdate(self.date, usegmt=True)}
        return json_answer(body, **headers)

    def _shown(self, event: dict[str, Any], place: int) -> dict[str, Any]:
        if self.ids == "changing":
            return event | {"id": f"answer-{next(_ANSWERS)}-{place}"}
        if self.ids == "null":
            return event | {"id": None}
        if self.ids == "none":
            return {name: value for name, value in event.items() if name != "id"}
        return event


def walked(feed: EventFeed, server: Callable[[ApiRequest], ApiResponse], *, most: int = 2_000) -> EventFeed:
    """Walk to the end; a walk of more than ``most`` requests is taken for one without an end."""
    for _ in range(most):
        request = feed.next_request()
        if request is None:
            return feed
        feed.take(server(request))
    pytest.fail(f"the walk did not end within {most} requests")


def conversed(conversation: Any, server: Callable[[ApiRequest], Any], *, most: int = 2_000) -> Any:
    """Answer a generator's requests and return its value."""
    try:
        request = next(conversation)
        for _ in range(most):
            request = conversation.send(server(request))
    except StopIteration as end:
        return end.value
    pytest.fail(f"the conversation did not end within {most} requests")


def numbers(events: Sequence[dict[str, Any]]) -> list[int]:
    """The events' numbers, as :func:`made_event` gave them."""
    return [int(event["message"].split()[1]) for event in events]


@dataclass(frozen=True)
class Kit:
    """The pieces above, for tests that cannot import one another's modules."""

    key: str = KEY
    not_found: Any = None
    settings: Callable[..., Settings] = made_settings
    event: Callable[..., dict[str, Any]] = made_event
    log: Callable[..., list[dict[str, Any]]] = made_log
    answer: Callable[..., ApiResponse] = json_answer
    server: type[EventsServer] = EventsServer
    walk: Callable[..., EventFeed] = walked
    converse: Callable[..., Any] = conversed
    numbers: Callable[..., list[int]] = numbers


@pytest.fixture(scope="session")
def kit() -> Kit:
    """The pieces that the tests of the pure core share."""
    return Kit(not_found=NOT_FOUND)
