"""What each route answers, once its request has come in: jobs, events, lists."""

from __future__ import annotations

from collections.abc import Callable

from airflow_ft_events.simulator.asked import Asked, Content, Endpoint, Found, limit_of
from airflow_ft_events.simulator.bodies import BodyError
from airflow_ft_events.simulator.checkpoints import checkpoints_of
from airflow_ft_events.simulator.create import InvalidRequestError
from airflow_ft_events.simulator.dialects import Problem
from airflow_ft_events.simulator.dialects.together_requests import MODEL_LIMITS
from airflow_ft_events.simulator.file_endpoints import FileEndpoints
from airflow_ft_events.simulator.jobs import JobEndedError, JobStateError, SimulatedJob, encode
from airflow_ft_events.simulator.metadata_filter import fits, metadata_asked
from airflow_ft_events.simulator.metric_rows import rows_asked
from airflow_ft_events.simulator.state import ServerState

_CHECKPOINTS = 10


class Endpoints:
    """
    The routes of a server; called with its lock held.

    :param state: the server's jobs, clock and settings.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._routes: dict[str, Endpoint] = FileEndpoints(state).routes()
        self._routes |= {
            "list": self._list,
            "create": self._create,
            "limits": self._limits,
            "price": self._price,
        }
        self._job_routes: dict[str, Callable[[SimulatedJob, Asked], Found]] = {
            "job": self._job,
            "events": self._events,
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "checkpoints": self._checkpoints,
            "metrics": self._metrics,
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
            # one that a server behind its time does not know yet
            if job is None or job.created_at > asked.now:
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

    def _pause(self, job: SimulatedJob, asked: Asked) -> Found:
        return self._changed(job, asked, job.pause)

    def _resume(self, job: SimulatedJob, asked: Asked) -> Found:
        return self._changed(job, asked, job.resume)

    def _changed(self, job: SimulatedJob, asked: Asked, change: Callable[..., None]) -> Found:
        try:
            change(now=asked.now)
        except JobStateError as error:
            return self._state.dialect.wrong_state(str(error))
        return self._job(job, asked)

    def _checkpoints(self, job: SimulatedJob, asked: Asked) -> Found:
        dialect = self._state.dialect
        limit = limit_of(dialect, asked.query, default=_CHECKPOINTS)
        if isinstance(limit, Problem):
            return limit
        found = checkpoints_of(job, now=asked.now)
        if dialect.pages and (after := asked.query.get("after")) is not None:
            ids = [each.checkpoint_id for each in found]
            if after not in ids:
                return dialect.no_such_cursor(after)
            found = found[ids.index(after) + 1 :]
        shown = found[:limit]
        ends = (shown[0].checkpoint_id, shown[-1].checkpoint_id) if shown else None
        items = [encode(dialect.checkpoint(each)) for each in shown]
        return dialect.listing(items, has_more=len(found) > limit, ends=ends)

    def _metrics(self, job: SimulatedJob, asked: Asked) -> Found:
        filters = asked.query or (asked.body.json() if asked.body.raw else {})
        logged = [(at, row) for at, row in job.metrics if at <= asked.now]
        return encode({"metrics": rows_asked(logged, filters)})

    def _limits(self, asked: Asked) -> Found:
        return encode(MODEL_LIMITS | {"model_name": asked.query.get("model_name", "")})

    def _price(self, asked: Asked) -> Found:
        return encode(
            {"estimation_available": True, "allowed_to_proceed": True, "estimated_total_price": 0.0}
        )

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
        state = self._state
        wanted = metadata_asked(asked.query)
        newest_first = state.all_jobs()[::-1]
        newest_first.sort(key=lambda job: -job.created_at)
        start = 0
        after = asked.query.get("after") if state.dialect.pages else None
        if after is not None:
            ids = [job.job_id for job in newest_first]
            if after not in ids:
                return state.dialect.no_such_cursor(after)
            start = ids.index(after) + 1
        known = [job for job in newest_first[start:] if job.created_at <= asked.now]
        found = [job for job in known if fits(job.details.get("metadata"), wanted)]
        items = [encode(state.job_object(job, now=asked.now)) for job in found[:limit]]
        return state.dialect.listing(items, has_more=len(found) > limit)
