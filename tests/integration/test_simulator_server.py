"""The simulator over real sockets, asked with the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from airflow_ft_events.simulator import Answer, ReceivedRequest, Simulator, simulate

START = 1_800_000_000.0


class DrivenClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


class Got:
    """One answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(sim: Simulator, path: str, *, method: str = "GET", key: str | None = None, **query: object) -> Got:
    address = urlsplit(sim.base_url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {sim.api_key if key is None else key}"}
        target = f"{address.path}/fine_tuning/jobs{path}" + (f"?{urlencode(query)}" if query else "")
        connection.request(method, target, headers=headers)
        return Got(connection.getresponse())
    finally:
        connection.close()


def all_ids(sim: Simulator, **query: object) -> list[str]:
    ids: list[str] = []
    while True:
        page = ask(sim, f"/{sim.job_id}/events", **query).json
        ids += [event["id"] for event in page["data"]]
        if not page["has_more"]:
            return ids
        query["after"] = ids[-1]


@pytest.fixture
def clock() -> DrivenClock:
    return DrivenClock()


@pytest.fixture
def sim(clock: DrivenClock) -> Iterator[Simulator]:
    with simulate(clock=clock, job_id="ftjob-test") as running:
        yield running


def test_every_answer_is_json_with_a_request_id_and_the_simulated_date(
    sim: Simulator, clock: DrivenClock
) -> None:
    clock.time += 1000
    for path in ("", "/ftjob-test", "/ftjob-test/events", "/ftjob-none", "/a/b/c"):
        got = ask(sim, path)
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["x-request-id"].startswith("req_")
        assert parsedate_to_datetime(got.headers["Date"]).timestamp() == START + 1000


def test_speed_scales_created_at_finished_at_and_the_date_alike(clock: DrivenClock) -> None:
    with simulate(clock=clock, speed=60) as sim:
        assert ask(sim, f"/{sim.job_id}").json["created_at"] == START
        clock.time += 5
        got = ask(sim, f"/{sim.job_id}")
        assert got.json["finished_at"] == START + 293
        assert parsedate_to_datetime(got.headers["Date"]).timestamp() == START + 300
        newest = ask(sim, f"/{sim.job_id}/events", limit=1).json["data"][0]
        assert newest["created_at"] == START + 300


def test_only_what_has_happened_is_visible(sim: Simulator, clock: DrivenClock) -> None:
    assert len(ask(sim, "/ftjob-test/events").json["data"]) == 2
    clock.time += 36
    newest = ask(sim, "/ftjob-test/events").json["data"][0]
    assert newest["message"] == "Files validated, moving job to queued state"
    assert ask(sim, "/ftjob-test").json["status"] == "queued"


def test_pages_lead_from_the_newest_event_to_the_oldest(sim: Simulator, clock: DrivenClock) -> None:
    clock.time += 1000
    ids = [event["id"] for event in sim.list_events("ftjob-test")]
    assert all_ids(sim, limit=7) == ids[::-1]
    assert len(ask(sim, "/ftjob-test/events").json["data"]) == 20


def test_an_oldest_first_server_leads_to_newer_events(clock: DrivenClock) -> None:
    with simulate(clock=clock, order="oldest") as sim:
        clock.time += 1000
        ids = [event["id"] for event in sim.list_events(sim.job_id)]
        assert all_ids(sim, limit=7) == ids
        assert ask(sim, f"/{sim.job_id}/events", after=ids[-1]).json == {
            "object": "list",
            "data": [],
            "has_more": False,
        }


def test_new_events_do_not_shift_the_pages_behind_a_cursor(sim: Simulator, clock: DrivenClock) -> None:
    clock.time += 100
    first = ask(sim, "/ftjob-test/events", limit=5).json["data"]
    before = ask(sim, "/ftjob-test/events", limit=5, after=first[-1]["id"]).json["data"]
    clock.time += 100
    assert ask(sim, "/ftjob-test/events", limit=5, after=first[-1]["id"]).json["data"] == before


def test_an_unknown_cursor_is_an_error(sim: Simulator) -> None:
    got = ask(sim, "/ftjob-test/events", after="ftevent-none")
    assert got.status == 404
    assert got.json["error"]["param"] == "after"
    assert ask(sim, "", after="ftjob-none").status == 404


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "9" * 30])
def test_a_limit_that_is_not_a_positive_number_is_an_error(sim: Simulator, limit: str) -> None:
    got = ask(sim, "/ftjob-test/events", limit=limit)
    assert (got.status, got.json["error"]["param"]) == (400, "limit")


