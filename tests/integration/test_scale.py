"""Many waits, long logs, long trouble: what they ask of a server, counted by the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import pytest

from airflow_ft_events.api.calls import job_request
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.simulator import Simulator
from airflow_ft_events.simulator.faults import Answer, ReceivedRequest
from airflow_ft_events.triggers import job_list
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger
from airflow_ft_events.waiting.poller import JobPoller
from tests.integration.conftest import Family, Listener, port_of, pump
from tests.integration.driven_loop import START, DrivenTime

DAY, MINUTE = 86_400.0, 60.0
INTERVAL = 60.0
SOME = 16
"""Waits that are enough to share their looks."""


@pytest.fixture
def time() -> DrivenTime:
    """The time that the waits of a test go by."""
    return DrivenTime(seed=1)


@pytest.fixture(params=["singly", "shared looks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether each wait asks for itself, or all share looks at the job list."""
    if request.param == "singly":
        monkeypatch.setattr(job_list, "ENOUGH_WAITS", 1_000_000)
    return str(request.param)


@pytest.fixture(params=["messages", "none"])
def log_events(request: pytest.FixtureRequest) -> Any:
    """Which events the waits log: whether they read any."""
    return request.param


def waits(sim: Simulator, **options: Any) -> list[FineTuningEventsTrigger]:
    """A wait for each of a server's jobs, as the worker hands it over."""
    options = {"poll_interval": INTERVAL, "job_seen": True, **options}
    return [FineTuningEventsTrigger(job_id=job_id, **options) for job_id in sim.job_ids]


async def ends_of(triggers: list[FineTuningEventsTrigger]) -> list[dict[str, Any]]:
    """What waits in one event loop came to."""
    return [event.payload for event in await asyncio.gather(*(anext(wait.run()) for wait in triggers))]


Running = Callable[..., AbstractContextManager[Simulator]]


@pytest.fixture
def running(time: DrivenTime, connect: Any) -> Running:
    """Serve and connect a server with jobs that run, and succeed so many seconds from the beginning."""

    @contextlib.contextmanager
    def serve(count: int, *, until: float = 10 * DAY) -> Iterator[Simulator]:
        states = [(0, "running"), (until, "succeeded")]
        jobs = [{"status_timeline": states} for _ in range(count)]
        with Simulator(jobs, clock=time.now) as sim:
            connect(sim)
            yield sim

    return serve


def trouble(since: float, until: float, answer: Answer) -> Callable[[ReceivedRequest], Answer | None]:
    """A server's fault for a while."""
    return lambda asked: answer if since <= asked.at - START < until else None


def asked_at(sim: Simulator) -> list[float]:
    """When requests came, seconds since the beginning."""
    return sorted(request.at - START for request in sim.requests)


def all_succeeded(ends: list[dict[str, Any]]) -> bool:
    """Whether every wait found that its job succeeded."""
    return {end["outcome"]["outcome"] for end in ends} == {"succeeded"}


def test_waits_by_the_thousand_that_a_fresh_triggerer_takes_over_never_ask_in_a_burst(
    way: str, log_events: Any, running: Running, time: DrivenTime
) -> None:
    count = 1_000
    with running(count) as sim:

        async def first_interval() -> None:
            handed_over = [
                asyncio.ensure_future(ends_of([wait])) for wait in waits(sim, log_events=log_events)
            ]
            await asyncio.sleep(INTERVAL)
            for wait in handed_over:
                wait.cancel()
            await asyncio.gather(*handed_over, return_exceptions=True)

        time.run(first_interval())
        each_second = Counter(int(at) for at in asked_at(sim))
    average = each_second.total() / INTERVAL
    assert average >= count / INTERVAL
    assert max(each_second.values()) <= 2 * average


@pytest.mark.every_family
@pytest.mark.parametrize(("events_flow", "most"), [(True, 1.2), (False, 2.0)], ids=["events flow", "silence"])
def test_a_poll_of_a_log_of_ten_thousand_events_takes_one_or_two_requests(
    family: Family, events_flow: bool, most: float, connect: Any, time: DrivenTime, mocker: Any
) -> None:
    # a server without pages sends the whole log each time, however long it is
    polls, before = 100, 10_000 if family.pages else 1_000
    told = [{"offset": number - before, "message": f"Step {number}"} for number in range(before)]
    if events_flow:
        told += [{"offset": at, "message": f"At {at}"} for at in range(10, int((polls + 2) * INTERVAL), 10)]
    polled = mocker.spy(JobPoller, "poll")
    with Simulator([{"events": told}], vendor=family.name, clock=time.now) as sim:
        connect(sim)
        newest = sim.list_events(sim.job_id)[-1].get("id")
        (end,) = time.run(ends_of(waits(sim, newer_than=newest, end_time=START + polls * INTERVAL)))
        assert end["kind"] == "timeout"
        assert polled.call_count >= polls
        assert len(sim.requests) <= most * polled.call_count


