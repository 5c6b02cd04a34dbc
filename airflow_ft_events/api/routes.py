"""What an answer of one of a server's two routes, the job and its events, means for a wait."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, ApiResult, error_of, retry_after
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningApiError, FineTuningError, FineTuningJobNotFound


class Route(Enum):
    """How one of the two routes did."""

    OK = auto()
    MISSING = auto()
    """404, 405, 501 and other refusals, or an answer that cannot be read: there is no such route."""
    FAULT = auto()
    """No answer, or one that says nothing about the route, such as a proxy's 407: try again."""
    PAUSE = auto()
    """429."""
    DENIED = auto()
    """401 or 403."""
    NOT_ASKED = auto()

    # members are compared by identity; Enum's own hash is a Python call for each look into a dict
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Answered:
    """
    What one request of a poll met.

    :param route: how the route did.
    :param error: what was wrong, where something was.
    :param pause: seconds for which the server asks to be left alone; None where it does not say.
    """

    route: Route
    error: FineTuningError | None = None
    pause: float | None = None

    @property
    def is_401(self) -> bool:
        """Whether the server does not accept the key."""
        return isinstance(self.error, FineTuningApiError) and self.error.status == 401

    @property
    def is_404(self) -> bool:
        """Whether the server says that there is no such job."""
        return isinstance(self.error, FineTuningJobNotFound)


NOT_ASKED = Answered(Route.NOT_ASKED)
OK = Answered(Route.OK)


def route_of(error: FineTuningError) -> Route:
    """
    Tell what an error says about the route that was asked; the one place that calls a route missing.

    :param error: what a request met.
    """
    if not isinstance(error, FineTuningApiError):
        return Route.MISSING  # an answer that cannot be read, or a cursor that does not advance
    status = error.status
    if status is None or status < 200 or status in (407, 408, 409) or (status >= 500 and status != 501):
        return Route.FAULT
    if status == 429:
        return Route.PAUSE
    return Route.DENIED if status in (401, 403) else Route.MISSING


def read_refusal(request: ApiRequest, reply: ApiResult, settings: Settings, *, now: float) -> Answered:
    """
    Sort a refusal, or no answer, by what it means for a wait.

    :param request: what was asked.
    :param reply: what came of it.
    :param settings: the connection.
    :param now: our clock, seconds since 1970.
    """
    error = error_of(request, reply, settings)
    route = route_of(error)
    asked = retry_after(reply, now=now) if route is Route.PAUSE and isinstance(reply, ApiResponse) else None
    return Answered(route, error, pause=asked)


def events_not_shown(
    request: ApiRequest, error: FineTuningApiError, settings: Settings
) -> FineTuningApiError:
    """
    Say of a refused events route what is true of a server that has just shown the job.

    :param request: what was asked.
    :param error: what it met.
    :param settings: the connection.
    :returns: an error that blames the route, if that is missing; else the same error.
    """
    if route_of(error) is not Route.MISSING or "after" in request.params:
        return error
    return FineTuningApiError(
        f"Asking for {request.what} through connection {settings.conn_id!r}: the server shows the job and "
        f"not its events; their route, {request.path}, {in_brief(error).removeprefix('it ')}. Check that the "
        f"server, or a gateway on the way ({settings.root}), has this route and lets this key use it.",
        job_id=request.job_id,
        conn_id=settings.conn_id,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
    )


def in_brief(error: FineTuningError | None) -> str:
    """
    Say in a few words why a route cannot be used, where the advice of the whole error would mislead.

    :param error: what was wrong.
    """
    if isinstance(error, FineTuningApiError) and error.status is not None:
        return f"it answers {error.status}"
    return str(error).rstrip(".")