def test_a_wrong_key_is_refused_and_repeated_only_in_part(sim: Simulator) -> None:
    key = "sk-proj-0123456789abcdefghijklmnop"
    got = ask(sim, "/ftjob-test", key=key)
    assert got.status == 401
    error = got.json["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        None,
        "invalid_api_key",
    )
    assert key[:8] in error["message"]
    assert key[8:-4] not in error["message"]
    assert ask(sim, "/ftjob-test", key="short").json["error"]["message"].count("short") == 0


def test_no_key_is_refused(sim: Simulator) -> None:
    assert ask(sim, "/ftjob-test", key="").status == 401


def test_an_unknown_job_is_the_documented_404_on_every_route(sim: Simulator) -> None:
    for path, method in (("", "GET"), ("/events", "GET"), ("/cancel", "POST")):
        got = ask(sim, "/ftjob-none" + path, method=method)
        assert (got.status, got.json["error"]["code"]) == (404, "fine_tune_not_found")


def test_a_deleted_job_is_unknown(sim: Simulator) -> None:
    assert ask(sim, "/ftjob-test").status == 200
    sim.delete_job("ftjob-test")
    assert ask(sim, "/ftjob-test").status == 404


def test_a_path_or_method_that_does_not_exist_is_an_error(sim: Simulator) -> None:
    assert ask(sim, "/ftjob-test/weights").status == 404
    assert ask(sim, "/ftjob-test/events", method="DELETE").status == 405
    assert ask(sim, "/ftjob-test/cancel").status == 405


def test_a_cancelled_job_is_cancelled_at_once_and_its_event_comes_a_minute_later(
    sim: Simulator, clock: DrivenClock
) -> None:
    clock.time += 100
    got = ask(sim, "/ftjob-test/cancel", method="POST").json
    assert (got["status"], got["finished_at"]) == ("cancelled", None)
    stop = "The job was stopped due to a cancellation request"
    clock.time += 59
    assert ask(sim, "/ftjob-test/events", limit=1).json["data"][0]["message"] != stop
    clock.time += 1
    assert ask(sim, "/ftjob-test/events", limit=1).json["data"][0]["message"] == stop


def test_cancelling_an_ended_job_is_an_error(sim: Simulator, clock: DrivenClock) -> None:
    clock.time += 1000
    got = ask(sim, "/ftjob-test/cancel", method="POST")
    assert got.status == 400
    assert "ftjob-test" in got.json["error"]["message"]


def test_jobs_are_listed_newest_first_in_pages(sim: Simulator, clock: DrivenClock) -> None:
    clock.time += 10
    second = sim.add_job()
    third = sim.add_job()
    page = ask(sim, "", limit=2).json
    assert [job["id"] for job in page["data"]] == [third, second]
    assert page["has_more"] is True
    rest = ask(sim, "", limit=2, after=second).json
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (["ftjob-test"], False)


def test_a_gateway_without_a_route_answers_404_there_and_only_there(clock: DrivenClock) -> None:
    with simulate(clock=clock, job_route=False) as sim:
        assert (ask(sim, f"/{sim.job_id}").status, ask(sim, f"/{sim.job_id}/events").status) == (404, 200)
        assert ask(sim, f"/{sim.job_id}").json == {"detail": "Not Found"}
        sim.job_route, sim.events_route = True, False
        assert (ask(sim, f"/{sim.job_id}").status, ask(sim, f"/{sim.job_id}/events").status) == (200, 404)


