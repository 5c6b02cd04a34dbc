"""The training figure and its page: what is drawn, what is marked, and that no log breaks them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.events import Event, one_line
from airflow_ft_events.report.curves import MOST_IN_PANEL, Curve, Role, Row, read_log
from airflow_ft_events.report.figure import NO_METRICS, report_page, training_figure
from airflow_ft_events.report.page import written_page
from airflow_ft_events.simulator import Simulator, load_recording

VENDORS = ("openai", "azure", "nebius", "together")
OUTCOMES = ("succeeded", "failed", "cancelled")
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def simulated(
    *, vendor: str = "openai", outcome: str = "succeeded", steps: int = 100
) -> list[dict[str, Any]]:
    """The whole log of a simulated job, oldest first, as its server would send it."""
    simulator = Simulator([], vendor=vendor, clock=lambda: 1_767_225_600.0)
    job_id = simulator.add_job(outcome=outcome, steps=steps, ended=True, job_id="ftjob-figure")
    job = simulator.find_job(job_id)
    assert job is not None
    return job.events


def metrics(step: Any, **numbers: Any) -> dict[str, Any]:
    """A metrics event."""
    return {"type": "metrics", "level": "info", "message": "", "data": {"step": step, **numbers}}


def said(message: str, *, level: str = "info", **fields: Any) -> dict[str, Any]:
    """A message."""
    return {"type": "message", "level": level, "message": message, "data": {}, **fields}


def recorded(shared_dir: Path, name: str) -> list[dict[str, Any]]:
    """A recorded log, oldest first."""
    return load_recording(shared_dir / "event_logs" / f"{name}.json").events


def traces(figure: Any, name: str) -> list[Any]:
    """The traces of a metric or a row."""
    return [trace for trace in figure.data if trace.name == name]


def panels(figure: Any) -> list[str]:
    """The titles of the figure's panels, from the top."""
    return [note.text[3:-4] for note in figure.layout.annotations if note.text.startswith("<b>")]


def lane(figure: Any, row: Row) -> dict[int, str]:
    """The hover texts of a row of marks by step."""
    return {
        step: text
        for trace in traces(figure, row)
        for step, text in zip(trace.x, trace.hovertext, strict=True)
    }


def table_of(page: str, kind: str) -> str:
    """One table of the page."""
    found = re.search(rf'<table class="{kind}">.*?</table>', page, re.DOTALL)
    assert found, f"the page has no table of {kind}"
    return found[0]


# what is drawn


def test_a_supervised_job_has_a_panel_of_losses_and_one_of_accuracies_over_shared_steps() -> None:
    figure = training_figure(simulated())
    assert panels(figure) == ["Loss", "Accuracy"]
    assert {trace.xaxis for trace in figure.data} == {"x"}
    raw, bold = traces(figure, "train_loss")
    assert list(raw.x) == list(range(1, 101))
    assert raw.yaxis == bold.yaxis != traces(figure, "train_mean_token_accuracy")[0].yaxis
    (valid,) = traces(figure, "valid_loss")
    assert "markers" in valid.mode
    assert set(range(10, 101, 10)) <= set(valid.x)
    (full,) = traces(figure, "full_valid_loss")
    assert (list(full.x), full.marker.symbol) == ([33, 66, 100], "diamond")


def test_each_value_is_drawn_as_the_server_sent_it() -> None:
    events = simulated()
    sent = {
        event["data"]["step"]: event["data"]["train_loss"] for event in events if event["type"] == "metrics"
    }
    raw = traces(training_figure(events), "train_loss")[0]
    assert dict(zip(raw.x, raw.y, strict=True)) == sent


def test_a_reinforcement_job_shows_its_rewards_first_and_hides_nested_numbers_behind_the_legend(
    shared_dir: Path,
) -> None:
    figure = training_figure(recorded(shared_dir, "openai_rft_metrics_event_2025-05"))
    assert panels(figure) == ["Reward", "Errors", "Tokens", "Time"]
    visible = {trace.name for trace in figure.data if trace.visible is True}
    assert {"train_mean_reward", "full_valid_mean_reward", "reasoning_tokens_mean"} <= visible
    assert traces(figure, "scores.train_reward_mean")[0].visible == "legendonly"
    assert len([trace for trace in figure.data if trace.showlegend]) > 15


