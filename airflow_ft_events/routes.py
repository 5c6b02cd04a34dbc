"""What an answer of one of a server's two routes, the job and its events, means for a wait."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from airflow_ft_events.api.errors import FineTuningApiError, FineTuningError, FineTuningJobNotFound
from airflow_ft_events.api.exchange import ApiFault, ApiRequest, FaultKind, Reply, error_of, retry_after
from airflow_ft_events.api.settings import Settings


class Route(Enum):
    """How one of the two routes did in a poll."""

    OK = auto()
    MISSING = auto()
    """404, 405, 501 and other refusals, or an answer that cannot be read."""
    FAULT = auto()
    """No answer, or one that says nothing about the route: try again."""
    PAUSE = auto()
    """429."""
    DENIED = auto()
    """401 or 403."""
    NOT_ASKED = auto()


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
    def is_404(self) -> bool:
        """Whether the server says that there is no such job."""
        return isinstance(self.error, FineTuningJobNotFound)


NOT_ASKED = Answered(Route.NOT_ASKED)


def read_refusal(request: ApiRequest, reply: Reply, settings: Settings, *, now: float) -> Answered:
    """
    Sort a refusal, or no answer, by what it means for a wait.

    :param request: what was asked.
    :param reply: what came of it.
    :param settings: the connection.
    :param now: our clock, seconds since 1970.
    """
    error = error_of(request, reply, settings)
    if isinstance(reply, ApiFault):
        return Answered(Route.MISSING if reply.kind is FaultKind.TOO_LARGE else Route.FAULT, error)
    if reply.status == 429:
        return Answered(Route.PAUSE, error, pause=retry_after(reply, now=now))
    if reply.status in (401, 403):
        return Answered(Route.DENIED, error)
    if reply.status < 200 or reply.status in (408, 409) or (reply.status >= 500 and reply.status != 501):
        return Answered(Route.FAULT, error)
    return Answered(Route.MISSING, error)


def in_brief(error: FineTuningError | None) -> str:
    """
    Say in a few words why a route cannot be used, where the advice of the whole error would mislead.

    :param error: what was wrong.
    """
    if isinstance(error, FineTuningApiError) and error.status is not None:
        return f"it answers {error.status}"
    return str(error).rstrip(".")
