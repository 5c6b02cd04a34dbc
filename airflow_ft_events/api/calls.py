"""The API's calls, as generators that yield requests, receive the results, and return a value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.exchange import (
    ApiFault,
    ApiRequest,
    ApiResponse,
    ApiResult,
    FaultKind,
    raise_for_fault,
    raise_for_status,
    read_object,
    unreadable,
)
from airflow_ft_events.api.pages import Pages
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.api.routes import Route, events_not_shown, route_of
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningApiError, FineTuningError, FineTuningPagingError
from airflow_ft_events.events import Event, Order, identify, is_number, server_id
from airflow_ft_events.jobs import Job, Outcome
from airflow_ft_events.parameters import is_same_job, quoted
from airflow_ft_events.vendors.base import Meaning
from airflow_ft_events.vendors.words import is_being_cancelled, is_envelope, status_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """
    A step of a conversation besides its requests: read the connection again, since its key was refused.

    The reply is the connection as it is now, or the error that says why it cannot be read.

    :param refused: the connection as it was.
    :param secret: the secret that was refused; None if that is not known.
    """

    refused: Settings
    secret: str | None = field(repr=False)


def converse(
    conversation: Generator[ApiRequest | ReadAgain, Any, T],
    send: Callable[[ApiRequest], ApiResult],
    *,
    read_again: Callable[[ReadAgain], Settings | FineTuningError] | None = None,
) -> T:
    """
    Run a conversation.

    :param conversation: one of the generators of this module, or a poll of a JobPoller.
    :param send: sends a request.
    :param read_again: reads the connection again, for conversations that ask for it.
    :returns: the conversation's return value.
    """
    try:
        step = next(conversation)
        while True:
            if isinstance(step, ReadAgain):
                assert read_again is not None, "this conversation may ask for the connection"
                step = conversation.send(read_again(step))
            else:
                step = conversation.send(send(step))
    except StopIteration as end:
        found: T = end.value
        return found


async def aconverse(
    conversation: Generator[ApiRequest | ReadAgain, Any, T],
    send: Callable[[ApiRequest], Awaitable[ApiResult]],
    *,
    read_again: Callable[[ReadAgain], Awaitable[Settings | FineTuningError]] | None = None,
) -> T:
    """
    Run a conversation without blocking the event loop.

    :param conversation: as for :func:`converse`.
    :param send: sends a request.
    :param read_again: as for :func:`converse`.
    :returns: the conversation's return value.
    """
    try:
        step = next(conversation)
        while True:
            if isinstance(step, ReadAgain):
                assert read_again is not None, "this conversation may ask for the connection"
                step = conversation.send(await read_again(step))
            else:
                step = conversation.send(await send(step))
    except StopIteration as end:
        found: T = end.value
        return found


def job_request(settings: Settings, job_id: str) -> ApiRequest:
    """
    Make the request for a job.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: the request.
    """
    path = f"{settings.vendor.jobs_path}/{quoted(job_id)}"
    return ApiRequest(path=path, what=f"job {job_id}", job_id=job_id, asks_state=True)


def read_job(request: ApiRequest, reply: ApiResult, settings: Settings) -> Job:
    """
    Read a job, and make sure that it is the one that was asked for.

    :param request: the request.
    :param reply: the response, or the fault.
    :param settings: the connection.
    :returns: the job, which has a status.
    :raises FineTuningApiError: a refusal or no response.
    :raises FineTuningAnswerError: the response is not a job, or is another job.
    """
    answer = raise_for_status(request, reply, settings)
    job = read_object(request, answer, settings)
    if status_of(job) is None or is_envelope(job):
        raise unreadable(request, answer, settings, "has no job status")
    given = job.get("id") if job.get("id") is not None else job.get("job_id")
    if given is not None and request.job_id and not is_same_job(str(given), request.job_id):
        raise unreadable(request, answer, settings, "is about another job")
    return settings.vendor.read_job(job, job_id=request.job_id or "")


def get_job(settings: Settings, job_id: str) -> Generator[ApiRequest, ApiResult, Job]:
    """
    Read a job.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: the job.
    """
    request = job_request(settings, job_id)
    return read_job(request, (yield request), settings)


def find_job(settings: Settings, job_id: str) -> Generator[ApiRequest, ApiResult, Job | None]:
    """
    Read a job of a server that may show only its events.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: the job; None if its route is missing, although its events may be there.
    """
    try:
        return (yield from get_job(settings, job_id))
    except FineTuningError as error:
        if route_of(error) is not Route.MISSING:
            raise
        return None


def cancel_job(settings: Settings, job_id: str) -> Generator[ApiRequest, ApiResult, dict[str, Any]]:
    """
    Cancel a job.

    A gateway may fail after the server has acted, and a retry then meets a job that is already cancelled: an
    answer that does not tell is followed by a look at the job.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: the job as the server then describes it.
    """
    asked = job_request(settings, job_id)
    request = replace(
        asked, path=f"{asked.path}/cancel", what=f"cancel job {job_id}", method="POST", asks_state=False
    )
    reply = yield request
    try:
        return read_object(request, raise_for_status(request, reply, settings), settings)
    except FineTuningError as error:
        if not _may_have_acted(reply):
            raise
        refusal = error
    try:
        job = yield from get_job(settings, job_id)
    except FineTuningError:
        raise refusal from None
    if is_being_cancelled(job.status) or job.ended is Outcome.CANCELLED or _is_empty_success(reply):
        return job.raw
    raise refusal


def _may_have_acted(reply: ApiResult) -> bool:
    """Tell whether a server that gave this for an answer may have done what was asked."""
    if isinstance(reply, ApiFault):
        return reply.kind not in (FaultKind.CONNECT, FaultKind.TLS, FaultKind.NO_TOKEN)
    acted = reply.status < 300 or reply.status >= 500 or reply.status == 408
    # a job that has already ended is refused; after a retry it may be our own first try that ended it
    return acted or (reply.tries > 1 and reply.status in (400, 409, 410, 422))


def _is_empty_success(reply: ApiResult) -> bool:
    return isinstance(reply, ApiResponse) and reply.status < 300 and not reply.body.strip()


def jobs_request(settings: Settings, *, limit: int, after: str | None = None) -> ApiRequest:
    """
    Make the request for a page of the job list.

    :param settings: the connection.
    :param limit: jobs per page.
    :param after: id of the last job of the previous page; default None, the first page.
    :returns: the request.
    """
    asked = ApiRequest(path=settings.vendor.jobs_path, what="the fine-tuning jobs")
    return _page_of(asked, settings, limit=limit, after=after)


def read_jobs(
    request: ApiRequest, reply: ApiResult, settings: Settings
) -> tuple[list[dict[str, Any]], bool | None]:
    """
    Read a page of the job list.

    :param request: the request.
    :param reply: the response, or the fault.
    :param settings: the connection.
    :returns: the jobs in the server's order, and whether it says that there are more; None if it says
        nothing.
    :raises FineTuningApiError: a refusal or no response.
    :raises FineTuningAnswerError: the response is not a list of jobs.
    """
    return _read_page(request, reply, settings, of="jobs")


def list_jobs(
    settings: Settings, limit: int | None
) -> Generator[ApiRequest, ApiResult, list[dict[str, Any]]]:
    """
    List jobs, as the server orders them.

    :param settings: the connection.
    :param limit: the maximum number of jobs; None for all.
    :returns: jobs as the server describes them.
    """
    asked = ApiRequest(path=settings.vendor.jobs_path, what="the fine-tuning jobs")
    return (yield from _list_all(asked, settings, of="jobs", limit=limit))


def list_checkpoints(
    settings: Settings, job_id: str
) -> Generator[ApiRequest, ApiResult, list[dict[str, Any]]]:
    """
    List a job's checkpoints, sorted by step if every one has a step, else as the server orders them.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: checkpoints as the server describes them.
    """
    path = f"{settings.vendor.jobs_path}/{quoted(job_id)}/checkpoints"
    what = f"the checkpoints of job {job_id}, which not every server has"
    asked = ApiRequest(path=path, what=what, job_id=job_id)
    found = yield from _list_all(asked, settings, of="checkpoints", limit=None)
    return sorted(found, key=_step_of) if all(is_number(_step_of(each)) for each in found) else found


def _step_of(checkpoint: dict[str, Any]) -> Any:
    return checkpoint.get("step_number", checkpoint.get("step"))


def _page_of(asked: ApiRequest, settings: Settings, *, limit: int, after: str | None) -> ApiRequest:
    """Ask for one page of a list."""
    params = {"limit": str(limit)} | ({"after": after} if after else {}) if settings.vendor.pages else {}
    return replace(asked, params=params)


def _read_page(
    request: ApiRequest, reply: ApiResult, settings: Settings, *, of: str
) -> tuple[list[dict[str, Any]], bool | None]:
    """Read one page of a list, and whether the server says that there are more."""
    answer = raise_for_status(request, reply, settings)
    page = read_object(request, answer, settings)
    found = page.get("data")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise unreadable(request, answer, settings, f"has no list of {of} named 'data'")
    has_more = page.get("has_more") if settings.vendor.pages else False
    return found, has_more if isinstance(has_more, bool) else None


def _list_all(
    asked: ApiRequest, settings: Settings, *, of: str, limit: int | None
) -> Generator[ApiRequest, ApiResult, list[dict[str, Any]]]:
    """Read a list page by page, each item once, in the server's order."""
    items: list[dict[str, Any]] = []
    seen: set[str] = set()
    after: str | None = None
    while limit is None or len(items) < limit:
        wanted = settings.page_size if limit is None else min(settings.page_size, limit - len(items))
        request = _page_of(asked, settings, limit=wanted, after=after)
        found, has_more = _read_page(request, (yield request), settings, of=of)
        new = [item for item in found if str(item.get("id")) not in seen]
        seen.update(str(item.get("id")) for item in new)
        items += new
        if has_more is False:
            break
        last = server_id(found[-1]) if found else None
        if not new or last is None or last == after:
            if has_more:
                whose = f" of job {asked.job_id}" if asked.job_id else ""
                raise FineTuningPagingError(
                    f"Connection {settings.conn_id!r}: the server says that there are more {of}{whose}, but "
                    f"its page leads nowhere (after={after!r}). Reading on would never end.",
                    job_id=asked.job_id,
                    conn_id=settings.conn_id,
                )
            break
        after = last
    return items if limit is None else items[:limit]


