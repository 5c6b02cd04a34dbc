"""LogReader: what is new in a job's log from poll to poll, across restarts too."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_ft_events.api.bookmark import KEPT, Bookmark
from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.api.routes import OK, Answered, Route, read_refusal
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningAnswerError, FineTuningApiError, FineTuningPagingError
from airflow_ft_events.events import Event

PAGES_A_POLL = 10
PAGES_AT_MOST = 200
"""Pages of one poll, where a log must be walked from its old end; the next poll goes on from there."""
SMALLEST_PAGE = 10


@dataclass(slots=True)
class LogRead:
    """
    What one reading came to.

    :param answered: how the events route did.
    :param events: new events, oldest first; as many as are worth showing.
    :param earlier: events before them that count as well, for a log that had to be read to its end.
    :param more_before: whether there are events before ``events`` that are not among them.
    :param server_time: the server's clock, seconds since 1970; None where it shows none.
    """

    answered: Answered
    events: Sequence[Event] = ()
    earlier: Sequence[Event] = ()
    more_before: bool = False
    server_time: float | None = None


class LogReader:
    """
    Reads what is new, and remembers where it stopped.

    :param page_size: events of a full page.
    :param job_id: a checked job id.
    :param bookmark: the newest event that was read before a restart.
    :param decides: whether the events may have to decide: then those before the bookmark must be read again,
        for what they claim.
    """

    def __init__(self, *, page_size: int, job_id: str, bookmark: Bookmark | None, decides: bool) -> None:
        self._job_id = job_id
        self._bookmark = None if decides else bookmark
        self._told = bookmark if decides else None
        self._ask_for = page_size if self._bookmark is None else SMALLEST_PAGE

    @property
    def bookmark(self) -> Bookmark | None:
        """The newest event that was read, to go on from after a restart."""
        return self._bookmark or self._told

    def read(
        self, settings: Settings, *, now: float, job_decides: bool
    ) -> Generator[ApiRequest, Any, LogRead]:
        """
        Read what is new.

        :param settings: the connection.
        :param now: our clock, seconds since 1970.
        :param job_decides: whether the job route has answered, so that an event may come with the next poll.
        """
        first = self._bookmark is None
        feed = EventFeed(
            settings=settings,
            job_id=self._job_id,
            first_page_size=self._ask_for,
            bookmark=self._bookmark,
            depth=1 if first else PAGES_A_POLL,
            budget=PAGES_AT_MOST,
            # the job decides and the next poll reads on; where the events decide, nothing may be missing
            short_page_ends=job_decides and not first,
        )
        server_time: float | None = None
        while request := feed.next_request():
            reply = yield request
            cursor_refused = isinstance(reply, ApiResponse) and reply.status in (400, 404)
            if isinstance(reply, ApiFault) or not (200 <= reply.status < 300 or cursor_refused):
                return LogRead(read_refusal(request, reply, settings, now=now))
            server_time = reply.server_time
            try:
                feed.take(reply)
            except (FineTuningPagingError, FineTuningAnswerError) as error:
                self._ask_for = settings.page_size  # a page of full size may reach the bookmark
                return LogRead(Answered(Route.MISSING, error))
            except FineTuningApiError:
                return LogRead(read_refusal(request, reply, settings, now=now))
        return self._taken(feed, shown=settings.page_size, first=first, server_time=server_time)

    def _taken(self, feed: EventFeed, *, shown: int, first: bool, server_time: float | None) -> LogRead:
        read = LogRead(OK, more_before=feed.cut, server_time=server_time)
        anew = first or feed.found is False
        earlier: list[Event] = []
        if anew and feed.count > max(shown, KEPT):
            # the log had to be read to its end: it is for the evidence, not for the task log
            found = feed.collected_events(max(shown, KEPT))
            earlier = [Event(raw, "") for raw in feed.collected()[: feed.count - len(found)]]
        else:
            found = feed.collected_events()
        self._bookmark = feed.bookmark(found)
        if anew and feed.count > shown:
            earlier += found[:-shown]
            found, read.more_before = found[-shown:], True
        if not first:
            self._ask_for = min(shown, max(SMALLEST_PAGE, 2 * len(found)))
        read.events, read.earlier = found, earlier
        return read

    def leave_out_told(self, read: LogRead) -> None:
        """
        After a restart, leave out of the first reading what was shown before it.

        :param read: the reading, of which everything has been taken as evidence.
        """
        if self._told is None:
            return
        ids = [event.id for event in read.events]
        if self._told.last_id in ids:
            read.events = read.events[ids.index(self._told.last_id) + 1 :]
            read.more_before = False
        self._told = None