def test_an_ended_job_lies_in_the_past_complete(clock: DrivenClock) -> None:
    with simulate(clock=clock, ended=True) as sim:
        job = ask(sim, f"/{sim.job_id}").json
        assert job["status"] == "succeeded"
        assert job["created_at"] < job["finished_at"] < START - 3000
        assert sim.list_events(sim.job_id) == sim.list_events(sim.job_id, future=True)


def test_the_same_seed_gives_the_same_answers_and_another_seed_others(clock: DrivenClock) -> None:
    def everything(seed: int) -> list[object]:
        with simulate(jobs=["succeeded", "failed", "cancelled"], clock=clock, seed=seed) as sim:
            clock.time = START + 1000
            answers: list[object] = [ask(sim, "").json]
            for job_id in sim.job_ids:
                got = ask(sim, f"/{job_id}/events", limit=500)
                answers += [got.body, got.headers["x-request-id"]]
            clock.time = START
            return answers

    assert everything(7) == everything(7)
    assert everything(7) != everything(8)


def test_the_next_requests_fail_as_told_and_those_after_them_do_not(sim: Simulator) -> None:
    sim.fail_next(2, status=503, headers={"Retry-After": "3"})
    first = ask(sim, "")
    assert (first.status, first.headers["Retry-After"], first.json["error"]["type"]) == (
        503,
        "3",
        "server_error",
    )
    assert [ask(sim, "").status for _ in range(2)] == [503, 200]


def test_a_fault_may_meet_one_route_or_one_job_only(sim: Simulator) -> None:
    sim.fail_next(route="events", body="<html>", headers={"Content-Type": "text/html"})
    sim.fail_next(job_id="ftjob-other", status=418)
    assert ask(sim, "/ftjob-test").status == 200
    got = ask(sim, "/ftjob-test/events")
    assert (got.status, got.body, got.headers["Content-Type"]) == (200, b"<html>", "text/html")
    assert ask(sim, "/ftjob-other").status == 418


def test_a_header_can_be_taken_away(sim: Simulator) -> None:
    sim.fail_next(headers={"date": None})
    got = ask(sim, "/ftjob-test")
    assert (got.status, got.json["id"]) == (200, "ftjob-test")
    assert "Date" not in got.headers


def test_a_status_below_400_keeps_the_real_body(sim: Simulator) -> None:
    sim.fail_next(status=307, headers={"Location": "http://127.0.0.1:9/"})
    got = ask(sim, "/ftjob-test")
    assert (got.status, got.headers["Location"], got.json["id"]) == (307, "http://127.0.0.1:9/", "ftjob-test")


def test_a_connection_can_be_dropped(sim: Simulator) -> None:
    sim.fail_next(drop=True)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(sim, "")
    assert sim.requests[0].status is None
    assert ask(sim, "").status == 200


def test_a_body_can_be_cut(sim: Simulator) -> None:
    sim.fail_next(truncate=True)
    with pytest.raises(http.client.IncompleteRead):
        ask(sim, "/ftjob-test")


def test_a_dropped_cancel_did_not_happen_and_a_cut_one_did(sim: Simulator) -> None:
    sim.fail_next(drop=True)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(sim, "/ftjob-test/cancel", method="POST")
    assert sim.get_job("ftjob-test")["status"] == "validating_files"
    sim.fail_next(truncate=True)
    with pytest.raises(http.client.IncompleteRead):
        ask(sim, "/ftjob-test/cancel", method="POST")
    assert sim.get_job("ftjob-test")["status"] == "cancelled"


def test_a_fault_may_be_a_function(sim: Simulator) -> None:
    def twice_a_page(request: ReceivedRequest) -> Answer | None:
        return Answer(status=500, body={"error": None}) if "after" in request.query else None

    sim.fault = twice_a_page
    assert ask(sim, "/ftjob-test/events").status == 200
    assert ask(sim, "/ftjob-test/events", after="x").json == {"error": None}
    sim.clear_faults()
    assert ask(sim, "/ftjob-test/events", after="x").status == 404


