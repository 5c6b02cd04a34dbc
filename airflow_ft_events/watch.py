"""JobWatch: from what one poll saw, is the wait over, and when to look again? One decision for every mode."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from airflow_ft_events.api.calls import job_request, read_job
from airflow_ft_events.api.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningError,
    FineTuningPagingError,
)
from airflow_ft_events.api.exchange import ApiAnswer, ApiFault, ApiRequest, Reply, scrub
from airflow_ft_events.api.feed import KEPT, EventFeed, Mark
from airflow_ft_events.api.settings import Settings
from airflow_ft_events.events import Event, one_line
from airflow_ft_events.evidence import Evidence
from airflow_ft_events.jobs import JobOutcome, JobState
from airflow_ft_events.patience import GONE_AFTER, LONGEST_GAP, Absence, Patience
from airflow_ft_events.routes import NOT_ASKED, Answered, Route, in_brief, read_refusal

JOB_READ_EVERY = 300.0
UNCONFIRMED_INTERVAL = 10.0
UNCONFIRMED_TRIES = 10
PAGES_A_POLL = 10
CLAIM_LONG_PAST = 600.0
"""Seconds since which an end must have stood to be believed where the job route was asked just now."""
PAGES_AT_MOST = 200
"""Pages of one poll, where a log must be walked from its old end; the next poll goes on from there."""
JOB_ITSELF_EVERY = 7200.0
"""Seconds after which a job is asked for itself, where looks at the job list are shared: a list may lag."""
SMALLEST_PAGE = 10


@dataclass(slots=True, kw_only=True)
class Look:
    """
    What one poll came to.

    :param outcome: the job has ended: the wait is over.
    :param error: the wait cannot go on.
    :param wait: seconds until the next poll, where the wait goes on at this watch's pace.
    :param events: new events, oldest first.
    :param more_before: whether there are events before them that were not read.
    :param notes: lines for the log: a logging level and a text each.
    :param asked: whether the server gave a usable answer.
    :param paused: whether it asked for a pause instead (429).
    :param server_now: the server's clock, seconds since 1970; ours where it shows none.
    """

    outcome: JobOutcome | None = None
    error: FineTuningError | None = None
    wait: float = 0.0
    events: Sequence[Event] = ()
    more_before: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)
    asked: bool = True
    paused: bool = False
    server_now: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the wait is over, one way or the other."""
        return self.outcome is not None or self.error is not None