@pytest.mark.parametrize("log_events", ["messages", "none"])
def test_waits_that_share_polls_end_at_their_deadlines_whenever_these_are(
    log_events: Any, running: Running, time: DrivenTime
) -> None:
    late: list[float] = []

    async def end_of(wait: FineTuningEventsTrigger) -> None:
        (end,) = await ends_of([wait])
        assert end["kind"] == "timeout"
        late.append(time.now() - wait.end_time)  # type: ignore[operator]

    async def all_ends() -> None:
        chosen = waits(sim, log_events=log_events)
        for number, wait in enumerate(chosen):
            wait.end_time = START + 900 + 37 * number
        await asyncio.gather(*map(end_of, chosen))

    with running(SOME * 2) as sim:
        time.run(all_ends())
    assert late == pytest.approx([0.0] * len(late), abs=0.01)


@pytest.mark.parametrize("list_takes", [0.02, 0.3, 1.5])
def test_a_change_is_noticed_with_the_poll_that_shows_it_however_long_a_list_takes(
    list_takes: float, connect: Any, time: DrivenTime
) -> None:
    changes, looks = 4.0, []
    with Simulator([]) as sim:
        connect(sim)
        settings = FineTuningHook().settings
    job = {"id": "ftjob-1", "status": "running"}

    async def send(request: ApiRequest) -> ApiResponse:
        if request.job_id is None:
            looks.append(time.passed)
            await asyncio.sleep(list_takes)
        status = "running" if time.passed < changes else "queued"
        body = json.dumps({"data": [{**job, "status": status}], "has_more": False})
        return ApiResponse(200, {}, body.encode())

    async def listen() -> float:
        board = job_list.JobList(send, pause_left=lambda: 0.0)
        board.waits, board.period, board.settings = 20, 0.2, settings
        while True:
            answer = await board.send(job_request(settings, "ftjob-1"), patience=60.0)
            if answer.parsed["status"] == "queued":
                return time.passed

    assert time.run(listen()) - changes <= 0.2 + 2 * list_takes + 0.1
    assert min(later - earlier for earlier, later in pairwise(looks)) >= list_takes + 0.049


class TestPause:
    """A 429 is no failure, and pauses all waits of its connection."""

    @pytest.mark.parametrize(
        ("asks", "lasts"),
        [({"Retry-After": "600"}, DAY), ({}, DAY / 8)],
        ids=["Retry-After", "no word on when"],
    )
    def test_a_pause_of_a_day_neither_ends_a_wait_nor_counts_as_failed_polls(
        self,
        asks: dict[str, str],
        lasts: float,
        way: str,
        log_events: Any,
        running: Running,
        time: DrivenTime,
        logs: Any,
    ) -> None:
        with running(SOME, until=lasts / 2) as sim:
            sim.fault = trouble(300, lasts, Answer(status=429, headers=asks))
            assert all_succeeded(time.run(ends_of(waits(sim, log_events=log_events))))
            assert lasts <= time.passed <= lasts + 2 * 600 + 3 * INTERVAL
            refused = [request for request in sim.requests if request.status == 429]
            # one poll of both routes asks whether the pause is over; others were under way
            assert len(refused) <= (3 * lasts / 600 if asks else 2 * lasts / 30 + SOME)
        assert "Poll failed" not in logs.text

    def test_a_pause_never_holds_a_wait_beyond_its_deadline(
        self, way: str, log_events: Any, running: Running, time: DrivenTime
    ) -> None:
        with running(SOME) as sim:
            sim.fault = trouble(300, DAY, Answer(status=429, headers={"Retry-After": "50000"}))
            ends = time.run(ends_of(waits(sim, log_events=log_events, end_time=START + 3600)))
            assert {(end["kind"], end["asked"]) for end in ends} == {("timeout", False)}
            assert time.passed == pytest.approx(3600)

    def test_a_pause_that_one_wait_is_asked_for_applies_to_all(
        self, way: str, log_events: Any, running: Running, time: DrivenTime
    ) -> None:
        with running(SOME, until=3600) as sim:
            sim.fault = trouble(600, 1500, Answer(status=429, headers={"Retry-After": "1200"}))
            assert all_succeeded(time.run(ends_of(waits(sim, log_events=log_events))))
            came = asked_at(sim)
            quiet = [(last, following) for last, following in pairwise(came) if following - last >= 1200]
            refused = [request for request in sim.requests if request.status == 429]
            assert len(quiet) == 1
            assert len({request.job_id for request in refused}) == 1
            afterwards = Counter(int(at) for at in came if 1800 <= at < 3600)
            assert max(afterwards.values()) <= SOME / 2


