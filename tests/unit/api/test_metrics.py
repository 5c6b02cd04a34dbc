"""Numbers beside a log: read as events, put between its own by time, and no error where there are none."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, FaultKind
from airflow_ft_events.api.metrics import merged, read_metrics
from airflow_ft_events.errors import FineTuningApiError, FineTuningAuthError, FineTuningRateLimited
from airflow_ft_events.events import Event, metrics_table
from airflow_ft_events.vendors import VENDORS

ROWS = [
    {"timestamp": 1779196193564587000, "train/global_step": 1, "train/epoch": 0.1, "train/loss": 2.43},
    {"timestamp": 1779196253564587000, "train/global_step": 2, "train/loss": 2.11, "train/grad_norm": 0.94},
    {"timestamp": 1779196254564587000, "train/global_step": 2, "eval/loss": 2.05},
]


def found(kit: Any, reply: Any, vendor: str = "together") -> tuple[Any, list[str]]:
    asked: list[str] = []

    def server(request: ApiRequest) -> Any:
        asked.append(request.path)
        return reply

    return kit.converse(read_metrics(kit.settings(extra={"vendor": vendor}), "ft-1"), server), asked


def test_togethers_rows_become_events_with_openais_names_and_keep_the_row(kit: Any) -> None:
    metrics, asked = found(kit, kit.answer({"metrics": ROWS}))
    assert asked == ["/fine-tunes/ft-1/metrics"]
    assert metrics.missing is None
    assert [event["row"] for event in metrics.events] == ROWS
    assert {event["type"] for event in metrics.events} == {"metrics"}
    assert [round(event["created_at"]) for event in metrics.events] == [1779196194, 1779196254, 1779196255]
    assert metrics_table(metrics.events) == [
        {"step": 1, "train_epoch": 0.1, "train_loss": 2.43},
        {"step": 2, "train_loss": 2.11, "train_grad_norm": 0.94, "valid_loss": 2.05},
    ]


@pytest.mark.parametrize(
    ("row", "data"),
    [
        ({"eval/global_step": 3, "eval/loss": 1.0}, {"step": 3, "valid_loss": 1.0}),
        ({"global_step": 3, "loss": 1.0}, {"step": 3, "loss": 1.0}),
        ({"train/global_step": 3, "train/reward/mean": 1.0}, {"step": 3, "train_reward_mean": 1.0}),
        ({"train/loss": 1.0}, {"train_loss": 1.0}),
        ({"timestamp": "soon", "train/loss": None}, {"train_loss": None}),
        ({}, {}),
    ],
)
def test_a_row_is_read_whatever_it_has(row: dict[str, Any], data: dict[str, Any]) -> None:
    event = VENDORS["together"].metrics_event(row)
    assert event["data"] == data
    assert event["created_at"] is None
    assert event["row"] is row


@pytest.mark.parametrize("vendor", [name for name in VENDORS if name != "together"])
def test_families_whose_events_have_the_numbers_are_asked_for_nothing(vendor: str, kit: Any) -> None:
    if vendor == "azure":
        settings = kit.settings(host="https://a.openai.azure.com")
    else:
        settings = kit.settings(extra={"vendor": vendor})
    metrics = kit.converse(read_metrics(settings, "ft-1"), lambda request: pytest.fail(request.path))
    assert (metrics.events, metrics.missing) == ((), None)


@pytest.mark.parametrize("body", [{"metrics": []}, {"metrics": None}, {}, {"metrics": [7, None, "x"]}])
def test_an_answer_without_rows_is_no_metrics(body: Any, kit: Any) -> None:
    metrics, _ = found(kit, kit.answer(body))
    assert (list(metrics.events), metrics.missing) == ([], None)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (ApiResponse(404, {}, b"{}"), "it answers 404"),
        (ApiResponse(405, {}, b"{}"), "it answers 405"),
        (ApiResponse(501, {}, b"{}"), "it answers 501"),
        (ApiResponse(200, {}, b"<html>"), "not JSON"),
        (ApiResponse(200, {}, b'{"metrics": {}}'), "no list named 'metrics'"),
        (ApiFault(FaultKind.TOO_LARGE, "larger than 32 MiB"), "32 MiB"),
    ],
)
def test_a_server_without_the_route_has_no_metrics_and_it_is_said_why(reply: Any, why: str, kit: Any) -> None:
    metrics, _ = found(kit, reply)
    assert list(metrics.events) == []
    assert why in metrics.missing


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ApiResponse(401, {}, b"{}"), FineTuningAuthError),
        (ApiResponse(403, {}, b"{}"), FineTuningAuthError),
        (ApiResponse(429, {}, b"{}"), FineTuningRateLimited),
        (ApiResponse(503, {}, b"{}"), FineTuningApiError),
        (ApiFault(FaultKind.TIMEOUT, "no answer"), FineTuningApiError),
    ],
)
def test_not_being_able_to_ask_is_not_an_answer(reply: Any, error: type[Exception], kit: Any) -> None:
    with pytest.raises(error, match="the metrics of job ft-1"):
        found(kit, reply)


def said(*times: float | None) -> list[Event]:
    return [Event({"message": f"m{n}", "created_at": at}, "") for n, at in enumerate(times)]


def numbers(*times: float | None) -> list[dict[str, Any]]:
    return [{"type": "metrics", "created_at": at, "data": {"step": n}} for n, at in enumerate(times)]


@pytest.mark.parametrize(
    ("events", "metrics", "order"),
    [
        ((10, 20, 30), (15, 25), "m0 0 m1 1 m2"),
        ((10, 20, 30), (10, 20), "0 m0 1 m1 m2"),
        ((10, 20), (30, 40), "m0 0 1 m1"),
        ((10, 20), (None, None), "0 1 m0 m1"),
        ((None, None, 20), (5, 6), "m0 m1 0 1 m2"),
        ((10,), (5, 15), "0 1 m0"),
        ((), (5,), "0"),
        ((10,), (), "m0"),
        ((), (), ""),
    ],
)
def test_numbers_stand_where_their_time_puts_them_and_the_logs_end_stays_its_end(
    events: tuple[Any, ...], metrics: tuple[Any, ...], order: str
) -> None:
    log = merged(said(*events), numbers(*metrics))
    assert " ".join(event.message or str(event.step) for event in log) == order
