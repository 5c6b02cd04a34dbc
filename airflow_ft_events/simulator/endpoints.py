"""What each route answers, once its request has come in: jobs, events, lists."""

from __future__ import annotations

from collections.abc import Callable

from airflow_ft_events.simulator.asked import Asked, Content, Endpoint, Found, limit_of
from airflow_ft_events.simulator.bodies import BodyError
from airflow_ft_events.simulator.create import InvalidRequestError
from airflow_ft_events.simulator.dialects import Problem
from airflow_ft_events.simulator.file_endpoints import FileEndpoints
from airflow_ft_events.simulator.jobs import JobEndedError, SimulatedJob, encode
from airflow_ft_events.simulator.state import ServerState


class Endpoints:
    """
    The routes of a server; called with its lock held.

    :param state: the server's jobs, clock and settings.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._routes: dict[str, Endpoint] = FileEndpoints(state).routes()
        self._routes |= {"list": self._list, "create": self._create}
        self._job_routes: dict[str, Callable[[SimulatedJob, Asked], Found]] = {
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
        order = state.dialect.order_of(asked.body.json())
        for param, file_id in (
            ("training_file", order.training_file),
            ("validation_file", order.validation_file),
        ):
            if file_id and not state.any_file:
                self._check_file(param, file_id, now=asked.now)
        job = state.create_job(order, now=asked.now)
        body = encode(state.job_object(job, now=asked.now))
        return Content(body=body, status=state.dialect.created_status)

    def _check_file(self, param: str, file_id: str, *, now: float) -> None:
        file = self._state.find_file(file_id, now=now)
        if file is None or file.content is None:
            text = f"Invalid value for {param!r}: file {file_id} does not exist."
            raise InvalidRequestError(text, param=param, code="file_not_found")
        if not file.purpose.startswith("fine-tune"):
            text = (
                f"Invalid value for {param!r}: file {file_id} has the purpose {file.purpose}, not fine-tune."
            )
            raise InvalidRequestError(text, param=param, code="invalid_value")

    def _job(self, job: SimulatedJob, asked: Asked) -> Found:
        return encode(self._state.job_object(job, now=asked.now))

    def _cancel(self, job: SimulatedJob, asked: Asked) -> Found:
        try:
            job.cancel(now=asked.now)
        except JobEndedError:
            return self._state.dialect.already_ended(job.job_id, job.state(now=asked.now)[0])
        return self._job(job, asked)

    def _events(self, job: SimulatedJob, asked: Asked) -> Found:
        limit = limit_of(self._state.dialect, asked.query)
        if isinstance(limit, Problem):
            return limit
        state = self._state
        after = asked.query.get("after") if state.dialect.pages else None
        page = job.page(now=asked.now, after=after, limit=limit, newest_first=state.order == "newest")
        if page is None:
            return state.dialect.no_such_cursor(after or "")
        return state.dialect.listing(page.items, has_more=page.has_more)

    def _list(self, asked: Asked) -> Found:
        limit = limit_of(self._state.dialect, asked.query)
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