class JobWatch:
    """
    The wait for one job. ``poll`` hands out requests, takes what came of them, and returns a Look.

    :param settings: the connection.
    :param job_id: a checked job id.
    :param interval: seconds between polls; default 60.
    :param max_failures: polls in a row that may fail before the job's state counts as unknown (and 15
        minutes); default 5.
    :param first: whether nothing of this wait was asked before; only then a job that no route knows ends it.
    :param remembers: whether this object lives on between polls; it does not in reschedule mode.
    :param job_seen: whether the job route has answered before, on the worker or before a restart.
    :param mark: the newest event that was read before.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        job_id: str,
        interval: float = 60.0,
        max_failures: int = 5,
        first: bool = True,
        remembers: bool = True,
        job_seen: bool = False,
        mark: Mark | None = None,
    ) -> None:
        self.settings = settings
        self.job_id = job_id
        self.interval = interval
        self.job_seen = job_seen
        self.status: str | None = None
        self._mark = mark
        # without a job route the events before the mark count too: what they claim must be read again
        self._told = mark if mark and not job_seen else None
        if self._told:
            self._mark = None
        self._evidence = Evidence(vendor=settings.vendor)
        self._ask_for = settings.page_size if self._mark is None else SMALLEST_PAGE
        self._answered_before = job_seen or not first
        self._job_asked_at: float | None = None
        self._job_missing = False
        self._job_missing_since = 0.0
        self._job_itself_asked_at = float("-inf")
        self._remembers = remembers
        self._events_asked_at: float | None = None
        self._events_missing = False
        self._unconfirmed: Event | None = None
        self._unconfirmed_tries = 0
        self._absence = Absence()
        self._patience = Patience(interval=interval, max_failures=max_failures)
        self._pauses = 0
        self._job_next = False
        self._warned: set[str] = set()

    @property
    def mark(self) -> Mark | None:
        """The newest event that was read, to go on from after a restart."""
        return self._mark or self._told

    def use(self, settings: Settings) -> None:
        """
        Go on with a connection that was read again.

        :param settings: the connection, its key rotated perhaps.
        """
        self.settings = settings

    def poll(self, *, now: float, events_every: float = 0.0) -> Generator[ApiRequest, Reply, Look]:
        """
        Look once: at the new events, and at the job where that is due.

        :param now: our clock, seconds since 1970.
        :param events_every: seconds between two readings of the events, where the job alone can be asked;
            default 0, every time.
        :returns: requests to make, one after the other; send each one's reply; the generator's value is the
            Look.
        """
        look = Look(wait=self.interval)
        server_now = now
        events = job = NOT_ASKED
        if self._events_are_due(now, events_every):
            events, answer = yield from self._read_events(look, now)
            if answer is not None and answer.server_time is not None:
                server_now = answer.server_time
        if events.route is Route.OK:
            self._evidence.take(look.events, seen_at=server_now, now=now)
            announced = self._evidence.announced
            if announced is None:
                self._unconfirmed = None
            elif any(event is announced for event in look.events):
                self._unconfirmed, self._unconfirmed_tries = announced, 0
            self._leave_out_told(look)
        self._job_next = events.route is Route.PAUSE
        if events.route not in (Route.PAUSE, Route.DENIED) and self._job_is_due(now, events, look):
            job = yield from self._read_job(look, now)
        look.server_now = server_now
        self._decide(look, events, job, now=now)
        if look.outcome is not None and look.outcome.decided_by == "event":
            yield from self._make_sure_no_job_shows(look, now)
        return look

    def _make_sure_no_job_shows(self, look: Look, now: float) -> Generator[ApiRequest, Reply, None]:
        """
        Let the events decide only where the job route is missing for good.

        One bad answer of it must not do: it is asked again in the poll that decides, and must have been
        missing for two minutes, unless that cannot be remembered or the end lies long past.
        """
        claimed, look.outcome = look.outcome, None
        missing_for = now - self._job_missing_since
        left = self._evidence.seconds_left(server_now=look.server_now, now=now)
        long_past = left is not None and left <= -CLAIM_LONG_PAST
        if self._remembers and not long_past and missing_for < GONE_AFTER:
            look.wait = min(self.interval, GONE_AFTER - missing_for)
            return
        again = yield from self._read_job(look, now)
        if again.route is Route.MISSING:
            look.outcome = claimed
        elif again.route is Route.OK:
            self._job_missing = False

    def _events_are_due(self, now: float, events_every: float) -> bool:
        if self._job_next and not self._job_missing:
            return False  # the last poll ended at the events with a 429: this one goes to the job
        if self._events_missing:
            return self._is_due(self._events_asked_at, now)
        if not self.job_seen or not events_every:
            return True
        asked_at = self._events_asked_at
        return now - asked_at >= events_every if asked_at is not None else not math.isinf(events_every)

    @staticmethod
    def _is_due(asked_at: float | None, now: float) -> bool:
        return asked_at is None or now - asked_at >= JOB_READ_EVERY or now < asked_at

    def _job_is_due(self, now: float, events: Answered, look: Look) -> bool:
        if self._is_due(self._job_asked_at, now):
            return True
        if self._job_missing:
            return False
        return (
            events.route is not Route.OK
            or not look.events
            or self._unconfirmed is not None
            or self._absence.looks > 0
            or self._patience.failures > 0
        )

    def _read_events(
        self, look: Look, now: float
    ) -> Generator[ApiRequest, Reply, tuple[Answered, ApiAnswer | None]]:
        self._events_asked_at = now
        first = self._mark is None
        feed = EventFeed(
            settings=self.settings,
            job_id=self.job_id,
            first_page_size=self._ask_for,
            mark=self._mark,
            depth=1 if first else PAGES_A_POLL,
            budget=PAGES_AT_MOST,
            # the job decides and the next poll reads on; where the events decide, nothing may be missing
            short_page_ends=self.job_seen and not first,
        )
        answer: ApiAnswer | None = None
        while request := feed.next_request():
            reply = yield request
            cursor_refused = isinstance(reply, ApiAnswer) and reply.status in (400, 404)
            if isinstance(reply, ApiFault) or not (200 <= reply.status < 300 or cursor_refused):
                return read_refusal(request, reply, self.settings, now=now), None
            answer = reply
            try:
                feed.take(reply)
            except (FineTuningPagingError, FineTuningAnswerError) as error:
                self._ask_for = self.settings.page_size  # a page of full size may reach the mark
                return Answered(Route.MISSING, error), None
            except FineTuningApiError:
                return read_refusal(request, reply, self.settings, now=now), None
        shown = self.settings.page_size
        anew = first or feed.found is False
        if anew and feed.count > max(shown, KEPT):
            # the log had to be read to its end: it is for the evidence, not for the task log
            found = feed.collected_events(max(shown, KEPT))
            earlier = feed.collected()[: feed.count - len(found)]
            self._evidence.take((Event(raw, "") for raw in earlier), seen_at=now, now=now)
        else:
            found = feed.collected_events()
        self._mark = feed.mark(found)
        look.more_before = feed.cut
        if anew and feed.count > shown:
            self._evidence.take(found[:-shown], seen_at=now, now=now)
            found, look.more_before = found[-shown:], True
        look.events = found
        if not first:
            self._ask_for = min(self.settings.page_size, max(SMALLEST_PAGE, 2 * len(found)))
        return Answered(Route.OK), answer

    def _leave_out_told(self, look: Look) -> None:
        """After a restart, leave out of the first look what was read before it."""
        if self._told is None:
            return
        ids = [event.id for event in look.events]
        if self._told.last_id in ids:
            look.events = look.events[ids.index(self._told.last_id) + 1 :]
            look.more_before = False
        self._told = None

    def _read_job(self, look: Look, now: float) -> Generator[ApiRequest, Reply, Answered]:
        self._job_asked_at = now
        request = job_request(self.settings, self.job_id)
        if self._unconfirmed is not None or now - self._job_itself_asked_at >= JOB_ITSELF_EVERY:
            self._job_itself_asked_at = now
            request = replace(request, asks_state=False)
        reply = yield request
        if isinstance(reply, ApiFault) or not 200 <= reply.status < 300:
            return read_refusal(request, reply, self.settings, now=now)
        try:
            job = read_job(request, reply, self.settings)
        except FineTuningAnswerError as error:
            return Answered(Route.FAULT if self.job_seen else Route.MISSING, error)
        self.job_seen = True
        status = scrub(job.status, self.settings, limit=60)
        if status != self.status:
            look.notes.append(("info", f"Job {self.job_id} is {status}."))
        self.status = status
        if ended := JobOutcome.of_job(job):
            look.outcome = ended.masked(self.settings.secrets)
        elif job.state is not JobState.ACTIVE:
            what = (
                "is paused"
                if job.state is JobState.PAUSED
                else f"has a status that is not known here, {status!r}"
            )
            self._warn_once(look, f"state {status}", f"Job {self.job_id} {what}; waiting until it changes.")
        return Answered(Route.OK)

    def _decide(self, look: Look, events: Answered, job: Answered, *, now: float) -> None:
        for met in (job, events):
            if met.route is Route.DENIED and not look.outcome:
                look.error, look.asked = met.error, False
                return
        self._note_routes(look, events, job, now=now)
        if look.outcome:
            return
        if events.route is Route.PAUSE or job.route is Route.PAUSE:
            self._pause(look, events if events.route is Route.PAUSE else job)
            return
        if events.route is not Route.NOT_ASKED:
            self._pauses = 0
        if job.is_404 and self.job_seen:
            self._count_404(look, job, now)
            return
        if job.route is Route.OK:
            self._absence.ended()
        both_missing = job.route is Route.MISSING and events.route is Route.MISSING
        if both_missing and not self._answered_before and not self._patience.failures:
            look.error, look.asked = job.error, False
            return
        if not self._was_asked(events, job, look):
            self._count_failure(look, job.error or events.error, now)
            return
        self._answered_before = True
        if ended := self._patience.answered(now=now):
            look.notes.append(("info", ended))
        if self._job_missing and not self.job_seen:
            self._by_events(look, now)
        elif self._unconfirmed is not None and job.route is Route.OK:
            self._confirm_soon(look)

    def _was_asked(self, events: Answered, job: Answered, look: Look) -> bool:
        """Whether this poll learned what it needed: "could not ask" is neither an answer nor a failed job."""
        if job.route is Route.OK:
            return True
        if events.route is not Route.OK:
            return False
        if job.route is Route.MISSING and self.job_seen:
            return False
        if job.route is Route.FAULT:
            return bool(look.events) and self._unconfirmed is None
        return True

    def _note_routes(self, look: Look, events: Answered, job: Answered, *, now: float) -> None:
        """Remember which routes this server has; each is asked again every five minutes."""
        if job.route is Route.OK:
            self._job_missing = False
        elif job.route is Route.MISSING and events.route is Route.OK and not self.job_seen:
            if not self._job_missing:
                self._job_missing_since = now
            self._job_missing = True
            self._warn_once(
                look,
                "no job route",
                f"The server shows no job {self.job_id}, only its events, so these decide; a failure without "
                f"an event cannot be seen and ends by the timeout. Its job route: {in_brief(job.error)}.",
            )
        if events.route is Route.OK:
            self._events_missing = False
        elif events.route is Route.MISSING and job.route is Route.OK:
            self._events_missing = True
            self._warn_once(
                look,
                "no events route",
                "The events cannot be read; going by the job's status alone. The events route: "
                f"{in_brief(events.error)}.",
            )
        elif events.route is Route.FAULT and job.route is Route.OK:
            self._warn_once(
                look, "events fault", f"The events cannot be read now, the job can. {events.error}"
            )

    def _pause(self, look: Look, met: Answered) -> None:
        self._pauses += 1
        backoff = min(LONGEST_GAP, max(self.interval, 1.0) * 2.0 ** min(self._pauses, 30))
        look.wait = max(self.interval, met.pause if met.pause is not None else backoff)
        look.asked, look.paused = False, True
        if self._pauses == 1:
            look.notes.append(
                (
                    "warning",
                    f"The server asks for a pause, which says nothing about the job. {met.error}",
                )
            )

    def _count_404(self, look: Look, job: Answered, now: float) -> None:
        self._absence.noticed(now=now)
        look.asked = False
        look.error = self._absence.gone(
            now=now, job_id=self.job_id, conn_id=self.settings.conn_id, last=job.error
        )
        if self._absence.looks == 1:
            look.notes.append(
                ("warning", f"Job {self.job_id} was there and is not found now; looking again. {job.error}")
            )

    def _count_failure(self, look: Look, error: FineTuningError | None, now: float) -> None:
        look.asked = False
        look.wait = self._patience.failed(now=now)
        if self._patience.exhausted(now=now):
            look.error = self._patience.unknown(
                error, now=now, job_id=self.job_id, conn_id=self.settings.conn_id
            )
        else:
            count = self._patience.failures
            look.notes.append(
                ("warning", f"Poll failed ({count} in a row); this says nothing about the job. {error}")
            )

    def _by_events(self, look: Look, now: float) -> None:
        look.outcome = self._evidence.outcome(job_id=self.job_id, server_now=look.server_now, now=now)
        left = self._evidence.seconds_left(server_now=look.server_now, now=now)
        if left is not None:
            look.wait = min(self.interval, max(left, 1.0))

    def _confirm_soon(self, look: Look) -> None:
        """A final message that the job does not confirm: ask soon, ten times, then at the ordinary pace."""
        assert self._unconfirmed is not None
        self._unconfirmed_tries += 1
        if self._unconfirmed_tries <= UNCONFIRMED_TRIES:
            look.wait = min(self.interval, UNCONFIRMED_INTERVAL)
            return
        said = one_line(self._unconfirmed.message or self._unconfirmed.type, limit=120)
        self._unconfirmed = None
        look.notes.append(
            (
                "warning",
                f"The log of job {self.job_id} says {said!r}, and the job's status is still {self.status!r}. "
                "The status decides; going on waiting.",
            )
        )

    def _warn_once(self, look: Look, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            look.notes.append(("warning", text))
