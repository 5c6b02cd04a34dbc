"""The lines that a wait writes for people."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.events import Event
from airflow_ft_events.waiting.task_log import TaskLog

BASE = 1_800_000_000


def message(at: Any, text: Any, **fields: Any) -> Event:
    created = BASE + at if isinstance(at, int) else at
    return Event({"id": f"e{at}", "created_at": created, "level": "info", "message": text} | fields, f"e{at}")


def step(at: Any, number: Any, *, total: Any = None, **metrics: Any) -> Event:
    data = {"step": number, **({"total_steps": total} if total is not None else {}), **metrics}
    return message(at, f"Step {number}: training loss=9.99", type="metrics", data=data)


def test_messages_appear_as_they_come_with_their_time_and_level() -> None:
    events = [
        message(0, "Job started"),
        message(60, "Careful", level="warning"),
        message(61, "Broke", level="error"),
        message(62, "Odd", level="notice"),
        message(None, "Timeless"),
    ]
    assert TaskLog("messages").lines(events) == [
        ("info", "2027-01-15T08:00:00Z Job started"),
        ("warning", "2027-01-15T08:01:00Z Careful"),
        ("error", "2027-01-15T08:01:01Z Broke"),
        ("info", "2027-01-15T08:01:02Z Odd"),
        ("info", "Timeless"),
    ]


def test_all_metrics_of_a_poll_become_one_progress_line_with_step_total_loss_rate_and_time_left() -> None:
    log = TaskLog("messages")
    assert log.lines([step(0, 10, total=100, train_loss=2.0)]) == [("info", "Step 10/100, train_loss 2")]
    events = [step(60 + number, 10 + number, total=100, train_loss=1.23456) for number in range(1, 41)]
    assert log.lines(events) == [
        ("info", "Step 50/100, train_loss 1.235, 24 steps/min, about 2 min 5 s left"),
    ]


def test_the_progress_line_stands_where_the_last_metrics_came() -> None:
    events = [step(1, 1), message(2, "Checkpoint"), step(3, 2), message(4, "Done")]
    texts = [text for _, text in TaskLog("messages").lines(events)]
    assert [text.split()[-1] for text in texts[::2]] == ["Checkpoint", "Done"]
    assert texts[1].startswith("Step 2")


@pytest.mark.parametrize(
    ("first", "last", "line"),
    [
        (step(0, 0), step(10, 50), "5 steps/s"),
        (step(0, 0, total=10_000), step(100, 1, total=10_000), "about 277 h 45 min left"),
        (step(0, 0, total=60), step(30, 30, total=60), "about 30 s left"),
        (
            step(0, 0),
            step(60, 3, valid_loss=0.5, full_valid_loss=0.25),
            "valid_loss 0.5, full_valid_loss 0.25",
        ),
        (step(0, 0), step(60, 3, train_mean_reward=0.75), "train_mean_reward 0.75"),
    ],
)
def test_a_progress_line_says_what_is_known(first: Event, last: Event, line: str) -> None:
    assert line in TaskLog("messages").lines([first, last])[0][1]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"full_valid_loss": 3, "valid_loss": 2, "loss": 1},
            "Step 7, loss 1, valid_loss 2, full_valid_loss 3",
        ),
        ({"loss": "0.52", "accuracy": 0.9, "learning_rate": 1e-5}, "Step 7, loss 0.52"),
        (
            {"full_valid_mean_reward": 0.75, "train_mean_reward": 0.5, "unresponsive_rewards": 0},
            "Step 7, train_mean_reward 0.5, full_valid_mean_reward 0.75",
        ),
        ({"scores": {"train_reward_mean": 0.5}, "samples": 8}, "Step 7, scores.train_reward_mean 0.5"),
        ({"epoch": 2, "eval_accuracy": 0.9, "accuracy": 1}, "Step 7, accuracy 1, eval_accuracy 0.9"),
        ({"lr": 0.1, "max_steps": 9}, "Step 7/9, lr 0.1"),
        (
            {f"reward_{number}": number for number in range(9)},
            "Step 7, reward_0 0, reward_1 1, reward_2 2, reward_3 3",
        ),
        ({}, "Step 7"),
        ({"step": None, "reward": 0.5}, "reward 0.5"),
    ],
)
def test_the_progress_line_shows_what_the_job_measures_losses_and_rewards_first(
    data: dict[str, Any], line: str
) -> None:
    event = message(0, "", type="metrics", data={"step": 7} | data)
    assert TaskLog("messages").lines([event]) == [("info", line)]


@pytest.mark.parametrize("fields", [{"type": "message"}, {"level": "warning"}, {}], ids=str)
def test_a_message_that_names_a_step_is_logged(fields: dict[str, str]) -> None:
    event = message(0, "Checkpoint saved", data={"step": 7, "total_steps": 9}, **fields)
    for quiet in (False, "level" in fields):
        ((_, line),) = TaskLog("messages", quiet=quiet).lines([event])
        assert line == "2027-01-15T08:00:00Z Checkpoint saved"


def test_without_a_total_no_time_left_is_guessed() -> None:
    assert "left" not in TaskLog("messages").lines([step(0, 1), step(60, 30)])[0][1]


def test_a_loss_that_stands_in_the_message_only_is_shown() -> None:
    event = message(0, "Step 5/100: training loss=0.75")
    assert TaskLog("messages").lines([event]) == [("info", "Step 5/100, training loss=0.75")]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([step(5, 1), step(5, 9)], id="one-second"),
        pytest.param([step(9, 5), step(5, 1)], id="upside-down"),
        pytest.param([step(0, 9), step(60, 2)], id="a-restart-from-an-earlier-step"),
        pytest.param([step(None, 1), step(None, 2)], id="no-times"),
    ],
)
def test_no_rate_is_told_where_none_can_be_known(events: list[Event]) -> None:
    assert "steps/" not in TaskLog("messages").lines(events)[0][1]


def test_mode_all_writes_every_event() -> None:
    events = [step(0, 1), step(1, 2), message(2, "Done")]
    assert [text[21:] for _, text in TaskLog("all").lines(events)] == [
        "Step 1: training loss=9.99",
        "Step 2: training loss=9.99",
        "Done",
    ]


def test_mode_none_writes_nothing() -> None:
    assert TaskLog("none").lines([message(0, "Done")], more_before=True) == []


@pytest.mark.parametrize("mode", ["messages", "all"])
def test_earlier_events_that_were_not_read_are_mentioned_once(mode: Any) -> None:
    lines = TaskLog(mode).lines([message(0, "Done")], more_before=True)
    assert len(lines) == 2
    assert lines[0] == ("info", "Earlier events are not shown here.")
    assert TaskLog(mode).lines([], more_before=True) == []


@pytest.mark.parametrize("mode", ["messages", "all"])
@pytest.mark.parametrize(
    "text",
    [
        "Fine\n[2027-01-15] ERROR forged",
        "Fine\r\nforged",
        "\x1b[2K\x1b[1Aforged",
        "Fine\u2028forged",
        "Fine\x85forged",
        "\u202eforged",
        "Fine\x00\x08\x08\x08\x08forged",
        "half a pair \ud83d forged",
    ],
    ids=range(8),
)
def test_no_message_type_or_metric_can_forge_a_line(mode: Any, text: str) -> None:
    events = [
        message(0, text),
        message(1, "", type=text),
        message(2, f"Step 3: {text}"),
        message(3, text, type="metrics"),
        message(4, "x", level=text),
        message(text, "y"),
        message(5, "", type="metrics", data={"step": 1, f"loss {text}": 1}),
    ]
    for event in events:
        for level, line in TaskLog(mode).lines([event]):
            assert line.isprintable()
            assert level in ("info", "warning", "error")
            line.encode()


def test_a_message_too_long_for_a_line_is_cut() -> None:
    assert len(TaskLog("all").lines([message(0, "x" * 100_000)])[0][1]) < 600


def test_an_event_without_a_message_shows_its_type() -> None:
    assert TaskLog("all").lines([message(None, None, type="JOB_START")]) == [
        ("info", "(no message, type JOB_START)")
    ]


STRANGE: list[Any] = [None, "5", True, -3, 0, 1.5, float("nan"), float("inf"), 1e308, 10**400, [], {"a": 1}]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
@pytest.mark.parametrize("mode", ["messages", "all"])
def test_strange_numbers_never_break_a_line(mode: Any, value: Any) -> None:
    log = TaskLog(mode)
    for first, last in (
        (step(0, 1, total=value), step(90_000, 2, total=value)),
        (step(0, 1), step(60, value)),
        (step(0, value), step(60, 2)),
        (step(0, 1, train_loss=value), step(60, 2, valid_loss=value)),
        (step(value, 1), step(60, 2, total=1e14)),
        (step(0, 1, total=1e14), step(value, 2, total=1e14)),
    ):
        assert all(text for _, text in log.lines([first, last]))


@pytest.mark.parametrize("mode", ["messages", "all"])
def test_a_log_without_info_lines_gets_the_same_warnings(mode: Any) -> None:
    polls = [
        [step(0, 1, total=100), message(1, "Careful", level="warning")],
        [message(2, "Job goes on"), step(60, 31, total=100), message(61, "Broke", level="error")],
    ]
    loud, quiet = TaskLog(mode), TaskLog(mode, quiet=True)
    for events in polls:
        lines = loud.lines(events, more_before=True)
        assert quiet.lines(events, more_before=True) == [line for line in lines if line[0] != "info"]
    assert TaskLog("none", quiet=True).lines(polls[0]) == []
