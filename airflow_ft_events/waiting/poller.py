"""JobPoller: what a wait asks in each poll, and what is done about the answers; verdict.py decides."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.calls import ReadAgain, job_request, read_job
from airflow_ft_events.api.exchange import ApiFault, ApiRequest
from airflow_ft_events.api.routes import NOT_ASKED, OK, Answered, Route, in_brief, read_refusal
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningError,
    FineTuningInputError,
)
from airflow_ft_events.events import one_line
from airflow_ft_events.jobs import JobOutcome, JobState
from airflow_ft_events.waiting import state
from airflow_ft_events.waiting.evidence import Evidence
from airflow_ft_events.waiting.log_reader import LogReader
from airflow_ft_events.waiting.state import Announcement, PollResult, RouteState
from airflow_ft_events.waiting.streaks import CONFIRMED_AFTER, GONE_AFTER, Absences, Failures, Streak, Unclear
from airflow_ft_events.waiting.task_log import odd_state
from airflow_ft_events.waiting.verdict import Said, Then, known_of, said_by, verdict

UNCONFIRMED_INTERVAL = 10.0
UNCONFIRMED_TRIES = 10
CLAIM_LONG_PAST = 600.0
"""Seconds since which an end must have stood to be believed where the job route was asked just now."""
JOB_ITSELF_EVERY = 7200.0
"""Seconds after which a job is asked for itself, where looks at the job list are shared: a list may lag."""
PAUSE_NOTED_EVERY = 3600.0
"""Seconds between two lines about pauses: behind a limiter every poll may meet one."""
_REFUSED = (Route.MISSING, Route.DENIED)
Poll = Generator[ApiRequest | ReadAgain, Any, "PollResult"]


class JobPoller:
    """
    The wait for one job. ``poll`` hands out requests, takes what came of them, and returns a PollResult.

    :param settings: the connection.
    :param job_id: a checked job id.
    :param interval: seconds between polls; default 60.
    :param max_failures: polls in a row that may fail before the job's state counts as unknown (and 15
        minutes); default 5.
    :param first: whether nothing of this wait was asked before; only then a job that no route knows ends it.
    :param remembers: whether this object lives on between polls; it does not in reschedule mode.
    :param job_seen: whether the job route has answered before, on the worker or before a restart.
    :param bookmark: the newest event that was read before.
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
        bookmark: Bookmark | None = None,
    ) -> None:
        self.settings = settings
        self.job_id = job_id
        self.interval = interval
        self.job_seen = job_seen
        self.events_seen = False
        self.status: str | None = None
        self._max_failures = max_failures
        self._remembers = remembers
        self._untried = first and not job_seen
        self._log = LogReader(
            page_size=settings.page_size,
            job_id=job_id,
            bookmark=bookmark,
            decides=bookmark is not None and not job_seen,
        )
        self._evidence = Evidence(vendor=settings.vendor)
        self._announcement: Announcement | None = None
        self._events_route = RouteState()
        self._job_route = RouteState()
        self._job_itself_asked_at = float("-inf")
        self._job_first = False
        self._job_unread = False
        self._failures = Failures()
        self._absences = Absences()
        self._unclear = Unclear()
        self._connection = state.ConnectionRead()
        self._refusals = Streak()
        self._pause_noted_at = float("-inf")
        self._warned: set[str] = set()

    @property
    def bookmark(self) -> Bookmark | None:
        """The newest event that was read, to go on from after a restart."""
        return self._log.bookmark

    def use(self, settings: Settings) -> None:
        """
        Go on with a connection that was read again: what was refused before may be allowed now.

        :param settings: the connection, changed perhaps.
        """
        if settings is not self.settings and settings != self.settings:
            self.settings = settings
            self._events_route, self._job_route = RouteState(), RouteState()
            self._refusals.end()

    def poll(self, *, now: float, events_every: float = 0.0, last: bool = False) -> Poll:
        """
        Look once: at the new events, and at the job where that is due. A refused key is read again first.

        :param now: our clock, seconds since 1970.
        :param events_every: seconds between two readings of the events, where the job alone can be asked;
            default 0, every time.
        :param last: whether this is the last poll, which asks both routes whatever is known; default False.
        :returns: requests to make, one after the other, or the wish that the connection be read again; send
            what came of each; the generator's value is the PollResult.
        """
        secret = self.settings.credential.at_hand()
        result = yield from self._poll_once(now, events_every, last=last)
        if not result.denied:
            return result
        secret = self.settings.credential.at_hand() if secret is None else secret
        found = yield ReadAgain(self.settings, secret)
        if isinstance(found, FineTuningInputError):
            result.error = found
        elif isinstance(found, FineTuningError):
            result.error, result.confirming = None, False
            self._count_failure(result, found, now)
        elif found.credential.at_hand() != secret or found != self.settings:
            self.use(found)
            text = f"Connection {found.conn_id!r} has changed; asking again with it."
            result.notes.append(("info", text))
            again = yield from self._poll_once(now, events_every, last=last)
            again.follow(result)
            return again
        return result

    def _poll_once(self, now: float, events_every: float, *, last: bool) -> Poll:
        result = PollResult(wait=self.interval, server_now=now)
        events = job = NOT_ASKED
        # behind a limiter the second request of each poll may always be the one that is refused
        due = not self._job_route.missing or self._job_route.is_due(now)
        job_first = last or (due and (self._job_first or not self._remembers))
        if job_first:
            job = yield from self._read_job(result, now)
        if job.route is not Route.PAUSE and (last or self._events_are_due(now, events_every)):
            events = yield from self._read_events(result, now)
        if not job_first and (last or self._job_is_due(now, events, result)):
            job = yield from self._read_job(result, now)
        if job.route is not Route.NOT_ASKED:
            self._job_unread = job.route is not Route.OK
        self._job_first = self._job_unread and not job_first
        self._decide(result, events, job, now=now)
        if result.outcome is not None and result.outcome.decided_by == "event":
            yield from self._make_sure_no_job_shows(result, now)
        return result

    # what is asked

    def _events_are_due(self, now: float, events_every: float) -> bool:
        if self._events_route.missing:
            return self._events_route.is_due(now)
        if not self.job_seen or not events_every:
            return True
        asked_at = self._events_route.asked_at
        return now - asked_at >= events_every if asked_at is not None else not math.isinf(events_every)

    def _job_is_due(self, now: float, events: Answered, result: PollResult) -> bool:
        if self._job_route.is_due(now):
            return True
        if self._job_route.missing:
            return False
        return (
            events.route is not Route.OK
            or not result.events
            or self._announcement is not None
            or self._evidence.ends_in_error
            or self._job_unread
            or self._failures.count > 0
        )

    def _read_events(self, result: PollResult, now: float) -> Generator[ApiRequest, Any, Answered]:
        self._events_route.asked_at = now
        read = yield from self._log.read(self.settings, now=now, job_decides=self.job_seen)
        if read.answered.route is not Route.OK:
            return read.answered
        self.events_seen, self._untried = True, False
        if read.server_time is not None:
            result.server_now = read.server_time
        self._evidence.take(read.earlier, seen_at=now, now=now)
        self._evidence.take(read.events, seen_at=result.server_now, now=now)
        announced = self._evidence.announced
        if announced is None:
            self._announcement = None
        elif any(event is announced for event in read.events):
            self._announcement = Announcement(announced)
        self._log.leave_out_told(read)
        result.events, result.more_before = read.events, read.more_before
        return read.answered

    def _read_job(self, result: PollResult, now: float) -> Generator[ApiRequest, Any, Answered]:
        self._job_route.asked_at = now
        request = job_request(self.settings, self.job_id)
        if self._announcement is not None or now - self._job_itself_asked_at >= JOB_ITSELF_EVERY:
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
        status = self.settings.redact.line(job.status, limit=60)
        if status != self.status:
            result.notes.append(("info", f"Job {self.job_id} is {status}."))
        self.status = status
        says_over = self._unclear.take(job, self._evidence.announced, server_now=result.server_now, now=now)
        if ended := JobOutcome.of_job(job):
            result.outcome = self.settings.redact.outcome(ended)
        elif job.state is not JobState.ACTIVE:
            what = f"Job {self.job_id} {odd_state(job, status)}; waiting until it changes."
            self._warn_once(result, f"state {status}", what)
        if says_over and self._unclear.stays(result.server_now, now=now, alone=not self._remembers):
            result.error = self._unclear.error(self.settings)
        return OK

    def _make_sure_no_job_shows(self, result: PollResult, now: float) -> Generator[ApiRequest, Any, None]:
        """
        Let the events decide only where the job route is missing for good.

        One bad answer of it must not do: it is asked again in the poll that decides, and must have been
        missing for two minutes, unless that cannot be remembered or the end lies long past.
        """
        claimed, result.outcome = result.outcome, None
        missing_for = self._job_route.refusals.lasted(now=now)
        left = self._evidence.seconds_left(server_now=result.server_now, now=now)
        long_past = left is not None and left <= -CLAIM_LONG_PAST
        if self._remembers and not long_past and missing_for < GONE_AFTER:
            result.wait = min(self.interval, GONE_AFTER - missing_for)
            return
        again = yield from self._read_job(result, now)
        again = self._job_route.lately(again, keeps=_REFUSED if self._remembers else ())
        if again.route in _REFUSED:
            result.outcome = claimed
        elif again.route is Route.OK:
            self._job_route.refusals.end()

    # what is done about it

    def _decide(self, result: PollResult, events: Answered, job: Answered, *, now: float) -> None:
        """Do what the table says; behind a limiter a poll may get one answer, and a last refusal stands."""
        met = (self._events_route, events), (self._job_route, job)
        paused = [(route, each) for route, each in met if each.route is Route.PAUSE]
        job_says_nothing = job.route in (Route.PAUSE, Route.NOT_ASKED)
        events = self._events_route.lately(events, keeps=_REFUSED)
        job = self._job_route.lately(job, keeps=() if self.job_seen else _REFUSED)
        self._note_routes(result, events, job, now=now)
        if events.route is Route.PAUSE and not (job_says_nothing or self._job_route.missing):
            events = NOT_ASKED
        job_said = said_by(job, ok=Said.ENDED if result.outcome is not None else Said.GOES_ON)
        events_said = said_by(events, ok=Said.NEWS if result.events else Said.NOTHING_NEW)
        known = known_of(
            seen=self.job_seen,
            untried=self._untried and not self._failures.count,
            announced=self._announcement is not None,
            no_job_route=self._job_route.missing and not self.job_seen,
        )
        then = verdict(job_said, events_said, known)
        if then not in (Then.CONFIRM_REFUSAL, Then.PAUSE):
            self._refusals.end()
        denied = [met.error for met in (job, events) if met.route is Route.DENIED]
        result.denied = bool(denied) and job.route is not Route.OK and then is not Then.PAUSE
        if then is Then.FAIL:
            result.error, result.asked = next(iter(denied), None), False
        elif then is Then.CONFIRM_REFUSAL:
            self._confirm_refusal(result, next(iter(denied), job.error), now)
        elif then is Then.PAUSE:
            result.asked, result.denied = False, self._connection.is_due(now)
        elif then is Then.COUNT_ABSENCE:
            self._count_absence(result, job, now)
        elif then is Then.COUNT_FAILURE:
            self._count_failure(result, job.error or events.error, now)
        elif then is not Then.END:
            self._answered(result, then, now)
        if paused and not result.over:
            self._pause(result, *paused[0], now)

    def _note_routes(self, result: PollResult, events: Answered, job: Answered, *, now: float) -> None:
        """Remember which routes this server has; one that refuses is asked again soon, then every 5 min."""
        if not (job.is_404 or job.route in (Route.PAUSE, Route.NOT_ASKED)):
            self._absences.end()
        if job.route is Route.OK:
            self._job_route.refusals.end()
        elif job.route in _REFUSED and self._events_route.last is OK and not self.job_seen:
            self._job_route.refusals.add(now=now)
            self._warn_once(
                result,
                "no job route",
                f"The server shows no job {self.job_id}, only its events, so these decide; a failure without "
                f"an event cannot be seen and ends by the timeout. Its job route: {in_brief(job.error)}.",
            )
        if events.route is Route.OK:
            self._events_route.refusals.end()
        elif events.route in _REFUSED and job.route is Route.OK:
            self._events_route.refusals.add(now=now)
            self._warn_once(
                result,
                "no events route",
                "The events cannot be read; going by the job's status alone. The events route: "
                f"{in_brief(events.error)}.",
            )
        elif events.route is Route.FAULT and job.route is Route.OK:
            self._warn_once(
                result, "events fault", f"The events cannot be read now, the job can. {events.error}"
            )

    def _answered(self, result: PollResult, then: Then, now: float) -> None:
        self._untried = False
        if ended := self._failures.answered(now=now):
            result.notes.append(("info", ended))
        if self._job_route.missing:
            result.wait = min(result.wait, self._job_route.asked_again_after)
        if then is Then.GO_BY_EVENTS:
            result.outcome = self._evidence.outcome(job_id=self.job_id, server_now=result.server_now, now=now)
            left = self._evidence.seconds_left(server_now=result.server_now, now=now)
            if left is not None and left > 0:
                result.wait = min(result.wait, max(left, 1.0))
        elif then is Then.CONFIRM_SOON:
            self._confirm_soon(result)

    def _confirm_refusal(self, result: PollResult, error: FineTuningError | None, now: float) -> None:
        """A server that refuses everything may be a gateway that starts: it must stay so for 30 s."""
        result.asked = False
        self._refusals.add(now=now)
        if self._refusals.lasted(now=now) >= CONFIRMED_AFTER:
            result.error = error
            return
        result.confirming, result.wait = True, self._refusals.soon(most=state.ASKED_AGAIN_AFTER)
        if self._refusals.count == 1:
            result.warn(
                f"The server refuses everything; asking again for {CONFIRMED_AFTER:g} s before that "
                f"is final. {error}"
            )

    def _pause(self, result: PollResult, route: RouteState, met: Answered, now: float) -> None:
        route.pauses.add(now=now)
        gap = met.pause if met.pause is not None else route.pauses.gap(self.interval)
        result.wait, result.paused, result.confirming = max(result.wait, self.interval, gap), True, False
        if route.pauses.count == 1 and now - self._pause_noted_at >= PAUSE_NOTED_EVERY:
            self._pause_noted_at = now
            result.warn(f"The server asks for a pause, which says nothing about the job. {met.error}")

    def _count_absence(self, result: PollResult, job: Answered, now: float) -> None:
        result.asked = False
        self._absences.add(now=now)
        result.error = self._absences.gone(
            now=now, job_id=self.job_id, conn_id=self.settings.conn_id, last=job.error
        )
        if self._absences.count == 1:
            result.warn(f"Job {self.job_id} was there and is not found now; looking again. {job.error}")

    def _count_failure(self, result: PollResult, error: FineTuningError | None, now: float) -> None:
        result.asked = False
        failures = self._failures
        failures.add(now=now)
        result.wait = failures.gap(self.interval)
        if failures.exhausted(now=now, most=self._max_failures):
            result.error = failures.unknown(error, now=now, job_id=self.job_id, conn_id=self.settings.conn_id)
        else:
            result.warn(f"Poll failed ({failures.count} in a row); this says nothing about the job. {error}")

    def _confirm_soon(self, result: PollResult) -> None:
        """A final message that the job does not confirm: ask soon, ten times, then at the ordinary pace."""
        announcement = self._announcement
        assert announcement is not None
        announcement.tries += 1
        if announcement.tries <= UNCONFIRMED_TRIES:
            result.wait = min(self.interval, UNCONFIRMED_INTERVAL)
            return
        said = one_line(announcement.event.message or announcement.event.type, limit=120)
        self._announcement = None
        result.warn(
            f"The log of job {self.job_id} says {said!r}, and the job's status is still {self.status!r}. "
            "The status decides; going on waiting."
        )

    def _warn_once(self, result: PollResult, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            result.warn(text)
