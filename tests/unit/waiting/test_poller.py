"""JobPoller against servers that change with time: the right end, in time, with few requests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.calls import ReadAgain
from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult, FaultKind
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningError,
    FineTuningInputError,
    FineTuningJobNotFound,
    FineTuningStatusUnknown,
)
from airflow_ft_events.jobs import JobOutcome
from airflow_ft_events.waiting.poller import JobPoller
from airflow_ft_events.waiting.state import PollResult

START = 1_800_000_000.0
HOUR = 3_600.0
DAY = 86_400.0
JOB = "ftjob-1"
SUCCESS = "The job has successfully completed"
CANCELLED = "The job was stopped due to a cancellation request"
HTML = ApiResponse(200, {"content-type": "text/html"}, b"<html><body>Welcome</body></html>")


@dataclass
class World:
    """
    A server in the course of time; all times are seconds since the wait began.

    :param log: when an event appears, and the event.
    :param states: when the job takes which status.
    :param job: what the job has beside its status.
    :param events_say: what the events route answers instead, at a time; None for the events.
    :param job_says: the same for the job route.
    :param skew: how far the server's clock is ahead of ours.
    """

    log: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=lambda: [(0, "running")])
    job: dict[str, Any] = field(default_factory=dict)
    events_say: Callable[[float], ApiResult | None] = lambda now: None
    job_says: Callable[[float], ApiResult | None] = lambda now: None
    newest_first: bool = True
    ids: str = "kept"
    vendor: str = "auto"
    skew: float = 0.0

    def reply(self, kit: Any, request: ApiRequest, now: float) -> ApiResult:
        if not request.path.endswith("/events"):
            said = self.job_says(now)
            if said is not None:
                return said
            status = [status for since, status in self.states if since <= now][-1]
            return kit.answer({"object": "fine_tuning.job", "id": JOB, "status": status, **self.job})
        said = self.events_say(now)
        if said is not None:
            return said
        shown = [event for since, event in sorted(self.log, key=lambda pair: pair[0]) if since <= now]
        server = kit.server(shown, newest_first=self.newest_first, ids=self.ids, date=START + now + self.skew)
        answer: ApiResult = server(request)
        return answer


@dataclass
class Wait:
    """What a driven wait came to."""

    look: PollResult
    ended_at: float
    polls: int
    requests: int
    most_a_poll: int
    told: list[dict[str, Any]]
    notes: list[tuple[str, str]]

    @property
    def outcome(self) -> JobOutcome | None:
        return self.look.outcome

    @property
    def error(self) -> FineTuningError | None:
        return self.look.error

    @property
    def warnings(self) -> list[str]:
        return [text for level, text in self.notes if level == "warning"]


def drive(
    kit: Any,
    world: World,
    *,
    restart: Callable[[int], bool] = lambda poll: False,
    interval: float = 60.0,
    until: float = math.inf,
    most_polls: int = 5_000,
) -> Wait:
    """Poll until the wait is over or the time is up; a wait beyond ``most_polls`` has no end."""
    settings = kit.settings(extra={"vendor": world.vendor})
    poller = JobPoller(settings=settings, job_id=JOB, interval=interval)
    now, requests, most_a_poll = 0.0, 0, 0
    told: list[dict[str, Any]] = []
    notes: list[tuple[str, str]] = []
    for poll in range(1, most_polls + 1):
        polling = poller.poll(now=START + now)
        asked = 0
        try:
            request = next(polling)
            while True:
                if isinstance(request, ReadAgain):
                    request = polling.send(settings)
                    continue
                asked += 1
                request = polling.send(world.reply(kit, request, now))
        except StopIteration as end:
            look = end.value
        requests, most_a_poll = requests + asked, max(most_a_poll, asked)
        told += [event.raw for event in look.events]
        notes += look.notes
        if look.over or now >= until:
            return Wait(look, now, poll, requests, most_a_poll, told, notes)
        assert look.wait > 0
        now = min(now + look.wait, until)
        if restart(poll):
            bookmark = poller.bookmark
            bare = (
                Bookmark(ids=(bookmark.last_id,), order=bookmark.order)
                if bookmark and bookmark.last_id
                else None
            )
            poller = JobPoller(
                settings=settings, job_id=JOB, interval=interval, job_seen=poller.job_seen, bookmark=bare
            )
    pytest.fail(f"the wait did not end within {most_polls} polls ({now:.0f} s)")


def at(seconds: float, message: str, **fields: Any) -> tuple[float, dict[str, Any]]:
    """An event that appears when it is made."""
    event = {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{seconds:g}-{message[:12]}",
        "created_at": int(START + seconds),
        "level": "info",
        "message": message,
        "type": "message",
        "data": None,
    }
    return seconds, event | fields


def step(seconds: float, number: int) -> tuple[float, dict[str, Any]]:
    return at(
        seconds,
        f"Step {number}/100: training loss=0.5",
        type="metrics",
        data={"step": number, "total_steps": 100, "train_loss": 0.5},
    )


def every(gap: float, message: str, *, until: float, **fields: Any) -> list[tuple[float, dict[str, Any]]]:
    return [at(gap * turn, message, **fields) for turn in range(1, int(until / gap) + 1)]


def error_event(seconds: float, message: str, code: str | None = None) -> tuple[float, dict[str, Any]]:
    data = {"error_code": code, "error_param": "training_file"} if code else None
    return at(seconds, message, level="error", data=data)


def refused(status: int, code: str = "not_found", **headers: str) -> ApiResponse:
    body = (
        b'{"error": {"message": "Said no.", "type": "invalid_request_error", "code": "%s"}}' % code.encode()
    )
    return ApiResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def always(reply: ApiResult) -> Callable[[float], ApiResult | None]:
    return lambda now: reply


def between(start: float, end: float, reply: ApiResult) -> Callable[[float], ApiResult | None]:
    return lambda now: reply if start <= now < end else None


NO_ROUTE = always(refused(404))
DOWN = ApiFault(FaultKind.CONNECT, "connection refused")


@dataclass
class Sequence:
    """
    One row of the table: a server in the course of time, and the end that the wait must come to.

    :param outcome: the job's outcome, or None where the wait ends in an error.
    :param error: the error's type, and words that its text must hold.
    :param by: what decides.
    :param ends: between which seconds the wait may end.
    :param requests: the most that it may ask.
    :param most_a_poll: the most that one poll may ask.
    :param restarts: whether it comes to the same end with a restart after every poll; a count of refusals in
        a row cannot, since it begins again.
    """

    world: Callable[[], World]
    outcome: str | None = "succeeded"
    error: tuple[type[FineTuningError], str] | None = None
    by: str = "status"
    ends: tuple[float, float] = (0.0, DAY)
    requests: int = 60
    most_a_poll: int = 3
    restarts: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: int | None = None


TRAINING = [step(60 * number, number) for number in range(1, 30)]
AZURE_END = [
    at(1200, "Job succeeded."),
    at(1230, "Model Evaluation Passed."),
    at(1240, "Postprocessing started."),
    at(1250, "Completed results file: file-1"),
    at(1255, "Training tokens billed: 4000"),
]

SEQUENCES: dict[str, Sequence] = {
    "ids-that-change-with-every-answer": Sequence(
        lambda: World([*TRAINING, at(1800, SUCCESS)], [(0, "running"), (1800, "succeeded")], ids="changing"),
        ends=(1800, 2100),
        requests=70,
    ),
    "ids-that-change-on-an-oldest-first-server": Sequence(
        lambda: World(
            [*TRAINING, at(1800, SUCCESS)],
            [(0, "running"), (1800, "succeeded")],
            ids="changing",
            newest_first=False,
            vendor="nebius",
        ),
        ends=(1800, 2100),
        requests=150,
        most_a_poll=6,
    ),
    "a-heartbeat-each-poll": Sequence(
        lambda: World(every(60, "Still alive", until=DAY), [(0, "running"), (7200, "succeeded")]),
        ends=(7200, 7500),
        requests=160,
    ),
    "an-error-level-event-now-and-then": Sequence(
        lambda: World(
            [*every(500, "Could not write a sample", until=7000, level="error"), at(7200, SUCCESS)],
            [(0, "running"), (7200, "succeeded")],
        ),
        ends=(7200, 7260),
        requests=250,
    ),
    "a-success-event-ten-minutes-ahead-of-the-status": Sequence(
        lambda: World([step(300, 1), at(600, SUCCESS)], [(0, "running"), (1200, "succeeded")]),
        ends=(1200, 1270),
        requests=70,
    ),
    "a-success-event-that-the-status-never-confirms-until-a-day-later": Sequence(
        lambda: World([at(600, SUCCESS)], [(0, "running"), (DAY, "failed")]),
        outcome="failed",
        ends=(DAY, DAY + 60),
        requests=2_950,
        warnings=1,
    ),
    "a-job-deleted-after-it-was-seen": Sequence(
        lambda: World(
            [step(60, 1)],
            events_say=between(600, math.inf, refused(404)),
            job_says=between(600, math.inf, refused(404)),
        ),
        outcome=None,
        error=(FineTuningJobNotFound, "is gone"),
        ends=(720, 900),
        restarts=False,
    ),
    "a-job-deleted-whose-events-stay": Sequence(
        lambda: World([step(60, 1)], job_says=between(600, math.inf, refused(404))),
        outcome=None,
        error=(FineTuningJobNotFound, "is gone"),
        ends=(720, 1100),
        restarts=False,
    ),
    "azure-lines-after-the-end-without-a-job-route": Sequence(
        lambda: World([*TRAINING[:15], *AZURE_END], job_says=NO_ROUTE, vendor="azure"),
        by="event",
        ends=(1320, 1380),
        requests=60,
        facts={"status": None, "finished_at": "2027-01-15T08:20:00+00:00"},
    ),
    "one-stray-404-of-the-job": Sequence(
        lambda: World(
            [step(60, 1)], [(0, "running"), (900, "succeeded")], job_says=between(300, 330, refused(404))
        ),
        ends=(900, 960),
    ),
    "one-stray-404-of-both-routes": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (900, "succeeded")],
            events_say=between(300, 330, refused(404)),
            job_says=between(300, 330, refused(404)),
        ),
        ends=(900, 960),
    ),
    "a-stray-404-every-five-minutes": Sequence(
        lambda: World(
            states=[(0, "running"), (7200, "succeeded")],
            job_says=lambda now: refused(404) if 0 < now % 300 <= 60 else None,
        ),
        ends=(7200, 7320),
        requests=260,
    ),
    "an-events-route-that-is-missing": Sequence(
        lambda: World(states=[(0, "queued"), (600, "running"), (1800, "succeeded")], events_say=NO_ROUTE),
        ends=(1800, 1860),
        requests=45,
    ),
    "an-events-route-that-is-not-implemented": Sequence(
        lambda: World(states=[(0, "running"), (1800, "failed")], events_say=always(refused(501))),
        outcome="failed",
        ends=(1800, 1860),
        requests=45,
    ),
    "an-events-route-with-trouble-of-its-own": Sequence(
        lambda: World(states=[(0, "running"), (7200, "succeeded")], events_say=always(refused(502))),
        ends=(7200, 7260),
        requests=250,
    ),
    "a-job-route-that-is-missing-and-a-success": Sequence(
        lambda: World(
            [*TRAINING, at(1790, "New fine-tuned model created: ft:gpt:acme::1"), at(1796, SUCCESS)],
            job_says=NO_ROUTE,
        ),
        by="event",
        ends=(1916, 1980),
        requests=60,
        facts={"fine_tuned_model": "ft:gpt:acme::1"},
    ),
    "a-job-route-that-is-missing-and-a-stop": Sequence(
        lambda: World([*TRAINING[:3], at(200, CANCELLED, level="warn")], job_says=NO_ROUTE),
        outcome="cancelled",
        by="event",
        ends=(320, 380),
    ),
    "a-job-route-that-is-missing-and-an-error-with-a-code": Sequence(
        lambda: World(
            [at(10, "Validating training file"), error_event(20, "Too few examples", "invalid_n_examples")],
            job_says=always(refused(405)),
        ),
        outcome="failed",
        by="event",
        ends=(140, 200),
        facts={
            "error": {"code": "invalid_n_examples", "message": "Too few examples", "param": "training_file"},
            "fine_tuned_model": None,
        },
    ),
    "an-error-with-a-code-that-training-goes-on-after": Sequence(
        lambda: World(
            [error_event(100, "One bad row", "bad_row"), step(160, 1), at(1200, SUCCESS)], job_says=NO_ROUTE
        ),
        by="event",
        ends=(1320, 1380),
    ),
    "an-error-without-a-code-and-then-silence": Sequence(
        lambda: World(
            [error_event(100, "The job failed due to an invalid training file.")], job_says=NO_ROUTE
        ),
        outcome="failed",
        by="event",
        ends=(1000, 1070),
        facts={
            "error": {
                "code": None,
                "message": "The job failed due to an invalid training file.",
                "param": None,
            }
        },
    ),
    "an-error-without-a-code-that-something-follows": Sequence(
        lambda: World(
            [error_event(100, "Hiccup"), at(900, "Queued again"), at(5000, SUCCESS)], job_says=NO_ROUTE
        ),
        by="event",
        ends=(5120, 5180),
        requests=130,
    ),
    "a-stop-that-is-taken-back": Sequence(
        lambda: World(
            [at(300, CANCELLED, level="warn"), step(360, 1), step(1000, 2), at(1200, SUCCESS)],
            job_says=NO_ROUTE,
        ),
        by="event",
        ends=(1320, 1380),
    ),
    "a-stop-that-is-taken-back-while-the-job-can-be-read": Sequence(
        lambda: World(
            [at(300, CANCELLED, level="warn"), step(360, 1), at(1200, SUCCESS)],
            [(0, "running"), (1200, "succeeded")],
        ),
        ends=(1200, 1260),
    ),
    "a-success-that-a-later-step-takes-back": Sequence(
        lambda: World(
            [at(300, SUCCESS), step(390, 1), error_event(1000, "Out of memory", "oom")], job_says=NO_ROUTE
        ),
        outcome="failed",
        by="event",
        ends=(1120, 1180),
    ),
    "a-late-step-from-before-the-success": Sequence(
        lambda: World(
            [step(290, 1), at(300, SUCCESS), (400, step(295, 2)[1])],
            job_says=NO_ROUTE,
        ),
        by="event",
        ends=(420, 480),
    ),
    "a-job-that-is-restarted": Sequence(
        lambda: World(
            [
                at(100, "Job started", type="JOB_START"),
                at(300, "Job failed", type="JOB_ERROR", level="error"),
                at(400, "Job restarted", type="JOB_RESTARTED"),
                at(900, "Training completed for model", type="TRAINING_COMPLETE"),
                at(1000, "Job finished at 2027-01-15", type="JOB_COMPLETE"),
            ],
            job_says=NO_ROUTE,
            newest_first=False,
            ids="none",
            vendor="together",
        ),
        by="event",
        ends=(1120, 1180),
    ),
    "together-with-its-own-states": Sequence(
        lambda: World(
            [at(100, "Job started", type="JOB_START")],
            [(0, "pending"), (100, "compressing"), (700, "cancel_requested"), (900, "user_error")],
            newest_first=False,
            ids="none",
            vendor="together",
        ),
        outcome="failed",
        ends=(900, 960),
    ),
    "ten-minutes-of-outage": Sequence(
        lambda: World(
            [step(60, 1), at(3000, SUCCESS)],
            [(0, "running"), (3000, "succeeded")],
            events_say=between(600, 1200, DOWN),
            job_says=between(600, 1200, DOWN),
        ),
        ends=(3000, 3060),
        requests=110,
    ),
    "an-outage-that-does-not-end": Sequence(
        lambda: World(
            [step(60, 1)],
            events_say=between(600, math.inf, refused(502)),
            job_says=between(600, math.inf, DOWN),
        ),
        outcome=None,
        error=(FineTuningApiError, "unknown"),
        ends=(1500, 3300),
        restarts=False,
    ),
    "an-outage-from-the-start": Sequence(
        lambda: World(events_say=always(DOWN), job_says=always(DOWN)),
        outcome=None,
        error=(FineTuningApiError, "unknown"),
        ends=(900, 2700),
        restarts=False,
    ),
    "a-day-of-paused": Sequence(
        lambda: World(
            [step(60, 1), at(DAY, SUCCESS)],
            [(0, "running"), (120, "paused"), (DAY, "succeeded")],
        ),
        ends=(DAY, DAY + 60),
        requests=2_900,
        warnings=1,
    ),
    "a-day-of-a-state-that-nobody-knows": Sequence(
        lambda: World([step(60, 1)], [(0, "running"), (120, "moderating"), (DAY, "succeeded")]),
        ends=(DAY, DAY + 60),
        requests=2_900,
        warnings=1,
    ),
    "a-day-of-429": Sequence(
        lambda: World(
            [step(60, 1), at(DAY, SUCCESS)],
            [(0, "running"), (DAY, "succeeded")],
            events_say=between(300, DAY, refused(429, "rate_limit_exceeded", retry_after="120")),
            job_says=between(300, DAY, refused(429, "rate_limit_exceeded", retry_after="120")),
        ),
        ends=(DAY, DAY + 180),
        requests=1_100,
        warnings=1,
    ),
    "a-day-of-429-without-a-word-on-when": Sequence(
        lambda: World(
            [at(DAY, SUCCESS)],
            [(0, "running"), (DAY, "succeeded")],
            events_say=between(300, DAY, refused(429)),
        ),
        ends=(DAY, DAY + 900),
        requests=310,
        restarts=False,
    ),
    "a-429-on-the-events-for-ever": Sequence(
        lambda: World(
            [at(HOUR, SUCCESS)],
            [(0, "running"), (HOUR, "succeeded")],
            events_say=between(300, 30 * DAY, refused(429)),
        ),
        ends=(HOUR, HOUR + 1300),
        requests=60,
        restarts=False,
    ),
    "a-job-unknown-from-the-start": Sequence(
        lambda: World(events_say=NO_ROUTE, job_says=NO_ROUTE),
        outcome=None,
        error=(FineTuningJobNotFound, "Check the job id"),
        ends=(30, 30),
        requests=6,
        restarts=False,
    ),
    "a-key-that-is-not-accepted": Sequence(
        lambda: World(events_say=always(refused(401, "invalid_api_key")), job_says=always(refused(401))),
        outcome=None,
        error=(FineTuningAuthError, "Check the API key"),
        ends=(0, 0),
        requests=2,
    ),
    "a-key-that-is-withdrawn": Sequence(
        lambda: World(
            [step(60, 1)],
            events_say=between(300, math.inf, refused(401, "invalid_api_key")),
            job_says=between(300, math.inf, refused(401, "invalid_api_key")),
        ),
        outcome=None,
        error=(FineTuningAuthError, "Check the API key"),
        ends=(330, 390),
        restarts=False,
    ),
    "a-401-on-everything-for-some-seconds": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (1000, "succeeded")],
            events_say=between(290, 310, refused(401)),
            job_says=between(290, 310, refused(401)),
        ),
        ends=(1000, 1060),
    ),
    "a-key-that-may-not-read-the-events": Sequence(
        lambda: World(
            [at(600, SUCCESS)], [(0, "running"), (600, "succeeded")], events_say=always(refused(403))
        ),
        ends=(600, 660),
        warnings=1,
    ),
    "a-key-that-may-no-longer-read-the-events": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (1000, "succeeded")],
            events_say=between(300, math.inf, refused(401, "invalid_api_key")),
        ),
        ends=(1000, 1060),
        warnings=1,
    ),
    "a-key-that-may-not-read-the-job": Sequence(
        lambda: World([step(60, 1), at(600, SUCCESS)], job_says=always(refused(403))),
        by="event",
        ends=(720, 800),
    ),
    "a-403-on-everything-in-the-middle": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (1000, "succeeded")],
            events_say=between(290, 310, refused(403)),
            job_says=between(290, 310, refused(403)),
        ),
        ends=(1000, 1060),
    ),
    "a-403-on-everything-that-stays": Sequence(
        lambda: World(
            [step(60, 1)],
            events_say=between(290, math.inf, refused(403)),
            job_says=between(290, math.inf, refused(403)),
        ),
        outcome=None,
        error=(FineTuningApiError, "state of job ftjob-1 is unknown"),
        ends=(1200, 3000),
        restarts=False,
    ),
    "a-gateway-that-starts-while-the-wait-does": Sequence(
        lambda: World(
            states=[(0, "running"), (600, "succeeded")],
            events_say=between(0, 25, refused(404)),
            job_says=between(0, 25, HTML),
        ),
        ends=(600, 660),
    ),
    "one-redirect-of-the-job-route-at-the-first-look": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (40, "failed")],
            job_says=between(0, 5, refused(302)),
        ),
        outcome="failed",
        ends=(40, 140),
    ),
    "a-word-that-nobody-knows-of-a-job-that-says-it-finished": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (600, "archived")],
            job={"finished_at": None, "completed_at": START + 590},
        ),
        outcome=None,
        error=(FineTuningStatusUnknown, '"states": {"archived"'),
        ends=(1490, 1620),
        restarts=False,
    ),
    "a-word-that-nobody-knows-in-between": Sequence(
        lambda: World([step(60, 1)], [(0, "running"), (600, "polishing"), (5000, "succeeded")]),
        ends=(5000, 5060),
        requests=200,
    ),
    "a-success-that-reports-an-error": Sequence(
        lambda: World(
            [step(60, 1)],
            [(0, "running"), (600, "succeeded")],
            job={"finished_at": START + 600, "error": {"message": "out of memory"}},
        ),
        outcome=None,
        error=(FineTuningStatusUnknown, "out of memory"),
        ends=(1500, 1620),
        restarts=False,
    ),
    "a-key-without-permission": Sequence(
        lambda: World(events_say=always(refused(403)), job_says=always(refused(403))),
        outcome=None,
        error=(FineTuningAuthError, "permissions"),
        ends=(30, 30),
        requests=6,
        restarts=False,
    ),
    "html-on-both-routes": Sequence(
        lambda: World(events_say=always(HTML), job_says=always(HTML)),
        outcome=None,
        error=(FineTuningAnswerError, "not JSON"),
        ends=(30, 30),
        requests=6,
        restarts=False,
    ),
    "html-for-a-while-once-the-job-was-seen": Sequence(
        lambda: World(
            states=[(0, "running"), (3000, "succeeded")],
            events_say=between(300, 700, HTML),
            job_says=between(300, 700, HTML),
        ),
        ends=(3000, 3060),
        requests=110,
    ),
    "html-on-the-events-route": Sequence(
        lambda: World(states=[(0, "running"), (900, "cancelled")], events_say=always(HTML)),
        outcome="cancelled",
        ends=(900, 960),
    ),
    "html-on-the-job-route": Sequence(
        lambda: World([*TRAINING[:5], at(900, SUCCESS)], job_says=always(HTML)),
        by="event",
        ends=(1020, 1080),
    ),
    "a-job-route-that-appears-later": Sequence(
        lambda: World(
            [step(60, 1)], [(0, "running"), (1500, "failed")], job_says=between(0, 800, refused(404))
        ),
        outcome="failed",
        ends=(1500, 1560),
        requests=60,
    ),
    "finished-at-null-and-an-empty-error": Sequence(
        lambda: World(
            states=[(0, "running"), (300, "succeeded")],
            job={"finished_at": None, "error": {}, "fine_tuned_model": None, "trained_tokens": None},
        ),
        ends=(300, 360),
        facts={"finished_at": None, "error": None, "fine_tuned_model": None, "trained_tokens": None},
    ),
    "an-empty-error-on-a-running-job": Sequence(
        lambda: World(
            states=[(0, "running"), (600, "failed")],
            job={
                "error": {"code": "bad_file", "message": "Broken", "param": None},
                "finished_at": 1_800_000_590,
            },
        ),
        outcome="failed",
        ends=(600, 660),
        facts={
            "error": {"code": "bad_file", "message": "Broken", "param": None},
            "finished_at": "2027-01-15T08:09:50+00:00",
        },
    ),
    "a-cancelled-status-before-the-cancel-event": Sequence(
        lambda: World(
            [step(60, 1), at(666, CANCELLED, level="warn")],
            [(0, "running"), (600, "cancelled")],
            job={"finished_at": None},
        ),
        outcome="cancelled",
        ends=(600, 660),
    ),
    "the-american-spelling": Sequence(
        lambda: World(states=[(0, "running"), (300, "Canceled")]), outcome="cancelled", ends=(300, 360)
    ),
    "a-server-clock-three-hours-behind": Sequence(
        lambda: World(
            [
                (seconds, event | {"created_at": event["created_at"] - 10_800})
                for seconds, event in (step(60, 1), at(600, SUCCESS))
            ],
            job_says=NO_ROUTE,
            skew=-10_800,
        ),
        by="event",
        ends=(720, 780),
    ),
    "a-server-clock-three-hours-ahead": Sequence(
        lambda: World(
            [
                (seconds, event | {"created_at": event["created_at"] + 10_800})
                for seconds, event in (step(60, 1), at(600, SUCCESS))
            ],
            job_says=NO_ROUTE,
            skew=10_800,
        ),
        by="event",
        ends=(720, 800),
    ),
    "an-empty-log-and-no-word-but-the-status": Sequence(
        lambda: World(states=[(0, "queued"), (20_000, "running"), (30_000, "succeeded")]),
        ends=(30_000, 30_060),
        requests=1_010,
    ),
    "a-job-that-had-ended-before": Sequence(
        lambda: World([at(-500, SUCCESS)], [(0, "succeeded")]), ends=(0, 0), requests=2
    ),
    "a-job-that-had-ended-before-without-a-job-route": Sequence(
        lambda: World([at(-500, SUCCESS)], job_says=NO_ROUTE), by="event", ends=(120, 180), requests=8
    ),
}
TABLE = pytest.mark.parametrize("row", SEQUENCES.values(), ids=SEQUENCES.keys())


def check_end(row: Sequence, wait: Wait, *, slack: float = 0) -> None:
    if row.error:
        kind, words = row.error
        assert wait.outcome is None
        assert type(wait.error) is kind, wait.error
        assert words in str(wait.error)
        assert JOB in str(wait.error)
        assert "'tuning'" in str(wait.error)
    else:
        assert wait.error is None, wait.error
        assert wait.outcome is not None
        assert (wait.outcome.outcome.value, wait.outcome.decided_by) == (row.outcome, row.by)
        assert {name: wait.outcome.as_dict()[name] for name in row.facts} == row.facts
    assert row.ends[0] <= wait.ended_at <= row.ends[1] + slack


@TABLE
def test_a_wait_comes_to_the_right_end_in_time_with_few_requests(kit: Any, row: Sequence) -> None:
    wait = drive(kit, row.world())
    check_end(row, wait)
    assert wait.requests <= row.requests
    assert wait.most_a_poll <= row.most_a_poll
    if row.warnings is not None:
        assert len(wait.warnings) == row.warnings


@TABLE
def test_a_restart_at_any_moment_leads_to_the_same_end(kit: Any, row: Sequence) -> None:
    polls = drive(kit, row.world()).polls
    moments = range(1, polls) if polls < 60 else [2, polls // 2, polls - 1]
    for moment in moments:
        wait = drive(kit, row.world(), restart=lambda poll, moment=moment: poll == moment)
        check_end(row, wait, slack=900 if row.error or not row.restarts else 60)


@pytest.mark.parametrize(
    "row",
    [row for row in SEQUENCES.values() if row.restarts],
    ids=[name for name, row in SEQUENCES.items() if row.restarts],
)
def test_restarts_after_every_poll_lead_to_the_same_end(kit: Any, row: Sequence) -> None:
    # nobody remembers how long the job route has been missing: the events decide once the end is long past
    slack = 12_600 if row.by == "event" else 60
    check_end(row, drive(kit, row.world(), restart=lambda poll: True), slack=slack)


# what must not end


RUNNING = {
    "a-failed-job-without-a-failure-event-and-without-a-job-route": World(
        TRAINING, [(0, "running"), (2000, "failed")], job_says=NO_ROUTE
    ),
    "a-model-that-was-made": World(
        [at(60, "New fine-tuned model created: ft:gpt:acme::1")], job_says=NO_ROUTE
    ),
    "a-checkpoint": World(
        [at(60, "Checkpoint created at step 10 with Snapshot ID: ft:gpt:acme::1")], job_says=NO_ROUTE
    ),
    "azure-results-without-the-success": World(
        [at(60, "Postprocessing started."), at(70, "Created results file: file-1")],
        job_says=NO_ROUTE,
        vendor="azure",
    ),
    "together-training-complete": World(
        [at(60, "Training completed for m", type="TRAINING_COMPLETE")],
        job_says=NO_ROUTE,
        vendor="together",
        newest_first=False,
        ids="none",
    ),
    "a-message-that-only-begins-like-a-success": World(
        [at(60, SUCCESS + " its validation step")], job_says=NO_ROUTE
    ),
    "an-error-level-event-on-a-running-job": World([error_event(60, "Broken", "broken")]),
    "a-success-event-on-a-running-job": World([at(60, SUCCESS)]),
    "warnings-only": World([at(60, "Careful", level="warn")], job_says=NO_ROUTE),
}


@pytest.mark.parametrize("world", RUNNING.values(), ids=RUNNING.keys())
def test_a_job_without_an_end_does_not_end_the_wait_within_a_day(kit: Any, world: World) -> None:
    wait = drive(kit, world, until=DAY)
    assert wait.outcome is None
    assert wait.error is None
    assert wait.ended_at == DAY
    assert wait.requests <= 2 * wait.polls + 1


# what is told, and what it costs


def test_every_event_is_told_once_in_order_and_verbatim(kit: Any) -> None:
    world = World([*TRAINING, at(1800, SUCCESS)], [(0, "running"), (1800, "succeeded")])
    assert drive(kit, world).told == [event for _, event in world.log]


@pytest.mark.parametrize("job_route", [True, False], ids=["job-route", "no-job-route"])
@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_a_restart_tells_no_event_twice_and_loses_none(kit: Any, newest_first: bool, job_route: bool) -> None:
    world = World(
        [*TRAINING, at(1800, SUCCESS)],
        [(0, "running"), (1800, "succeeded")],
        newest_first=newest_first,
        vendor="auto" if newest_first else "nebius",
        job_says=(lambda now: None) if job_route else NO_ROUTE,
    )
    wait = drive(kit, world, restart=lambda poll: True, until=1860)
    assert wait.told == [event for _, event in world.log]


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_the_first_look_tells_one_page_at_most_and_says_that_there_is_more(
    kit: Any, newest_first: bool
) -> None:
    world = World(
        [step(-1000 + number, number) for number in range(500)],
        newest_first=newest_first,
        vendor="auto" if newest_first else "nebius",
    )
    wait = drive(kit, world, until=0)
    assert wait.look.more_before
    assert wait.told == [event for _, event in world.log][-100:]


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_a_poll_of_a_10000_event_log_costs_little_while_events_flow_and_in_silence(
    kit: Any, newest_first: bool
) -> None:
    old = [step(-20_000 + number, number) for number in range(10_000)]
    flowing = [step(20 * turn, 10_000 + turn) for turn in range(1, 301)]
    options: dict[str, Any] = {"newest_first": newest_first, "vendor": "auto" if newest_first else "nebius"}
    first = 0 if newest_first else 99
    wait = drive(kit, World([*old, *flowing], **options), until=6_000)
    assert wait.polls == 101
    assert wait.requests - first <= 1.2 * wait.polls + 1
    assert wait.told[100:] == [event for _, event in flowing]
    silent = drive(kit, World(old, **options), until=6_000)
    assert silent.requests - first <= 2 * silent.polls


def test_a_poll_with_few_new_events_makes_two_requests_at_most(kit: Any) -> None:
    world = World([*TRAINING, at(1800, SUCCESS)], [(0, "running"), (2500, "succeeded")])
    assert drive(kit, world).most_a_poll <= 2


def test_an_unconfirmed_end_is_asked_about_soon_ten_times_and_then_at_the_ordinary_pace(kit: Any) -> None:
    world = World([at(600, SUCCESS)])
    settings = kit.settings()
    poller = JobPoller(settings=settings, job_id=JOB)
    now, gaps = 0.0, []
    for _ in range(30):
        look = kit.converse(
            poller.poll(now=START + now), lambda request, now=now: world.reply(kit, request, now)
        )
        gaps.append(look.wait)
        now += look.wait
    assert gaps == [60.0] * 10 + [10.0] * 10 + [60.0] * 10


def test_the_gap_doubles_up_to_ten_minutes_while_the_server_is_away(kit: Any) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB, max_failures=99)
    now, gaps = 0.0, []
    for _ in range(6):
        look = kit.converse(poller.poll(now=START + now), lambda request: DOWN)
        gaps.append(look.wait)
        now += look.wait
    assert gaps == [120.0, 240.0, 480.0, 600.0, 600.0, 600.0]


def test_a_failed_poll_says_that_it_says_nothing_about_the_job(kit: Any) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    look = kit.converse(poller.poll(now=START), lambda request: DOWN)
    assert not look.asked
    assert not look.over
    assert ["says nothing about the job" in text for _, text in look.notes] == [True]


def test_the_unknown_state_is_never_called_a_failed_job(kit: Any) -> None:
    wait = drive(kit, SEQUENCES["an-outage-from-the-start"].world())
    assert isinstance(wait.error, FineTuningApiError)
    assert "job failed" not in str(wait.error)
    assert "nothing was done to it" in str(wait.error)
    assert wait.polls >= 5


@pytest.mark.parametrize(
    ("interval", "ended_at"),
    [
        pytest.param(1.0, 720, id="two-minutes-however-many-answers"),
        pytest.param(60.0, 720, id="three-answers-in-two-minutes"),
        pytest.param(300.0, 1200, id="three-answers-however-long-that-takes"),
    ],
)
def test_a_job_is_gone_after_three_404s_in_a_row_over_two_minutes(
    kit: Any, interval: float, ended_at: float
) -> None:
    gone = between(600, math.inf, refused(404))
    wait = drive(kit, World(events_say=gone, job_says=gone), interval=interval)
    assert isinstance(wait.error, FineTuningJobNotFound)
    assert wait.ended_at == ended_at


@pytest.mark.parametrize(
    ("interval", "polls"), [(1.0, 10), (600.0, 5)], ids=["at-least-900-s", "at-least-5-polls"]
)
def test_a_state_is_unknown_after_five_failed_polls_and_fifteen_minutes(
    kit: Any, interval: float, polls: int
) -> None:
    wait = drive(kit, World(events_say=always(DOWN), job_says=always(DOWN)), interval=interval)
    assert isinstance(wait.error, FineTuningApiError)
    assert wait.ended_at >= 900
    assert wait.polls == polls


@pytest.mark.parametrize("log", [[], [at(600, SUCCESS)]], ids=["silence", "a-success-that-nothing-confirms"])
def test_events_alone_do_not_hide_that_the_job_cannot_be_asked(kit: Any, log: list[Any]) -> None:
    wait = drive(kit, World(log, job_says=always(refused(502))), until=DAY)
    assert wait.outcome is None
    assert isinstance(wait.error, FineTuningApiError)
    assert "unknown" in str(wait.error)


def test_a_job_route_in_trouble_does_not_end_a_wait_whose_events_flow(kit: Any) -> None:
    world = World(every(50, "Alive", until=DAY), job_says=always(refused(502)))
    wait = drive(kit, world, until=7_200)
    assert wait.error is None
    assert wait.ended_at == 7_200


def test_the_end_of_an_outage_is_told_once(kit: Any) -> None:
    wait = drive(kit, SEQUENCES["ten-minutes-of-outage"].world())
    assert len([text for _, text in wait.notes if "answers again" in text]) == 1


def test_an_events_route_with_trouble_is_warned_about_once_although_each_refusal_has_its_own_id(
    kit: Any,
) -> None:
    count = iter(range(10_000))
    world = World(
        states=[(0, "running"), (6_000, "succeeded")],
        events_say=lambda now: refused(500, x_request_id=f"req-{next(count)}"),
    )
    assert len(drive(kit, world).warnings) == 1


def test_a_burst_on_a_server_that_ignores_after_is_made_up_for_by_a_larger_page(kit: Any) -> None:
    log = [step(-9 + number, number)[1] for number in range(10)]
    server = kit.server(log, cursor="ignored", says_more="always")
    job = kit.answer({"id": JOB, "status": "running"})
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    told: list[int] = []
    for poll in range(12):
        log += [step(60 * poll + n, len(log) + n)[1] for n in range(30 if poll == 3 else 1)]
        look = kit.converse(
            poller.poll(now=START + 60 * poll),
            lambda request: server(request) if request.path.endswith("/events") else job,
        )
        told += [event.step for event in look.events]
    assert sorted(set(told)) == sorted({event["data"]["step"] for event in log})


def test_a_changed_status_is_told_once(kit: Any) -> None:
    world = World(states=[(0, "queued"), (300, "running"), (900, "succeeded")])
    told = [text for level, text in drive(kit, world).notes if level == "info"]
    assert told == [
        "Job ftjob-1 is queued.",
        "Job ftjob-1 is running.",
        "Job ftjob-1 is succeeded.",
    ]


def test_a_clock_that_is_set_back_does_not_keep_the_job_from_being_read(kit: Any) -> None:
    world = World(every(60, "Alive", until=DAY), [(0, "running"), (600, "succeeded")])
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    look = kit.converse(poller.poll(now=START + DAY), lambda request: world.reply(kit, request, 0))
    assert not look.over
    look = kit.converse(poller.poll(now=START), lambda request: world.reply(kit, request, 660))
    assert look.outcome is not None


def test_a_status_with_control_characters_cannot_forge_a_log_line(kit: Any) -> None:
    world = World(states=[(0, "odd\n2027-01-15 ERROR \x1b[31mfake")])
    notes = drive(kit, world, until=0).notes
    assert notes
    assert all(text.isprintable() for _, text in notes)


def test_a_connection_that_was_read_again_is_used_for_the_next_poll(kit: Any) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    poller.use(kit.settings(password="sk-other-key-123456"))
    assert poller.settings.credential.current() == "sk-other-key-123456"


def test_an_answer_about_another_job_is_not_taken_for_this_one(kit: Any) -> None:
    other = kit.answer({"id": "ftjob-2", "status": "succeeded"})
    wait = drive(kit, World(job_says=always(other)), until=600)
    assert wait.outcome is None


@pytest.mark.parametrize("interval", [0.5, 5.0, 60.0, 3600.0])
def test_the_end_is_found_at_every_pace(kit: Any, interval: float) -> None:
    world = World([step(60, 1), at(700, SUCCESS)], [(0, "running"), (720, "succeeded")])
    wait = drive(kit, world, interval=interval)
    assert wait.outcome is not None
    assert wait.ended_at <= 720 + interval


def test_the_server_date_is_that_of_its_answer() -> None:
    answer = ApiResponse(200, {"date": formatdate(START, usegmt=True)}, b"")
    assert answer.server_time == START


# a key that is refused in the middle of a poll


NEW_KEY = "sk-proj-Other22KeyAfterRotation"


def looked(
    poller: JobPoller, world: World, kit: Any, read_again: Any, *, refuses: tuple[str, ...] = (JOB,)
) -> PollResult:
    """One poll whose server refuses some routes to the first key; the connection is read again as told."""
    polling = poller.poll(now=START)
    try:
        step = next(polling)
        while True:
            if isinstance(step, ReadAgain):
                assert (step.refused, step.secret) == (poller.settings, kit.key)
                assert kit.key not in repr(step)
                step = polling.send(read_again)
            elif not step.path.endswith(refuses) or poller.settings.credential.current() == NEW_KEY:
                step = polling.send(world.reply(kit, step, 0.0))
            else:
                step = polling.send(refused(401, "invalid_api_key"))
    except StopIteration as end:
        found: PollResult = end.value
        return found


@pytest.fixture
def long_world() -> World:
    """A log of more events than the first look reads."""
    return World([at(-100 + number / 10, f"Message {number}") for number in range(250)])


def test_what_was_read_before_the_key_was_refused_is_kept(kit: Any, long_world: World) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    look = looked(poller, long_world, kit, kit.settings(password=NEW_KEY))
    assert (look.error, poller.status, len(look.events)) == (None, "running", 100)
    assert look.more_before
    assert any("has changed" in text for _, text in look.notes)


def test_a_refused_key_that_has_not_changed_ends_the_wait(kit: Any, long_world: World) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    found = looked(poller, long_world, kit, poller.settings, refuses=(JOB, "/events"))
    assert isinstance(found.error, FineTuningAuthError)


def test_a_connection_that_cannot_work_any_more_ends_the_wait(kit: Any, long_world: World) -> None:
    gone = FineTuningInputError("Connection 'tuning' is not defined.")
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    assert looked(poller, long_world, kit, gone).error is gone


def test_a_connection_that_cannot_be_read_again_now_is_a_poll_that_failed(
    kit: Any, long_world: World
) -> None:
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    away = FineTuningError("The secrets backend is away")
    look = looked(poller, long_world, kit, away, refuses=(JOB, "/events"))
    assert (look.error, look.asked, look.wait) == (None, False, 120.0)
    assert [text for level, text in look.notes if level == "warning" and "backend is away" in text]


# the order of asking


@dataclass
class Limiter:
    """Lets one request a second pass; the others get a refusal."""

    refusal: ApiResponse
    passed_at: float = -math.inf

    def __call__(self, now: float) -> ApiResult | None:
        if now - self.passed_at < 1:
            return self.refusal
        self.passed_at = now
        return None


LIMITED: dict[str, tuple[World, Any, tuple[float, float]]] = {
    "no job route": (World([*TRAINING, at(1800, SUCCESS)], job_says=NO_ROUTE), "succeeded", (1920, 2600)),
    "a job unknown from the start": (
        World(job_says=NO_ROUTE, events_say=NO_ROUTE),
        FineTuningJobNotFound,
        (30, 600),
    ),
    "a key that is not accepted": (
        World(job_says=always(refused(401)), events_say=always(refused(401))),
        FineTuningAuthError,
        (0, 600),
    ),
    "a job deleted later": (
        World([step(60, 1)], job_says=between(600, math.inf, refused(404))),
        FineTuningJobNotFound,
        (720, 2400),
    ),
    "a key withdrawn later": (
        World(
            [step(60, 1)],
            job_says=between(600, math.inf, refused(401)),
            events_say=between(600, math.inf, refused(401)),
        ),
        FineTuningAuthError,
        (630, 1800),
    ),
}


@pytest.mark.parametrize("limited", LIMITED)
def test_behind_a_limiter_without_burst_what_a_server_refuses_ends_a_wait_as_elsewhere(
    kit: Any, limited: str
) -> None:
    world, end, (earliest, latest) = LIMITED[limited]
    limiter, events_say, job_says = Limiter(refused(429)), world.events_say, world.job_says
    wait = drive(
        kit,
        replace(
            world,
            events_say=lambda now: limiter(now) or events_say(now),
            job_says=lambda now: limiter(now) or job_says(now),
        ),
    )
    assert (wait.outcome.outcome if wait.outcome else type(wait.error)) == end
    assert earliest <= wait.ended_at <= latest


@pytest.mark.parametrize("job", [refused(404), refused(503)], ids=["404", "503"])
def test_events_that_always_pause_hide_no_job_that_cannot_be_asked(kit: Any, job: ApiResponse) -> None:
    wait = drive(kit, World(job_says=always(job), events_say=always(refused(429))))
    assert isinstance(wait.error, FineTuningApiError)
    assert "is unknown" in str(wait.error)


def test_during_long_pauses_the_connection_is_read_again_at_most_every_five_minutes_and_a_new_key_is_used(
    kit: Any,
) -> None:
    old, new = kit.settings(), kit.settings(password="sk-proj-another-key-0123456789")
    world = World(states=[(0, "succeeded")])
    poller, now, read_at = JobPoller(settings=old, job_id=JOB), 0.0, []
    while True:
        polling = poller.poll(now=START + now)
        try:
            asked = next(polling)
            while True:
                if isinstance(asked, ReadAgain):
                    read_at.append(now)
                    asked = polling.send(new if now > 900 else old)
                else:
                    exhausted = poller.settings is old
                    asked = polling.send(refused(429) if exhausted else world.reply(kit, asked, now))
        except StopIteration as end:
            look = end.value
        if look.over:
            break
        now += look.wait
    assert look.outcome is not None
    assert len(read_at) == 2
    assert read_at[1] - read_at[0] >= 300


def test_a_planned_end_is_no_end_of_a_job_whose_status_nobody_knows(kit: Any) -> None:
    world = World(
        [step(60, 1)],
        [(0, "warming"), (5000, "succeeded")],
        job={"end_time": START + DAY, "finished_at": None},
    )
    wait = drive(kit, world)
    assert wait.outcome is not None
    assert wait.outcome.succeeded


def test_a_job_route_that_fails_when_the_events_decide_is_not_asked_every_second(kit: Any) -> None:
    world = World(
        [at(300, SUCCESS)],
        job_says=lambda now: refused(404) if now < 200 else refused(503),
    )
    wait = drive(kit, world, until=4000)
    assert wait.outcome is None
    assert wait.polls < 150


def test_the_last_look_asks_the_job_first(kit: Any) -> None:
    asked = []
    poller = JobPoller(settings=kit.settings(), job_id=JOB)
    polling = poller.poll(now=START, last=True)
    asked.append(next(polling).path)
    assert not asked[0].endswith("/events")


def test_a_word_that_nobody_knows_after_a_final_event_ends_the_wait_after_15_minutes(kit: Any) -> None:
    wait = drive(kit, World([at(600, SUCCESS)], [(0, "running"), (600, "archived")]))
    assert isinstance(wait.error, FineTuningStatusUnknown)
    assert "Its log says" in str(wait.error)
    assert 1500 <= wait.ended_at <= 1620


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("remembers", [True, False], ids=["remembers", "reschedule"])
def test_behind_a_limiter_without_burst_the_end_is_seen_within_two_polls(
    kit: Any, status: int, newest_first: bool, remembers: bool
) -> None:
    limiter = Limiter(refused(status))
    success = SUCCESS if newest_first else "Training completed successfully"
    world = World(
        [*TRAINING, at(1800, success)],
        [(0, "running"), (1800, "succeeded")],
        events_say=limiter,
        job_says=limiter,
        newest_first=newest_first,
        vendor="openai" if newest_first else "nebius",
    )
    now, polls_after, poller = 0.0, 0, None
    for number in range(200):
        if poller is None or not remembers:
            poller = JobPoller(
                settings=kit.settings(extra={"vendor": world.vendor}),
                job_id=JOB,
                first=number == 0,
                remembers=remembers,
            )
        look = conversed_at(kit, poller, world, now)
        polls_after += now >= 1800
        if look.over:
            break
        now += max(look.wait, 60.0) if remembers else 60.0
    assert look.outcome is not None
    assert (look.outcome.outcome, look.outcome.decided_by) == ("succeeded", "status")
    assert polls_after <= 2


def conversed_at(kit: Any, poller: JobPoller, world: World, now: float, *, last: bool = False) -> PollResult:
    """One poll; the connection is as it was."""
    polling = poller.poll(now=START + now, last=last)
    try:
        step = next(polling)
        while True:
            again = isinstance(step, ReadAgain)
            step = polling.send(poller.settings if again else world.reply(kit, step, now))
    except StopIteration as end:
        found: PollResult = end.value
        return found


ANSWERS: dict[str, ApiResult | None] = {
    "answers": None,
    "missing": refused(404),
    "moved": refused(302),
    "unreadable": HTML,
    "key refused": refused(401, "invalid_api_key"),
    "forbidden": refused(403),
    "pause": refused(429),
    "fault": refused(503),
    "no answer": DOWN,
}
TRUTHS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), gap=st.integers(1, 5), truth=st.sampled_from(sorted(TRUTHS)))
def test_a_job_that_is_read_in_every_few_polls_ends_the_wait_with_the_truth_soon(
    kit: Any, data: st.DataObject, gap: int, truth: str
) -> None:
    """Whatever either route says in between, but for what ends a wait: a refused key, a gone job."""
    words = [word for word in ANSWERS if word != "key refused"]
    ended_at = data.draw(st.integers(1, 12), label="the poll before which the job ends")
    says = {"job": "answers", "events": "answers"}
    states = [(0.0, "running")]
    world = World(
        [step(-60.0, 1)],
        states,
        events_say=lambda now: ANSWERS[says["events"]],
        job_says=lambda now: ANSWERS[says["job"]],
    )
    poller, now, unread, since = JobPoller(settings=kit.settings(), job_id=JOB), 0.0, 0, 0
    absent = 0
    for number in range(60):
        if number == ended_at:
            states.append((now, truth))
        # what both routes refuse for 30 s at the very beginning is final
        at_first = ["answers"] if number == 0 and gap > 3 else words
        says["events"] = data.draw(st.sampled_from(at_first), label=f"events in poll {number}")
        # three 404 in a row say that the job is gone
        others = words if absent < 2 else [word for word in words if word != "missing"]
        says["job"] = "answers" if unread + 1 >= gap else data.draw(st.sampled_from(others), label="job")
        if says["job"] != "pause":
            absent = absent + 1 if says["job"] == "missing" else 0
        unread = 0 if says["job"] == "answers" else unread + 1
        look = conversed_at(kit, poller, world, now)
        assert look.error is None, look.error
        since += number >= ended_at
        if look.outcome is not None:
            break
        now += look.wait
    assert look.outcome is not None
    assert (look.outcome.outcome, look.outcome.decided_by) == (truth, "status")
    assert since <= gap + 2
