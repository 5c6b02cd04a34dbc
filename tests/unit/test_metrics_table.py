"""metrics_table: a job's numbers in rows, one a step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_ft_events.events import Event, metrics_table


def row(step: Any, **numbers: Any) -> dict[str, Any]:
    """A metrics event's dict."""
    return {"type": "metrics", "message": "", "data": {"step": step, **numbers}}


def test_rows_are_sorted_by_step_and_a_later_value_of_a_step_counts() -> None:
    events = [row(2, loss=0.5), row(1, loss=0.9), row(2, acc=0.7), row(2, loss=0.4, acc=0.8)]
    assert metrics_table(events) == [{"step": 1, "loss": 0.9}, {"step": 2, "loss": 0.4, "acc": 0.8}]


def test_nested_numbers_are_joined_by_dots_and_all_else_is_left_out() -> None:
    events = [row(1, scores={"train": {"mean": 0.5}, "graders": [{"x": 1}]}, note="n", flag=True, none=None)]
    assert metrics_table(events) == [{"step": 1, "scores.train.mean": 0.5}]


def test_a_number_without_a_step_and_an_event_without_numbers_make_no_row() -> None:
    events = [
        {"message": "Created fine-tuning job", "data": {}},
        {"message": "Step 4/10: training loss=0.30", "data": None},
        {"type": "metrics", "message": "", "data": {"loss": 1.0}},
        {"level": "error", "message": "x", "data": {"error_code": 7}},
    ]
    assert metrics_table(events) == []
    assert metrics_table([]) == []


def test_the_step_may_stand_in_the_message_and_is_a_whole_number() -> None:
    events = [{"message": "Step 4/10: training loss=0.30", "data": {"loss": 0.3}}, row(5.0, loss=0.2)]
    table = metrics_table(events)
    assert table == [{"step": 4, "loss": 0.3}, {"step": 5, "loss": 0.2}]
    assert [type(line["step"]) for line in table] == [int, int]


def test_events_and_their_dicts_make_the_same_table_and_stay_as_they_were() -> None:
    raws = [row(1, loss=0.9), row(2, loss=math.inf)]
    kept = json.dumps(raws)
    assert metrics_table([Event(raw, "") for raw in raws]) == metrics_table(raws)
    assert json.dumps(raws) == kept
    assert math.isinf(metrics_table(raws)[1]["loss"])


def test_a_recorded_log_makes_one_row_a_step(shared_dir: Path) -> None:
    folder = shared_dir / "event_logs"
    name = "openai_succeeded_2024-08_gpt4omini_valid_a.json"
    table = metrics_table(json.loads((folder / name).read_text())["events"][::-1])
    assert [line["step"] for line in table] == [235, 236, 237, 238, 239, 240]
    assert table[-1]["full_valid_loss"] == 0.004403916553852115
    assert set(table[0]) == {"step", "total_steps", "train_loss", "train_mean_token_accuracy"}
    (line,) = metrics_table(
        json.loads((folder / "openai_rft_metrics_event_2025-05.json").read_text())["events"]
    )
    assert (line["step"], line["train_mean_reward"]) == (10, 0.4215686274509804)
    assert line["timing.step.eval"] == 101.69386267662048
    assert line["model_graders_token_usage.gpt-4o-2024-08-06.eval_prompt_tokens"] == 4820
    assert not any("graders." in column for column in line if not column.startswith("model_"))


ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(["data", "type", "message", "id"]), ODD), max_size=5))
def test_whatever_a_server_sends_the_table_holds_numbers_by_rising_steps(
    events: list[dict[str, Any]],
) -> None:
    table = metrics_table(events)
    steps = [line["step"] for line in table]
    assert steps == sorted(set(steps))
    assert all(isinstance(value, int | float) for line in table for value in line.values())