@pytest.mark.parametrize(
    ("name", "panel", "role"),
    [
        ("train_loss", "Loss", Role.TRAIN),
        ("full_valid_loss", "Loss", Role.FULL_VALID),
        ("eval_loss", "Loss", Role.VALID),
        ("valid_mean_token_accuracy", "Accuracy", Role.VALID),
        ("rewards/accuracies", "Accuracy", Role.TRAIN),
        ("rewards/margins", "Reward", Role.TRAIN),
        ("scores.valid_reward_mean", "Reward", Role.VALID),
        ("full_valid_mean_parse_error", "Errors", Role.FULL_VALID),
        ("mean_unresponsive_rewards", "Errors", Role.TRAIN),
        ("model_graders_token_usage.gpt-4o.train_prompt_tokens", "Tokens", Role.TRAIN),
        ("timing.step.eval", "Time", Role.VALID),
        ("learning_rate", "Other", Role.TRAIN),
        ("validity", "Other", Role.TRAIN),
    ],
)
def test_a_metric_is_sorted_by_the_words_of_its_name(name: str, panel: str, role: Role) -> None:
    (curve,) = read_log([metrics(1, **{name: 0.5})]).curves
    assert (curve.panel, curve.role) == (panel, role)


def test_numbers_of_very_different_size_do_not_share_a_scale_at_first() -> None:
    figure = training_figure([metrics(step, learning_rate=1e-5, grad_norm=2.0) for step in (1, 2)])
    assert {trace.name: trace.visible for trace in figure.data} == {
        "learning_rate": True,
        "grad_norm": "legendonly",
    }


def test_numbers_in_text_and_steps_under_other_names_are_drawn_without_a_loss_too() -> None:
    data = {"current_steps": "5", "max_steps": 9, "train_reward": "0.25", "note": "x"}
    view = read_log([{"type": "metrics", "message": "", "data": data}])
    assert [(curve.name, curve.panel, curve.steps, curve.values) for curve in view.curves] == [
        ("train_reward", "Reward", [5], [0.25])
    ]
    assert view.last == {"train_reward": 0.25}


def test_a_message_that_names_a_step_is_marked_there_and_makes_no_curve() -> None:
    raw = {"type": "message", "message": "Checkpoint created: loss=0.5", "data": {"step": 5, "loss": 0.5}}
    view = read_log([raw])
    assert [(mark.row, mark.step) for mark in view.marks] == [(Row.CHECKPOINT, 5)]
    assert (view.curves, view.from_messages) == ([], False)


def test_a_panel_draws_a_limited_number_of_metrics_and_the_figure_counts_the_rest() -> None:
    names = {f"loss_{number:02}": float(number) for number in range(MOST_IN_PANEL + 5)}
    figure = training_figure([metrics(1, **names)])
    assert len(figure.data) == MOST_IN_PANEL
    assert figure.layout.annotations[0].text == "5 more metrics are not drawn."


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_kind_of_simulated_job_makes_a_figure_and_a_page(vendor: str, outcome: str) -> None:
    events = simulated(vendor=vendor, outcome=outcome)
    figure = training_figure(events)
    with_numbers = vendor in ("openai", "azure")
    assert bool(figure.data) is with_numbers
    assert (NO_METRICS in figure.layout.annotations[0].text) is not with_numbers
    about = {"vendor": vendor, "outcome": outcome}
    assert f'<span class="badge {outcome}">{outcome}</span>' in report_page(events, about=about)


