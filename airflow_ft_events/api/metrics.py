"""The numbers that a server keeps beside a job's events, as events of type ``metrics``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_ft_events.api.calls import job_request
from airflow_ft_events.api.exchange import ApiRequest, ApiResult, raise_for_status, read_object, unreadable
from airflow_ft_events.api.routes import Route, in_brief, route_of
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.events import Event


@dataclass(frozen=True, slots=True)
class FoundMetrics:
    """
    What a job's metrics route gave.

    :param events: one dict a row, as the server orders them; each has the server's row under ``row``.
    :param missing: why there is no such route, if that is so; None for an empty one too.
    """

    events: Sequence[dict[str, Any]] = ()
    missing: str | None = None


def read_metrics(settings: Settings, job_id: str) -> Generator[ApiRequest, ApiResult, FoundMetrics]:
    """
    Read the numbers of a job whose events have none; where the family has no such route, ask for nothing.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: the numbers; none where the server lacks the route.
    :raises FineTuningApiError: the server does not accept the key, or could not be asked.
    """
    vendor = settings.vendor
    if vendor.metrics_path is None:
        return FoundMetrics()
    asked = job_request(settings, job_id)
    what = f"the metrics of job {job_id}"
    request = replace(asked, path=f"{asked.path}{vendor.metrics_path}", what=what, asks_state=False)
    try:
        answer = raise_for_status(request, (yield request), settings)
        rows = read_object(request, answer, settings).get("metrics")
        if not isinstance(rows, list | None):
            raise unreadable(request, answer, settings, "has no list named 'metrics'")
    except FineTuningError as error:
        if route_of(error) is not Route.MISSING:
            raise
        return FoundMetrics(missing=in_brief(error))
    return FoundMetrics([vendor.metrics_event(row) for row in rows or () if isinstance(row, dict)])


def merged(events: Iterable[Event], metrics: Iterable[dict[str, Any]]) -> list[Event]:
    """
    Put numbers from beside a log into it, by their times, for whoever reads numbers and not what was said.

    :param events: the log, oldest first.
    :param metrics: metrics events of :func:`read_metrics`; what has no time comes first.
    :returns: both, oldest first; the log's last event stays the last, since it may state the end.
    """
    log, numbers = list(events), [Event(raw, "") for raw in metrics]
    if not log or not numbers:
        return numbers + log
    found: list[Event] = []
    place = 0
    for event in log[:-1]:
        at = event.created_at
        while place < len(numbers) and _is_before(numbers[place].created_at, at):
            found.append(numbers[place])
            place += 1
        found.append(event)
    return [*found, *numbers[place:], log[-1]]


def _is_before(number_at: float | None, event_at: float | None) -> bool:
    return number_at is None or (event_at is not None and number_at <= event_at)
