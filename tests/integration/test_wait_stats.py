"""The figures that waits hand to Airflow's own Stats."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from airflow.jobs import triggerer_job_runner

from airflow_ft_events.triggers import stats as wait_stats
from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger


class FakeStats:
    """Keeps what it is told."""

    def __init__(self, mocker: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: list[float] = []
        self.timings: dict[str, timedelta] = {}
        faked = mocker.patch.object(wait_stats, "Stats")
        faked.incr.side_effect = self._incr
        faked.gauge.side_effect = lambda name, value, **_: self.gauges.append(value)
        faked.timing.side_effect = lambda name, dt, **_: self.timings.update({name: dt})

    def _incr(self, name: str, count: int = 1) -> None:
        self.counts[name] += count


@pytest.fixture
def stats(mocker: Any) -> FakeStats:
    """Airflow's Stats in this test."""
    return FakeStats(mocker)


def wait_for_all(payload_of: Any, *job_ids: str) -> list[dict[str, Any]]:
    async def waits() -> list[dict[str, Any]]:
        triggers = [FineTuningEventsTrigger(job_id=job_id, poll_interval=10) for job_id in job_ids]
        return await asyncio.gather(*map(payload_of, triggers))

    return asyncio.run(waits())


def test_each_poll_and_each_poll_without_an_answer_is_counted(
    simulated: Any, connect: Any, payload_of: Any, stats: FakeStats
) -> None:
    sim = simulated([{"duration": 100}])
    connect(sim)
    sim.fail_next(2, route="events", status=503)
    sim.fail_next(2, route="job", status=503)
    (payload,) = wait_for_all(payload_of, sim.job_id)
    assert payload["outcome"]["outcome"] == "succeeded"
    assert stats.counts[wait_stats.POLL_FAULTS] == 2
    assert stats.counts[wait_stats.RATE_LIMITED] == 0
    # a server that does not say whether there are more events is asked once more in the same poll
    polls = {request.at for request in sim.requests if request.route == "events"}
    assert stats.counts[wait_stats.POLLS] == len(polls)


def test_a_429_is_counted_as_a_429_and_not_as_a_fault(
    simulated: Any, connect: Any, payload_of: Any, stats: FakeStats
) -> None:
    sim = simulated([{"duration": 100}])
    connect(sim)
    sim.fail_next(3, route="events", status=429, headers={"Retry-After": "5"})
    wait_for_all(payload_of, sim.job_id)
    assert stats.counts[wait_stats.RATE_LIMITED] == 3
    assert stats.counts[wait_stats.POLL_FAULTS] == 0


def test_the_gauge_follows_the_waits_in_progress_down_to_none(
    simulated: Any, connect: Any, payload_of: Any, stats: FakeStats
) -> None:
    sim = simulated(["succeeded", "failed", "cancelled"])
    connect(sim)
    wait_for_all(payload_of, *sim.job_ids)
    assert stats.gauges == [1, 2, 3, 2, 1, 0]


def test_the_detection_lag_runs_from_the_jobs_end_to_the_verdict_on_the_servers_clock(
    simulated: Any, connect: Any, payload_of: Any, stats: FakeStats, clock: Any
) -> None:
    sim = simulated([{"duration": 100}])
    connect(sim)
    wait_for_all(payload_of, sim.job_id)
    finished = sim.get_job(sim.job_id)["finished_at"]
    lag = stats.timings[wait_stats.DETECTION_LAG].total_seconds()
    assert lag == int(clock.now()) - finished
    assert 0 <= lag <= 11  # an interval of 10 s, and its jitter


def test_a_cancelled_job_without_an_end_time_has_no_detection_lag(
    simulated: Any, connect: Any, payload_of: Any, stats: FakeStats
) -> None:
    sim = simulated(["cancelled"])
    connect(sim)
    (payload,) = wait_for_all(payload_of, sim.job_id)
    assert payload["outcome"]["finished_at"] is None
    assert stats.timings == {}


def test_metrics_go_to_the_stats_that_the_triggerer_itself_sets_up() -> None:
    used = getattr(triggerer_job_runner, "stats", triggerer_job_runner).Stats
    assert wait_stats.Stats is used