def test_every_recorded_log_makes_a_figure_and_those_with_numbers_have_curves(shared_dir: Path) -> None:
    drawn = {}
    for path in sorted((shared_dir / "event_logs").glob("*.json")):
        events = load_recording(path).events
        drawn[path.stem] = len(training_figure(events).data) > 0
        assert report_page(events).startswith("<!DOCTYPE html>")
    assert len(drawn) > 15
    assert {name for name, curves in drawn.items() if curves} == {
        "azure_succeeded_2026-01_dpo_textual",
        "openai_rft_metrics_event_2025-05",
        "openai_running_2024-02_gpt35_snapshot2",
        "openai_succeeded_2023-08_gpt35_oldmessage",
        "openai_succeeded_2023-11_cookbook_textual",
        "openai_succeeded_2024-07_gpt35",
        "openai_succeeded_2024-08_gpt4omini_valid_a",
    }


def test_numbers_that_stand_in_messages_only_are_drawn_and_the_figure_says_so(shared_dir: Path) -> None:
    figure = training_figure(recorded(shared_dir, "openai_succeeded_2023-11_cookbook_textual"))
    (train,), (valid,) = traces(figure, "train_loss"), traces(figure, "valid_loss")
    assert (train.x[0], train.y[0], valid.y[0]) == (131, 0.25, 0.37)
    assert (valid.x[-1], valid.y[-1]) == (301, 1.76)
    assert "read from messages" in figure.layout.annotations[0].text
    assert not [note for note in training_figure(simulated()).layout.annotations if "messages" in note.text]


def test_a_job_that_reports_every_tenth_step_is_drawn_at_those_steps(shared_dir: Path) -> None:
    raw = traces(training_figure(recorded(shared_dir, "azure_succeeded_2026-01_dpo_textual")), "train_loss")[
        0
    ]
    assert list(raw.x[:3]) == [1, 10, 20]
    assert (raw.x[-1], raw.y[-1]) == (8250, 3.814697265625e-06)


def test_a_word_with_a_number_in_an_error_is_not_a_metric() -> None:
    assert not read_log([said("Step 3: train loss=0.5 exploded", level="error")]).curves


def test_events_of_one_step_make_one_point() -> None:
    figure = training_figure(
        [metrics(4, train_loss=0.5), metrics(4, train_loss=0.4), metrics(4, valid_loss=1.0)]
    )
    assert [(list(trace.x), list(trace.y)) for trace in figure.data] == [([4], [0.4]), ([4], [1.0])]


def test_nan_and_infinity_leave_a_gap_and_a_mark() -> None:
    values = [0.9, math.nan, 0.7, math.inf, -math.inf]
    figure = training_figure([metrics(step, train_loss=value) for step, value in enumerate(values)])
    line, broken = figure.data
    assert list(line.y) == [0.9, None, 0.7, None, None]
    assert (list(broken.x), list(broken.y)) == ([1, 3, 4], [0.9, 0.7, 0.7])
    assert [text.rpartition(" ")[2] for text in broken.hovertext] == ["NaN", "Infinity", "-Infinity"]
    page = report_page([metrics(1, train_loss=math.nan)])
    assert ">NaN<" in table_of(page, "numbers")
    assert "NaN" not in _figure_in(page)["data"][0]["y"]


def test_a_log_without_numbers_makes_an_empty_figure_with_a_sentence() -> None:
    figure = training_figure([said("Created fine-tuning job"), said("Fine-tuning job started")])
    assert not figure.data
    assert figure.layout.annotations[0].text == f"{NO_METRICS}<br>It has 2 messages."
    assert training_figure([]).layout.annotations[0].text == NO_METRICS


def test_events_their_dicts_and_a_stream_of_them_make_the_same_figure() -> None:
    raws = simulated()
    kept = json.dumps(raws)
    figure = training_figure(raws)
    assert training_figure(Event(raw, "x") for raw in raws).to_dict() == figure.to_dict()
    assert json.dumps(raws) == kept


# long curves


