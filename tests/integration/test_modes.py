"""The trigger on real event loops, and what all modes must have in common."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import warnings
from typing import Any

import aiohttp
import pytest
import requests

from airflow_ft_events.exceptions import FineTuningJobFailed, FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.transport import aio
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger


@pytest.fixture
def closed_sessions(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    """Every aiohttp session that is made during the test."""
    made: list[aiohttp.ClientSession] = []
    original = aiohttp.ClientSession.__init__

    def init(self: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", init)
    return made


def newest_id(job_id: str) -> str:
    """The id of a job's newest event, the server's or a made one."""
    return FineTuningHook().read_events(job_id).collected_events()[-1].id


def test_a_job_that_has_ended_needs_no_trigger(simulated: Any, connect: Any, follow: Any) -> None:
    sim = simulated(ended=True)
    connect(sim)
    assert follow("deferrable", sim.job_id)["outcome"] == "succeeded"
    assert follow.triggers == []


@pytest.mark.every_family
def test_the_worker_tells_the_trigger_what_it_saw(simulated: Any, connect: Any, follow: Any) -> None:
    sim = simulated()
    connect(sim)
    newest = newest_id(sim.job_id)
    follow("deferrable", sim.job_id, timeout=3600, poke_interval=30)
    (trigger,) = follow.triggers
    assert (trigger.job_seen, trigger.newer_than) == (True, newest)
    assert trigger.end_time == follow.clock.start + 3600


def test_a_trigger_carries_no_key(simulated: Any, connect: Any, follow: Any) -> None:
    sim = simulated(api_key="sk-very-secret-1234567890")
    connect(sim, headers={"X-Gateway": "gw-secret-0987654321"})
    follow("deferrable", sim.job_id)
    stored = json.dumps(follow.triggers[0].serialize())
    assert "secret" not in stored


@pytest.mark.every_family
@pytest.mark.parametrize("job_route", [True, False], ids=["job route", "events only"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_a_trigger_that_is_restarted_in_the_middle_ends_the_same(
    outcome: str,
    order: str,
    job_route: bool,
    family: Any,
    simulated: Any,
    connect: Any,
    clock: Any,
    reloaded: Any,
    payload_of: Any,
) -> None:
    sim = simulated(outcome=outcome, job_route=job_route, order=order)
    connect(sim)
    trigger = FineTuningEventsTrigger(job_id=sim.job_id, poll_interval=30, end_time=clock.now() + 86_400)
    seen = job_route or family.announces(outcome)

    async def wait_with_restarts() -> Any:
        waiting = trigger
        for polls in (1, 3, 4):
            waiting = reloaded(waiting)
            run = asyncio.ensure_future(payload_of(waiting))
            before = sim.count(route="events")
            while sim.count(route="events") < before + polls and not run.done():  # noqa: ASYNC110
                await asyncio.sleep(0)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
        return await payload_of(reloaded(waiting))

    payload = asyncio.run(wait_with_restarts())
    assert payload["kind"] == ("outcome" if seen else "timeout")
    if not seen:
        return
    assert payload["outcome"]["outcome"] == outcome
    assert payload["outcome"]["decided_by"] == ("status" if job_route else "event")


@pytest.mark.every_family
def test_a_restart_long_after_the_end_still_finds_it(
    family: Any, simulated: Any, connect: Any, clock: Any, reloaded: Any, payload_of: Any
) -> None:
    sim = simulated(job_route=False)
    connect(sim)
    newest = newest_id(sim.job_id)
    clock.sleep(10_000)
    order = "oldest_first" if family.oldest_first else "newest_first"
    trigger = FineTuningEventsTrigger(
        job_id=sim.job_id, newer_than=newest, order=order, end_time=clock.now() - 1
    )
    payload = asyncio.run(payload_of(reloaded(trigger)))
    assert payload["outcome"]["outcome"] == "succeeded"


def test_the_last_look_at_the_deadline_finds_a_job_that_has_just_ended(
    simulated: Any, connect: Any, clock: Any, payload_of: Any
) -> None:
    sim = simulated()
    connect(sim)
    clock.at(599, lambda: sim.set_status(sim.job_id, "succeeded"))
    sim.set_status(sim.job_id, "running")
    trigger = FineTuningEventsTrigger(job_id=sim.job_id, poll_interval=400, end_time=clock.now() + 600)
    assert asyncio.run(payload_of(trigger))["outcome"]["outcome"] == "succeeded"


def test_the_deadline_ends_a_wait_and_says_what_was_known(
    simulated: Any, connect: Any, clock: Any, payload_of: Any
) -> None:
    sim = simulated()
    sim.set_status(sim.job_id, "paused")
    connect(sim)
    trigger = FineTuningEventsTrigger(job_id=sim.job_id, end_time=clock.now() + 3600)
    assert asyncio.run(payload_of(trigger)) == {
        "job_id": sim.job_id,
        "kind": "timeout",
        "status": "paused",
        "asked": True,
    }
    assert clock.passed == 3600


class TestRunNeverRaises:
    """Whatever breaks, run() ends with one event that says what it was."""

    def test_when_the_server_is_gone(self, simulated: Any, connect: Any, clock: Any, payload_of: Any) -> None:
        sim = simulated()
        connect(sim)
        clock.at(60, sim.stop)
        payload = asyncio.run(payload_of(FineTuningEventsTrigger(job_id=sim.job_id, poll_interval=30)))
        assert payload["kind"] == "error"
        assert payload["error"]["kind"] == "FineTuningApiError"
        assert "is unknown" in payload["error"]["message"]
        assert clock.passed >= 60 + 900

    @pytest.mark.parametrize(
        "broken",
        [
            {"host": "127.0.0.1:1/v1"},
            {"host": "ftp://127.0.0.1/v1"},
            {"password": ""},
            {"conn_type": "postgres"},
            {"extra": {"vendor": "nobody"}},
            {"extra": {"verify": "/nowhere/ca.pem"}},
            {"extra": "no JSON"},
        ],
        ids=["no scheme", "odd scheme", "no key", "odd type", "unknown vendor", "no bundle", "odd extra"],
    )
    def test_when_the_connection_cannot_work(
        self,
        broken: dict[str, Any],
        clock: Any,
        payload_of: Any,
        monkeypatch: pytest.MonkeyPatch,
        simulated: Any,
    ) -> None:
        sim = simulated()
        good = {"conn_type": "fine_tuning", "host": sim.base_url, "password": "sk-wrong"}
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(good | broken))
        payload = asyncio.run(payload_of(FineTuningEventsTrigger(job_id=sim.job_id)))
        assert payload["kind"] == "error"
        assert "fine_tuning_default" in payload["error"]["message"]

    @pytest.mark.parametrize("job_id", [None, "", "../files", "a%2F..%2Fb", "..", 7], ids=repr)
    def test_when_the_job_id_is_invalid(
        self, job_id: Any, simulated: Any, connect: Any, payload_of: Any
    ) -> None:
        sim = simulated()
        connect(sim)
        payload = asyncio.run(payload_of(FineTuningEventsTrigger(job_id=job_id)))
        assert payload["error"]["kind"] == "FineTuningInputError"
        assert sim.requests == []

    @pytest.mark.parametrize(
        "where",
        [
            "airflow_ft_events.waiting.poller.JobPoller.poll",
            "airflow_ft_events.waiting.task_log.TaskLog.lines",
            "airflow_ft_events.transport.aio.AsyncTransport.send",
        ],
    )
    def test_when_its_own_machinery_breaks(
        self, where: str, simulated: Any, connect: Any, payload_of: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sim = simulated()
        connect(sim)

        def boom(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(where, boom)
        payload = asyncio.run(payload_of(FineTuningEventsTrigger(job_id=sim.job_id)))
        assert payload["kind"] == "error"
        assert "ZeroDivisionError" in payload["error"]["message"]


def test_many_waits_share_one_session_and_leave_none_open(
    simulated: Any, connect: Any, payload_of: Any, closed_sessions: list[aiohttp.ClientSession]
) -> None:
    sim = simulated(30, speed=0.05)
    connect(sim)

    async def wait_for_all() -> list[Any]:
        waits = [payload_of(FineTuningEventsTrigger(job_id=job_id)) for job_id in sim.job_ids]
        return await asyncio.gather(*waits)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        payloads = asyncio.run(wait_for_all())
        gc.collect()
    assert {payload["outcome"]["outcome"] for payload in payloads} == {"succeeded"}
    assert sorted(payload["job_id"] for payload in payloads) == sorted(sim.job_ids)
    assert len(closed_sessions) == 1
    assert closed_sessions[0].closed
    assert not any(aio._sessions.values())


def test_waits_on_two_event_loops_in_two_threads_keep_out_of_each_others_way(
    simulated: Any, connect: Any, payload_of: Any, closed_sessions: list[aiohttp.ClientSession]
) -> None:
    sim = simulated(8, speed=0.05)
    connect(sim)
    found: list[Any] = []

    async def wait_for(job_ids: list[str]) -> list[Any]:
        waits = [payload_of(FineTuningEventsTrigger(job_id=job_id)) for job_id in job_ids]
        return await asyncio.gather(*waits)

    threads = [
        threading.Thread(target=lambda ids=ids: found.extend(asyncio.run(wait_for(ids))))
        for ids in (sim.job_ids[:4], sim.job_ids[4:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [payload["outcome"]["outcome"] for payload in found] == ["succeeded"] * 8
    assert len(closed_sessions) == 2
    assert all(session.closed for session in closed_sessions)


def test_fifty_waits_never_use_the_sync_client_and_let_others_run(
    simulated: Any, connect: Any, payload_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulated(50, speed=0.05)
    connect(sim)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the sync client was used in an event loop")

    monkeypatch.setattr(requests.Session, "send", never)
    monkeypatch.setattr(requests.Session, "request", never)
    monkeypatch.setattr("airflow_ft_events.hooks.fine_tuning.FineTuningHook.get_connection", never)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def wait_for_all() -> list[Any]:
        ticking = asyncio.ensure_future(tick())
        waits = [payload_of(FineTuningEventsTrigger(job_id=job_id)) for job_id in sim.job_ids]
        payloads = await asyncio.gather(*waits)
        ticking.cancel()
        return payloads

    payloads = asyncio.run(wait_for_all())
    assert {payload["outcome"]["outcome"] for payload in payloads} == {"succeeded"}
    # each wait lets go of the loop at each of its requests
    assert ticks >= len(sim.requests) / len(sim.job_ids)


def test_a_trigger_that_is_cancelled_closes_its_session(
    simulated: Any, connect: Any, payload_of: Any, closed_sessions: list[aiohttp.ClientSession]
) -> None:
    sim = simulated()
    sim.set_status(sim.job_id, "paused")
    connect(sim)

    async def begin_and_cancel() -> None:
        run = asyncio.ensure_future(payload_of(FineTuningEventsTrigger(job_id=sim.job_id)))
        while not sim.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(begin_and_cancel())
    assert [session.closed for session in closed_sessions] == [True]


@pytest.mark.every_family
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_message_is_logged_once_by_a_wait_that_remembers(
    mode: str, simulated: Any, connect: Any, follow: Any, logs: Any
) -> None:
    sim = simulated()
    connect(sim)
    follow(mode, sim.job_id, poke_interval=20)
    said = [event["message"] for event in sim.list_events(sim.job_id) if event.get("type") != "metrics"]
    for message in (said[0], said[1], said[-1]):
        assert logs.text.count(message) == said.count(message) == 1


class TestOutage:
    """An outage says nothing about the job."""

    def test_an_outage_of_ten_minutes_does_not_end_the_wait(
        self, simulated: Any, connect: Any, follow: Any, clock: Any, mode: str
    ) -> None:
        sim = simulated(speed=0.2)
        connect(sim)
        clock.at(100, sim.stop)
        clock.at(700, sim.start)
        assert follow(mode, sim.job_id)["outcome"] == "succeeded"

    @pytest.mark.parametrize(
        "fault",
        [{"status": 500}, {"status": 503, "body": "<html>down</html>"}, {"drop": True}, {"truncate": True}],
        ids=["500", "html 503", "dropped", "truncated"],
    )
    def test_a_few_bad_responses_do_not_end_the_wait(
        self, fault: dict[str, Any], simulated: Any, connect: Any, follow: Any, mode: str
    ) -> None:
        sim = simulated()
        connect(sim)
        sim.fail_next(6, **fault)
        assert follow(mode, sim.job_id, poke_interval=100)["outcome"] == "succeeded"

    def test_a_requested_pause_is_waited_out_without_a_poll(
        self, simulated: Any, connect: Any, clock: Any, payload_of: Any
    ) -> None:
        sim = simulated()
        connect(sim)
        sim.fail_next(1, route="events", status=429, headers={"Retry-After": "2000"})
        payload = asyncio.run(payload_of(FineTuningEventsTrigger(job_id=sim.job_id, poll_interval=10)))
        assert payload["outcome"]["outcome"] == "succeeded"
        events, job, after, *_ = sim.requests
        assert (events.route, job.route) == ("events", "job")
        assert after.at - job.at >= 1800


@pytest.mark.every_family
def test_a_failed_job_says_why_in_every_mode(simulated: Any, connect: Any, follow: Any, mode: str) -> None:
    sim = simulated(outcome="failed")
    connect(sim)
    with pytest.raises(FineTuningJobFailed) as failed:
        follow(mode, sim.job_id)
    last = sim.list_events(sim.job_id)[-1]
    # where the job names no reason, its log does
    error = sim.get_job(sim.job_id).get("error") or {"code": "", "message": last["message"]}
    text = str(failed.value)
    assert sim.job_id in text
    assert "fine_tuning_default" in text
    assert error["code"] in text
    assert error["message"].rstrip(".") in text
    assert last["message"][:60] in text


def test_a_job_that_is_deleted_after_it_was_seen_is_gone_in_modes_that_remember(
    simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    for mode in ("poke", "deferrable"):
        sim = simulated()
        connect(sim)
        clock.at(clock.passed + 130, lambda sim=sim: sim.delete_job(sim.job_id))
        with pytest.raises(FineTuningJobNotFound, match="is gone"):
            follow(mode, sim.job_id)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_stray_404_is_forgiven_by_a_wait_that_remembers(
    simulated: Any, connect: Any, follow: Any, clock: Any, mode: str
) -> None:
    sim = simulated()
    connect(sim)
    clock.at(100, lambda: sim.fail_next(2, status=404))
    assert follow(mode, sim.job_id)["outcome"] == "succeeded"
