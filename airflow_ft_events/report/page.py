"""The page around the figure: what is known about the job, its last numbers, and the server's messages."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from airflow_ft_events.events import Event, epoch_seconds, is_number, iso_utc, one_line, whole_number
from airflow_ft_events.report.curves import Curve, LogView, Role, is_said
from airflow_ft_events.vendors import FAMILIES, VENDORS

if TYPE_CHECKING:
    from jinja2 import Template

_OUTCOMES = ("succeeded", "failed", "cancelled")
_MOST_TILES = 6
_MOST_ROWS = 300
_MOST_MESSAGES = 1_000
_HEADLINE_PANELS = ("Loss", "Accuracy", "Reward")
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class _Fact:
    """A fact about the job: text, which may be code, or a time with its machine-readable form."""

    name: str
    text: str
    code: bool = False
    moment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    """A metric's numbers as they are shown; None if there is none."""

    pieces: Sequence[str]
    role: Role
    last: str
    step: str | None = None
    lowest: str | None = None
    highest: str | None = None
    reported: str | None = None
    lost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """The server's messages, and how many before them the page leaves out."""

    left_out: str | None
    look: str
    time: str
    level: str
    text: str


def written_page(view: LogView, about: Mapping[str, Any], *, figure: Mapping[str, Any], library: str) -> str:
    """
    Write the page.

    :param view: the log.
    :param about: what is known about the job besides its log.
    :param figure: the plotly figure as plain data.
    :param library: the text of plotly.js.
    :returns: HTML that needs no network and forbids the browser to use it.
    """
    outcome = _outcome(view, about)
    metrics, more = _metrics(view)
    said = [event for event in view.events if is_said(event)]
    return _template().render(
        subject=_subject(about),
        outcome=outcome,
        facts=list(_facts(view, about)),
        errors=[one_line(text) for text in _errors(view, about, outcome)],
        may_grow=about.get("complete") is False,
        tiles=_tiles(view),
        drawn=", ".join(panel.lower() for panel in view.panels) or "nothing",
        metrics=metrics,
        more_metrics=more,
        said=f"{len(said):,}",
        messages=list(_messages(said)),
        has_times=any(event.created_at is not None for event in said),
        has_levels=any(event.level for event in said),
        figure=figure,
        style=_part("page.css"),
        scripts=[_script(library), _script(_part("page.js"))],
    )


@cache
def _template() -> Template:
    # only a report needs Jinja2, and a Dag's file is parsed again and again
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["digest"] = _digest
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.from_string(_part("page.html.jinja"))


def _part(name: str) -> str:
    return files("airflow_ft_events.report").joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Make a script safe for a page: nothing in it may end it, and its line ends are what browsers expect."""
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return unix.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _pieces(name: str, *, limit: int) -> list[str]:
    """Split a metric's name where a narrow column may break it."""
    return re.split(r"(?<=[_.])", one_line(name, limit=limit))


# the head of the page


def _subject(about: Mapping[str, Any]) -> str:
    job_id = about.get("job_id")
    return one_line(job_id, limit=120) if isinstance(job_id, str) and job_id else "Fine-tuning job"


def _outcome(view: LogView, about: Mapping[str, Any]) -> str | None:
    told = about.get("outcome")
    return told if told in _OUTCOMES else view.outcome


def _facts(view: LogView, about: Mapping[str, Any]) -> Iterator[_Fact]:
    vendor = about.get("vendor")
    if isinstance(vendor, str) and vendor:
        yield _Fact("Server", one_line(FAMILIES.get(vendor, vendor), limit=80))
    model = about.get("fine_tuned_model") or _model_in(view.events)
    if isinstance(model, str) and model:
        yield _Fact("Fine-tuned model", one_line(model, limit=200), code=True)
    status = about.get("status")
    if isinstance(status, str) and status and status != about.get("outcome"):
        yield _Fact("Status", one_line(status, limit=80))
    if steps := _steps(view):
        yield _Fact("Steps", steps)
    tokens, count = whole_number(about.get("trained_tokens")), about.get("count")
    if tokens is not None:
        yield _Fact("Trained tokens", _number(tokens))
    yield _Fact("Events", _number(count if is_number(count) else len(view.events)))
    yield from _times(view, about)