def test_a_long_curve_keeps_its_ends_and_every_extreme_value() -> None:
    values = [1.0 + math.sin(step / 50) / 10 for step in range(100_000)]
    values[61_234], values[7] = 9.5, -3.0
    curve = Curve("loss", "Loss", Role.TRAIN, list(range(100_000)), values)
    steps, kept = curve.thinned(2_000)
    points = dict(zip(steps, kept, strict=True))
    assert len(points) <= 2_002
    assert steps == sorted(set(steps))
    assert (points[61_234], points[7]) == (9.5, -3.0)
    assert (points[0], points[99_999]) == (values[0], values[-1])
    assert all(values[step] == value for step, value in points.items())


def test_a_long_curve_keeps_a_single_gap() -> None:
    values = [1.0] * 50_000
    values[30_000] = math.nan
    steps, kept = Curve("loss", "Loss", Role.TRAIN, list(range(50_000)), values).thinned(1_000)
    assert [step for step, value in zip(steps, kept, strict=True) if value is None] == [30_000]


def test_a_noisy_training_curve_gets_a_smoothed_one_within_its_range() -> None:
    figure = training_figure([metrics(step, train_loss=1.0 + (step % 2)) for step in range(500)])
    raw, bold = figure.data
    assert (raw.showlegend, bold.showlegend, bold.hoverinfo) == (False, True, "skip")
    assert raw.legendgroup == bold.legendgroup
    assert (bold.x[0], bold.x[-1]) == (0, 499)
    assert all(1.4 < value < 1.6 for value in bold.y)
    assert len(training_figure([metrics(step, train_loss=1.0) for step in range(20)]).data) == 1


# what is marked


def test_checkpoints_stand_at_the_steps_that_they_name_and_the_end_at_the_last_step() -> None:
    figure = training_figure(simulated())
    assert [(step, "ckpt-step-" in text) for step, text in lane(figure, Row.CHECKPOINT).items()] == [
        (33, True),
        (66, True),
    ]
    assert "The job has successfully completed" in lane(figure, Row.END)[100]
    drawn = sorted((shape.x0, shape.line.dash) for shape in figure.layout.shapes)
    assert drawn == [(33, "dot"), (66, "dot"), (100, "solid")]


def test_warnings_and_errors_have_rows_of_their_own_at_the_step_that_was_reached() -> None:
    figure = training_figure(
        [
            said("Created fine-tuning job"),
            metrics(7, train_loss=0.5),
            said("Slow grader", level="warning"),
            metrics(9, train_loss=0.4),
            said("Step 9 could not be saved", level="error"),
        ]
    )
    assert list(figure.layout.yaxis.ticktext) == ["Messages", "Warnings", "Errors"]
    assert "Slow grader" in lane(figure, Row.WARNING)[7]
    assert "could not be saved" in lane(figure, Row.ERROR)[9]
    assert list(lane(figure, Row.MESSAGE)) == [0]


@pytest.mark.parametrize(("vendor", "outcome"), [("openai", "cancelled"), ("azure", "succeeded")])
def test_the_end_is_the_message_that_names_the_outcome_and_not_what_follows_it(
    vendor: str, outcome: str
) -> None:
    view = read_log(simulated(vendor=vendor, outcome=outcome))
    assert view.outcome == outcome
    assert [mark.outcome for mark in view.marks if mark.row is Row.END] == [outcome]


def test_a_job_that_goes_on_after_a_final_message_has_no_end() -> None:
    view = read_log([metrics(1, train_loss=1.0), said("Job succeeded."), metrics(2, train_loss=0.9)])
    assert (view.end, view.outcome) == (None, None)
    assert Row.END not in {mark.row for mark in view.marks}


def test_a_wall_of_lines_is_not_drawn_and_the_marks_stay() -> None:
    events = [metrics(step, train_loss=1.0) for step in range(1, 101)]
    events += [said(f"Checkpoint created at step {step}") for step in range(1, 101)]
    figure = training_figure(events)
    assert len(lane(figure, Row.CHECKPOINT)) == 100
    assert [shape.x0 for shape in figure.layout.shapes] == [100]


