"""Calls as conversations, and the retry policy that both faces of the hook share."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.api.calls import (
    cancel_job,
    get_job,
    list_checkpoints,
    list_jobs,
    newest_events,
    read_events,
    shows_end,
)
from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, FaultKind
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningError,
    FineTuningJobNotFound,
    FineTuningPagingError,
)


def test_a_job_is_asked_for_at_its_path_and_returned_as_it_came(kit: Any) -> None:
    asked: list[ApiRequest] = []
    job = {"id": "ftjob-1", "status": "running", "error": {}, "unheard_of": [1, None]}

    def server(request: ApiRequest) -> Any:
        asked.append(request)
        return kit.answer(job)

    assert kit.converse(get_job(kit.settings(), "ftjob-1"), server).raw == job
    assert [(request.method, request.path, dict(request.params)) for request in asked] == [
        ("GET", "/fine_tuning/jobs/ftjob-1", {})
    ]


@pytest.mark.parametrize("told", [{"status": {"status": "completed"}}, {"state": "completed"}])
def test_a_job_whose_status_stands_elsewhere_is_read(kit: Any, told: dict[str, Any]) -> None:
    job = kit.converse(
        get_job(kit.settings(), "ftjob-1"), lambda request: kit.answer({"id": "ftjob-1"} | told)
    )
    assert (job.status, job.raw) == ("completed", {"id": "ftjob-1"} | told)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"id": "ftjob-1"}, "no job status", id="without-status"),
        pytest.param({"id": "ftjob-1", "status": None}, "no job status", id="null-status"),
        pytest.param({"id": "ftjob-1", "status": "  "}, "no job status", id="blank-status"),
        pytest.param({"id": "ftjob-1", "status": 7}, "no job status", id="a-number-for-a-status"),
        pytest.param({"id": "ftjob-2", "status": "succeeded"}, "another job", id="another-job"),
        pytest.param(["succeeded"], "not a JSON object", id="a-list"),
        pytest.param(b"<html>", "not JSON", id="html"),
    ],
)
def test_an_answer_that_is_no_such_job_is_an_answer_error(kit: Any, body: Any, words: str) -> None:
    with pytest.raises(FineTuningAnswerError, match=words):
        kit.converse(get_job(kit.settings(), "ftjob-1"), lambda request: kit.answer(body))


def test_no_answer_is_an_error_that_says_nothing_about_the_job(kit: Any) -> None:
    with pytest.raises(FineTuningApiError, match="says nothing about the job") as caught:
        kit.converse(
            get_job(kit.settings(), "ftjob-1"),
            lambda request: ApiFault(FaultKind.TIMEOUT, "no answer in 30 s", 6),
        )
    assert "after 6 tries" in str(caught.value)
    assert caught.value.status is None


def test_a_body_beyond_the_limit_is_an_answer_error_that_names_the_limit(kit: Any) -> None:
    with pytest.raises(FineTuningAnswerError, match="more than 32 MiB"):
        kit.converse(
            read_events(kit.settings(), "ftjob-1"),
            lambda request: ApiFault(FaultKind.TOO_LARGE, "the answer holds more than 32 MiB"),
        )


def test_cancelling_posts_to_the_jobs_cancel_path(kit: Any) -> None:
    asked: list[ApiRequest] = []

    def server(request: ApiRequest) -> Any:
        asked.append(request)
        return kit.answer({"id": "ftjob-1", "status": "cancelled"})

    assert kit.converse(cancel_job(kit.settings(), "ftjob-1"), server)["status"] == "cancelled"
    assert [(request.method, request.path) for request in asked] == [
        ("POST", "/fine_tuning/jobs/ftjob-1/cancel")
    ]


CANCELLED = {"id": "ftjob-1", "status": "cancelled"}
ACTED: dict[str, Any] = {
    "an error after the act": ApiResponse(500, {}, b"{}"),
    "a gateway's page": ApiResponse(502, {}, b"<html>"),
    "half a body": ApiResponse(200, {}, b'{"id": "ftjo'),
    "a body that is no object": ApiResponse(200, {}, b"[]"),
    "a retry that met a cancelled job": ApiResponse(400, {}, b'{"error": {"message": "Already"}}', tries=2),
    "a retry that met a conflict": ApiResponse(409, {}, b"{}", tries=3),
    "a connection that broke": ApiFault(FaultKind.BROKEN, "the connection broke"),
    "silence": ApiFault(FaultKind.TIMEOUT, "no answer in 30 s"),
    "too much": ApiFault(FaultKind.TOO_LARGE, "too large"),
}
NOT_ACTED: dict[str, Any] = {
    "a refused key": ApiResponse(401, {}, b"{}"),
    "a forbidden route": ApiResponse(403, {}, b"{}"),
    "an unknown job": ApiResponse(404, {}, b"{}"),
    "a limiter": ApiResponse(429, {}, b"{}"),
    "a redirect": ApiResponse(302, {}, b""),
    "a first refusal": ApiResponse(400, {}, b"{}"),
    "nobody": ApiFault(FaultKind.CONNECT, "could not connect"),
    "no token": ApiFault(FaultKind.NO_TOKEN, "no token"),
}


def cancelled_by(kit: Any, reply: Any, job: Any) -> tuple[Any, list[str]]:
    """What cancelling returns or raises where the server answers so, and what was asked."""
    asked: list[str] = []

    def server(request: ApiRequest) -> Any:
        asked.append(request.method)
        return reply if request.method == "POST" else job

    try:
        return kit.converse(cancel_job(kit.settings(), "ftjob-1"), server), asked
    except FineTuningError as error:
        return error, asked


@pytest.mark.parametrize("status", ["cancelled", "canceled", "CANCELLED", "cancel_requested", "cancelling"])
@pytest.mark.parametrize("reply", ACTED.values(), ids=ACTED.keys())
def test_a_cancel_whose_answer_tells_nothing_is_looked_up(kit: Any, reply: Any, status: str) -> None:
    job = {"id": "ftjob-1", "status": status}
    assert cancelled_by(kit, reply, kit.answer(job)) == (job, ["POST", "GET"])


@pytest.mark.parametrize("reply", ACTED.values(), ids=ACTED.keys())
@pytest.mark.parametrize("then", ["running", "succeeded", "no answer", "not found"])
def test_a_cancel_that_did_nothing_is_the_error_that_it_was(kit: Any, reply: Any, then: str) -> None:
    job = {
        "no answer": ApiFault(FaultKind.CONNECT, "could not connect"),
        "not found": kit.answer(kit.not_found, status=404),
    }.get(then) or kit.answer({"id": "ftjob-1", "status": then})
    error, asked = cancelled_by(kit, reply, job)
    assert isinstance(error, FineTuningError)
    assert "cancel job ftjob-1" in str(error)
    assert getattr(error, "status", None) == (reply.status if getattr(reply, "status", 0) >= 400 else None)
    assert asked == ["POST", "GET"]


@pytest.mark.parametrize("reply", NOT_ACTED.values(), ids=NOT_ACTED.keys())
def test_a_cancel_that_cannot_have_acted_is_not_looked_up(kit: Any, reply: Any) -> None:
    error, asked = cancelled_by(kit, reply, kit.answer(CANCELLED))
    assert isinstance(error, FineTuningError)
    assert asked == ["POST"]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_empty_answer_of_success_is_filled_from_the_job(kit: Any, status: int) -> None:
    job = {"id": "ftjob-1", "status": "running"}
    assert cancelled_by(kit, ApiResponse(status, {}, b" \n"), kit.answer(job)) == (job, ["POST", "GET"])


def test_together_has_paths_of_its_own(kit: Any) -> None:
    asked: list[str] = []

    def server(request: ApiRequest) -> Any:
        asked.append(request.path)
        return kit.answer({"status": "running", "data": []})

    settings = kit.settings(extra={"vendor": "together"})
    kit.converse(get_job(settings, "ft-1"), server)
    kit.converse(cancel_job(settings, "ft-1"), server)
    kit.converse(list_jobs(settings, None), server)
    kit.converse(read_events(settings, "ft-1"), server)
    assert asked == ["/fine-tunes/ft-1", "/fine-tunes/ft-1/cancel", "/fine-tunes", "/fine-tunes/ft-1/events"]


def jobs_server(kit: Any, count: int, **options: Any) -> Any:
    jobs = [{"id": f"ftjob-{number}", "status": "running", "created_at": -number} for number in range(count)]
    return kit.server(jobs[::-1], **options)


@pytest.mark.parametrize("says_more", ["truth", "nothing"])
@pytest.mark.parametrize(
    ("count", "limit", "listed"), [(0, None, 0), (25, None, 25), (25, 3, 3), (25, 12, 12), (5, 99, 5)]
)
def test_jobs_are_listed_once_each_as_the_server_orders_them(
    kit: Any, says_more: str, count: int, limit: int | None, listed: int
) -> None:
    server = jobs_server(kit, count, says_more=says_more)
    jobs = kit.converse(list_jobs(kit.settings(page_size=10), limit), server)
    assert [job["id"] for job in jobs] == [f"ftjob-{number}" for number in range(listed)]


def test_a_list_of_few_jobs_asks_for_no_more_than_those(kit: Any) -> None:
    server = jobs_server(kit, 25)
    kit.converse(list_jobs(kit.settings(), 3), server)
    assert [dict(request.params) for request in server.requests] == [{"limit": "3"}]


@pytest.mark.parametrize(
    "options", [{"cursor": "ignored"}, {}], ids=["a-cursor-that-is-ignored", "an-empty-last-page"]
)
def test_a_job_list_that_leads_nowhere_is_a_paging_error(kit: Any, options: dict[str, Any]) -> None:
    server = jobs_server(kit, 20, says_more="always", **options)
    with pytest.raises(FineTuningPagingError, match="more jobs"):
        kit.converse(list_jobs(kit.settings(page_size=10), None), server)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": [1]}, {"data": "no"}])
def test_an_answer_that_is_no_list_of_jobs_is_an_answer_error(kit: Any, body: Any) -> None:
    with pytest.raises(FineTuningAnswerError, match="list of jobs"):
        kit.converse(list_jobs(kit.settings(), None), lambda request: kit.answer(body))


def test_max_events_asks_a_newest_first_server_for_no_more_pages_than_it_takes(kit: Any) -> None:
    server = kit.server(kit.log(1_000))
    feed = kit.converse(read_events(kit.settings(page_size=10), "ftjob-1", max_events=25), server)
    assert kit.numbers(feed.collected()) == list(range(970, 1_000))
    assert len(server.requests) == 3


def test_max_events_reads_an_oldest_first_server_to_its_newest_event(kit: Any) -> None:
    server = kit.server(kit.log(95), newest_first=False)
    feed = kit.converse(read_events(kit.settings(page_size=10), "ftjob-1", max_events=25), server)
    assert kit.numbers(feed.collected())[-25:] == list(range(70, 95))


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_the_newest_events_are_the_logs_end_whatever_the_order(kit: Any, newest_first: bool) -> None:
    server = kit.server(kit.log(95), newest_first=newest_first)
    events = kit.converse(newest_events(kit.settings(page_size=10), "ftjob-1"), server)
    assert [event.id for event in events] == [f"ftevent-{number}" for number in range(85, 95)]
    assert len(server.requests) == (1 if newest_first else 10)


def test_newer_than_reads_only_what_is_newer(kit: Any) -> None:
    server = kit.server(kit.log(95))
    feed = kit.converse(read_events(kit.settings(), "ftjob-1", newer_than="ftevent-90"), server)
    assert kit.numbers(feed.collected()) == [91, 92, 93, 94]
    assert feed.found


def test_a_404_of_the_events_is_about_the_job(kit: Any) -> None:
    with pytest.raises(FineTuningJobNotFound, match="ftjob-1"):
        kit.converse(
            read_events(kit.settings(), "ftjob-1"), lambda request: kit.answer(kit.not_found, status=404)
        )


@pytest.mark.parametrize("answer_to_unknown", ["nothing", "the-whole-log"])
def test_an_id_that_an_oldest_first_server_no_longer_has_loses_nothing(
    kit: Any, answer_to_unknown: str
) -> None:
    log = [{"id": f"e{n}", "created_at": 1_000 + n, "level": "info", "message": f"m{n}"} for n in range(250)]

    def server(request: Any) -> Any:
        after, limit = request.params.get("after"), int(request.params["limit"])
        known = [event["id"] for event in log]
        if after is not None and after not in known:
            page = [] if answer_to_unknown == "nothing" else log[:limit]
            return kit.answer({"data": page, "has_more": len(page) == limit})
        first = known.index(after) + 1 if after else 0
        return kit.answer({"data": log[first : first + limit], "has_more": first + limit < len(log)})

    settings = kit.settings(extra={"vendor": "nebius"})
    feed = kit.converse(read_events(settings, "ftjob-1", newer_than="pruned"), server)
    assert (feed.collected(), feed.found) == (log, False)
    feed = kit.converse(read_events(settings, "ftjob-1", newer_than="e199"), server)
    assert (feed.collected(), feed.found) == (log[200:], True)
    feed = kit.converse(read_events(settings, "ftjob-1", newer_than="e249"), server)
    assert (feed.collected(), feed.found) == ([], True)


@pytest.mark.parametrize("vendor", ["nebius", "openai"])
@pytest.mark.parametrize("page_size", [3, 10])
@pytest.mark.parametrize("known", range(6))
def test_a_server_that_ignores_the_cursor_and_names_no_further_page_loses_no_new_event(
    kit: Any, vendor: str, page_size: int, known: int
) -> None:
    log = kit.log(6)
    server = kit.server(log, newest_first=False, cursor="ignored", says_more="nothing")
    settings = kit.settings(page_size=page_size, extra={"vendor": vendor})
    newer_than = log[known]["id"]
    feed = kit.converse(read_events(settings, "ftjob-1", newer_than=newer_than), server)
    readable = log[:page_size]  # the others are on pages that nothing leads to
    expected = [event for event in readable if log.index(event) > known] if known < page_size else readable
    assert feed.collected() == expected
    assert feed.found is (known < page_size)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(
    ("types", "ends"),
    [
        (["JOB_ERROR"], True),
        (["JOB_ERROR", "UPLOADED"], True),
        (["JOB_ERROR", "JOB_RESTARTED"], False),
        (["JOB_ERROR", "JOB_RESTARTED", "UPLOADED"], False),
        (["JOB_ERROR", "JOB_RESTARTED", "JOB_COMPLETE"], True),
        ([], False),
    ],
)
def test_an_end_that_the_job_went_on_after_is_not_the_end_of_its_log(
    kit: Any, newest_first: bool, types: list[str], ends: bool
) -> None:
    settings = kit.settings(extra={"vendor": "together"})
    log = [kit.event(at, at=at, type=kind) for at, kind in enumerate(["JOB_START", *types])]
    feed = kit.converse(read_events(settings, "ft-1"), kit.server(log, newest_first=newest_first))
    assert shows_end(settings, feed) is ends


@pytest.mark.parametrize("of", ["jobs", "checkpoints"])
@pytest.mark.parametrize("id_of", [int, str], ids=["numbers", "text"])
def test_a_list_is_read_page_by_page_whether_its_ids_are_numbers_or_text(
    of: str, id_of: Any, kit: Any
) -> None:
    items = [{"id": id_of(each), "step_number": each} for each in range(8)]

    def server(request: ApiRequest) -> Any:
        after = request.params.get("after")
        start = (
            0 if after is None else 1 + next(i for i, each in enumerate(items) if str(each["id"]) == after)
        )
        return kit.answer({"data": items[start : start + 3], "has_more": start + 3 < len(items)})

    settings = kit.settings(extra={"page_size": 3})
    asked = list_jobs(settings, None) if of == "jobs" else list_checkpoints(settings, "ftjob-1")
    assert kit.converse(asked, server) == items


@pytest.mark.parametrize("last", [None, True, 1.5, "", [1]], ids=repr)
def test_a_list_with_more_after_an_item_without_an_id_leads_nowhere(last: Any, kit: Any) -> None:
    with pytest.raises(FineTuningPagingError, match="leads nowhere"):
        kit.converse(
            list_jobs(kit.settings(), None),
            lambda request: kit.answer({"data": [{"id": last}], "has_more": True}),
        )
