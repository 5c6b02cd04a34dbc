"""An event's typed view over whatever a server sends; identity, order, metrics, clean lines."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from airflow_ft_events.events import (
    Event,
    EventPage,
    Order,
    content_hash,
    flat_numbers,
    identify,
    iso_utc,
    last_metrics,
    metrics_table,
    number_of,
    one_line,
    order_of,
    server_id,
)

NEWEST, OLDEST = Order.NEWEST_FIRST, Order.OLDEST_FIRST
HUGE = 10**400
ODD: list[Any] = [
    None,
    "",
    " ",
    "text",
    0,
    -1,
    7,
    1.5,
    True,
    False,
    HUGE,
    -HUGE,
    float("nan"),
    float("inf"),
    1e308,
    [],
    [1, [2]],
    {},
    {"step": 1},
    {"error_code": {}},
    "\ud800",
    "\x00\n\x1b[31m",
    "9" * 5_000,
    "Step " + "9" * 5_000,
    "Step 5/" + "9" * 5_000 + ": loss",
    "Step ٣/٤: digits of another script",
]
FIELDS = ("id", "created_at", "level", "message", "type", "data", "object")


def view(raw: dict[str, Any]) -> tuple[Any, ...]:
    event = identify([raw], order=OLDEST)[0]
    return (
        event.id,
        event.created_at,
        event.level,
        event.type,
        event.message,
        event.data,
        event.error_code,
        event.is_metrics,
        event.step,
        event.total_steps,
        event.metrics,
        iso_utc(event.created_at),
        one_line(event.message),
    )


KINDS = (str, float, str, str, str, dict, str, bool, int, int, dict, str, str)


def check_view(raw: dict[str, Any]) -> None:
    for value, kind in zip(view(raw), KINDS, strict=True):
        assert value is None or isinstance(value, kind)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_a_field_of_any_kind_never_breaks_the_view(name: str, value: Any) -> None:
    check_view({name: value})
    check_view({"id": "ftevent-1", "message": "Step 3/9: training loss=1", "created_at": 1, name: value})


@pytest.mark.parametrize("name", ["step", "steps", "total_steps", "max_steps", "train_loss", "error_code"])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_data_of_any_kind_never_breaks_the_view(name: str, value: Any) -> None:
    check_view({"type": "metrics", "data": {name: value}})


@pytest.mark.parametrize("seed", range(20))
def test_events_put_together_at_random_never_break_the_view(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        check_view({name: rng.choice(ODD) for name in FIELDS if rng.random() < 0.7})


def test_data_nested_without_end_does_not_break_the_view() -> None:
    data: dict[str, Any] = {"step": 3}
    for _ in range(5_000):
        data = {"step": 3, "more": data}
    metrics = Event({"type": "metrics", "data": data}, "a").metrics
    assert metrics["step"] == 3
    assert len(metrics) < 50


def test_the_raw_event_is_the_servers_dict_itself() -> None:
    raw = {"id": "ftevent-1", "data": None, "surprise": [1]}
    assert identify([raw], order=NEWEST)[0].raw is raw
    assert raw == {"id": "ftevent-1", "data": None, "surprise": [1]}


@pytest.mark.parametrize(
    ("raw", "level"),
    [
        ({}, ""),
        ({"level": None}, ""),
        ({"level": ""}, ""),
        ({"level": "info"}, "info"),
        ({"level": "warn"}, "warn"),
        ({"level": "warning"}, "warn"),
        ({"level": " WARNING "}, "warn"),
        ({"level": "ERROR"}, "error"),
        ({"level": "fatal"}, "error"),
        ({"level": "notice"}, "notice"),
    ],
)
def test_a_level_is_one_of_three_or_the_servers_own_word(raw: dict[str, Any], level: str) -> None:
    assert Event(raw, "a").level == level


@pytest.mark.parametrize(
    ("raw", "step", "total", "is_metrics"),
    [
        ({"data": {"step": 5, "total_steps": 9}}, 5, 9, True),
        ({"data": {"step": 5.0}}, 5, None, True),
        ({"data": {"step": 0}}, 0, None, True),
        ({"message": "Step 5/100: training loss=0.1"}, 5, 100, True),
        ({"message": "Step 5: training loss=0.1"}, 5, None, True),
        ({"message": "Step 5/100: training loss=0.1", "data": {"step": 6}}, 6, 100, True),
        ({"message": "Stepped 5"}, None, None, False),
        ({"message": "Checkpoint created at step 10"}, None, None, False),
        ({"data": {"step": True}}, None, None, False),
        ({"data": {"step": "5", "total_steps": " 9 "}}, 5, 9, True),
        ({"data": {"current_steps": 5, "total_steps": 9}}, 5, 9, True),
        ({"data": {"global_step": "5", "max_steps": "9"}}, 5, 9, True),
        ({"data": {"train/global_step": 5, "seconds/step": 2}}, 5, None, True),
        ({"data": {"currentStep": 5, "steps": 9}}, 5, None, True),
        ({"data": {"iteration": 5, "total_iterations": 9}}, 5, 9, True),
        ({"data": {"steps": 5}}, 5, None, True),
        ({"type": "metrics", "message": "Training", "data": {"steps": 5}}, 5, None, True),
        ({"message": "Training", "data": {"steps": 5, "eval_loss": 1}}, 5, None, True),
        ({"message": "Step 5/9: training loss=1", "data": {"steps": 9, "loss": 1}}, 5, 9, True),
        ({"message": "Training begins", "data": {"steps": 900, "batch_size": 8}}, None, None, False),
        ({"data": {"seconds/step": 2, "samples_per_step": 3}}, None, None, False),
        ({"data": {"step": None, "iteration": 5}}, 5, None, True),
        ({"type": "metrics"}, None, None, True),
        ({"type": "message", "data": {}}, None, None, False),
        ({}, None, None, False),
    ],
)
def test_the_step_is_read_from_the_data_or_else_from_the_message(
    raw: dict[str, Any], step: int | None, total: int | None, is_metrics: bool
) -> None:
    event = Event(raw, "a")
    assert (event.step, event.total_steps, event.is_metrics) == (step, total, is_metrics)


LOSS = {"step": 5, "train_loss": 0.5}
LINE = "Step 5/100: training loss=0.50"


@pytest.mark.parametrize(
    ("raw", "is_metrics"),
    [
        # its type decides
        ({"type": "metrics", "message": "Slow", "level": "warn", "data": {}}, True),
        ({"type": "METRICS", "message": "Slow", "data": LOSS}, True),
        ({"type": "train_metrics", "message": "Slow", "data": LOSS}, True),
        ({"type": "message", "message": "Saved", "data": LOSS}, False),
        ({"type": "Message", "message": LINE, "data": LOSS}, False),
        ({"type": "message", "message": "Out of memory", "level": "error", "data": {"step": 5}}, False),
        # a type of the server's own: a message of its own is a message
        ({"type": "CHECKPOINT_SAVE", "message": "Saved", "data": LOSS}, False),
        ({"type": "progress", "message": "Training", "data": LOSS}, True),
        ({"type": "progress", "message": "Uploading", "data": {}}, False),
        ({"type": "log", "message": "", "data": LOSS}, True),
        ({"type": "log", "message": LINE, "data": None}, True),
        # no type: the level, then what the data measure
        ({"message": "Training", "data": LOSS}, True),
        ({"message": "Training", "level": "info", "data": LOSS}, True),
        ({"message": "Slow", "level": "warning", "data": LOSS}, False),
        ({"message": "Out of memory", "level": "error", "data": LOSS}, False),
        ({"message": "Saved", "data": {"step": 5, "total_steps": 9, "epoch": 1, "path": "x"}}, False),
        ({"level": "warn", "data": LOSS}, True),
        ({"message": LINE, "level": "warn"}, True),
        ({"message": "Step 5: gradients overflow", "level": "warn", "data": {"step": 5}}, False),
        ({"message": "Step 5: code=2", "level": "error", "data": {"step": 5}}, False),
    ],
)
def test_an_event_is_metrics_or_a_message_by_its_type_or_else_by_what_it_says(
    raw: dict[str, Any], is_metrics: bool
) -> None:
    event = Event(raw, "a")
    assert event.is_metrics is is_metrics
    assert is_metrics or event.metrics == {}
    assert metrics_table([event]) == ([{"step": 5} | event.metrics] if is_metrics and event.metrics else [])


def test_step_and_total_are_among_the_metrics_under_one_name_beside_the_servers_own() -> None:
    raw = {"type": "metrics", "data": {"current_steps": "5", "max_steps": 9, "loss": "0.5"}}
    found = {"current_steps": 5, "max_steps": 9, "loss": 0.5, "step": 5, "total_steps": 9}
    assert Event(raw, "a").metrics == found
    assert metrics_table([raw]) == [found]
    assert raw["data"] == {"current_steps": "5", "max_steps": 9, "loss": "0.5"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n", "two lines"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("a\u2028b\u2029c", "a b c"),
        ("a\u202eb", "a b"),
        ("a\x85b\x00c", "a b c"),
        ("half \ud800 a pair", "half   a pair"),
        (None, "None"),
        (7, "7"),
        ("Zoë 東京 🙂", "Zoë 東京 🙂"),
    ],
)
def test_text_for_a_log_line_is_one_clean_line(text: Any, line: str) -> None:
    assert one_line(text) == line
    one_line(text).encode()


def test_a_long_line_is_cut_and_says_so() -> None:
    assert one_line("x" * 600) == "x" * 499 + "…"
    assert one_line("x" * 10, limit=10) == "x" * 10
    assert one_line("x" * 11, limit=10) == "x" * 9 + "…"


# identity


@pytest.mark.parametrize("given", [None, "", ["a"], {}, True, 7.5])
def test_an_id_that_is_neither_text_nor_a_whole_number_is_none(given: Any) -> None:
    assert server_id({"id": given}) is None
    assert server_id({}) is None
    assert server_id({"id": 7}) == "7"


@pytest.mark.parametrize("order", [NEWEST, OLDEST])
def test_generated_ids_stay_the_same_as_the_log_grows_and_distinguish_equal_events(order: Order) -> None:
    log: list[dict[str, Any]] = []
    before: list[str] = []
    for number in range(30):
        log.append({"message": f"Message {number % 3}", "created_at": number // 10})
        came = log if order is OLDEST else log[::-1]
        ids = [event.id for event in identify(came, order=order)]
        ids = ids if order is OLDEST else ids[::-1]
        assert ids[:-1] == before
        assert len(set(ids)) == len(ids)
        before = ids


def test_a_generated_id_does_not_depend_on_the_order_of_keys_or_on_a_null_id() -> None:
    one, other = {"a": 1, "message": "m"}, {"message": "m", "id": None, "a": 1}
    assert content_hash(one) == content_hash(other)
    assert [e.id for e in identify([one], order=OLDEST)] == [e.id for e in identify([other], order=OLDEST)]


def test_server_ids_are_kept_beside_generated_ones() -> None:
    events = identify([{"id": "ftevent-1"}, {"id": None}, {"id": "ftevent-2"}], order=OLDEST)
    assert [event.id for event in events][::2] == ["ftevent-1", "ftevent-2"]
    assert len({event.id for event in events}) == 3


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_whatever_an_event_holds_has_a_hash(value: Any) -> None:
    assert len(content_hash({"message": value})) == 20


def test_a_page_knows_its_events_in_the_servers_order() -> None:
    raws = [{"id": "b", "created_at": 2}, {"id": "a", "created_at": 1}]
    page = EventPage(data=raws, has_more=None, order=NEWEST, new=raws)
    assert [event.id for event in page.events] == ["b", "a"]


# order


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([], None),
        ([1], None),
        ([1, 1], None),
        ([1, 2], OLDEST),
        ([2, 1], NEWEST),
        ([1, 5, 2], OLDEST),
        ([3, 3, 3, 2], NEWEST),
        ([1, None], None),
        ([None, 1], None),
        ([1, "soon"], None),
        ([HUGE, 1], None),
    ],
)
def test_the_order_is_told_by_the_first_and_the_last_time(times: list[Any], order: Order | None) -> None:
    assert order_of([{"created_at": time} for time in times]) is order


# metrics


def test_nested_numbers_are_joined_by_dots_those_in_text_read_and_lists_left_out() -> None:
    data = {
        "step": 3,
        "train_mean_reward": 0.25,
        "grader": {"accuracy": {"mean": 1, "per_sample": [1, 2]}, "name": "exact"},
        "flag": True,
        "text": " 0.5",
        "name": "007",
        "words": "0.5 of all",
        "nothing": None,
        "list": [1],
    }
    assert list(flat_numbers(data)) == [
        ("step", 3),
        ("train_mean_reward", 0.25),
        ("grader.accuracy.mean", 1),
        ("text", 0.5),
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("-3", -3),
        ("0", 0),
        ("0.52", 0.52),
        (" +1.5e-05 ", 1.5e-05),
        (".5", 0.5),
        ("1E3", 1000.0),
        ("-Infinity", -math.inf),
        ("inf", math.inf),
        ("1e999", math.inf),
        ("007", None),
        ("1_000", None),
        ("1,5", None),
        ("5%", None),
        ("٣", None),
        ("0x10", None),
        ("", None),
        ("9" * 5_000, None),
    ],
)
def test_text_that_reads_as_a_number_is_one(text: str, number: float | None) -> None:
    read = number_of(text)
    assert (read, type(read)) == (number, type(number))
    assert math.isnan(number_of("NaN") or 0)


def test_the_metrics_of_a_reinforcement_job_need_no_training_loss() -> None:
    raw = {
        "type": "metrics",
        "message": "Step 2/10: train mean reward=0.5",
        "data": {
            "step": 2,
            "train_mean_reward": 0.5,
            "full_valid_mean_reward": 0.75,
            "usage": {"samples": {"count": 8}, "ids": ["a"]},
        },
    }
    assert Event(raw, "a").metrics == {
        "step": 2,
        "train_mean_reward": 0.5,
        "full_valid_mean_reward": 0.75,
        "usage.samples.count": 8,
    }


def test_a_message_has_no_metrics_even_with_numbers_in_its_data() -> None:
    assert Event({"type": "message", "data": {"error_code": 7, "size": 3}}, "a").metrics == {}


def test_numbers_that_no_float_can_hold_are_left_out_and_infinities_kept() -> None:
    assert list(flat_numbers({"a": HUGE, "b": -HUGE, "c": float("inf"), "d": 10**20})) == [
        ("c", float("inf")),
        ("d", 10**20),
    ]


def test_the_last_known_number_of_every_metric_counts() -> None:
    steps = [
        {"step": 1, "train_loss": 2.0},
        {"step": 2, "train_loss": 1.0, "full_valid_loss": 1.5},
        {"step": 3, "train_loss": 0.5, "valid_loss": None},
    ]
    events = [Event({"type": "metrics", "data": data}, str(data["step"])) for data in steps]
    assert last_metrics(events) == {"step": 3, "train_loss": 0.5, "full_valid_loss": 1.5}
    assert last_metrics([]) == {}
