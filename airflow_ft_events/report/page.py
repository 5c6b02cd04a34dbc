"""The page around the figure: what is known of the job, its last numbers, and what the server said."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from airflow_ft_events.events import Event, epoch_seconds, is_number, iso_utc, one_line
from airflow_ft_events.report.curves import Curve, LogView, Role, is_said
from airflow_ft_events.vendors import FAMILIES, VENDORS

_OUTCOMES = ("succeeded", "failed", "cancelled")
_MOST_TILES = 6
_MOST_ROWS = 300
_MOST_MESSAGES = 1_000
_WIDE = ' class="wide"'
_NONE = "&ndash;"
_NUMBERS = '<section class="card" id="numbers"><h2>Last numbers</h2>'
_HEADLINE_PANELS = ("Loss", "Accuracy", "Reward")


def written_page(view: LogView, about: Mapping[str, Any], *, figure: Mapping[str, Any], library: str) -> str:
    """
    Write the page.

    :param view: the log.
    :param about: what is known of the job beside its log.
    :param figure: the plotly figure as plain data.
    :param library: the text of plotly.js.
    :returns: HTML that asks no network for anything and says so to the browser.
    """
    scripts = [_script(library), _script(_part("page.js"))]
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts)
    title = f"{_subject(about)}: training report"
    body = "\n".join(
        (
            _header(view, about),
            _tiles(view),
            _chart(view),
            _metrics(view),
            _messages(view),
        )
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src {allowed}; \
style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none'; form-action 'none'; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>
{_part("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Drawn from the job's events by airflow-ft-events. This page holds all that it shows and asks no \
network for anything.</footer>
<script type="application/json" id="figure">{_json(figure)}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _part(name: str) -> str:
    return files("airflow_ft_events.report").joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Make a script fit for a page: nothing in it may end it, and its lines end as browsers read them."""
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return unix.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(value: object, *, limit: int = 500) -> str:
    return html.escape(one_line(value, limit=limit))


def _name(name: str, *, limit: int) -> str:
    """Write a metric's name so that a narrow column breaks it between its words."""
    return re.sub(r"([_.])", r"\1<wbr>", _text(name, limit=limit))


# the head of the page


def _subject(about: Mapping[str, Any]) -> str:
    job_id = about.get("job_id")
    return one_line(job_id, limit=120) if isinstance(job_id, str) and job_id else "Fine-tuning job"


def _header(view: LogView, about: Mapping[str, Any]) -> str:
    told = about.get("outcome")
    outcome = told if told in _OUTCOMES else view.outcome
    badge = (
        f'<span class="badge {outcome}">{outcome}</span>'
        if outcome
        else '<span class="badge">no end yet</span>'
    )
    facts = "".join(
        f"<div{_WIDE * ('<code>' in value)}><dt>{_text(name)}</dt><dd>{value}</dd></div>"
        for name, value in _facts(view, about)
    )
    notes = [f'<p class="note error">{_text(text)}</p>' for text in _errors(view, about, outcome)]
    if about.get("complete") is False:
        notes.append(
            '<p class="note">The log was not complete when this page was written: more may follow.</p>'
        )
    return (
        f'<header><p class="kicker">Training report</p><h1>{_text(_subject(about))} {badge}</h1>'
        f"<dl>{facts}</dl>{''.join(notes)}</header>"
    )


