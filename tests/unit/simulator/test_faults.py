"""Faults that were asked for."""

from __future__ import annotations

import pytest

from airflow_ft_events.simulator import RandomFaults, ReceivedRequest
from airflow_ft_events.simulator.faults import parse_fault


def request() -> ReceivedRequest:
    return ReceivedRequest(method="GET", path="/", query={}, headers={}, at=0.0)


def test_a_fault_has_a_kind_and_a_rate() -> None:
    answer, rate = parse_fault("503:0.25")
    assert (answer.status, rate) == (503, 0.25)
    assert parse_fault("drop")[1] == 0.1


def test_a_rate_limit_says_when_to_come_back() -> None:
    assert parse_fault("429:1")[0].headers == {"Retry-After": "1"}


@pytest.mark.parametrize(
    "spec", ["", "boom", "200:0.1", "600", "500:", "500:x", "500:-1", "500:1.1", "500:nan", "5²0"]
)
def test_an_invalid_fault_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="ault"):
        parse_fault(spec)


def test_faults_come_at_their_rate_and_alike_for_a_seed() -> None:
    first, second = RandomFaults(["500:0.1"], seed=3), RandomFaults(["500:0.1"], seed=3)
    drawn = [first(request()) is not None for _ in range(2000)]
    assert drawn == [second(request()) is not None for _ in range(2000)]
    assert 120 < sum(drawn) < 280
