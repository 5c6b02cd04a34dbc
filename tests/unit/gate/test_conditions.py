"""The gate's grammar: what it takes, what it refuses and how it says so, and what conditions come to."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.events import Event, Order, identify
from airflow_ft_events.gate.conditions import (
    Arithmetic,
    Condition,
    ConditionError,
    Metric,
    Negative,
    Number,
    check_conditions_early,
    parse,
    parse_all,
)
from airflow_ft_events.gate.evaluation import ConditionResult, evaluate

NAN, INF = math.nan, math.inf
REWARDED = "openai_rft_metrics_event_2025-05.json"
VALIDATED = "openai_succeeded_2024-08_gpt4omini_valid_a.json"
TUNED = "openai_succeeded_2024-07_gpt35.json"


def point(step: int, **numbers: Any) -> Event:
    """A metrics event."""
    return Event({"type": "metrics", "data": {"step": step, **numbers}}, f"ftevent-{step}")


def series(*values: Any, name: str = "loss") -> list[Event]:
    """A log in which one metric takes these values at steps 1, 2, 3, …"""
    return [point(step, **{name: value}) for step, value in enumerate(values, start=1)]


def judged(text: str, events: list[Event]) -> ConditionResult:
    (finding,) = evaluate([parse(text)], events)
    return finding


def recorded(shared_dir: Path, name: str) -> list[Event]:
    """A recorded log, oldest first."""
    events = json.loads((shared_dir / "event_logs" / name).read_text())["events"]
    return identify(events[::-1], order=Order.OLDEST_FIRST)


# what is accepted, and what it comes to on recorded logs


@pytest.mark.parametrize(
    ("log", "text", "passed", "value", "limit", "step"),
    [
        (VALIDATED, "full_valid_loss <= 1.2", True, 0.004403916553852115, 1.2, 240),
        (VALIDATED, "full_valid_loss<=.0044", False, 0.004403916553852115, 0.0044, 240),
        (VALIDATED, "full_valid_loss < 4.5e-3", True, 0.004403916553852115, 0.0045, 240),
        (VALIDATED, "full_valid_loss < 4.5E-03", True, 0.004403916553852115, 0.0045, 240),
        (VALIDATED, "full_valid_mean_token_accuracy > 0.8", True, 0.8761806558053207, 0.8, 240),
        (VALIDATED, "train_loss < 1e-5", True, 3.4570693969726562e-06, 1e-5, 240),
        (VALIDATED, "last(train_loss) < 1e-5", True, 3.4570693969726562e-06, 1e-5, 240),
        (VALIDATED, "min(train_loss) > 1.4e-6", False, 1.3411770396487555e-06, 1.4e-6, 235),
        (VALIDATED, "max(train_loss) == 1.258850079466356e-05", True, 1.258850079466356e-05, None, 239),
        (VALIDATED, "mean(train_mean_token_accuracy) == 1", True, 1.0, 1.0, None),
        (VALIDATED, "min(train_loss) != max(train_loss)", True, 1.3411770396487555e-06, None, 235),
        (VALIDATED, "valid_loss <= 1.1 * train_loss", False, 2.2545838967347758e-05, None, 240),
        (VALIDATED, "valid_loss <= 10*train_loss + 1e-9", True, 2.2545838967347758e-05, None, 240),
        (VALIDATED, "full_valid_loss / valid_loss < 200", True, None, 200.0, None),
        (VALIDATED, "-full_valid_loss >= -1.2", True, -0.004403916553852115, -1.2, 240),
        (VALIDATED, "1.2 >= full_valid_loss", True, 1.2, 0.004403916553852115, 240),
        (VALIDATED, "step == total_steps", True, 240.0, 240.0, 240),
        (VALIDATED, "(step - 40) / 2 == 10 * (2 + 8)", True, 100.0, 100.0, 240),
        (VALIDATED, " \tstep\n>=  240. ", True, 240.0, 240.0, 240),
        (TUNED, "min(train_loss) >= 0", True, None, 0.0, None),
        (REWARDED, "train_mean_reward > 0.4", True, 0.4215686274509804, 0.4, 10),
        (REWARDED, "full_valid_mean_reward - train_mean_reward < 0.3", True, None, 0.3, None),
        (REWARDED, "scores.valid_reward_mean == full_valid_mean_reward", True, 0.675, 0.675, 10),
        (REWARDED, "max(timing.step.eval) < 60", False, 101.69386267662048, 60.0, 10),
        (REWARDED, "`scores.train_reward_mean` > 0.4", True, 0.4215686274509804, 0.4, 10),
        (
            REWARDED,
            "`model_graders_token_usage.gpt-4o-2024-08-06.train_prompt_tokens` < 1e6",
            True,
            120741.0,
            1e6,
            10,
        ),
    ],
)
def test_an_accepted_condition_comes_to_its_value_on_a_recorded_log(
    shared_dir: Path, log: str, text: str, passed: bool, value: Any, limit: Any, step: Any
) -> None:
    finding = judged(text, recorded(shared_dir, log))
    assert finding.passed is passed
    assert (finding.reason is None) is passed
    assert value in (None, finding.value)
    assert limit in (None, finding.limit)
    assert step in (None, finding.step)
    assert finding.condition == text.strip()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("loss<1", "loss < 1"),
        ("last(loss) < 1.50", "loss < 1.5"),
        ("mean( loss )<1e3", "mean(loss) < 1000"),
        ("a - (b - c) < 1", "a - (b - c) < 1"),
        ("(a - b) - c < 1", "a - b - c < 1"),
        ("a * (b + c) < 1", "a * (b + c) < 1"),
        ("(a * b) + c < 1", "a * b + c < 1"),
        ("a / (b * c) < 1", "a / (b * c) < 1"),
        ("-(a + b) < --1", "-(a + b) < --1"),
        ("-a * b < 1", "-a * b < 1"),
        ("min < max", "min < max"),
        ("`a.b` < `a b`", "a.b < `a b`"),
        ("x1.2y.gpt_4 < 1", "x1.2y.gpt_4 < 1"),
    ],
)
def test_a_condition_is_printed_with_no_more_than_it_needs(text: str, printed: str) -> None:
    assert str(parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4 - 6 / 2 + 0 * loss == 0", 11),
        ("10 - 4 - 3 + 0 * loss == 0", 3),
        ("16 / 4 / 2 + 0 * loss == 0", 2),
        ("-2 * -3 + 0 * loss == 0", 6),
        ("-(2 + 3) + 0 * loss == 0", -5),
        ("2 * (3 + 4) + 0 * loss == 0", 14),
    ],
)
def test_arithmetic_goes_by_the_usual_rules(text: str, value: float) -> None:
    assert judged(text, series(1)).value == value


# what is refused, and how


@pytest.mark.parametrize(
    ("text", "position", "expected", "found"),
    [
        ("", 1, "a number, a metric's name", "the end"),
        ("   ", 4, "a number, a metric's name", "the end"),
        ("loss", 5, "a comparison", "the end"),
        ("loss <", 7, "a number, a metric's name", "the end"),
        ("< 1", 1, "a number, a metric's name", "'<'"),
        ("loss < 1 < 2", 10, "the end", "'<'. A condition compares two things"),
        ("loss < 1 and acc > 2", 10, "the end", "'and'. All conditions of a list must hold"),
        ("loss = 1", 6, "a comparison", "'='. 'Is equal to' is written =="),
        ("loss =< 1", 6, "a comparison", "'='. Write <="),
        ("loss => 1", 6, "a comparison", "'='. Write >="),
        ("loss === 1", 8, "a number", "'='"),
        ("loss <> 1", 7, "a number", "'>'"),
        ("loss =< 1", 6, "a comparison", "'='"),
        ("loss ≤ 1", 6, "a comparison", "'≤'"),
        ("not loss < 1", 5, "a comparison", "'loss'"),
        ("avg(loss) < 1", 1, "one of last, min, max, mean before '('", "'avg'"),
        ("__import__('os') < 1", 1, "one of last, min, max, mean", "'__import__'"),
        ("loss.__class__() < 1", 1, "one of last, min, max, mean", "'loss.__class__'"),
        ("min() < 1", 5, "a metric's name", "')'"),
        ("min(1) < 1", 5, "a metric's name", "'1'"),
        ("min(min(loss)) < 1", 8, "')'", "'('"),
        ("min(loss + 1) < 1", 10, "')'", "'+'"),
        ("min(loss < 1", 10, "')'", "'<'"),
        ("min loss < 1", 5, "a comparison", "'loss'"),
        ("(loss < 1)", 7, "')' or one of + - * /", "'<'"),
        ("(loss", 6, "')' or one of + - * /", "the end"),
        ("loss) < 1", 5, "a comparison", "')'"),
        ("loss ** 2 < 1", 7, "a number", "'*'"),
        ("loss // 2 < 1", 7, "a number", "'/'"),
        ("loss % 2 < 1", 6, "a comparison", "'%'"),
        ("loss < 80%", 10, "the end", "'%'"),
        ("loss < 1,2", 9, "the end", "','"),
        ("loss < 1_000", 9, "the end", "'_000'"),
        ("loss < 1.2.3", 11, "the end", "'.3'"),
        ("loss < 1e", 9, "the end", "'e'"),
        ("loss < 0x10", 9, "the end", "'x10'"),
        ("loss < .", 8, "a number", "'.'"),
        ("loss. < 1", 5, "a comparison", "'.'"),
        ("loss < +1", 8, "a number", "'+'"),
        ("loss < 1e400", 8, "a number below 1.8e308", "'1e400'"),
        ("loss < 'one'", 8, "a number", '"\'"'),
        ("loss[-1] < 1", 5, "a comparison", "'['"),
        ("loss < 1; loss > 0", 9, "the end", "';'"),
        ("`loss < 1", 1, "a number", "'`'. The closing backquote is missing"),
        ("`` < 1", 1, "a metric's name between the backquotes", "'``'"),
        ("` loss` < 1", 1, "a metric's name between the backquotes", "'` loss`'"),
        ("lo\x00ss < 1", 3, "a comparison", None),
        ("1 < 2", 1, "a metric's name on at least one side", "numbers only"),
        ("NaN < {{ 1 }}", 7, "a number", "'{'"),
        ("(" * 41 + "loss" + ")" * 41 + " < 1", 41, "at most 40 operators, functions and parentheses", "'('"),
        ("loss" + " + loss" * 41 + " < 1", 286, "at most 40 operators", "'+'"),
        ("-" * 41 + "loss < 1", 41, "at most 40 operators", "'-'"),
    ],
)
def test_a_refusal_says_where_and_what_was_expected(
    text: str, position: int, expected: str, found: str | None
) -> None:
    with pytest.raises(ConditionError) as refused:
        parse(text)
    message = str(refused.value)
    assert refused.value.position == position
    assert f"at position {position}: expected {expected}" in message
    assert found is None or f"found {found}" in message
    _, shown, caret = message.split("\n")
    assert "\x00" not in message
    assert caret.index("^") - 4 == position - 1
    assert len(shown) - 4 == len(text)


def test_a_condition_may_have_500_characters_and_no_more() -> None:
    text = "`" + "x" * 493 + "` < 1"
    assert len(text) == 499
    assert parse(text + "0").text == text + "0"
    with pytest.raises(ConditionError, match="501 characters; the maximum is 500") as refused:
        parse(text + "00")
    assert refused.value.position == 501
    with pytest.raises(ConditionError, match="1,000,000 characters") as refused:
        parse("(" * 1_000_000)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("given", [None, 1, b"loss < 1", ["loss < 1"], {"loss": 1}, True])
def test_a_condition_that_is_not_text_is_refused_by_name(given: Any) -> None:
    with pytest.raises(ConditionError, match="it must be text") as refused:
        parse(given)
    assert refused.value.position is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("loss < 1", "must be a list of texts"),
        ("['loss < 1']", "render_template_as_native_obj"),
        (b"loss < 1", "must be a list of texts"),
        ({"loss < 1"}, "must be a list of texts"),
        (None, "must be a list of texts"),
        (3, "must be a list of texts"),
        ([], "conditions is empty"),
        ((), "conditions is empty"),
        (["loss < 1", ""], "position 1"),
        (["loss < 1", None], "must be text"),
        (["loss < 1"] * 101, "101 conditions; the maximum is 100"),
    ],
)
def test_a_list_of_conditions_holds_1_to_100_texts(given: Any, said: str) -> None:
    for check in (parse_all, check_conditions_early):
        with pytest.raises(ConditionError, match=said):
            check(given)


def test_templates_and_xcom_arguments_are_left_for_the_run() -> None:
    class XComArg:
        def iter_references(self) -> None: ...

    check_conditions_early("{{ params.conditions }}")
    check_conditions_early(XComArg())
    check_conditions_early(
        ["loss < {{ params.most }}", XComArg(), "{% if x %}loss < 1{% endif %}", "loss < 1"]
    )
    with pytest.raises(ConditionError):
        check_conditions_early(["loss < {{ params.most }}", "loss <"])
    with pytest.raises(ConditionError):
        parse_all(["loss < {{ params.most }}"])


def test_a_condition_error_is_an_input_error_and_survives_pickling() -> None:
    with pytest.raises(FineTuningInputError) as refused:
        parse("loss <")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (type(again), str(again), again.position) == (ConditionError, str(refused.value), 7)


# numbers that are none


@pytest.mark.parametrize(
    ("value", "called"),
    [
        (NAN, "NaN"),
        (INF, "Infinity"),
        (-INF, "-Infinity"),
        (None, "null"),
        ("NaN", "NaN"),
        ("soon", "text, not a number"),
        (True, "a boolean, not a number"),
        ([0.1], "a list, not a number"),
        (10**400, "too large, not a number"),
    ],
)
@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_a_last_value_that_is_not_a_number_violates_every_comparison_and_is_named(
    value: Any, called: str, sign: str
) -> None:
    for text in (f"loss {sign} 1", f"1 {sign} loss", f"loss {sign} loss", f"0 * loss {sign} 0"):
        finding = judged(text, series(0.5, 0.4, value))
        assert not finding.passed
        assert finding.step == 3
        assert finding.reason is not None
        assert f"loss is {called}" in finding.reason
        assert "at step 3" in finding.reason


@pytest.mark.parametrize("value", [NAN, INF, -INF, None, "NaN", "soon"])
@pytest.mark.parametrize("function", ["min", "max", "mean"])
def test_lowest_highest_and_mean_do_not_look_past_a_value_that_is_no_number(
    value: Any, function: str
) -> None:
    finding = judged(f"{function}(loss) > -1", series(0.5, value, 0.4))
    assert (finding.passed, finding.step, finding.value) == (False, 2, None)
    assert finding.reason is not None
    assert "at step 2" in finding.reason


def test_a_number_that_is_written_as_text_is_judged_at_its_step() -> None:
    raw = {"type": "metrics", "message": "", "data": {"current_steps": "7", "loss": "0.52"}}
    for text in ("loss <= 0.52", "mean(loss) > 0.5", "step == 7", "current_steps == 7"):
        assert judged(text, [Event(raw, "a")]).passed
    assert not judged("step == 7", [Event(raw, "a"), Event({**raw, "data": {"step": None}}, "b")]).passed
    refused = judged("loss < 0.5", [Event(raw, "a")])
    assert (refused.passed, refused.value, refused.step) == (False, 0.52, 7)


def test_a_last_value_counts_even_after_one_that_was_not_a_number() -> None:
    assert judged("loss < 1", series(NAN, 0.4)).passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / zero < 1", "1 / zero divides by zero: zero is 0"),
        ("1 / (loss - loss) < 1", "1 / (loss - loss) divides by zero: loss - loss is 0"),
        ("loss / -zero != 1", "divides by zero"),
        ("1e308 * 10 * loss > 1", "comes to Infinity"),
        ("-1e308 - 1e308 * loss < 1", "comes to -Infinity"),
        ("loss / 1e-320 > 1", "comes to Infinity"),
        ("mean(huge) > 1", "mean(huge) comes to Infinity"),
    ],
)
def test_a_term_without_a_finite_value_is_a_violation_with_its_reason(text: str, said: str) -> None:
    log = [point(1, loss=1.0, zero=0, huge=1.7e308), point(2, loss=1.0, zero=0.0, huge=1.7e308)]
    finding = judged(text, log)
    assert not finding.passed
    assert said in str(finding.reason)


def test_the_side_that_has_a_value_keeps_it() -> None:
    finding = judged("loss < 1 / zero", [point(7, loss=0.5, zero=0)])
    assert (finding.value, finding.limit, finding.passed) == (0.5, None, False)


def test_a_metric_that_never_appeared_is_a_violation_that_names_those_that_did() -> None:
    finding = judged("full_valid_los < 1", [point(1, train_loss=1.0, full_valid_loss=0.5, note="x")])
    assert not finding.passed
    assert finding.reason == (
        "the job never reported full_valid_los; it reported full_valid_loss, step, train_loss"
    )
    finding = judged("a < b", series(1.0))
    assert str(finding.reason).startswith("the job never reported a and b; it reported loss, step")
    assert "no metrics at all" in str(judged("loss < 1", []).reason)
    assert "no metrics at all" in str(
        judged("error_code < 1", [Event({"data": {"error_code": 1}}, "")]).reason
    )


def test_among_many_metrics_the_likely_ones_are_named_first() -> None:
    many = {f"x{number}": 1.0 for number in range(100)}
    reason = str(judged("vaild_loss < 1", [point(1, valid_loss=1.0, **many)]).reason)
    assert "it reported valid_loss, " in reason
    assert reason.endswith("and 82 more")
    assert len(reason) < 300


def test_the_step_is_the_one_at_which_the_value_was_reported() -> None:
    log = series(0.5, 0.2, 0.9, 0.4)
    for text, step in [
        ("loss < 1", 4),
        ("min(loss) < 1", 2),
        ("max(loss) < 1", 3),
        ("mean(loss) < 1", None),
        ("2 * min(loss) < 1", 2),
        ("loss - min(loss) < 1", None),
        ("1 > max(loss)", 3),
        ("loss > 1", 4),
    ]:
        assert judged(text, log).step == step, text


def test_a_result_is_plain_json() -> None:
    row = judged("loss > 1", series(0.5)).as_dict()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row == {
        "condition": "loss > 1",
        "value": 0.5,
        "limit": 1.0,
        "step": 1,
        "passed": False,
        "reason": "0.5 > 1 is false",
    }


# whatever is written


SIGNS = ["(", ")", "<", "<=", "==", "!=", "+", "-", "*", "/", "`", "=", "{{", "\x00", "\ud800", "é", " "]
NOUNS = ["loss", "a.b", "min", "max(", "last", "mean (", "and", "1", ".5", "2e3", "1e999", "`x.y-z`"]
WORDS = st.sampled_from(SIGNS + NOUNS)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.one_of(st.text(max_size=600), st.lists(WORDS, max_size=60).map("".join), st.binary(), st.none()))
def test_no_input_raises_anything_but_its_own_error(text: Any) -> None:
    try:
        read = parse(text)
    except ConditionError as error:
        str(error).encode("utf-8", "strict")
        pickle.dumps(error)
    else:
        assert parse(str(read)) == read


NAMES = st.one_of(
    st.sampled_from(["loss", "min", "last", "a.b.c", "x.1", "_"]),
    st.text(alphabet="abz-. ≤'\"(é", min_size=1, max_size=8).filter(lambda name: name == name.strip()),
)
NUMBERS = st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(Number)
METRICS = st.builds(Metric, NAMES, st.sampled_from(["last", "min", "max", "mean"]))
TERMS = st.recursive(
    st.one_of(NUMBERS, METRICS),
    lambda inner: st.one_of(
        st.builds(Negative, inner), st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner)
    ),
    max_leaves=8,
)
CONDITIONS = st.builds(Condition, TERMS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), TERMS).filter(
    lambda condition: len(condition.metrics) > 0
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(CONDITIONS)
def test_printed_and_parsed_again_gives_the_same(condition: Condition) -> None:
    again = parse(str(condition))
    assert again == condition
    assert str(again) == str(condition)


VALUES = st.one_of(
    st.floats(),
    st.integers(),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=2),
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(CONDITIONS, st.lists(st.tuples(st.sampled_from(["loss", "min", "a.b.c", "_"]), VALUES), max_size=6))
def test_evaluation_never_raises_and_passes_only_on_finite_numbers(
    condition: Condition, values: list[tuple[str, Any]]
) -> None:
    log = [point(step, **{name: value}) for step, (name, value) in enumerate(values)]
    (finding,) = evaluate([condition], log)
    json.dumps(finding.as_dict(), allow_nan=False)
    assert (finding.reason is None) is finding.passed
    if finding.passed:
        assert math.isfinite(finding.value or 0.0)
        assert math.isfinite(finding.limit or 0.0)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=20), st.floats(-1e6, 1e6))
def test_a_verdict_is_the_one_that_arithmetic_gives(values: list[float], limit: float) -> None:
    log = series(*values)
    bound = str(Number(limit) if math.copysign(1, limit) > 0 else Negative(Number(-limit)))
    assert judged(f"loss < {bound}", log).passed is (values[-1] < limit)
    assert judged(f"min(loss) >= {bound}", log).passed is (min(values) >= limit)
    assert judged(f"max(loss) <= {bound}", log).passed is (max(values) <= limit)
    mean = judged(f"mean(loss) > {bound}", log).value
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-6)


def test_the_grammar_needs_no_airflow(project: Path) -> None:
    program = (
        "import sys, airflow_ft_events.gate.conditions as c; print(c.parse('a<1'), 'airflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
    assert done.stdout.strip() == "a < 1 False"
