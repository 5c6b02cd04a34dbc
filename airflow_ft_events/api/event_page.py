"""What one answer of an events route shows: its events, whether it claims more, and where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, read_object, unreadable
from airflow_ft_events.api.matching import say_the_same
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.events import Order, epoch_seconds, order_of


def read_page(
    request: ApiRequest, answer: ApiResponse, settings: Settings
) -> tuple[list[dict[str, Any]], bool | None]:
    """
    Read an answer that must be a page of events.

    :param request: the request.
    :param answer: the response, with a status below 300.
    :param settings: the connection, for messages.
    :returns: the events as they came, and whether the server says that there are more; None if it says
        nothing.
    :raises FineTuningAnswerError: if it is something else.
    """
    page = read_object(request, answer, settings)
    raws = page.get("data")
    if not isinstance(raws, list):
        raise unreadable(request, answer, settings, "has no list named 'data'")
    if raws and set(map(type, raws)) != {dict}:
        raise unreadable(request, answer, settings, "contains events that are not objects")
    has_more = page.get("has_more")
    return raws, has_more if isinstance(has_more, bool) else None


def leads_back(raws: Sequence[dict[str, Any]], *, marked: float | None) -> bool:
    """
    Tell whether a cursor led to older events although newer ones were expected.

    :param raws: the page that it led to.
    :param marked: when the cursor's event was created, seconds since 1970; None if that is not known.
    :returns: True if it did.
    """
    shown = order_of(raws)
    if marked is None:
        return shown is Order.NEWEST_FIRST
    times = [epoch_seconds(raw.get("created_at")) for raw in raws]
    if shown is None:
        return bool(times) and all(time is not None and time < marked for time in times)
    return shown is Order.NEWEST_FIRST and any(time is not None and time < marked for time in times)


def events_beyond(
    page: Sequence[dict[str, Any]], longer: list[dict[str, Any]], *, order: Order
) -> list[dict[str, Any]] | None:
    """
    Compare a page with an answer to the same question with a larger limit.

    :param page: the page.
    :param longer: the answer.
    :param order: the server's order.
    :returns: the events that follow those of the page; events that came before them in the meantime are for
        a later read. None if the answer does not contain the page.
    """
    if say_the_same(longer[: len(page)], page):
        return longer[len(page) :]
    if order is Order.NEWEST_FIRST and say_the_same(longer[-len(page) :], page):
        return []
    return None
