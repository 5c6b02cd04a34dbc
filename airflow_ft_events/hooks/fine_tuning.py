"""FineTuningHook: the API's calls, sync and async."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_ft_events.api import calls
from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.exchange import ApiRequest, ApiResult, raise_for_fault
from airflow_ft_events.api.metrics import FoundMetrics, merged, read_metrics
from airflow_ft_events.api.pages import NoPages, Pages
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.api.probe import examine
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.events import Event, EventPage, metrics_table
from airflow_ft_events.hooks.client import ClientHook, not_read_again
from airflow_ft_events.jobs import Job
from airflow_ft_events.parameters import DEFAULT_CONN_ID, check_count, check_job_id
from airflow_ft_events.provider_info import UI_FIELD_BEHAVIOUR
from airflow_ft_events.waiting.evidence import Ending, how_it_ended
from airflow_ft_events.waiting.poller import JobPoller
from airflow_ft_events.waiting.state import PollResult

if TYPE_CHECKING:
    import requests


class FineTuningHook(ClientHook):
    """
    Read the jobs and events of a server that speaks OpenAI's fine-tuning API.

    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http``; default
        ``fine_tuning_default``.
    """

    conn_name_attr = "conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "fine_tuning"
    hook_name = "Fine-tuning API"
    _told_of_metrics = False

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form, for Airflow 2.11."""
        return UI_FIELD_BEHAVIOUR

    def get_conn(self) -> requests.Session:
        """Return a session, ready to use; the key is in its auth object, whose repr does not show it."""
        return self._sync_transport().session

    def iter_pages(
        self, job_id: str, *, after: str | None = None, page_size: int | None = None
    ) -> Iterator[EventPage]:
        """
        Read a job's log page by page, in the server's order, each page when it is needed.

        :param job_id: the job.
        :param after: cursor to start at, as the server understands it (older events on OpenAI and Azure).
        :param page_size: events per page; default the connection's.
        :returns: pages; an event that was on an earlier page is not in a page's ``new``.
        :raises FineTuningApiError: a refusal, or no answer after all retries.
        :raises FineTuningPagingError: a cursor that does not advance.
        """
        check_count("page_size", page_size)
        feed = EventFeed(
            settings=self.settings,
            job_id=check_job_id(job_id),
            after=after,
            page_size=page_size,
            pages=NoPages(),
        )
        while request := feed.next_request():
            page = feed.take(raise_for_fault(request, self._send(request), self.settings))
            if page.data:
                yield page

    def list_events(
        self, job_id: str, *, newer_than: str | None = None, max_events: int | None = None
    ) -> list[dict[str, Any]]:
        """
        Read a job's events: oldest first, each once, verbatim.

        :param job_id: the job.
        :param newer_than: id of a known event: only what came after it. The whole log where the server no
            longer has it.
        :param max_events: keep only this many of the newest events; default all.
        :returns: event dicts as the server sent them.
        :raises FineTuningApiError: a refusal, or no answer after all retries.
        :raises FineTuningPagingError: a cursor that does not advance.
        """
        feed = self.read_events(job_id, newer_than=newer_than, max_events=max_events)
        return _newest(feed, max_events)

    def read_events(
        self,
        job_id: str,
        *,
        newer_than: str | Bookmark | None = None,
        max_events: int | None = None,
        pages: Pages | None = None,
        must_end: bool = False,
        job_shown: bool = False,
    ) -> EventFeed:
        """
        Read a job's events as :meth:`list_events` does, and keep what was learned on the way.

        :param job_id: the job.
        :param newer_than: id of a known event, or where an earlier read stopped.
        :param max_events: how many of the newest events are needed; default all.
        :param pages: where the events are kept while they are read; default in memory.
        :param must_end: whether a log without the vendor's last message is of no use yet: reading stops at
            the page that shows this. Default False.
        :param job_shown: whether the server has just shown the job, so that a missing route is the events'
            own; default False.
        :returns: the feed: its events, typed too, and whether ``newer_than`` was found.
        """
        check_count("max_events", max_events)
        checked = check_job_id(job_id)
        return self._run(
            calls.read_events(
                self.settings,
                checked,
                newer_than=newer_than,
                max_events=max_events,
                pages=pages,
                must_end=must_end,
                job_shown=job_shown,
            )
        )

    def shows_end(self, feed: EventFeed) -> bool:
        """
        Tell whether a log has the last message that its vendor sends, so that nothing more will come.

        :param feed: from :meth:`read_events`.
        :returns: True if it has.
        """
        return calls.shows_end(self.settings, feed)

    def get_job(self, job_id: str) -> dict[str, Any]:
        """
        Read a job.

        :param job_id: the job.
        :returns: the job as the server describes it.
        :raises FineTuningJobNotFound: the server does not know it.
        """
        return self._run(calls.get_job(self.settings, check_job_id(job_id))).raw

    def find_job(self, job_id: str) -> Job | None:
        """
        Read a job of a server that may show only its events.

        :param job_id: the job.
        :returns: the job, typed; None if its route is missing, although its events may be there.
        :raises FineTuningApiError: the server does not accept the key, or could not be asked.
        """
        return self._run(calls.find_job(self.settings, check_job_id(job_id)))

    def how_it_ended(self, job_id: str, job: Job | None, events: Iterable[Event] = ()) -> Ending:
        """
        Tell how a job ended, as far as the job and its events show.

        :param job_id: the job.
        :param job: from :meth:`find_job`.
        :param events: its whole log, oldest first, if the server shows no job; else its end is enough.
        :returns: the ending; without an outcome if the job has not ended, or if that is not certain yet.
        """
        return how_it_ended(
            job, events, job_id=job_id, vendor=self.settings.vendor, server_now=self.server_now()
        )

    def metrics_events(self, job_id: str) -> list[dict[str, Any]]:
        """
        Read the numbers that a server keeps beside a job's events, as events of type ``metrics``.

        :param job_id: the job.
        :returns: one dict a row, with OpenAI's names in its ``data`` and the server's row in ``row``; empty
            where the events themselves have the numbers, or where the server has no such route.
        :raises FineTuningApiError: the server does not accept the key, or could not be asked.
        """
        return self._told(job_id, self._run(read_metrics(self.settings, check_job_id(job_id))))

    def with_metrics(self, job_id: str, events: Sequence[Event]) -> list[Event]:
        """
        Add a server's numbers to a log without any, for whoever reads numbers and not what was said.

        :param job_id: the job.
        :param events: its log, or the end of it, oldest first.
        :returns: the events, and between them those of :meth:`metrics_events`.
        """
        if not self._are_elsewhere(events):
            return list(events)
        return merged(events, self.metrics_events(job_id))

    def _are_elsewhere(self, events: Iterable[Event]) -> bool:
        """Whether the numbers of a log must be looked for in another place."""
        return self.settings.vendor.metrics_path is not None and not any(event.metrics for event in events)

    def _told(self, job_id: str, found: FoundMetrics) -> list[dict[str, Any]]:
        """Say once that a server has no route for numbers."""
        if found.missing and not self._told_of_metrics:
            self._told_of_metrics = True
            self.log.info("The server has no metrics of job %s beside its events: %s.", job_id, found.missing)
        return list(found.events)

    def list_metrics(self, job_id: str) -> list[dict[str, int | float]]:
        """
        Read a job's numbers as a table, from its events or from where else the server keeps them.

        :param job_id: the job.
        :returns: rows sorted by ``step``, one per step, nested names joined by dots; see
            :func:`~airflow_ft_events.events.metrics_table`.
        """
        events = self.read_events(job_id).collected_events()
        return metrics_table(self.with_metrics(job_id, events))

    def list_checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        """
        List a job's checkpoints.

        :param job_id: the job.
        :returns: checkpoints as the server describes them, sorted by step if every one has a step.
        :raises FineTuningJobNotFound: the server does not know the job, or has no checkpoints route.
        """
        return self._run(calls.list_checkpoints(self.settings, check_job_id(job_id)))

    def list_jobs(self, *, limit: int | None = None) -> list[dict[str, Any]]:
        """
        List jobs.

        :param limit: the maximum number of jobs; default all.
        :returns: jobs in the server's order, newest first on most.
        """
        check_count("limit", limit)
        return self._run(calls.list_jobs(self.settings, limit))

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """
        Cancel a job on the server.

        :param job_id: the job.
        :returns: the job as the server then describes it.
        """
        return self._run(calls.cancel_job(self.settings, check_job_id(job_id)))

    def test_connection(self) -> tuple[bool, str]:
        """
        Test the connection: list one job; where the server does not, ask for one that cannot exist.

        :returns: whether it works, and a line that says what was found or what is wrong.
        """
        try:
            self._forget_connection()
            return calls.converse(examine(self.settings), self._send_to_test)
        except FineTuningError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001
            # the button must show a line, whatever a secrets backend or an odd connection raises
            return False, f"The connection cannot be tested: {self._why(error)}"

    def _send_to_test(self, request: ApiRequest) -> ApiResult:
        """Retry the list, which tells most; what is asked after it failed is asked once."""
        return self._send(request) if request.job_id is None else self._send_once(request)

    def _why(self, error: Exception) -> str:
        kind = type(error).__name__
        return f"{kind}: {self._settings.redact.line(error)}" if self._settings else kind

    # the same, async

    async def aiter_pages(
        self, job_id: str, *, after: str | None = None, page_size: int | None = None
    ) -> AsyncIterator[EventPage]:
        """Do what :meth:`iter_pages` does, without blocking the event loop."""
        check_count("page_size", page_size)
        async with self.async_transport() as transport:
            settings = transport.settings
            feed = EventFeed(
                settings=settings,
                job_id=check_job_id(job_id),
                after=after,
                page_size=page_size,
                pages=NoPages(),
            )
            while request := feed.next_request():
                page = feed.take(raise_for_fault(request, await self._asend(transport, request), settings))
                if page.data:
                    yield page

    async def alist_events(
        self, job_id: str, *, newer_than: str | None = None, max_events: int | None = None
    ) -> list[dict[str, Any]]:
        """Do what :meth:`list_events` does, without blocking the event loop."""
        check_count("max_events", max_events)
        settings, checked = await self.aget_settings(), check_job_id(job_id)
        feed = await self._arun(
            calls.read_events(settings, checked, newer_than=newer_than, max_events=max_events)
        )
        return _newest(feed, max_events)

    async def aget_job(self, job_id: str) -> dict[str, Any]:
        """Do what :meth:`get_job` does, without blocking the event loop."""
        return (await self._arun(calls.get_job(await self.aget_settings(), check_job_id(job_id)))).raw

    async def ahas_ended(self, job_id: str) -> bool:
        """
        Tell whether a job has ended, by its status.

        :param job_id: the job.
        :returns: True if it has ended.
        """
        job = await self._arun(calls.get_job(await self.aget_settings(), check_job_id(job_id)))
        return job.ended is not None

    async def ametrics_events(self, job_id: str) -> list[dict[str, Any]]:
        """Do what :meth:`metrics_events` does, without blocking the event loop."""
        settings, checked = await self.aget_settings(), check_job_id(job_id)
        return self._told(job_id, await self._arun(read_metrics(settings, checked)))

    async def alist_metrics(self, job_id: str) -> list[dict[str, int | float]]:
        """Do what :meth:`list_metrics` does, without blocking the event loop."""
        settings, checked = await self.aget_settings(), check_job_id(job_id)
        events = (await self._arun(calls.read_events(settings, checked))).collected_events()
        if self._are_elsewhere(events):
            events = merged(events, await self.ametrics_events(job_id))
        return metrics_table(events)

    async def alist_checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        """Do what :meth:`list_checkpoints` does, without blocking the event loop."""
        return await self._arun(calls.list_checkpoints(await self.aget_settings(), check_job_id(job_id)))

    async def alist_jobs(self, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Do what :meth:`list_jobs` does, without blocking the event loop."""
        check_count("limit", limit)
        return await self._arun(calls.list_jobs(await self.aget_settings(), limit))

    async def acancel_job(self, job_id: str) -> dict[str, Any]:
        """Do what :meth:`cancel_job` does, without blocking the event loop."""
        return await self._arun(calls.cancel_job(await self.aget_settings(), check_job_id(job_id)))

    # for waits: one try each; the next poll is the retry

    def poll(self, poller: JobPoller, *, until: float = math.inf) -> PollResult:
        """
        Poll once for a wait; a server that refuses everything is asked again for 30 s before that is final.

        :param poller: the wait.
        :param until: seconds since 1970 after which nothing is asked again; default never.
        :returns: what the poll found.
        """
        result = self._poll(poller)
        while result.confirming and (left := until - clock().now()) > 0:
            for level, text in result.notes:
                getattr(self.log, level)("%s", self.redact.text(text))
            result.notes = []  # said already: the next half minute would be silent without them
            clock().sleep(min(result.wait, left))
            again = self._poll(poller)
            again.follow(result)
            result = again
        return result

    def _poll(self, poller: JobPoller) -> PollResult:
        poller.use(self.settings)
        return calls.converse(poller.poll(now=clock().now()), self._send_once, read_again=self._read_again)

    def _send_once(self, request: ApiRequest) -> ApiResult:
        return self._sync_transport().send(request)

    def _read_again(self, step: calls.ReadAgain) -> Settings | FineTuningError:
        try:
            helps = step.refused.credential.refused(step.secret)
            return self._reread_settings() if helps else step.refused
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            return not_read_again(self.conn_id, error)

    def newest_events(self, job_id: str) -> list[Event]:
        """
        Read the newest page of a job's log: one try, within the connection's read timeout in all.

        It is for what a verdict that stands only adds, so a server that hangs must not hold the verdict up.

        :param job_id: the job.
        :returns: its events, oldest first, typed.
        :raises FineTuningApiError: a refusal, or no answer in time.
        """
        conversation = calls.newest_events(self.settings, check_job_id(job_id))
        send = self._sync_transport().sender_within(self.settings.timeout)
        return calls.converse(conversation, send)


def _newest(feed: EventFeed, max_events: int | None) -> list[dict[str, Any]]:
    events = feed.collected()
    return events if max_events is None else events[-max_events:]
