"""EventFeed against a server that is a function: whole walks, new events, cursors that lead nowhere."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_ft_events.api import matching
from airflow_ft_events.api.bookmark import KEPT, Bookmark
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse
from airflow_ft_events.api.paging import EventFeed
from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningJobNotFound,
    FineTuningPagingError,
)
from airflow_ft_events.events import Order, content_hash, event

NEWEST, OLDEST = Order.NEWEST_FIRST, Order.OLDEST_FIRST
BOTH_ORDERS = pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])


def feed_of(kit: Any, *, page_size: int = 10, vendor: str = "auto", **more: Any) -> EventFeed:
    settings = kit.settings(page_size=page_size, extra={"vendor": vendor})
    return EventFeed(settings=settings, job_id="ftjob-1", **more)


def limits(server: Any) -> list[tuple[str | None, str | None]]:
    return [(request.params.get("limit"), request.params.get("after")) for request in server.requests]


# whole walks


@BOTH_ORDERS
@pytest.mark.parametrize("says_more", ["truth", "nothing"])
@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 11, 20, 35])
def test_a_whole_walk_brings_every_event_once_oldest_first_and_verbatim(
    kit: Any, newest_first: bool, says_more: str, size: int
) -> None:
    log = kit.log(size)
    server = kit.server(log, newest_first=newest_first, says_more=says_more)
    feed = kit.walk(feed_of(kit), server)
    assert feed.collected() == log
    assert feed.found is None
    assert len(server.requests) <= size // 10 + 2


def test_a_walk_goes_on_from_the_last_event_of_each_page(kit: Any) -> None:
    server = kit.server(kit.log(25))
    kit.walk(feed_of(kit), server)
    assert limits(server) == [("10", None), ("10", "ftevent-15"), ("10", "ftevent-5")]


@BOTH_ORDERS
def test_pages_shorter_than_asked_for_do_not_end_the_walk(kit: Any, newest_first: bool) -> None:
    log = kit.log(17)
    server = kit.server(log, newest_first=newest_first, most=4)
    assert kit.walk(feed_of(kit), server).collected() == log


@BOTH_ORDERS
def test_events_of_one_second_keep_the_servers_order(kit: Any, newest_first: bool) -> None:
    log = [kit.event(number, at=number // 7) for number in range(40)]
    server = kit.server(log, newest_first=newest_first, most=9)
    assert kit.walk(feed_of(kit), server).collected() == log


@BOTH_ORDERS
def test_a_log_that_mixes_units_and_notations_of_time_is_not_turned_round(
    kit: Any, newest_first: bool
) -> None:
    at = 1_700_000_000
    times = [at, (at + 1) * 1000, str(at + 2), "2023-11-14 22:13:23 UTC", (at + 4) * 10**9, at + 5]
    log = [kit.event(number) | {"created_at": time} for number, time in enumerate(times)]
    for vendor in ("openai", "nebius"):  # whichever order is expected
        feed = kit.walk(feed_of(kit, page_size=4, vendor=vendor), kit.server(log, newest_first=newest_first))
        assert feed.collected() == log
        assert feed.order is (NEWEST if newest_first else OLDEST)


def test_the_vendors_order_counts_where_no_page_can_tell(kit: Any) -> None:
    log = kit.log(12, gap=0)
    newest = kit.walk(feed_of(kit, page_size=5), kit.server(log))
    oldest = kit.walk(feed_of(kit, page_size=5, vendor="nebius"), kit.server(log, newest_first=False))
    assert newest.collected() == oldest.collected() == log
    assert not newest.order_is_known
    assert not oldest.order_is_known


def test_an_order_that_page_one_cannot_tell_is_told_by_the_pages_together(kit: Any) -> None:
    log = [kit.event(number, at=number // 5) for number in range(15)]
    server = kit.server(log, newest_first=False)
    feed = kit.walk(feed_of(kit, page_size=5), server)
    assert feed.collected() == log


def test_a_short_last_page_with_reversed_times_does_not_reverse_the_log(kit: Any) -> None:
    log = [kit.event(0, at=3), kit.event(1, at=1), *[kit.event(number, at=number) for number in range(4, 14)]]
    feed = kit.walk(feed_of(kit), kit.server(log))
    assert feed.collected() == log
    assert feed.order is NEWEST


def test_events_that_arrive_between_pages_are_neither_lost_nor_doubled_newest_first(kit: Any) -> None:
    log = kit.log(25)
    server = kit.server(
        log, before_answer=lambda number: log.append(kit.event(100 + number, at=100 + number))
    )
    feed = kit.walk(feed_of(kit), server)
    assert kit.numbers(feed.collected()) == [*range(25), 101]
    again = kit.walk(feed_of(kit, bookmark=feed.bookmark()), kit.server(log))
    assert kit.numbers(again.collected()) == [102, 103]


def test_events_that_arrive_between_pages_are_read_oldest_first(kit: Any) -> None:
    log = kit.log(25)

    def arrive(number: int) -> None:
        if number <= 5:
            log.append(kit.event(100 + number, at=100 + number))

    feed = kit.walk(feed_of(kit), kit.server(log, newest_first=False, before_answer=arrive))
    assert kit.numbers(feed.collected()) == [*range(25), *(100 + number for number in range(1, 4))]


def test_a_log_without_ids_is_kept_whole_with_equal_events(kit: Any) -> None:
    log = [kit.event(number, message="again", at=1) for number in range(3)]
    feed = kit.walk(feed_of(kit, vendor="together"), kit.server(log, newest_first=False, ids="none"))
    assert [event["message"] for event in feed.collected()] == ["again"] * 3
    assert len({event.id for event in feed.collected_events()}) == 3
    assert all("id" not in event for event in feed.collected())


def test_a_vendor_that_does_not_page_is_asked_once_without_parameters(kit: Any) -> None:
    server = kit.server(kit.log(300), newest_first=False, says_more="always")
    feed = feed_of(kit, vendor="together")
    request = feed.next_request()
    assert request is not None
    assert dict(request.params) == {}
    assert request.path == "/fine-tunes/ftjob-1/events"
    feed.take(kit.answer({"data": kit.log(300), "has_more": True}))
    assert feed.next_request() is None
    assert feed.count == 300
    assert server.requests == []


def test_a_job_id_is_quoted_into_the_path(kit: Any) -> None:
    feed = EventFeed(settings=kit.settings(), job_id="ft:job.1_a-b")
    request = feed.next_request()
    assert request is not None
    assert request.path == "/fine_tuning/jobs/ft:job.1_a-b/events"


def test_depth_ends_a_walk_back_and_says_that_it_was_cut(kit: Any) -> None:
    server = kit.server(kit.log(50))
    feed = kit.walk(feed_of(kit, depth=2), server)
    assert feed.cut
    assert kit.numbers(feed.collected()) == list(range(30, 50))
    assert len(server.requests) == 2


def test_a_log_that_fits_into_the_depth_is_not_cut(kit: Any) -> None:
    feed = kit.walk(feed_of(kit, depth=1), kit.server(kit.log(7)))
    assert not feed.cut
    assert feed.count == 7


def test_depth_does_not_stop_a_walk_before_the_order_is_known(kit: Any) -> None:
    log = [*[kit.event(number) for number in range(25)], kit.event(25, at=9)]
    feed = kit.walk(feed_of(kit, depth=1), kit.server(log, newest_first=False))
    assert feed.collected() == log
    assert feed.order is OLDEST


def test_a_first_page_is_read_even_where_no_cursor_leads_on_from_it(kit: Any) -> None:
    server = kit.server(kit.log(50), ids="null", says_more="always")
    feed = kit.walk(feed_of(kit, depth=1), server)
    assert kit.numbers(feed.collected()) == list(range(40, 50))
    assert feed.cut


def test_depth_does_not_stop_an_oldest_first_walk_before_the_newest_events(kit: Any) -> None:
    log = kit.log(50)
    assert kit.walk(feed_of(kit, depth=1), kit.server(log, newest_first=False)).collected() == log


def test_a_raw_cursor_is_passed_on_as_it_is(kit: Any) -> None:
    server = kit.server(kit.log(12))
    feed = kit.walk(feed_of(kit, after="ftevent-4"), server)
    assert limits(server)[0] == ("10", "ftevent-4")
    assert kit.numbers(feed.collected()) == [0, 1, 2, 3]


def test_each_page_says_what_came_and_what_of_it_is_new(kit: Any) -> None:
    log = kit.log(6)
    feed = feed_of(kit, bookmark=Bookmark(ids=("ftevent-3",)))
    page = feed.take(kit.server(log)(feed.next_request()))
    assert kit.numbers(page.data) == [5, 4, 3, 2, 1, 0]
    assert kit.numbers(page.new) == [5, 4]
    assert page.has_more is False
    assert page.order is NEWEST
    assert [event.id for event in page.events][:2] == ["ftevent-5", "ftevent-4"]


# incremental reading


def after_first_reading(kit: Any, log: list[Any], *, newest_first: bool, **server: Any) -> Bookmark:
    feed = kit.walk(
        feed_of(kit, page_size=100), kit.server(log, newest_first=newest_first, **server), most=10_000
    )
    bookmark = feed.bookmark()
    assert bookmark is not None
    return bookmark


@BOTH_ORDERS
def test_a_poll_of_10000_events_with_three_new_ones_is_one_request(kit: Any, newest_first: bool) -> None:
    log = kit.log(10_000)
    bookmark = after_first_reading(kit, log, newest_first=newest_first)
    log += [kit.event(number, at=number) for number in (10_000, 10_001, 10_002)]
    server = kit.server(log, newest_first=newest_first)
    feed = kit.walk(feed_of(kit, page_size=100, bookmark=bookmark), server)
    assert kit.numbers(feed.collected()) == [10_000, 10_001, 10_002]
    assert len(server.requests) == 1
    assert feed.found


@BOTH_ORDERS
def test_a_poll_that_finds_nothing_new_is_one_request(kit: Any, newest_first: bool) -> None:
    log = kit.log(300)
    bookmark = after_first_reading(kit, log, newest_first=newest_first)
    server = kit.server(log, newest_first=newest_first)
    feed = kit.walk(feed_of(kit, page_size=100, bookmark=bookmark), server)
    assert feed.collected() == []
    assert len(server.requests) == 1
    assert feed.bookmark() is not None
    assert feed.bookmark().last_id == "ftevent-299"


@pytest.mark.parametrize(
    ("newest_first", "size", "known", "most"),
    [
        pytest.param(True, 1_000, 997, 1, id="newest-first-three-new"),
        pytest.param(True, 1_000, 0, 10, id="newest-first-all-but-one-new"),
        pytest.param(True, 50, 0, 1, id="newest-first-one-page"),
        pytest.param(False, 1_000, 997, 2, id="oldest-first-jumps-to-the-event"),
        pytest.param(False, 1_000, 0, 10, id="oldest-first-all-but-one-new"),
        pytest.param(False, 50, 0, 1, id="oldest-first-one-page"),
    ],
)
def test_what_is_newer_than_a_bare_id_is_found_whatever_the_order(
    kit: Any, newest_first: bool, size: int, known: int, most: int
) -> None:
    server = kit.server(kit.log(size), newest_first=newest_first)
    feed = kit.walk(feed_of(kit, page_size=100, bookmark=Bookmark(ids=(f"ftevent-{known}",))), server)
    assert kit.numbers(feed.collected()) == list(range(known + 1, size))
    assert feed.found
    assert len(server.requests) <= most


@BOTH_ORDERS
@pytest.mark.parametrize("refusal", [400, 404])
@pytest.mark.parametrize("order", [None, NEWEST, OLDEST], ids=["order-unknown", "was-newest", "was-oldest"])
def test_newer_than_an_event_that_is_gone_brings_the_whole_log_and_says_so(
    kit: Any, newest_first: bool, refusal: int, order: Order | None
) -> None:
    log = kit.log(30)
    server = kit.server(log, newest_first=newest_first, refusal=refusal)
    feed = kit.walk(feed_of(kit, bookmark=Bookmark(ids=("ftevent-gone",), order=order)), server)
    assert feed.collected() == log
    assert feed.found is False
    assert len(server.requests) <= 6


@pytest.mark.parametrize("size", [1, 2, 5])
def test_an_empty_log_that_grows_is_read_from_its_first_event(kit: Any, size: int) -> None:
    log: list[Any] = []
    feed = kit.walk(feed_of(kit), kit.server(log))
    assert feed.collected() == []
    assert feed.bookmark() is None
    log += kit.log(size)
    again = kit.walk(feed_of(kit, bookmark=feed.bookmark()), kit.server(log))
    assert again.collected() == log


def test_a_reader_that_comes_again_may_end_at_a_short_page_and_loses_nothing(kit: Any) -> None:
    log = kit.log(30)
    bookmark = after_first_reading(kit, log, newest_first=False, says_more="nothing")
    log += [kit.event(number, at=number) for number in range(30, 37)]
    server = kit.server(log, newest_first=False, says_more="nothing", most=5)
    found, walks = [], 0
    while len(found) < 7:
        feed = kit.walk(feed_of(kit, bookmark=bookmark, short_page_ends=True), server)
        found, bookmark, walks = found + feed.collected(), feed.bookmark(), walks + 1
    assert found == log[30:]
    assert len(server.requests) == walks == 2


def test_a_short_page_of_a_server_that_says_that_there_is_more_ends_nothing(kit: Any) -> None:
    log = kit.log(30)
    bookmark = after_first_reading(kit, log, newest_first=False)
    log += [kit.event(number, at=number) for number in range(30, 37)]
    server = kit.server(log, newest_first=False, most=5)
    assert kit.walk(feed_of(kit, bookmark=bookmark, short_page_ends=True), server).collected() == log[30:]


def test_an_event_that_came_late_behind_a_known_one_is_not_lost(kit: Any) -> None:
    log = [kit.event(number, at=number) for number in (0, 1, 2, 4, 5)]
    bookmark = after_first_reading(kit, log, newest_first=True)
    log.insert(3, kit.event(3, at=3))
    log.append(kit.event(6, at=6))
    feed = kit.walk(feed_of(kit, bookmark=bookmark), kit.server(log))
    assert kit.numbers(feed.collected()) == [3, 6]


def test_a_wrong_order_in_the_bookmark_is_corrected_and_costs_no_event(kit: Any) -> None:
    log = kit.log(60)
    newest = kit.server(log)
    feed = kit.walk(feed_of(kit, bookmark=Bookmark(ids=("ftevent-55",), order=OLDEST)), newest)
    assert kit.numbers(feed.collected()) == [56, 57, 58, 59]
    oldest = kit.server(log, newest_first=False)
    feed = kit.walk(feed_of(kit, bookmark=Bookmark(ids=("ftevent-55",), order=NEWEST)), oldest)
    assert kit.numbers(feed.collected()) == [56, 57, 58, 59]


@BOTH_ORDERS
def test_a_server_that_ignores_after_is_still_read_incrementally(kit: Any, newest_first: bool) -> None:
    log = kit.log(8)
    bookmark = after_first_reading(kit, log, newest_first=newest_first)
    log.append(kit.event(8, at=8))
    server = kit.server(log, newest_first=newest_first, cursor="ignored")
    feed = kit.walk(feed_of(kit, bookmark=bookmark), server)
    assert kit.numbers(feed.collected()) == [8]
    assert len(server.requests) <= 2


def test_ids_that_change_with_every_answer_bring_each_event_once(kit: Any) -> None:
    log = kit.log(30)
    first = kit.walk(feed_of(kit, depth=1), kit.server(log, ids="changing", cursor="ignored"))
    log += [kit.event(number, at=number) for number in (30, 31)]
    server = kit.server(log, ids="changing", cursor="ignored")
    second = kit.walk(feed_of(kit, bookmark=first.bookmark()), server)
    assert kit.numbers(second.collected()) == [30, 31]
    assert len(server.requests) == 1


def test_new_events_that_say_what_known_ones_say_are_new_where_ids_are_kept(kit: Any) -> None:
    log = [kit.event(number, message="Message 0 heartbeat", created_at=None) for number in range(3)]
    bookmark = after_first_reading(kit, log, newest_first=True)
    log.append(kit.event(3, message="Message 0 heartbeat", created_at=None))
    assert [e["id"] for e in kit.walk(feed_of(kit, bookmark=bookmark), kit.server(log)).collected()] == [
        "ftevent-3"
    ]


def test_a_log_without_ids_is_read_incrementally(kit: Any) -> None:
    log = kit.log(5)
    options = {"newest_first": False, "ids": "none"}
    first = kit.walk(feed_of(kit, vendor="together"), kit.server(log, **options))
    log += [kit.event(1, at=1, message="Message 5"), kit.event(6, at=6)]
    second = kit.walk(feed_of(kit, vendor="together", bookmark=first.bookmark()), kit.server(log, **options))
    assert kit.numbers(second.collected()) == [5, 6]
    third = kit.walk(feed_of(kit, vendor="together", bookmark=second.bookmark()), kit.server(log, **options))
    assert third.collected() == []


@BOTH_ORDERS
@pytest.mark.parametrize("bare", [True, False], ids=["a bare id", "a bookmark"])
def test_a_new_event_of_a_log_without_ids_that_equals_an_old_one_is_new_once(
    kit: Any, newest_first: bool, bare: bool
) -> None:
    log = [kit.event(number, at=number) for number in range(6)] + [kit.event(3, at=3)]
    server = kit.server(log, newest_first=newest_first, ids="none")
    first = kit.walk(feed_of(kit), server)
    bookmark = (
        Bookmark(ids=(first.collected_events()[-1].id,), order=first.order) if bare else first.bookmark()
    )
    log.append(kit.event(3, at=3))
    second = kit.walk(feed_of(kit, bookmark=bookmark), server)
    whole = kit.walk(feed_of(kit), server).collected_events()
    assert [event.id for event in second.collected_events()] == [whole[-1].id]
    assert kit.walk(feed_of(kit, bookmark=second.bookmark()), server).collected() == []


def test_a_long_log_without_ids_is_hashed_only_where_it_is_new(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kit.log(20_000)
    server = kit.server(log, newest_first=False, ids="none")
    first = kit.walk(feed_of(kit, vendor="together"), server)
    newest = first.collected_events(40)
    assert newest == first.collected_events()[-40:]
    hashed: list[Any] = []
    for module in (event, matching):
        monkeypatch.setattr(module, "content_hash", lambda raw: hashed.append(raw) or content_hash(raw))
    for bookmark in (first.bookmark(newest), Bookmark(ids=(newest[-1].id,))):
        second = kit.walk(feed_of(kit, vendor="together", bookmark=bookmark), server)
        assert (second.collected_events(), second.found) == ([], True)
    assert len(hashed) <= 2


def test_events_that_share_an_id_and_say_different_things_are_all_read(kit: Any) -> None:
    log = [kit.event(number, at=number, id="the-same") for number in range(8)]
    server = kit.server(log, cursor="ignored")
    first = kit.walk(feed_of(kit), server)
    assert first.collected() == log
    log.append(kit.event(8, at=8, id="the-same"))
    second = kit.walk(feed_of(kit, bookmark=first.bookmark()), server)
    assert second.collected() == log[8:]


def test_an_id_that_comes_again_on_a_later_page_with_other_words_is_another_event(kit: Any) -> None:
    log = kit.log(25)
    pages = [log[10:][::-1], [kit.event(99, at=9, id=log[24]["id"]), log[9], *log[:10][::-1], log[12]]]

    def server(request: ApiRequest) -> ApiResponse:
        page = pages[1] if request.params.get("after") else pages[0]
        return kit.answer({"data": page, "has_more": page is pages[0]})

    found = kit.walk(feed_of(kit), server).collected()
    assert len(found) == 26
    assert [event["message"] for event in found].count("Message 99") == 1


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("place", [0, 24])
@pytest.mark.parametrize("skew", [-10_000, 10_000])
def test_one_event_with_an_odd_time_does_not_reverse_the_log(
    kit: Any, newest_first: bool, place: int, skew: int
) -> None:
    log = kit.log(25)
    log[place] = kit.event(place, at=place + skew)
    server = kit.server(log, newest_first=newest_first)
    assert kit.walk(feed_of(kit), server).collected() == log


def test_a_bookmark_keeps_only_the_newest_ids(kit: Any) -> None:
    bookmark = after_first_reading(kit, kit.log(500), newest_first=True)
    assert len(bookmark.ids) == len(bookmark.hashes) == KEPT
    assert bookmark.last_id == "ftevent-499"
    assert bookmark.order is NEWEST
    assert Bookmark().last_id is None


# cursors that are refused or lead nowhere


@BOTH_ORDERS
@pytest.mark.parametrize("refusal", [400, 404])
def test_a_cursor_that_is_refused_for_good_ends_in_a_paging_error(
    kit: Any, newest_first: bool, refusal: int
) -> None:
    server = kit.server(kit.log(30), newest_first=newest_first, cursor="refused", refusal=refusal)
    with pytest.raises(FineTuningPagingError, match="refuses the cursor") as caught:
        kit.walk(feed_of(kit), server)
    assert "ftjob-1" in str(caught.value)
    assert "'tuning'" in str(caught.value)
    assert len(server.requests) == 4


@BOTH_ORDERS
def test_a_cursor_that_is_refused_once_costs_no_event(kit: Any, newest_first: bool) -> None:
    log = kit.log(30)
    server = kit.server(log, newest_first=newest_first)
    refused: list[ApiRequest] = []

    def once(request: ApiRequest) -> ApiResponse:
        if "after" in request.params and not refused:
            refused.append(request)
            return kit.answer(kit.not_found, status=404)
        return server(request)

    assert kit.walk(feed_of(kit), once).collected() == log


def test_a_404_without_a_cursor_is_about_the_job(kit: Any) -> None:
    with pytest.raises(FineTuningJobNotFound):
        kit.walk(feed_of(kit), lambda request: kit.answer(kit.not_found, status=404))


def test_a_job_that_goes_away_in_the_middle_of_a_walk_is_not_a_paging_error(kit: Any) -> None:
    server = kit.server(kit.log(30))

    def deleted(request: ApiRequest) -> ApiResponse:
        return kit.answer(kit.not_found, status=404) if server.requests else server(request)

    with pytest.raises(FineTuningJobNotFound):
        kit.walk(feed_of(kit), deleted)


@pytest.mark.parametrize("status", [401, 403, 422, 429, 500, 302])
def test_a_refusal_is_its_typed_error(kit: Any, status: int) -> None:
    with pytest.raises(FineTuningApiError) as caught:
        kit.walk(feed_of(kit), lambda request: kit.answer({"detail": "no"}, status=status))
    assert caught.value.status == status


LEADS_NOWHERE: dict[str, dict[str, Any]] = {
    "a-cursor-that-is-ignored": {"cursor": "ignored", "says_more": "always"},
    "ids-that-change-and-a-cursor-that-is-ignored": {
        "cursor": "ignored",
        "says_more": "always",
        "ids": "changing",
    },
    "an-empty-page-at-the-end": {"says_more": "always"},
    "null-ids": {"says_more": "always", "ids": "null"},
    "no-ids": {"says_more": "always", "ids": "none"},
}


@BOTH_ORDERS
@pytest.mark.parametrize("options", LEADS_NOWHERE.values(), ids=LEADS_NOWHERE.keys())
def test_more_that_leads_nowhere_is_a_paging_error_and_no_loop(
    kit: Any, newest_first: bool, options: dict[str, Any]
) -> None:
    server = kit.server(kit.log(20), newest_first=newest_first, **options)
    with pytest.raises(FineTuningPagingError, match="leads nowhere"):
        kit.walk(feed_of(kit), server)
    assert len(server.requests) <= 14


@given(
    size=st.integers(0, 45),
    page_size=st.integers(1, 50),
    newest_first=st.booleans(),
    ids=st.sampled_from(["kept", "changing", "none", "null"]),
    cursor=st.sampled_from(["works", "ignored"]),
    says_more=st.sampled_from(["if equal", "if enough"]),
    known=st.integers(0, 45),
)
def test_a_server_that_ignores_the_limit_and_goes_by_the_length_brings_each_event_once(
    kit: Any,
    size: int,
    page_size: int,
    newest_first: bool,
    ids: str,
    cursor: str,
    says_more: str,
    known: int,
) -> None:
    assume(cursor == "ignored" or ids == "kept")
    log = kit.log(size)
    options = {"newest_first": newest_first, "ids": ids, "cursor": cursor, "says_more": says_more}
    server = kit.server(log, limit="ignored", **options)
    feed = kit.walk(feed_of(kit, page_size=page_size), server)
    assert kit.numbers(feed.collected()) == list(range(size))
    assert len(feed.collected_events()) == size
    assert len(server.requests) <= 12
    if ids == "kept" and cursor == "ignored":
        bookmark = kit.walk(feed_of(kit), kit.server(log[:known], limit="ignored", **options)).bookmark()
        server.requests.clear()
        again = kit.walk(feed_of(kit, page_size=page_size, bookmark=bookmark), server)
        assert kit.numbers(again.collected()) == list(range(min(known, size), size))
        assert len(server.requests) <= 12


@BOTH_ORDERS
@pytest.mark.parametrize("ids", ["kept", "none"])
@pytest.mark.parametrize("says_more", ["if equal", "if enough"])
@given(size=st.integers(1, 30), grows_at=st.sets(st.integers(3, 6)))
def test_a_log_that_grows_while_its_length_is_asked_for_loses_no_event_to_the_next_read(
    kit: Any, newest_first: bool, ids: str, says_more: str, size: int, grows_at: set[int]
) -> None:
    log = kit.log(size)

    def grow(request: int) -> None:
        if request in grows_at:
            log.append(kit.event(len(log), at=len(log)))

    options = {"newest_first": newest_first, "ids": ids, "cursor": "ignored", "says_more": says_more}
    server = kit.server(log, limit="ignored", before_answer=grow, **options)
    bookmark, found = None, []
    for _ in range(4):
        feed = feed_of(kit, page_size=size, bookmark=bookmark)
        try:
            kit.walk(feed, server)
        except FineTuningPagingError:  # it grew whenever it was asked
            continue
        found += kit.numbers(feed.collected())
        bookmark = feed.bookmark()
    assert found == list(range(len(log)))
    assert len(server.requests) <= 40


@BOTH_ORDERS
@pytest.mark.parametrize("ids", ["kept", "none"])
def test_one_request_tells_a_log_of_as_many_events_as_asked_for(
    kit: Any, newest_first: bool, ids: str
) -> None:
    options = {"newest_first": newest_first, "ids": ids, "cursor": "ignored", "says_more": "if equal"}
    server = kit.server(kit.log(10), limit="ignored", **options)
    kit.walk(feed_of(kit, page_size=10), server)
    asked = [(request.params["limit"], "after" in request.params) for request in server.requests]
    assert asked == [("10", False), *([("10", True)] if ids == "kept" else []), ("11", False)]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_server_that_refuses_the_larger_limit_has_a_page_that_leads_nowhere(kit: Any, status: int) -> None:
    server = kit.server(kit.log(10), cursor="ignored", says_more="always")

    def refusing(request: Any) -> Any:
        return kit.answer({}, status=status) if request.params["limit"] == "11" else server(request)

    with pytest.raises(FineTuningPagingError, match="leads nowhere"):
        kit.walk(feed_of(kit, page_size=10), refusing)


def test_an_empty_log_that_claims_to_have_more_is_a_paging_error(kit: Any) -> None:
    with pytest.raises(FineTuningPagingError):
        kit.walk(feed_of(kit), kit.server([], says_more="always"))


def test_a_page_that_ends_in_an_event_without_an_id_and_claims_more_is_a_paging_error(kit: Any) -> None:
    page = [kit.event(3, at=3), kit.event(2, at=2, id=None)]
    with pytest.raises(FineTuningPagingError, match="2 events"):
        kit.walk(feed_of(kit), lambda request: kit.answer({"data": page, "has_more": True}))


@BOTH_ORDERS
@pytest.mark.parametrize("ids", ["kept", "changing"])
def test_a_server_that_ignores_after_and_says_nothing_of_more_brings_each_event_once(
    kit: Any, newest_first: bool, ids: str
) -> None:
    log = kit.log(6)
    server = kit.server(log, newest_first=newest_first, cursor="ignored", says_more="nothing", ids=ids)
    assert kit.numbers(kit.walk(feed_of(kit), server).collected()) == list(range(6))
    assert len(server.requests) <= 12


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"<html><body>Bad gateway</body></html>", "not JSON", id="html"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b'{"data": [{"id": "ftev', "not JSON", id="truncated"),
        pytest.param(b"\xff\xfe\x00", "not JSON", id="no-text"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested-without-end"),
        pytest.param(b"[]", "not a JSON object", id="a-list"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b"{}", "no list named 'data'", id="without-data"),
        pytest.param(b'{"data": null}', "no list named 'data'", id="null-data"),
        pytest.param(b'{"data": {"0": {}}}', "no list named 'data'", id="data-is-an-object"),
        pytest.param(b'{"data": [1, 2]}', "not objects", id="numbers-for-events"),
        pytest.param(b'{"data": [{"id": "a"}, null]}', "not objects", id="a-null-event"),
    ],
)
def test_an_answer_that_is_no_page_is_an_answer_error(kit: Any, body: bytes, words: str) -> None:
    with pytest.raises(FineTuningAnswerError, match=words) as caught:
        kit.walk(feed_of(kit), lambda request: kit.answer(body))
    assert "ftjob-1" in str(caught.value)
    assert "'tuning'" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_has_more_that_is_no_truth_value_says_nothing(kit: Any) -> None:
    pages = [
        {"data": [kit.event(2, at=2), kit.event(1, at=1)], "has_more": "yes"},
        {"data": [kit.event(0, at=0)], "has_more": None},
        {"data": [], "has_more": 1},
    ]
    feed = kit.walk(feed_of(kit), lambda request: kit.answer(pages.pop(0)))
    assert kit.numbers(feed.collected()) == [0, 1, 2]


def test_a_null_id_in_the_middle_of_a_page_keeps_its_event(kit: Any) -> None:
    log = [
        kit.event(number, at=number, id=None if number == 4 else f"ftevent-{number}") for number in range(9)
    ]
    feed = kit.walk(feed_of(kit, page_size=3), kit.server(log, most=3))
    assert feed.collected() == log


# many shapes of logs


def shaped(rng: random.Random, kit: Any) -> list[dict[str, Any]]:
    at = 0
    log = []
    for number in range(rng.choice([0, 1, 2, 3, 7, 20, 61, 150])):
        at += rng.choice([0, 0, 1, 5])
        log.append(kit.event(number, at=at))
    return log


@pytest.mark.parametrize("seed", range(60))
def test_a_walk_over_any_log_equals_the_log(kit: Any, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        log, newest_first = shaped(rng, kit), rng.random() < 0.5
        server = kit.server(
            log,
            newest_first=newest_first,
            most=rng.choice([1, 2, 3, 10, 100]),
            says_more=rng.choice(["truth", "nothing"]),
        )
        vendor = "auto" if newest_first else "nebius"
        feed = kit.walk(feed_of(kit, page_size=rng.choice([1, 2, 5, 20, 100]), vendor=vendor), server)
        assert feed.collected() == log


@pytest.mark.parametrize("seed", range(60))
def test_polls_of_a_growing_log_bring_each_event_once_and_in_order(kit: Any, seed: int) -> None:
    rng = random.Random(1_000 + seed)
    log, newest_first = shaped(rng, kit), rng.random() < 0.5
    vendor = "auto" if newest_first else "nebius"
    says_more, most = rng.choice(["truth", "nothing"]), rng.choice([3, 10, 100])
    told: list[dict[str, Any]] = []
    bookmark: Bookmark | None = None
    at = 1_000
    for _ in range(25):
        server = kit.server(log, newest_first=newest_first, most=most, says_more=says_more)
        if bookmark and rng.random() < 0.2:  # as after a restart
            bookmark = Bookmark(ids=bookmark.ids[-1:], order=bookmark.order)
        page_size = rng.choice([2, 5, 20, 100])
        feed = kit.walk(feed_of(kit, page_size=page_size, vendor=vendor, bookmark=bookmark), server)
        told += feed.collected()
        bookmark = feed.bookmark()
        assert told == log
        for _ in range(rng.choice([0, 0, 1, 3, 30])):
            at += rng.choice([0, 1, 5])
            log.append(kit.event(len(log), at=at))


@pytest.mark.parametrize("seed", range(30))
def test_times_a_little_out_of_order_cost_no_event_and_no_order(kit: Any, seed: int) -> None:
    """Servers stamp events in several places: the order of arrival is not always that of the times."""
    rng = random.Random(2_000 + seed)
    log = [kit.event(0, at=0), kit.event(1, at=20)]
    newest_first = rng.random() < 0.5
    vendor = "auto" if newest_first else "nebius"
    told: list[dict[str, Any]] = []
    bookmark: Bookmark | None = None
    for turn in range(1, 20):
        server = kit.server(log, newest_first=newest_first)
        feed = kit.walk(feed_of(kit, page_size=10, vendor=vendor, bookmark=bookmark), server)
        told += feed.collected()
        bookmark = feed.bookmark()
        assert kit.numbers(told) == kit.numbers(log)
        for number in range(rng.choice([0, 1, 2, 3, 30])):
            log.append(kit.event(len(log), at=turn * 60 + number * 2 + rng.choice([-3, 0, 0, 3])))


def test_ids_that_change_do_not_bring_back_what_lies_behind_the_known_events(kit: Any) -> None:
    log = kit.log(200)
    first = kit.walk(feed_of(kit, page_size=100, depth=1), kit.server(log, ids="changing", cursor="ignored"))
    log.append(kit.event(200, at=200))
    server = kit.server(log, ids="changing", cursor="ignored")
    feed = kit.walk(feed_of(kit, page_size=100, bookmark=first.bookmark()), server)
    assert kit.numbers(feed.collected()) == [200]


def test_a_burst_with_a_time_before_the_bookmark_is_read_to_its_end(kit: Any) -> None:
    log = kit.log(30)
    bookmark = after_first_reading(kit, log, newest_first=True)
    log += [kit.event(number, at=28 if number == 35 else number) for number in range(30, 45)]
    feed = kit.walk(feed_of(kit, bookmark=bookmark), kit.server(log))
    assert kit.numbers(feed.collected()) == list(range(30, 45))


def test_a_walk_does_not_change_what_came(kit: Any) -> None:
    log = kit.log(12)
    before = json.dumps(log)
    feed = kit.walk(feed_of(kit, bookmark=Bookmark(ids=("ftevent-3",))), kit.server(log))
    feed.collected_events()
    feed.bookmark()
    assert json.dumps(log) == before


def test_a_log_without_ids_that_is_read_anew_after_a_jump_is_whole(kit: Any) -> None:
    log = kit.log(26)
    server = kit.server(log, newest_first=False, cursor="ignored", ids="none", says_more="nothing")
    known = Bookmark(ids=("gone",))
    feed = kit.walk(feed_of(kit, page_size=100, first_page_size=10, bookmark=known, vendor="azure"), server)
    assert numbers_of(feed) == list(range(26))


def numbers_of(feed: EventFeed) -> list[int]:
    """The events' numbers, typed view and ids included."""
    events = feed.collected_events()
    assert len({event.id for event in events}) == len(events)
    return [int(event.message.split()[1]) for event in events]