def read_events(
    settings: Settings,
    job_id: str,
    *,
    newer_than: str | Bookmark | None = None,
    max_events: int | None = None,
    pages: Pages | None = None,
    must_end: bool = False,
    job_shown: bool = False,
) -> Generator[ApiRequest, ApiResult, EventFeed]:
    """
    Read a job's log, or what is newer than a known event.

    :param settings: the connection.
    :param job_id: a checked job id.
    :param newer_than: the id of the known event, or where an earlier read stopped; None for the whole log.
    :param max_events: how many of the newest events are needed; None for all. A newest-first server is asked
        for no more.
    :param pages: where the events are kept; default in memory.
    :param must_end: whether a log without the vendor's last message is of no use yet, so that reading stops
        at the page that shows that it is missing; default False.
    :param job_shown: whether the server has just shown the job, so that a missing route is the events' own;
        default False.
    :returns: the feed, with what it collected.
    """
    bookmark = (
        Bookmark(ids=(newer_than,) if newer_than else ()) if isinstance(newer_than, str) else newer_than
    )
    feed = EventFeed(settings=settings, job_id=job_id, bookmark=bookmark, pages=pages, checks_cursor=True)
    while request := feed.next_request():
        answer = raise_for_fault(request, (yield request), settings)
        try:
            feed.take(answer)
        except FineTuningApiError as error:
            raise events_not_shown(request, error, settings) if job_shown else error from None
        if (
            max_events
            and feed.order is Order.NEWEST_FIRST
            and feed.order_is_known
            and feed.count >= max_events
        ):
            break
        if must_end and feed.order is Order.NEWEST_FIRST and not shows_end(settings, feed):
            break
    return feed


def shows_end(settings: Settings, feed: EventFeed) -> bool:
    """
    Tell whether the newest events of a log have the last message that its vendor sends.

    :param settings: the connection.
    :param feed: a walk that has seen the newest events.
    :returns: True if they have.
    """
    shown = feed.newest_shown
    newest_first = shown if feed.order is Order.NEWEST_FIRST else shown[::-1]
    for event in identify(newest_first, order=Order.NEWEST_FIRST):
        if settings.vendor.ends_log(event):
            return True
        if settings.vendor.meaning_of(event) is Meaning.RESTARTED:
            return False  # the job went on: an end before that is not its last
    return False


def newest_events(settings: Settings, job_id: str) -> Generator[ApiRequest, ApiResult, list[Event]]:
    """
    Read the newest page of a job's log.

    :param settings: the connection.
    :param job_id: a checked job id.
    :returns: its events, oldest first.
    """
    feed = EventFeed(settings=settings, job_id=job_id, depth=1)
    while request := feed.next_request():
        feed.take(raise_for_fault(request, (yield request), settings))
    return feed.collected_events()[-settings.page_size :]