def test_tags_entities_and_formulas_in_a_servers_words_stay_words_in_the_figure() -> None:
    bad = '<a href="http://x.example">$\\alpha$ &lt;'
    figure = training_figure([metrics(1, **{f"loss{bad}": 1.0}), said(bad, level="error")])
    text = json.dumps(figure.to_dict())
    assert "<a" not in text
    assert "$" not in text
    assert "&lt;a href" in text


# the page


def _figure_in(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figure">(.*?)</script>', page, re.DOTALL)
    assert found
    figure: dict[str, Any] = json.loads(found[1])
    return figure


def test_the_page_allows_its_own_two_scripts_by_their_hashes_and_nothing_else() -> None:
    page = report_page(simulated())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    hashes = [hashlib.sha256(script.encode()).digest() for script in SCRIPT.findall(page)]
    assert rules["script-src"].split() == [f"'sha256-{base64.b64encode(found).decode()}'" for found in hashes]
    assert len(hashes) == 2
    assert {name: rules[name] for name in ("default-src", "connect-src", "form-action", "base-uri")} == {
        "default-src": "'none'",
        "connect-src": "'none'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")


def test_the_page_names_no_other_address_outside_of_plotlys_own_text() -> None:
    page = SCRIPT.sub("", report_page(simulated()))
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|url\(", page)
    assert len(page) < 200_000


def test_the_page_shows_what_it_is_told_of_the_job() -> None:
    about = {
        "job_id": "ftjob-abc123",
        "vendor": "azure",
        "outcome": "failed",
        "status": "failed",
        "trained_tokens": "1234567",
        "fine_tuned_model": None,
        "finished_at": "2026-01-31T12:00:00+00:00",
        "error": {"code": "server_error", "message": "It broke", "param": None},
        "count": 4_321,
        "complete": False,
        "first_event": {"id": "a", "created_at": 1_769_850_000},
    }
    page = SCRIPT.sub("", report_page([metrics(5, train_loss=0.25, total_steps=8)], about=about))
    for shown in (
        "<h1>ftjob-abc123 ",
        "Azure OpenAI",
        '<span class="badge failed">failed</span>',
        "1,234,567",
        "4,321",
        "5 of 8",
        "2026-01-31 12:00:00 UTC",
        "3 h 00 min",
        "It broke (server_error)",
        "not complete",
    ):
        assert shown in page


def test_without_any_facts_the_page_tells_what_the_log_itself_says() -> None:
    page = SCRIPT.sub("", report_page(simulated()))
    assert '<span class="badge succeeded">succeeded</span>' in page
    assert re.search(
        r"Fine-tuned model</dt><dd><code>ft:gpt-4o-mini-2024-07-18:simulated::\w{8}</code>", page
    )
    assert "<title>Fine-tuning job: training report</title>" in page
    assert "no end yet" in report_page([metrics(1, train_loss=1.0)])


def test_the_table_of_numbers_holds_every_metric_with_its_last_value_and_range() -> None:
    page = report_page([metrics(1, train_loss=0.9), metrics(2, train_loss=0.1), metrics(3, train_loss=0.25)])
    cells = re.findall(r"<td>(.*?)</td>", table_of(page, "numbers"))
    assert cells == ["0.25", "3", "0.1", "0.9", "3 &times;"]
    rows = report_page([metrics(1, **{f"loss_{number}": 1.0 for number in range(40)})])
    assert table_of(rows, "numbers").count('<th scope="row"') == 40


def test_the_table_of_messages_has_each_in_order_with_its_time_and_level() -> None:
    events = [said("First", created_at=1_769_860_800), metrics(1, train_loss=1.0), said("Bad", level="error")]
    table = table_of(report_page(events), "messages")
    assert re.findall(r'class="(time|level|said)">(.*?)<', table) == [
        ("time", "2026-01-31 12:00:00"),
        ("level", "info"),
        ("said", "First"),
        ("time", "&ndash;"),
        ("level", "error"),
        ("said", "Bad"),
    ]


def test_for_very_many_messages_the_page_keeps_beginning_end_and_errors_and_counts_the_rest() -> None:
    events = [said(f"Message {number}") for number in range(50_000)]
    events[20_000] = said("It broke here", level="error")
    page = report_page(events)
    table = table_of(page, "messages")
    for kept in ("Message 0<", "Message 199<", "It broke here", "Message 49999<"):
        assert kept in table
    gaps = [int(number.replace(",", "")) for number in re.findall(r">([\d,]+) more in the log<", table)]
    assert len(gaps) == 2
    assert sum(gaps) + table.count('class="said"') == 50_000
    assert table.count("<tr") < 1_010


def test_a_servers_words_cannot_leave_their_place_in_the_page() -> None:
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e\ud800"
    events = [said(bad, level="error"), metrics(1, **{f"loss {bad}": 1.0})]
    about = dict.fromkeys(("job_id", "vendor", "status", "fine_tuned_model"), bad) | {
        "error": {"message": bad}
    }
    page = report_page(events, about=about)
    page.encode()
    assert len(SCRIPT.findall(page)) == 2
    assert page.count("<script") - "".join(SCRIPT.findall(page)).count("<script") == 3
    words = SCRIPT.sub("", page)
    assert "<img" not in words
    assert "&lt;img src=x onerror=alert(2)&gt;" in words
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ud800]", words)


class _Reading(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (tag, attrs) != ("wbr", []):  # where a metric's name may be broken
            self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.elements.append(("!", {"": data}))


def _page_full_of(words: Any) -> str:
    """A page on which a server says the same in every place that takes its words."""
    about = dict.fromkeys(("job_id", "vendor", "outcome", "status", "fine_tuned_model", "finished_at"), words)
    about |= {"error": {"code": words, "message": words}, "first_event": {"id": words, "created_at": words}}
    about |= {"count": words, "trained_tokens": words, "complete": words}
    events = [
        said(str(words), level="warn"),
        said(str(words), level=words),
        said("", type=words, level="error", created_at=words),
        {"type": "metrics", "level": words, "message": words, "data": {"step": 1, f"loss {words}": 1.0}},
        {"type": "metrics", "message": "", "data": {"step": 2, f"{words} loss": math.nan}},
    ]
    return report_page(events, about=about)


@pytest.fixture(scope="module")
def harmless() -> str:
    return _page_full_of("harmless")


def _tags_in(figure: Any) -> int:
    """How many tags plotly would read in a figure, without the ends of lines."""
    if isinstance(figure, str):
        return len(re.findall("<(?!br>)", figure))
    inner = figure.values() if isinstance(figure, dict) else figure if isinstance(figure, list) else []
    return sum(map(_tags_in, inner))


@pytest.mark.parametrize(
    "words",
    [
        "<script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        "</SCRIPT ><svg onload=alert(1)>",
        "</title></style></td></table><img src=x onerror=alert(1)>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        '" style="display:none',
        "x onfocus=alert(1) autofocus",
        "<!-- <script> -->",
        "<![CDATA[<b>]]><?php ?>",
        "&lt;b&gt; &#60;b&#62; &amp;lt;b",
        '\\u003cb\\u003e \\" \\',
        "{{ 7 * 7 }}{% raw %}{# x #}{{ self.__init__.__globals__ }}",
        "javascript:alert(1)",
        "`${alert(1)}` $\\alpha$",
        "__proto__",
        "<br> _<wbr>. &minus;",
        "\u2028\u2029\u202e\x00\x1b[31m<b>\r\n\ud800",
    ],
)
def test_whatever_a_server_says_is_text_in_the_page_and_in_its_figure(words: str, harmless: str) -> None:
    page = _page_full_of(words)
    page.encode()
    assert SCRIPT.findall(page) == SCRIPT.findall(harmless)
    read, plainly = _Reading(SCRIPT.sub("", page)), _Reading(SCRIPT.sub("", harmless))
    # not one element or attribute more, less or other than where the server is harmless
    assert read.elements == plainly.elements
    assert " ".join(read.text.split()).count(" ".join(one_line(words).split())) >= 8
    source = re.search(r'id="figure">(.*?)</script>', page, re.DOTALL)
    assert source
    assert not set("<>&'") & set(source[1])
    assert _tags_in(_figure_in(page)) == _tags_in(_figure_in(harmless))


def test_text_that_calls_itself_markup_is_escaped_as_well() -> None:
    class Markup(str):
        def __html__(self) -> str:
            return "<b>not escaped</b>"

    page = _page_full_of(Markup("<i>said</i>"))
    assert "<b>not escaped" not in SCRIPT.sub("", page)
    assert "&lt;i&gt;said&lt;/i&gt;" in page


def test_neither_a_figure_nor_a_script_can_end_the_element_that_it_stands_in() -> None:
    library = "let end = '</script><b>'; // <!-- \r\n"
    page = written_page(read_log([]), {}, figure={"layout": "</script><!--"}, library=library)
    assert _figure_in(page) == {"layout": "</script><!--"}
    assert page.count("</script>") == 3
    assert "<!--" not in page
    assert "\r" not in page


def test_the_same_events_give_the_same_bytes_in_any_process(project: Path) -> None:
    program = (
        "import hashlib, sys\n"
        "from airflow_ft_events.report.figure import report_page\n"
        "data = {'step': 1, 'train_loss': .5, 'valid_loss': .4, 'reward': 1.0, 'time': 3}\n"
        "events = [{'type': 'metrics', 'data': data}, {'message': 'Job succeeded.'}]\n"
        "print(hashlib.sha256(report_page(events, about={'job_id': 'a'}).encode()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(project), "PYTHONHASHSEED": seed, "TZ": zone},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(printed) == 1
    assert len(printed.pop().strip()) == 64


# what is installed


def test_importing_figures_loads_no_plotly_no_jinja_no_pandas_and_no_airflow(project: Path) -> None:
    program = (
        "import sys, airflow_ft_events.report.figure\n"
        "print([name for name in ('plotly', 'jinja2', 'markupsafe', 'pandas', 'numpy', 'airflow', "
        "'requests', 'aiohttp', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("draw", [training_figure, report_page])
def test_without_plotly_the_error_names_the_extra(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(FineTuningError, match=r"pip install 'airflow-ft-events\[report\]'"):
        draw([metrics(1, train_loss=1.0)])


# no log breaks it

ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8), st.just("\ud800")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["train_loss", "valid_loss", "x_accuracy", "reward", "time", "a.b", "step", "total_steps"]
)
DATA = st.dictionaries(st.one_of(NAMES, st.text(max_size=6)), st.one_of(ODD, st.floats(), st.integers(0, 9)))
MESSAGES = st.sampled_from(
    [
        "Job succeeded.",
        "Step 3/9: training loss=nan",
        "Step 2: training loss=1e999",
        "Checkpoint created at step 5",
    ]
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": ODD,
        "type": st.one_of(st.just("metrics"), ODD),
        "level": st.one_of(st.sampled_from(["info", "warn", "error", ""]), ODD),
        "message": st.one_of(MESSAGES, ODD),
        "created_at": st.one_of(st.integers(0, 2**34), ODD),
        "data": st.one_of(DATA, ODD),
    },
)
ABOUT_KEYS = ["job_id", "vendor", "outcome", "status", "fine_tuned_model", "trained_tokens", "finished_at"]
ABOUT_KEYS += ["error", "count", "complete", "first_event", "last_event"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(EVENTS, ODD), max_size=12))
def test_no_events_make_the_figure_raise(events: list[Any]) -> None:
    json.dumps(training_figure(events).to_dict(), allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(EVENTS, ODD), max_size=6), st.dictionaries(st.sampled_from(ABOUT_KEYS), ODD))
def test_no_events_and_no_facts_make_the_page_raise(events: list[Any], about: dict[str, Any]) -> None:
    page = report_page(events, about=about)
    page.encode()
    assert _figure_in(page)["layout"]["height"] > 0
