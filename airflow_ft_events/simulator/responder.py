"""Turns one request into one reply: key, route, job and page, and the fault that a test set."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from aiohttp import web

from airflow_ft_events.simulator.dialects import NO_ROUTE, Problem, Route
from airflow_ft_events.simulator.faults import Answer, ReceivedRequest
from airflow_ft_events.simulator.jobs import JobEndedError, SimulatedJob, encode, seeded
from airflow_ft_events.simulator.server import Reply
from airflow_ft_events.simulator.state import ServerState

_SECRET_HEADERS = frozenset({"authorization", "api-key", "proxy-authorization", "cookie"})


class Responder:
    """
    Answers requests from a server's state; called in the server's thread.

    :param state: the server's jobs, clock, routes and faults.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._request_ids = seeded(f"requests:{state.seed}")
        self._date = (-1, "")

    def reply(self, request: web.BaseRequest) -> Reply:
        """Answer a request, and record it."""
        state = self._state
        now = state.now
        url = request.rel_url
        received = ReceivedRequest(
            method=request.method,
            path=url.raw_path,
            query=dict(url.query),
            headers={
                key: value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS
            },
            at=now,
        )
        route = state.dialect.route(method=received.method, path=received.path, query=received.query)
        if isinstance(route, Route):
            received.route, received.job_id = route.name, route.job_id
        with state.lock:
            asked = state.take_fault(received)
            state.record(received)
            # A request whose response a fault replaces changes nothing.
            own = None
            if asked is None or not (asked.swallows or asked.drop):
                own = self._answer(request.headers, received, route, now)
        reply = self._finish(own, asked, now)
        received.status = None if reply.drop else reply.status
        return reply

    def _answer(
        self, headers: Mapping[str, str], received: ReceivedRequest, route: Route | Problem, now: float
    ) -> Problem | bytes:
        state = self._state
        dialect = state.dialect
        tokens = [token for token, until in state.bearer_tokens.items() if now < until]
        if problem := dialect.check_key(headers=headers, api_key=state.api_key, tokens=tokens):
            return problem
        if isinstance(route, Problem):
            return route
        closed = {"job": not state.job_route, "events": not state.events_route}
        if closed.get(route.name):
            return NO_ROUTE
        if route.job_id is None:
            return self._list(received.query, now)
        job = state.find_job(route.job_id)
        if job is None:
            return dialect.no_such_job(route.job_id)
        if route.name == "events":
            return self._events(job, received.query, now)
        if route.name == "cancel":
            try:
                job.cancel(now=now)
            except JobEndedError:
                return dialect.already_ended(job.job_id, job.state(now=now)[0])
        return encode(state.job_object(job, now=now))

    def _events(self, job: SimulatedJob, query: Mapping[str, str], now: float) -> Problem | bytes:
        limit = self._limit(query)
        if isinstance(limit, Problem):
            return limit
        after = query.get("after") if self._state.dialect.pages else None
        page = job.page(now=now, after=after, limit=limit, newest_first=self._state.order == "newest")
        if page is None:
            return self._state.dialect.no_such_cursor(after or "")
        return self._state.dialect.listing(page.items, has_more=page.has_more)

    def _list(self, query: Mapping[str, str], now: float) -> Problem | bytes:
        limit = self._limit(query)
        if isinstance(limit, Problem):
            return limit
        newest_first = self._state.all_jobs()[::-1]
        newest_first.sort(key=lambda job: -job.created_at)
        start = 0
        after = query.get("after") if self._state.dialect.pages else None
        if after is not None:
            ids = [job.job_id for job in newest_first]
            if after not in ids:
                return self._state.dialect.no_such_cursor(after)
            start = ids.index(after) + 1
        shown = newest_first[start : start + limit]
        items = [encode(self._state.job_object(job, now=now)) for job in shown]
        return self._state.dialect.listing(items, has_more=start + limit < len(newest_first))

    def _limit(self, query: Mapping[str, str]) -> int | Problem:
        dialect = self._state.dialect
        text = query.get("limit")
        if not dialect.pages:
            return sys.maxsize
        if text is None:
            return dialect.default_limit
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
            return dialect.bad_limit(text)
        return int(text)

    def _finish(self, own: Problem | bytes | None, asked: Answer | None, now: float) -> Reply:
        headers = {
            "Content-Type": "application/json",
            "Date": self._date_header(now),
            self._state.dialect.request_id_header: f"req_{self._request_ids.getrandbits(128):032x}",
        }
        latency = self._state.latency
        if isinstance(own, bytes):
            reply = Reply(status=200, body=own, headers=headers, stall=latency)
        elif isinstance(own, Problem):
            reply = Reply(status=own.status, body=encode(own.body), headers=headers, stall=latency)
        else:
            reply = Reply(status=500, body=b"", headers=headers, stall=latency)
        return reply if asked is None else self._changed(reply, asked)

    def _changed(self, reply: Reply, asked: Answer) -> Reply:
        status, body = reply.status, reply.body
        if asked.status is not None or asked.body is not None:
            status = 200 if asked.status is None else asked.status
        if asked.swallows:
            body = _body(self._state.dialect.failure(status).body if asked.body is None else asked.body)
        headers = dict(reply.headers)
        for name, value in asked.headers.items():
            for known in [key for key in headers if key.lower() == name.lower()]:
                del headers[known]
            if value is not None:
                headers[name] = value
        return replace(
            reply,
            status=status,
            body=body,
            headers=headers,
            drop=asked.drop,
            truncate=asked.truncate,
            exact_headers=None in asked.headers.values(),
            stall=reply.stall + asked.stall,
        )

    def _date_header(self, now: float) -> str:
        if self._date[0] != int(now):
            self._date = (int(now), formatdate(int(now), usegmt=True))
        return self._date[1]


def _body(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else encode(value)
