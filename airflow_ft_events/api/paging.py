"""EventFeed: walks a job's log in either order, and remembers where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_ft_events.api import matching
from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.event_page import events_beyond, leads_back, read_page
from airflow_ft_events.api.exchange import (
    ApiRequest,
    ApiResponse,
    error_of,
    raise_for_status,
)
from airflow_ft_events.api.matching import Seen
from airflow_ft_events.api.pages import PageList, Pages
from airflow_ft_events.api.walk_phase import Phase
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningPagingError
from airflow_ft_events.events import (
    Event,
    EventPage,
    Order,
    identify,
    ids_of,
    server_id,
)
from airflow_ft_events.parameters import quoted

SAME_PAGES = 10
"""This many identical pages in a row, even under different ids, mean a cursor that does not advance."""
MOST_LIMITS = 3
"""Larger limits to try on a server that says that there is more: its log may grow meanwhile."""


class EventFeed:
    """
    One walk through a job's log: hands out requests, takes responses, and ends.

    On a newest-first server ``after`` leads to older events, so new ones are found by walking back from the
    front until a known one appears; on an oldest-first server ``after`` leads to newer ones. The order is
    determined from the pages, and is the vendor's if they do not show it.

    :param settings: the connection.
    :param job_id: a checked job id.
    :param page_size: events per page; default the connection's.
    :param first_page_size: events on the first page, if few new ones are expected; default as
        ``page_size``.
    :param bookmark: where an earlier read stopped: only what is newer is read; default the whole log.
    :param after: a raw cursor to start at, as the server understands it; not together with ``bookmark``.
    :param depth: the maximum number of pages to walk back on a newest-first server; default None, all.
    :param budget: the maximum number of pages to read in either order; default None, all.
    :param checks_cursor: whether one more request verifies that a server which listed what is newer than the
        bookmark knew the bookmark; if it did not, the whole log is read. Default False.
    :param short_page_ends: whether a page with fewer events than asked for ends the walk if the server does
        not say whether there are more; for a reader that comes again. Default False: only an empty page does.
    :param pages: where the new events of each page are kept; default a list, in memory.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        job_id: str,
        page_size: int | None = None,
        first_page_size: int | None = None,
        bookmark: Bookmark | None = None,
        after: str | None = None,
        depth: int | None = None,
        budget: int | None = None,
        checks_cursor: bool = False,
        short_page_ends: bool = False,
        pages: Pages | None = None,
    ) -> None:
        self._settings = settings
        self._vendor = settings.vendor
        self._path = f"{self._vendor.jobs_path}/{quoted(job_id)}/events"
        self._job_id = job_id
        self._page_size = page_size or settings.page_size
        self._first_page_size = first_page_size or self._page_size
        self._bookmark = bookmark if bookmark and bookmark.ids else None
        self._known = frozenset(self._bookmark.ids) if self._bookmark else frozenset()
        self._depth = depth
        self._budget = budget
        self._checks_cursor = checks_cursor
        self._short_page_ends = short_page_ends
        self._order: Order | None = bookmark.order if bookmark else None
        self._cursor = after
        self._phase = Phase.WALKING
        self._went_by_cursor = self._met_known = False
        if self._bookmark and self.order is Order.OLDEST_FIRST and self._vendor.pages:
            self._seek()
        self._refused: str | None = None
        self._asked: ApiRequest | None = None
        self._same_pages = self._limits = self._larger = 0
        self._last_page: Sequence[dict[str, Any]] = ()
        self._page_before: Sequence[dict[str, Any]] = ()
        self._pages: Pages = PageList() if pages is None else pages
        self._seen = Seen()
        self._oldest_new: dict[str, Any] | None = None
        self._page_count = 0
        self._front: Sequence[dict[str, Any]] = ()
        self._whole: Sequence[dict[str, Any]] | None = None
        self.found: bool | None = None if self._bookmark is None else False
        """Whether the bookmark's event was found; None if there is no bookmark."""
        self.cut = False
        """Whether ``depth`` ended the walk before a known event or the log's beginning."""

    @property
    def order(self) -> Order:
        """The server's order if it is known, else its vendor's."""
        return self._order or self._vendor.order

    @property
    def order_is_known(self) -> bool:
        """Whether a page has shown the order."""
        return self._order is not None

    @property
    def newest_shown(self) -> Sequence[dict[str, Any]]:
        """The events at the log's newest end that the walk has seen, new or known: a page or two."""
        if self.order is Order.NEWEST_FIRST:
            return self._front
        return [*self._page_before, *self._last_page]

    @property
    def count(self) -> int:
        """How many new events the walk has collected so far."""
        return sum(len(page) for page in self._pages)

    def next_request(self) -> ApiRequest | None:
        """Return the next request to make, or None at the end of the walk."""
        if self._phase is Phase.DONE:
            return None
        if self._asked is not None:
            return self._asked
        params: dict[str, str] = {}
        if self._vendor.pages:
            params["limit"] = str(self._page_size if self._page_count else self._first_page_size)
            if self._phase is Phase.TELLING:
                params["limit"] = str(self._larger)
            elif self._cursor is not None:
                params["after"] = self._cursor
        self._asked = ApiRequest(
            path=self._path,
            what=f"the events of job {self._job_id}",
            params=params,
            job_id=self._job_id,
        )
        return self._asked

    def take(self, answer: ApiResponse) -> EventPage:
        """
        Take the response to the last request.

        :param answer: the response, whatever its status.
        :returns: the page; empty if a cursor was refused and the walk begins again without it.
        :raises FineTuningApiError: a refusal.
        :raises FineTuningPagingError: a cursor that does not advance.
        :raises FineTuningAnswerError: a response that is not a page of events.
        """
        request = self.next_request()
        assert request is not None, "the walk is over"
        self._asked = None
        if self._phase is Phase.TELLING and answer.status in (400, 404, 422):  # it has a largest limit
            raise self._leads_nowhere(len(self._last_page))
        if answer.status in (400, 404) and self._cursor is not None:
            return self._cursor_refused(request, answer)
        raws, has_more = read_page(request, raise_for_status(request, answer, self._settings), self._settings)
        phase, self._phase = self._phase, Phase.WALKING
        if phase is Phase.PROBING:  # the job is there, so it was the cursor: the walk continues there, once
            self._cursor = self._refused
            return self._nothing()
        if phase is Phase.CHECKING:
            if self._was_honoured(raws):
                self._phase = Phase.DONE
                return self._nothing()
            self._begin_again()
        if phase is Phase.TELLING:
            return self._told(raws, has_more)
        self._page_count += 1
        if phase is Phase.SEEKING:
            self._went_by_cursor = True
            if leads_back(raws, marked=self._bookmark.created_at if self._bookmark else None):
                self._order, self._cursor = Order.NEWEST_FIRST, None
                return self._nothing()
            self._order, self.found = Order.OLDEST_FIRST if raws else self._order, True
        else:
            self._front = self._front or raws
            self._order = matching.order_by_ends(self._front, raws, believed=self._order) or self._order
        ids = matching.server_ids(raws)
        if ids is None and self._page_count == 1 and not any(map(server_id, raws)):
            self._whole = raws if self.order is Order.OLDEST_FIRST else raws[::-1]
        unseen = self._seen.unseen(raws, ids)
        new = self._newer_than_bookmark(raws, ids, unseen) if self._bookmark else unseen
        if self._must_jump():
            self._seek()
            self._front, self._whole = (), None
            self._seen.clear()
            return self._nothing()
        self._pages.append(new)
        self._oldest_new = self._oldest_new or next(iter(new), None)
        asked = int(request.params.get("limit", 0))
        short = self._short_page_ends and len(raws) < asked
        more = False if has_more is None and short and self.order is Order.OLDEST_FIRST else has_more
        self._advance(raws, bool(unseen), more, limit=asked)
        return EventPage(data=raws, has_more=has_more, order=self.order, new=new)

    def collected(self) -> list[dict[str, Any]]:
        """Return all new events of the walk, oldest first, each once."""
        in_order = [raw for page in self._pages for raw in page]
        return in_order if self.order is Order.OLDEST_FIRST else in_order[::-1]

    def collected_events(self, newest: int | None = None) -> list[Event]:
        """
        Return the same, typed.

        :param newest: how many of the newest are needed; default all. Only these get generated ids.
        """
        raws = self.collected()
        wanted = raws if newest is None else raws[-newest:]
        whole = self._whole
        if whole is None or len(wanted) == len(whole) or not isinstance(self._pages, PageList):
            return identify(wanted, order=Order.OLDEST_FIRST)
        return matching.identify_among(wanted, whole)

    def bookmark(self, collected: Sequence[Event] | None = None) -> Bookmark | None:
        """
        Return where this walk stopped, for the next one.

        :param collected: the result of :meth:`collected_events`, or at least its newest 32; default None.
        :returns: the bookmark; None if the log is empty so far.
        """
        collected = self.collected_events() if collected is None else collected
        if self._bookmark is None and not collected:
            return None
        length = len(self._whole) if self._whole is not None else None
        return (self._bookmark or Bookmark()).moved(collected, order=self._order, length=length)

    def _cursor_refused(self, request: ApiRequest, answer: ApiResponse) -> EventPage:
        """Ask again without the cursor: that shows whether the cursor was refused, or the job."""
        if self._refused == self._cursor:
            error = error_of(request, answer, self._settings)
            raise FineTuningPagingError(
                f"The server refuses the cursor after={self._cursor!r}, but answers without one. "
                f"{error.message}",
                job_id=self._job_id,
                conn_id=self._settings.conn_id,
            )
        self._refused, self._cursor = self._cursor, None
        self._phase = Phase.WALKING if self._phase is Phase.SEEKING else Phase.PROBING
        return self._nothing()

    def _seek(self) -> None:
        """Continue after the bookmark."""
        self._cursor, self._phase = self._bookmark.last_id if self._bookmark else None, Phase.SEEKING

    def _was_honoured(self, first_page: Sequence[dict[str, Any]]) -> bool:
        """
        Whether the server knew the bookmark's cursor.

        Some servers answer a cursor that they no longer have with an empty page, or as if there were none.
        """
        oldest = self._oldest_new
        return oldest is not None and (not first_page or first_page[0] != oldest)

    def _begin_again(self) -> None:
        """Read the whole log, and find the bookmark in it."""
        self._went_by_cursor = self._met_known = self.found = False
        self._oldest_new = None
        self._pages.clear()
        self._seen.clear()
        self._front, self._whole = (), None

    def _nothing(self) -> EventPage:
        return EventPage(data=(), has_more=None, order=self.order, new=())

    def _newer_than_bookmark(
        self, raws: list[dict[str, Any]], ids: Sequence[str] | None, unseen: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The events of a page that are newer than the bookmark, or came late among those that it knows."""
        known_at = self._known_at(raws, ids)
        if not known_at:
            return unseen
        self.found = True
        if self.order is Order.NEWEST_FIRST:
            span = range(known_at[-1])
        else:
            if not self._met_known:  # what was read on the way to the bookmark is older
                self._pages.clear()
                self._oldest_new = None
            self._met_known = True
            span = range(known_at[0] + 1, len(raws))
        known = set(known_at)
        fresh = {id(raw) for raw in unseen} if unseen is not raws else None
        return [raws[at] for at in span if at not in known and (fresh is None or id(raws[at]) in fresh)]

    def _known_at(self, raws: list[dict[str, Any]], ids: Sequence[str] | None) -> Sequence[int]:
        """The positions on a page of the events that the bookmark knows."""
        bookmark = self._bookmark or Bookmark()
        hashes = bookmark.hashes
        if self._whole is not None:
            if bookmark.length and bookmark.hashes and bookmark.length <= len(raws):
                oldest_first = self.order is Order.OLDEST_FIRST
                last = bookmark.length - 1 if oldest_first else len(raws) - bookmark.length
                if matching.said_by(raws[last]) == bookmark.hashes[-1]:
                    return [last]
            if not hashes:
                found = matching.find_made_ids(self._known, self._whole)
                return (
                    found if self.order is Order.OLDEST_FIRST else [len(raws) - 1 - at for at in found[::-1]]
                )
            said = frozenset(hashes)
            return [at for at, raw in enumerate(raws) if matching.said_by(raw) in said]
        ids = ids if ids is not None else ids_of(raws, order=self.order)
        known_at = [at for at, given in enumerate(ids) if given in self._known]
        return matching.known_by_words(raws, known_at, hashes, order=self.order) if hashes else known_at

    def _must_jump(self) -> bool:
        """Whether the first page showed the log's old end, so that the bookmark is far ahead."""
        return (
            self._bookmark is not None
            and not self.found
            and self._refused is None
            and self._order is Order.OLDEST_FIRST
            and self._vendor.pages
            and self._page_count == 1
        )

    def _advance(
        self, raws: list[dict[str, Any]], any_unseen: bool, has_more: bool | None, *, limit: int
    ) -> None:
        """Decide whether the walk continues, and from which cursor."""
        before, self._page_before, self._last_page = self._last_page, self._last_page, raws
        newest_first = self.order is Order.NEWEST_FIRST
        if (newest_first and self.found) or has_more is False or not self._vendor.pages:
            self._end()
            return
        last = server_id(raws[-1]) if raws else None
        self._same_pages = self._same_pages + 1 if matching.say_the_same(raws, before) else 0
        nowhere = last is None or last == self._cursor or not any_unseen or self._same_pages >= SAME_PAGES
        deep = newest_first and self._depth is not None and self._page_count >= self._depth
        if deep and (nowhere or self.order_is_known):  # else the newest events may be further on
            self._end(cut=bool(has_more) or not nowhere)
        elif nowhere:
            if has_more and len(raws) >= limit > 0:
                self._phase, self._larger = Phase.TELLING, len(raws) + 1
                return
            if has_more:
                raise self._leads_nowhere(len(raws))
            if self._same_pages >= SAME_PAGES:
                self._pages.drop_last(SAME_PAGES)
            self._end()
        elif self._budget is not None and self._page_count >= self._budget:
            self._end(cut=True)
        else:
            self._cursor = last

    def _told(self, raws: list[dict[str, Any]], has_more: bool | None) -> EventPage:
        """End the walk if the last page, with a larger limit, is the whole log."""
        self._limits += 1
        self._order = matching.order_by_ends(raws, raws, believed=self._order) or self._order
        beyond = events_beyond(self._last_page, raws, order=self.order)
        if has_more and beyond is not None and len(raws) >= self._larger and self._limits < MOST_LIMITS:
            self._phase, self._larger = Phase.TELLING, len(raws) + 1
            return self._nothing()
        if has_more or beyond is None:
            raise self._leads_nowhere(len(raws))
        if self._same_pages >= SAME_PAGES:
            self._pages.drop_last(SAME_PAGES)
        self._pages.append(beyond)
        if self._whole is not None and beyond:
            oldest_first = self.order is Order.OLDEST_FIRST
            self._whole = [*self._whole, *beyond] if oldest_first else [*beyond[::-1], *self._whole]
        self._end()
        return EventPage(data=beyond, has_more=False, order=self.order, new=beyond)

    def _end(self, *, cut: bool = False) -> None:
        """End the walk, or first verify that it began at the right place."""
        self.cut = cut
        if self._checks_cursor and self._went_by_cursor:
            self._phase, self._cursor = Phase.CHECKING, None
        else:
            self._phase = Phase.DONE

    def _leads_nowhere(self, count: int) -> FineTuningPagingError:
        return FineTuningPagingError(
            f"Job {self._job_id}, connection {self._settings.conn_id!r}: the server says that there are more "
            f"events, but its page {self._page_count} leads nowhere (after={self._cursor!r}, {count} events, "
            "no cursor to go on with). Reading on would never end; report it to whoever runs the server.",
            job_id=self._job_id,
            conn_id=self._settings.conn_id,
        )