def test_a_fault_that_is_itself_at_fault_is_a_500_that_says_so(sim: Simulator) -> None:
    def broken(request: ReceivedRequest) -> Answer | None:
        raise KeyError(request.path)

    sim.fault = broken
    assert ask(sim, "").status == 500


def test_requests_are_recorded_without_their_key(sim: Simulator) -> None:
    ask(sim, "/ftjob-test/events", limit=3)
    ask(sim, "/ftjob-test")
    first = sim.requests[0]
    assert (first.method, first.path) == ("GET", "/v1/fine_tuning/jobs/ftjob-test/events")
    assert (first.query, first.route, first.job_id, first.status) == (
        {"limit": "3"},
        "events",
        "ftjob-test",
        200,
    )
    assert sim.api_key not in repr(sim.requests)
    assert (sim.count(), sim.count(contains="/events"), sim.count(method="POST"), sim.count(route="job")) == (
        2,
        1,
        0,
        1,
    )
    sim.reset_requests()
    assert sim.requests == []


def test_a_job_can_be_controlled_by_hand(sim: Simulator, clock: DrivenClock) -> None:
    job_id = sim.add_job(events=[], status_timeline=[(0, "running")])
    sim.add_event(job_id, {"message": "Hello"})
    sim.set_status(job_id, "paused")
    assert ask(sim, f"/{job_id}").json["status"] == "paused"
    error = {"code": "c", "message": "m", "param": None}
    sim.set_status(job_id, "failed", result={"error": error})
    assert ask(sim, f"/{job_id}").json["error"] == error
    assert [event["message"] for event in ask(sim, f"/{job_id}/events").json["data"]] == ["Hello"]


def test_it_listens_on_loopback_only(sim: Simulator) -> None:
    port = urlsplit(sim.base_url).port
    assert urlsplit(sim.base_url).hostname == "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        other = probe.getsockname()[0]
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match=r"."):
        socket.create_connection((other, port), timeout=5).close()


def test_stopping_leaves_no_thread_and_no_socket_even_in_a_stall(clock: DrivenClock) -> None:
    before = set(threading.enumerate())
    with simulate(clock=clock) as sim:
        port = urlsplit(sim.base_url).port
        sim.fail_next(stall=600)
        waiting = socket.create_connection(("127.0.0.1", port), timeout=20)
        waiting.sendall(b"GET /v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + 20
        while not sim.requests and time.monotonic() < deadline:
            time.sleep(0.005)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert set(threading.enumerate()) == before
    with waiting:
        assert waiting.recv(100) == b""
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_stopped_simulator_comes_back_with_the_same_jobs_on_the_same_port(clock: DrivenClock) -> None:
    sim = Simulator(clock=clock)
    with pytest.raises(RuntimeError, match="not been started"):
        _ = sim.base_url
    sim.start()
    url = sim.base_url
    with pytest.raises(RuntimeError, match="already running"):
        sim.start()
    sim.stop()
    sim.stop()
    with pytest.raises(ConnectionError):
        ask(sim, "")
    with sim:
        assert sim.base_url == url
        assert ask(sim, f"/{sim.job_id}").status == 200


def test_a_port_that_is_taken_is_an_error_and_leaves_no_thread(sim: Simulator) -> None:
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="in use"):
        Simulator(port=urlsplit(sim.base_url).port or 0).start()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"speed": 0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"order": "random"}, "order"),
        ({"vendor": "acme"}, "vendor 'acme'"),
        ({"outcome": "great"}, "outcome 'great'"),
        ({"jobs": [{"steps": -1}]}, "steps"),
        ({"jobs": [{"duration": 0}]}, "duration"),
        ({"jobs": [{"job_id": "a"}, {"job_id": "a"}]}, "already"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        simulate(**arguments)


def test_the_connection_is_told_as_json_and_as_uri(sim: Simulator) -> None:
    told = json.loads(sim.connection_json())
    assert told == {"conn_type": "fine_tuning", "host": sim.base_url, "password": sim.api_key}
    from airflow.models.connection import Connection

    connection = Connection(uri=sim.connection_uri)
    assert (connection.conn_type, connection.host, connection.password) == tuple(told.values())
