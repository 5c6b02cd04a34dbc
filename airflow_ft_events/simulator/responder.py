"""Turns one request into one reply: key, route, job and page, and the fault that a test set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from aiohttp import web

from airflow_ft_events.simulator.answer_cache import Cache
from airflow_ft_events.simulator.asked import Asked, Content, Found
from airflow_ft_events.simulator.bodies import NO_BODY, Body
from airflow_ft_events.simulator.dialects import NO_ROUTE, Problem, Route
from airflow_ft_events.simulator.endpoints import Endpoints
from airflow_ft_events.simulator.faults import Answer, ReceivedRequest
from airflow_ft_events.simulator.jobs import encode, seeded
from airflow_ft_events.simulator.state import ServerState
from airflow_ft_events.simulator.wire import Reply

_SECRET_HEADERS = frozenset({"authorization", "api-key", "proxy-authorization", "cookie"})


class Responder:
    """
    Answers requests from a server's state; called in the server's thread.

    :param state: the server's jobs, clock, routes and faults.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._endpoints = Endpoints(state)
        self._cache = Cache()
        self._clients: dict[str, int] = {}
        self._request_ids = seeded(f"requests:{state.seed}")
        self._date = (-1, "")

    def reply(self, request: web.BaseRequest, body: Body = NO_BODY) -> Reply:
        """Answer a request, and record it."""
        state = self._state
        now, elapsed = state.now, state.elapsed
        url = request.rel_url
        received = ReceivedRequest(
            method=request.method,
            path=url.raw_path,
            query=dict(url.query),
            headers={
                key: value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS
            },
            at=now,
            elapsed=elapsed,
            client=self._client(request.headers),
        )
        route = state.dialect.route(method=received.method, path=received.path, query=received.query)
        if isinstance(route, Route):
            received.route, received.job_id = route.name, route.job_id
        with state.lock:
            asked = state.take_fault(received)
            state.record(received)
            cache = self._cache if asked and asked.cached and received.method == "GET" else None
            reply = cache.find(request.path_qs, elapsed) if cache else None
            if reply is None:
                # A request whose response a fault replaces changes nothing.
                own = None
                if asked is None or not (asked.swallows or asked.drop):
                    behind = asked.behind if asked and received.method == "GET" else 0.0
                    own = self._answer(request, received, route, body, now - behind * state.speed)
                reply = self._finish(own, asked, now)
                if cache and asked and asked.cached and reply.status == 200:
                    cache.keep(request.path_qs, reply, elapsed, elapsed + asked.cached)
        received.status = None if reply.drop else reply.status
        return reply

    def _answer(
        self,
        request: web.BaseRequest,
        received: ReceivedRequest,
        route: Route | Problem,
        body: Body,
        now: float,
    ) -> Found:
        state = self._state
        url = f"http://{request.host}{received.path}"
        signed = isinstance(route, Route) and route.name == "receive"
        if not signed and (problem := self._wrong_key(request.headers, received.at)):
            return problem
        if isinstance(route, Problem):
            return route
        closed = {"job": not state.job_route, "events": not state.events_route}
        if closed.get(route.name):
            return NO_ROUTE
        return self._endpoints.answer(Asked(route=route, url=url, query=received.query, body=body, now=now))

    def _client(self, headers: Mapping[str, str]) -> int:
        """The number of the key that a request carries; the key itself is kept here only."""
        key = headers.get("Authorization") or headers.get("api-key") or ""
        return self._clients.setdefault(key, len(self._clients) + 1)

    def _wrong_key(self, headers: Mapping[str, str], now: float) -> Problem | None:
        state = self._state
        tokens = [token for token, until in state.bearer_tokens.items() if now < until]
        return state.dialect.check_key(headers=headers, api_key=state.api_key, tokens=tokens)

    def _finish(self, own: Found | None, asked: Answer | None, now: float) -> Reply:
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
        elif isinstance(own, Content):
            reply = Reply(
                status=own.status, body=own.body, headers=headers | dict(own.headers), stall=latency
            )
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
        if asked.stream and status == 200:
            body, headers["Content-Type"] = server_sent(body), "text/event-stream"
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
            reset=asked.reset,
            linger=asked.linger,
            bandwidth=asked.bandwidth,
            endless=asked.stream and status == 200,
            exact_headers=None in asked.headers.values(),
            stall=reply.stall + asked.stall,
        )

    def _date_header(self, now: float) -> str:
        if self._date[0] != int(now):
            self._date = (int(now), formatdate(int(now), usegmt=True))
        return self._date[1]


def server_sent(body: bytes) -> bytes:
    """
    Write a list as server-sent events.

    :param body: the list, or any other body.
    :returns: one event for each item, else one for the body.
    """
    try:
        told = json.loads(body)
    except ValueError:
        told = body.decode(errors="replace")
    items = told.get("data") if isinstance(told, dict) else None
    return b"".join(
        b"data: " + encode(item) + b"\n\n" for item in (items if isinstance(items, list) else [told])
    )


def _body(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else encode(value)
