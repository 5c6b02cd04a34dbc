"""Faults that were asked for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.simulator import Answer, Limiter, RandomFaults, ReceivedRequest
from airflow_ft_events.simulator.fault_specs import parse_fault


def request(elapsed: float = 0.0, **told: Any) -> ReceivedRequest:
    return ReceivedRequest(
        method="GET", path="/", query={}, headers={}, at=elapsed * 60, elapsed=elapsed, **told
    )


def answer_to(spec: str) -> Answer | None:
    return parse_fault(spec).fault(request())


def test_a_fault_has_a_kind_and_a_rate() -> None:
    chosen = parse_fault("503:0.25")
    assert (chosen.fault(request()), chosen.rate) == (Answer(status=503), 0.25)


@pytest.mark.parametrize(
    ("spec", "rate"),
    [
        ("drop", 0.1),
        ("500", 0.1),
        ("500@job", 1.0),
        ("500,to=10", 1.0),
        ("slow=1", 1.0),
        ("limit=1/s", 1.0),
        ("sse", 1.0),
        ("500@job:0.5,to=10", 0.5),
    ],
)
def test_a_bare_fault_comes_now_and_then_and_one_for_a_route_a_time_or_with_a_value_always(
    spec: str, rate: float
) -> None:
    assert parse_fault(spec).rate == rate


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("429", Answer(status=429, headers={"Retry-After": "1"})),
        ("503,retry-after=7", Answer(status=503, headers={"Retry-After": "7"})),
        ("drop", Answer(drop=True)),
        ("truncate", Answer(truncate=True)),
        ("reset", Answer(reset=True)),
        ("slow", Answer(stall=2)),
        ("slow=0.5", Answer(stall=0.5)),
        ("slow-close=3", Answer(linger=3)),
        ("bandwidth=1000", Answer(bandwidth=1000)),
        ("cache=3", Answer(cached=3)),
        ("stale=5", Answer(behind=5)),
        ("sse", Answer(stream=True)),
    ],
)
def test_each_kind_is_an_answer(spec: str, answer: Answer) -> None:
    assert answer_to(spec) == answer


@pytest.mark.parametrize(("spec", "status"), [("html", 502), ("403,page=html", 403), ("599,page=html", 599)])
def test_a_gateway_may_answer_with_a_page(spec: str, status: int) -> None:
    answer = answer_to(spec)
    assert answer is not None
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html")
    assert str(status) in answer.body


def test_a_fault_meets_its_route_in_its_time_only() -> None:
    faults = RandomFaults(["403@events,from=10,to=20"])
    met = [
        (route, at)
        for route in ("events", "job", None)
        for at in (9.9, 10.0, 19.9, 20.0)
        if faults(request(at, route=route))
    ]
    assert met == [("events", 10.0), ("events", 19.9)]
    assert parse_fault("sse").route == "events"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "boom",
        "200:0.1",
        "600",
        "5²0",
        "boom=1",
        "500:",
        "500:x",
        "500:-1",
        "500:1.1",
        "500:nan",
        "500=3",
        "drop=1",
        "500@nowhere",
        "500@",
        "500,",
        "500,to",
        "500,to=x",
        "500,from=-1",
        "500,from=inf",
        "500,from=5,to=5",
        "500,to=1,to=2",
        "500,burst=1",
        "500,page=xml",
        "drop,page=html",
        "cache",
        "cache=",
        "cache=0",
        "cache=-1",
        "cache=x",
        "stale=inf",
        "bandwidth",
        "slow-close=nan",
        "limit",
        "limit=1",
        "limit=0/s",
        "limit=1/h",
        "limit=-1/s",
        "limit=1/s,burst=x",
        "limit=1/s,status=200",
        "limit=1/s,per=route",
    ],
)
def test_an_invalid_fault_is_refused_with_its_text(spec: str) -> None:
    with pytest.raises(ValueError, match="ault") as refused:
        parse_fault(spec)
    assert repr(spec) in str(refused.value)


def test_faults_come_at_their_rate_and_alike_for_a_seed() -> None:
    first, second = RandomFaults(["500:0.1"], seed=3), RandomFaults(["500:0.1"], seed=3)
    drawn = [first(request()) is not None for _ in range(2000)]
    assert drawn == [second(request()) is not None for _ in range(2000)]
    assert 120 < sum(drawn) < 280


def passed(fault: Any, *times: float) -> list[float]:
    return [at for at in times if fault(request(at)) is None]


def test_a_limiter_without_burst_lets_one_request_pass_in_each_interval() -> None:
    fault = Limiter(rate=1)
    assert passed(fault, 0, 0, 0.5, 0.999, 1, 1.5, 1.999, 2.5, 3, 3.5) == [0, 1, 2.5, 3.5]


def test_a_refused_request_does_not_count() -> None:
    fault = Limiter(rate=1)
    assert passed(fault, *(n / 10 for n in range(31))) == [0, 1, 2, 3]


def test_a_burst_passes_at_once_and_comes_back_at_the_rate() -> None:
    fault = Limiter(rate=1, burst=2)
    assert passed(fault, 0, 0, 0, 0, 1, 1, 10, 10, 10, 10) == [0, 0, 0, 1, 10, 10, 10]


def test_a_limiter_counts_for_all_or_for_each_key() -> None:
    together, apart = Limiter(rate=1), Limiter(rate=1, per_client=True)
    first, second = request(client=1), request(client=2)
    assert [together(first) is None, together(second) is None] == [True, False]
    assert [apart(first) is None, apart(second) is None, apart(first) is None] == [True, True, False]


def test_a_limiter_refuses_as_it_was_told() -> None:
    fault = parse_fault("limit=30/m,burst=1,status=503,retry-after=2,page=html,per=client").fault
    answers = [fault(request(at, client=1)) for at in (0, 0, 1.9, 2)]
    assert [answer and answer.status for answer in answers] == [None, None, 503, None]
    assert answers[2] is not None
    assert answers[2].headers == {"Retry-After": "2", "Content-Type": "text/html"}
    assert fault(request(0, client=2)) is None