def _steps(view: LogView) -> str:
    reached = [curve.steps[-1] for curve in view.curves if curve.steps]
    totals = [total for event in view.events[::-1][:2_000] if (total := event.total_steps) is not None]
    if not reached:
        return ""
    return f"{max(reached):,}" + (f" of {totals[0]:,}" if totals else "")


def _times(view: LogView, about: Mapping[str, Any]) -> Iterator[_Fact]:
    known = [at for event in view.events if (at := event.created_at) is not None]
    first = _event_time(about.get("first_event")) or (known[0] if known else None)
    last = _event_time(about.get("last_event")) or (known[-1] if known else None)
    finished = epoch_seconds(about.get("finished_at")) or last
    if written := iso_utc(first):
        yield _Fact("First event", f"{_shown(written)} UTC", moment=written)
    if written := iso_utc(finished):
        name = "Finished" if about.get("finished_at") else "Last event"
        yield _Fact(name, f"{_shown(written)} UTC", moment=written)
    if first is not None and finished is not None and finished > first:
        yield _Fact("Took", _duration(finished - first))


def _event_time(told: object) -> float | None:
    return epoch_seconds(told.get("created_at")) if isinstance(told, Mapping) else None


def _shown(written: str) -> str:
    return written[:19].replace("T", " ")


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


def _tiles(view: LogView) -> list[_Metric]:
    """Choose the last numbers that matter most to a reader; the full list is in the table."""
    headline = [
        curve
        for panel in _HEADLINE_PANELS
        for curve in view.panels.get(panel, [])
        if curve.shown and curve.values
    ]
    return [_metric(curve.name, curve.values[-1], curve, limit=60) for curve in headline[:_MOST_TILES]]


def _metrics(view: LogView) -> tuple[list[_Metric], str | None]:
    """Show the metrics for which the table has room, and count the others."""
    curves = {curve.name: curve for curve in view.curves}
    names = [name for name in curves if name in view.last]
    names += [name for name in view.last if name not in curves]
    more = len(names) - _MOST_ROWS
    shown = [_metric(name, view.last[name], curves.get(name), limit=120) for name in names[:_MOST_ROWS]]
    return shown, f"{more:,}" if more > 0 else None


def _metric(name: str, last: float, curve: Curve | None, *, limit: int) -> _Metric:
    pieces = _pieces(name, limit=limit)
    if curve is None:
        return _Metric(pieces=pieces, role=Role.TRAIN, last=_number(last))
    finite = curve.finite
    lost = len(curve.steps) - len(finite)
    return _Metric(
        pieces=pieces,
        role=curve.role,
        last=_number(last),
        step=f"{curve.steps[-1]:,}",
        lowest=_number(min(finite)) if finite else None,
        highest=_number(max(finite)) if finite else None,
        reported=f"{len(curve.steps):,}",
        lost=f"{lost:,}" if lost else None,
    )


def _number(value: Any) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else f"{_MINUS}Infinity"
    if abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}".replace("-", _MINUS)
    if 1_000 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", _MINUS)
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e+").replace("-", _MINUS)


# the messages


def _messages(said: Sequence[Event]) -> Iterator[_Message]:
    before = -1
    for place in _kept(said):
        event, left_out = said[place], place - before - 1
        before = place
        yield _Message(
            left_out=f"{left_out:,}" if left_out else None,
            look=event.level if event.level in ("warn", "error") else "info",
            time=_shown(iso_utc(event.created_at) or ""),
            level=one_line(event.level, limit=20),
            text=one_line(event.message or event.type),
        )


def _kept(said: Sequence[Event]) -> Iterable[int]:
    """Choose from a long log its beginning, its end, and the newest warnings and errors."""
    if len(said) <= _MOST_MESSAGES:
        return range(len(said))
    loud = [place for place, event in enumerate(said) if event.level in ("warn", "error")]
    tail = range(len(said) - _MOST_MESSAGES // 2, len(said))
    return sorted({*range(_MOST_MESSAGES // 5), *tail, *loud[-_MOST_MESSAGES // 4 :]})
