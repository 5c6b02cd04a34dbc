"""What each route answers, once its request has come in: jobs, events, lists."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airflow_ft_events.simulator.bodies import Body, BodyError
from airflow_ft_events.simulator.create import InvalidRequestError
from airflow_ft_events.simulator.dialects import Problem, Route, RouteName
from airflow_ft_events.simulator.jobs import JobEndedError, SimulatedJob, encode
from airflow_ft_events.simulator.state import ServerState


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request whose key is right and whose route exists.

    :param route: what it asks for.
    :param query: its query parameters.
    :param body: its body.
    :param now: the simulated time.
    """

    route: Route
    query: Mapping[str, str]
    body: Body
    now: float


@dataclass(frozen=True, kw_only=True)
class Content:
    """A response that is no plain 200 with JSON."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Found = Problem | Content | bytes
"""A refusal, a response, or the bytes of a 200 with JSON."""


class Endpoints:
    """
    The routes of a server; called with its lock held.

    :param state: the server's jobs, clock and settings.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._routes: dict[RouteName, Callable[[Asked], Found]] = {
            "list": self._list,
            "create": self._create,
        }
        self._job_routes: dict[RouteName, Callable[[SimulatedJob, Asked], Found]] = {
            "job": self._job,
            "events": self._events,
            "cancel": self._cancel,
        }

    def answer(self, asked: Asked) -> Found:
        """Answer a request."""
        dialect, route = self._state.dialect, asked.route
        if asked.body.too_large:
            return dialect.problem(413, "The data value transmitted exceeds the capacity limit.")
        try:
            if route.name in self._routes:
                return self._routes[route.name](asked)
            job = self._state.find_job(route.job_id or "")
            if job is None:
                return dialect.no_such_job(route.job_id or "")
            return self._job_routes[route.name](job, asked)
        except BodyError as error:
            return dialect.problem(400, str(error))
        except InvalidRequestError as error:
            return dialect.problem(400, error.message, param=error.param, code=error.code)

    def _create(self, asked: Asked) -> Found:
        state = self._state
        job = state.create_job(state.dialect.order_of(asked.body.json()), now=asked.now)
        body = encode(state.job_object(job, now=asked.now))
        return Content(body=body, status=state.dialect.created_status)

    def _job(self, job: SimulatedJob, asked: Asked) -> Found:
        return encode(self._state.job_object(job, now=asked.now))

    def _cancel(self, job: SimulatedJob, asked: Asked) -> Found:
        try:
            job.cancel(now=asked.now)
        except JobEndedError:
            return self._state.dialect.already_ended(job.job_id, job.state(now=asked.now)[0])
        return self._job(job, asked)

    def _events(self, job: SimulatedJob, asked: Asked) -> Found:
        limit = self._limit(asked.query)
        if isinstance(limit, Problem):
            return limit
        state = self._state
        after = asked.query.get("after") if state.dialect.pages else None
        page = job.page(now=asked.now, after=after, limit=limit, newest_first=state.order == "newest")
        if page is None:
            return state.dialect.no_such_cursor(after or "")
        return state.dialect.listing(page.items, has_more=page.has_more)

    def _list(self, asked: Asked) -> Found:
        limit = self._limit(asked.query)
        if isinstance(limit, Problem):
            return limit
        newest_first = self._state.all_jobs()[::-1]
        newest_first.sort(key=lambda job: -job.created_at)
        start = 0
        after = asked.query.get("after") if self._state.dialect.pages else None
        if after is not None:
            ids = [job.job_id for job in newest_first]
            if after not in ids:
                return self._state.dialect.no_such_cursor(after)
            start = ids.index(after) + 1
        shown = newest_first[start : start + limit]
        items = [encode(self._state.job_object(job, now=asked.now)) for job in shown]
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