class TestTrouble:
    """Fifteen minutes in which nobody can ask end no wait."""

    @pytest.fixture(
        params=[
            Answer(status=503),
            Answer(status=502, body="<html>"),
            Answer(drop=True),
            Answer(truncate=True),
        ],
        ids=["503", "html 502", "connections lost", "answers cut"],
    )
    def fault(self, request: pytest.FixtureRequest) -> Any:
        """What every request meets."""
        return request.param

    def test_a_server_outage_ends_no_wait(
        self, fault: Answer, way: str, log_events: Any, running: Running, time: DrivenTime
    ) -> None:
        with running(SOME, until=1800) as sim:
            sim.fault = trouble(300, 300 + 15 * MINUTE, fault)
            assert all_succeeded(time.run(ends_of(waits(sim, log_events=log_events))))
            assert 1800 <= time.passed <= 1800 + 3 * INTERVAL

    def test_a_network_outage_ends_no_wait(
        self, way: str, log_events: Any, running: Running, time: DrivenTime
    ) -> None:
        with running(SOME, until=1800) as sim:

            async def with_an_outage() -> list[dict[str, Any]]:
                time.at(300, sim.stop)
                time.at(300 + 15 * MINUTE, sim.start)
                return await ends_of(waits(sim, log_events=log_events))

            assert all_succeeded(time.run(with_an_outage()))

    def test_a_rotated_key_takes_only_one_read_of_the_connection(
        self, way: str, log_events: Any, running: Running, connect: Any, time: DrivenTime, mocker: Any
    ) -> None:
        read = mocker.spy(FineTuningEventsTrigger, "_read_connection")
        with running(SOME, until=1800) as sim:

            def rotate() -> None:
                sim.api_key = "sk-rotated"
                connect(sim)

            async def with_a_rotation() -> list[dict[str, Any]]:
                time.at(300, rotate)
                return await ends_of(waits(sim, log_events=log_events))

            assert all_succeeded(time.run(with_a_rotation()))
            assert read.call_count == 2

    def test_a_broken_job_list_makes_the_waits_poll_individually_one_by_one(
        self, broken_list: Answer, log_events: Any, running: Running, time: DrivenTime
    ) -> None:
        with running(SOME, until=1800) as sim:
            whole_list = trouble(300, 300 + 5 * MINUTE, broken_list)
            sim.fault = lambda asked: whole_list(asked) if asked.route == "list" else None
            assert all_succeeded(time.run(ends_of(waits(sim, log_events=log_events))))
            lists = [request.at - START for request in sim.requests if request.route == "list"]
            jobs = Counter(
                int(at.at - START) for at in sim.requests if at.route == "job" and at.at < START + 1750
            )
            broken = next(at for at in lists if at >= 300)
            back = next(at for at in lists if at > broken)
            assert back - broken >= job_list.OFF_FOR
            assert sum(broken < at < back for at in jobs.elements()) >= SOME
            assert max(jobs.values()) <= SOME / 3

    @pytest.fixture(
        params=[
            Answer(status=500),
            Answer(status=404),
            Answer(body="<html>"),
            Answer(body={"data": None}),
            Answer(body={"data": ["ftjob-1"], "has_more": False}),
            Answer(drop=True),
        ],
        ids=["500", "404", "html", "no jobs in it", "jobs that are no objects", "no answer"],
    )
    def broken_list(self, request: pytest.FixtureRequest) -> Any:
        """What comes instead of the job list."""
        return request.param


@pytest.fixture(params=["http", "https"])
def stalling_proxy(
    request: pytest.FixtureRequest, time: DrivenTime, tls_front: Any, private_ca: Any
) -> Iterator[Callable[[Simulator], dict[str, Any]]]:
    """A proxy that takes every request for the first 15 minutes and answers none; returns the connection."""
    scheme = request.param
    with contextlib.ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())

        def start(sim: Simulator) -> dict[str, Any]:
            base_url = tls_front(sim.base_url) if scheme == "https" else sim.base_url

            def talk(served: socket.socket, connection: int) -> None:
                if time.passed < 15 * MINUTE:
                    served.recv(65_536)
                    time.never_answered()
                    while served.recv(65_536):
                        pass
                    return
                with socket.create_connection(("127.0.0.1", port_of(base_url))) as onward:
                    if scheme == "https":
                        served.recv(65_536)
                        served.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    pump(served, onward)

            proxy = stack.enter_context(Listener(talk))
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://127.0.0.1:{proxy.port}")
            return {"to": base_url, "verify": str(private_ca.bundle), **sim.connection_extra}

        yield start