def _facts(view: LogView, about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    vendor = about.get("vendor")
    if isinstance(vendor, str) and vendor:
        yield "Server", _text(FAMILIES.get(vendor, vendor), limit=80)
    model = about.get("fine_tuned_model") or _model_in(view.events)
    if isinstance(model, str) and model:
        yield "Fine-tuned model", f"<code>{_text(model, limit=200)}</code>"
    status = about.get("status")
    if isinstance(status, str) and status and status != about.get("outcome"):
        yield "Status", _text(status, limit=80)
    if steps := _steps(view):
        yield "Steps", steps
    tokens, count = about.get("trained_tokens"), about.get("count")
    if is_number(tokens):
        yield "Trained tokens", _number(tokens)
    yield "Events", _number(count if is_number(count) else len(view.events))
    yield from _times(view, about)


def _steps(view: LogView) -> str:
    reached = [curve.steps[-1] for curve in view.curves if curve.steps]
    totals = [total for event in view.events[::-1][:2_000] if (total := event.total_steps) is not None]
    if not reached:
        return ""
    return f"{max(reached):,}" + (f" of {totals[0]:,}" if totals else "")


def _times(view: LogView, about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = [at for event in view.events if (at := event.created_at) is not None]
    first = _event_time(about.get("first_event")) or (known[0] if known else None)
    last = _event_time(about.get("last_event")) or (known[-1] if known else None)
    finished = epoch_seconds(about.get("finished_at")) or last
    if first is not None and (shown := _time(first)):
        yield "First event", shown
    if finished is not None and (shown := _time(finished)):
        yield ("Finished" if about.get("finished_at") else "Last event"), shown
    if first is not None and finished is not None and finished > first:
        yield "Took", _duration(finished - first)


def _event_time(told: object) -> float | None:
    return epoch_seconds(told.get("created_at")) if isinstance(told, Mapping) else None


def _time(seconds: float) -> str:
    written = iso_utc(seconds)
    return f'<time datetime="{written}">{written[:19].replace("T", " ")} UTC</time>' if written else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _model_in(events: Sequence[Event]) -> str | None:
    found = (vendor.model_in(event) for event in events[:-300:-1] for vendor in VENDORS.values())
    return next((model for model in found if model), None)


def _errors(view: LogView, about: Mapping[str, Any], outcome: str | None) -> Iterator[str]:
    error = about.get("error")
    if isinstance(error, Mapping) and error.get("message"):
        code = error.get("code")
        yield f"{error['message']} ({code})" if code else str(error["message"])
    elif outcome == "failed":
        yield from [event.message for event in reversed(view.events) if event.level == "error"][:1]


# the numbers


def _tiles(view: LogView) -> str:
    """Show the last numbers that a reader looks for first; the whole list is in the table."""
    headline = [
        curve
        for panel in _HEADLINE_PANELS
        for curve in view.panels.get(panel, [])
        if curve.shown and curve.values
    ]
    tiles = "".join(
        f'<div class="tile {curve.role}"><span class="name">{_name(curve.name, limit=60)}</span>'
        f'<span class="value">{_number(curve.values[-1])}</span>'
        f'<span class="at">step {curve.steps[-1]:,}</span></div>'
        for curve in headline[:_MOST_TILES]
    )
    return f'<section class="tiles" aria-label="Last values">{tiles}</section>' if tiles else ""


def _chart(view: LogView) -> str:
    drawn = ", ".join(panel.lower() for panel in view.panels) or "nothing"
    return (
        '<section class="card"><div class="bar"><h2>Training curves</h2>'
        f'<button type="button" id="scale" aria-pressed="false" hidden>Logarithmic loss</button></div>'
        f'<div id="chart" role="img" aria-label="Curves over the training steps: {drawn}. The table below '
        'holds their last numbers." aria-describedby="numbers"></div><div id="keys"></div>'
        "<noscript><p>The curves need JavaScript. The tables below do not.</p></noscript></section>"
    )


def _metrics(view: LogView) -> str:
    if not view.last:
        return f"{_NUMBERS}<p>This log has no metrics.</p></section>"
    curves = {curve.name: curve for curve in view.curves}
    names = [name for name in curves if name in view.last]
    names += [name for name in view.last if name not in curves]
    rows = "".join(_metric_row(name, view.last[name], curves.get(name)) for name in names[:_MOST_ROWS])
    more = len(names) - _MOST_ROWS
    rest = f"<p>{more:,} more metrics are in the log.</p>" if more > 0 else ""
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Last", "At step", "Lowest", "Highest", "Reported")
    )
    return (
        f'{_NUMBERS}<div class="scroll"><table class="numbers">'
        '<caption class="unseen">The last known number of every metric</caption>'
        f'<thead><tr><th scope="col">Metric</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{rest}</section>"
    )


def _metric_row(name: str, last: float, curve: Curve | None) -> str:
    cells = [_number(last), _NONE, _NONE, _NONE, _NONE]
    if curve is not None:
        finite = curve.finite
        lost = len(curve.steps) - len(finite)
        cells[1], cells[4] = f"{curve.steps[-1]:,}", f"{len(curve.steps):,} &times;"
        cells[4] += f", {lost:,} not finite" if lost else ""
        if finite:
            cells[2:4] = [_number(min(finite)), _number(max(finite))]
    role = curve.role if curve else Role.TRAIN
    line = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row" class="{role}">{_name(name, limit=120)}</th>{line}</tr>'


def _number(value: Any) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "&minus;Infinity"
    if abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}".replace("-", "&minus;")
    if 1_000 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "&minus;")
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e+").replace("-", "&minus;")


# the messages


def _messages(view: LogView) -> str:
    said = [event for event in view.events if is_said(event)]
    if not said:
        return '<section class="card"><h2>Messages</h2><p>This log has no messages.</p></section>'
    columns = [
        ("Time (UTC)", any(event.created_at is not None for event in said)),
        ("Level", any(event.level for event in said)),
        ("Message", True),
    ]
    heads = "".join(f'<th scope="col">{name}</th>' for name, present in columns if present)
    rows = "".join(_message_rows(said, [present for _, present in columns]))
    return (
        f'<section class="card"><h2>Messages <span class="count">{len(said):,}</span></h2>'
        '<div class="scroll"><table class="messages"><caption class="unseen">What the server said, '
        f"oldest first</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _message_rows(said: Sequence[Event], present: Sequence[bool]) -> Iterator[str]:
    before = -1
    for place in _kept(said):
        if place - before > 1:
            left = f"{place - before - 1:,} more in the log"
            yield f'<tr class="gap"><td colspan="{sum(present)}">{left}</td></tr>'
        before = place
        yield _message_row(said[place], present)


def _kept(said: Sequence[Event]) -> Iterable[int]:
    """Choose from a long log its begin, its end, and the newest warnings and errors."""
    if len(said) <= _MOST_MESSAGES:
        return range(len(said))
    loud = [place for place, event in enumerate(said) if event.level in ("warn", "error")]
    tail = range(len(said) - _MOST_MESSAGES // 2, len(said))
    return sorted({*range(_MOST_MESSAGES // 5), *tail, *loud[-_MOST_MESSAGES // 4 :]})


def _message_row(event: Event, present: Sequence[bool]) -> str:
    written = (iso_utc(event.created_at) or "")[:19].replace("T", " ")
    level = event.level if event.level in ("warn", "error") else "info"
    cells = (
        f'<td class="time">{written or _NONE}</td>',
        f'<td class="level">{_text(event.level, limit=20) or _NONE}</td>',
        f'<td class="said">{_text(event.message or event.type)}</td>',
    )
    shown = "".join(cell for cell, there in zip(cells, present, strict=True) if there)
    return f'<tr class="{level}">{shown}</tr>'