def test_a_proxy_that_takes_requests_and_answers_none_ends_no_wait(
    stalling_proxy: Any,
    way: str,
    log_events: Any,
    running: Running,
    connect: Any,
    time: DrivenTime,
    logs: Any,
) -> None:
    with running(SOME, until=1800) as sim:
        connect(**stalling_proxy(sim))
        assert all_succeeded(time.run(ends_of(waits(sim, log_events=log_events))))
        assert min(asked_at(sim)) >= 15 * MINUTE
    said = "no answer in 30 s", "the response was not complete after 310 s"  # the latter to a CONNECT
    assert any(text in logs.text for text in said)


class TestConnectionThatCannotBeRead:
    """A secrets backend that is away is asked once for all waits, and each has its own patience."""

    @pytest.fixture
    def readings(self) -> list[float]:
        """When the connection was read."""
        return []

    @pytest.fixture
    def away(self, readings: list[float], time: DrivenTime, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Let the secrets backend be away for some seconds."""
        read = FineTuningHook.aget_settings

        def until(back: float, since: float = 0.0) -> None:
            async def aget_settings(hook: FineTuningHook) -> Any:
                if hook._settings is None:
                    readings.append(time.passed)
                    if since <= time.passed < back:
                        await asyncio.sleep(1)
                        raise ConnectionError("the secrets backend is away")
                return await read(hook)

            monkeypatch.setattr(FineTuningHook, "aget_settings", aget_settings)

        return until

    def test_it_ends_waits_together_and_the_more_patient_ones_later(
        self, away: Any, readings: list[float], running: Running, time: DrivenTime
    ) -> None:
        away(10 * DAY)
        with running(SOME) as sim:
            ended: list[float] = []

            async def end_of(wait: FineTuningEventsTrigger) -> dict[str, Any]:
                (end,) = await ends_of([wait])
                ended.append(time.passed)
                return end

            async def all_ends() -> list[dict[str, Any]]:
                patient = waits(sim, max_poll_failures=10)[: SOME // 2]
                return await asyncio.gather(*map(end_of, waits(sim)[SOME // 2 :] + patient))

            ends = time.run(all_ends())
        assert all("is unknown" in end["error"]["message"] for end in ends)
        assert ended[SOME // 2 - 1] - ended[0] <= 10
        assert 15 * MINUTE <= ended[0] <= 30 * MINUTE
        assert ended[SOME // 2] > ended[SOME // 2 - 1] + 10 * MINUTE
        assert ended[-1] - ended[SOME // 2] <= 10
        assert len(readings) <= 15

    def test_it_holds_no_wait_beyond_its_deadline(
        self, away: Any, readings: list[float], running: Running, time: DrivenTime
    ) -> None:
        away(10 * DAY)
        with running(SOME) as sim:
            ends = time.run(ends_of(waits(sim, end_time=START + 5 * MINUTE)))
        assert all("is unknown" in end["error"]["message"] for end in ends)
        assert time.passed <= 5 * MINUTE + 10

    def test_it_ends_no_wait_if_it_can_be_read_again_after_ten_minutes(
        self, away: Any, readings: list[float], running: Running, time: DrivenTime
    ) -> None:
        away(10 * MINUTE)
        with running(SOME, until=1800) as sim:
            assert all_succeeded(time.run(ends_of(waits(sim))))
        assert len(readings) <= 10

    def test_it_ends_no_wait_after_its_key_was_rotated(
        self, away: Any, readings: list[float], running: Running, connect: Any, time: DrivenTime
    ) -> None:
        away(900, since=300)
        with running(SOME, until=1800) as sim:

            def rotate() -> None:
                sim.api_key = "sk-rotated"
                connect(sim)

            async def with_a_rotation() -> list[dict[str, Any]]:
                time.at(400, rotate)
                return await ends_of(waits(sim))

            assert all_succeeded(time.run(with_a_rotation()))
        # each wait meets the 401 at its own turn
        assert len(readings) <= 1 + 600 / 10

    def test_reading_goes_on_if_the_wait_that_began_it_is_cancelled(
        self, away: Any, readings: list[float], running: Running, time: DrivenTime
    ) -> None:
        away(0)
        with running(2, until=600) as sim:

            async def one_is_cancelled() -> list[dict[str, Any]]:
                first, second = (asyncio.ensure_future(ends_of([wait])) for wait in waits(sim))
                while not readings:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                first.cancel()
                return await second

            assert all_succeeded(time.run(one_is_cancelled()))
        assert len(readings) == 1
