"""The training figure: a job's losses, accuracies and rewards over its steps; and a page that shows it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_ft_events.errors import FineTuningError
from airflow_ft_events.events import Event, one_line
from airflow_ft_events.report.curves import ChartMark, Curve, LogView, Role, Row, read_log
from airflow_ft_events.report.page import written_page

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ["report_page", "training_figure"]

NO_METRICS = "This log has no metrics to draw."
_ROLE_COLOURS = {Role.TRAIN: "#3d7fdb", Role.VALID: "#e07a33", Role.FULL_VALID: "#129a84"}
_MORE_COLOURS = ("#9468d6", "#d4568c", "#b08a12", "#3fa3c4", "#6f9a35", "#b8584c", "#7c8794")
_SYMBOLS = {Role.VALID: "circle", Role.FULL_VALID: "diamond"}
_END_COLOURS = {"succeeded": "#2b9a57", "failed": "#d64545", "cancelled": "#8a8f98"}
_ROW_LOOKS = {
    Row.END: ("hexagon", "#2b9a57", 13),
    Row.ERROR: ("x", "#d64545", 11),
    Row.WARNING: ("triangle-up", "#d3940f", 12),
    Row.CHECKPOINT: ("diamond", "#7b6ef0", 11),
    Row.MESSAGE: ("line-ns-open", "#8a8f98", 9),
}
_FEW = 60
_MOST_LINES = 30
_MOST_MARKS = 1_000
_LINED = {Row.CHECKPOINT: "dot", Row.WARNING: "dash", Row.ERROR: "solid", Row.END: "solid"}
_GAP, _ROW, _FIRST, _NEXT, _NAME = 46, 22, 270, 200, 19
_MARGIN = {"l": 76, "r": 24, "t": 16, "b": 48}
_INK, _GRID, _FONT = "#33383f", "#e6e8eb", "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def training_figure(events: Iterable[Event | Mapping[str, Any]]) -> Figure:
    """
    Draw a job's training: its metrics over the steps, with checkpoints and messages marked.

    :param events: events or event dicts, oldest first; anything else is skipped.
    :returns: a plotly figure; only a sentence if the log has no metrics.
    :raises FineTuningError: if plotly is not installed; the message says which extra to install.
    """
    return _figure_of(read_log(events))


def report_page(
    events: Iterable[Event | Mapping[str, Any]], *, about: Mapping[str, Any] | None = None
) -> str:
    """
    Write a page about a job's training that contains everything it needs and uses no network.

    :param events: events or event dicts, oldest first.
    :param about: what is known about the job, all of it optional: ``job_id``, ``vendor``, ``outcome``,
        ``status``, ``fine_tuned_model``, ``trained_tokens``, ``finished_at``, ``error``, ``count``,
        ``complete``, ``first_event``, ``last_event``; such as an archive's manifest or a sensor's result.
    :returns: HTML; the same events and facts give the same text.
    :raises FineTuningError: if plotly is not installed; the message says which extra to install.
    """
    view = read_log(events)
    figure = _figure_of(view).to_plotly_json()
    figure["layout"].pop("template", None)
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return written_page(view, about if about is not None else {}, figure=figure, library=get_plotlyjs())


def _figure_of(view: LogView) -> Figure:
    try:
        from plotly.graph_objects import Figure
    except ImportError:
        raise FineTuningError(
            "The training figure needs plotly, which is not installed here. Install it with "
            "pip install 'airflow-ft-events[report]'."
        ) from None
    if not view.panels:
        return Figure(data=[], layout=_empty_layout(view))
    return Figure(data=_traces(view), layout=_layout(view))


def plain(text: object, *, limit: int = 300) -> str:
    """
    Make a server's words fit for a figure, where plotly reads tags, entities and formulas.

    :param text: anything; its ``str`` is used.
    :param limit: characters kept; default 300.
    :returns: HTML.
    """
    return html.escape(one_line(text, limit=limit)).replace("$", "&#36;")


def _short(name: str) -> str:
    """Shorten a long name for a legend; its end says more than its beginning."""
    line = one_line(name, limit=10_000)
    return plain(line if len(line) <= 34 else f"…{line[-33:]}")


# what is drawn


def _traces(view: LogView) -> list[dict[str, Any]]:
    most, longest = view.points_each, max(len(curve.steps) for curve in view.curves)
    lane = _rows(view)
    traces = [
        _lane_trace(row, [mark for mark in view.marks if mark.row is row], place)
        for place, row in enumerate(lane)
    ]
    for number, curves in enumerate(view.panels.values(), start=2 if lane else 1):
        for curve, colour in zip(curves, _colours(curves), strict=True):
            axis = {"yaxis": f"y{number}" if number > 1 else "y", "xaxis": "x"}
            axis["legend"] = f"legend{number}" if number > 1 else "legend"
            traces += [trace | axis for trace in _curve_traces(curve, colour, most, longest)]
    return traces


def _rows(view: LogView) -> list[Row]:
    """The rows that have marks, from the bottom up."""
    return [row for row in reversed(Row) if any(mark.row is row for mark in view.marks)]


def _colours(curves: Sequence[Curve]) -> list[str]:
    taken: set[Role] = set()
    colours: list[str] = []
    for curve in curves:
        if curve.role in taken:
            colours.append(_MORE_COLOURS[(len(colours) - len(taken)) % len(_MORE_COLOURS)])
        else:
            colours.append(_ROLE_COLOURS[curve.role])
            taken.add(curve.role)
    return colours


def _curve_traces(curve: Curve, colour: str, most: int, longest: int) -> list[dict[str, Any]]:
    steps, values = curve.thinned(most)
    smooth_steps, means = curve.smoothed()
    common: dict[str, Any] = {
        "type": "scatter",
        "name": _short(curve.name),
        "legendgroup": plain(curve.name, limit=200),
        "visible": True if curve.shown else "legendonly",
    }
    train, few = curve.role is Role.TRAIN, len(steps) <= _FEW
    width = 1.1 if smooth_steps else 2.2 if train else 1.4 if few else 1.8
    # A hover box shows the nearest point of each curve, which for a sparse curve is at another step.
    at = " at step %{x:,d}" if len(curve.steps) < longest else ""
    line = {"color": colour, "width": width, "dash": "solid" if train or not few else "dot"}
    main = common | {
        "x": steps,
        "y": values,
        "mode": "lines+markers" if few else "lines",
        "line": line,
        "marker": _marker(curve, colour, len(steps)),
        "opacity": 0.4 if smooth_steps else 1.0,
        "showlegend": not smooth_steps,
        "hovertemplate": f"{plain(curve.name, limit=90)} %{{y:.5~g}}{at}<extra></extra>",
    }
    traces = [main]
    if smooth_steps:
        bold = {"color": colour, "width": 2.6, "shape": "spline", "smoothing": 0.6}
        skip = {"mode": "lines", "hoverinfo": "skip"}
        traces.append(common | skip | {"x": smooth_steps, "y": means, "line": bold, "showlegend": True})
    if broken := curve.broken():
        traces.append(common | _broken_trace(curve, broken))
    return traces


def _marker(curve: Curve, colour: str, size: int) -> dict[str, Any]:
    if curve.role is Role.TRAIN:
        return {"color": colour, "size": 5}
    large = 10 if curve.role is Role.FULL_VALID else 8
    look = {"color": colour, "symbol": _SYMBOLS[curve.role], "size": large if size <= _FEW // 2 else 6}
    return look | {"line": {"width": 1, "color": "rgba(255,255,255,0.85)"}}


def _broken_trace(curve: Curve, broken: Sequence[tuple[int, float, float]]) -> dict[str, Any]:
    words = [
        "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity" for _, value, _ in broken
    ]
    return {
        "x": [step for step, _, _ in broken],
        "y": [beside for _, _, beside in broken],
        "mode": "markers",
        "marker": {"symbol": "x-thin", "size": 11, "line": {"width": 2.5, "color": "#d64545"}},
        "showlegend": False,
        "hovertext": [f"{plain(curve.name, limit=90)} is {word}" for word in words],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _lane_trace(row: Row, marks: Sequence[ChartMark], place: int) -> dict[str, Any]:
    symbol, colour, size = _ROW_LOOKS[row]
    kept = marks if len(marks) <= _MOST_MARKS else [*marks[: _MOST_MARKS // 2], *marks[-_MOST_MARKS // 2 :]]
    colours = [_END_COLOURS.get(mark.outcome or "", colour) for mark in kept]
    return {
        "type": "scatter",
        "name": row.value,
        "mode": "markers",
        "x": [mark.step for mark in kept],
        "y": [place] * len(kept),
        "xaxis": "x",
        "yaxis": "y",
        "showlegend": False,
        "cliponaxis": False,
        "marker": {
            "symbol": symbol,
            "size": size,
            "color": colours,
            "line": {"width": 1.6, "color": colours},
        },
        "hovertext": [_hover(mark) for mark in kept],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _hover(mark: ChartMark) -> str:
    """Wrap the texts of a mark; a hover box that is wider than the figure is unreadable."""
    lines = [f"At step {mark.step:,}:"]
    for text in mark.texts[:6]:
        lines += [plain(text[at : at + 70]) for at in range(0, min(len(text), 210), 70)]
    if len(mark.texts) > 6:
        lines.append(f"and {len(mark.texts) - 6:,} more")
    return "<br>".join(lines)


# where it is drawn


def _layout(view: LogView) -> dict[str, Any]:
    rows = _rows(view)
    heights = [len(rows) * _ROW + 8] if rows else []
    for curves in view.panels.values():
        least = _FIRST if len(heights) == bool(rows) else _NEXT
        heights.append(max(least, len(curves) * _NAME + 12))
    total = sum(heights) + _GAP * (len(heights) - 1)
    layout: dict[str, Any] = _base_layout(total + _MARGIN["t"] + _MARGIN["b"])
    layout["annotations"] = _notes(view, total)
    top = float(total)
    titles = ([""] if rows else []) + list(view.panels)
    for number, (height, title) in enumerate(zip(heights, titles, strict=True), start=1):
        name, upper = str(number) if number > 1 else "", top / total
        domain = [max((top - height) / total, 0.0), min(upper, 1.0)]
        layout[f"yaxis{name}"] = _axis(domain) if title else _lane_axis(domain, rows)
        if title:
            layout[f"legend{name}"] = _legend(upper)
            layout["annotations"].append(_title(title, upper))
        top -= height + _GAP
    layout["xaxis"] = _steps_axis(f"y{len(heights)}" if len(heights) > 1 else "y")
    layout["shapes"] = _lines(view, rows, heights[0] / total)
    layout["meta"] = _meta(view, first=2 if rows else 1)
    return layout


def _meta(view: LogView, *, first: int) -> dict[str, Any]:
    """Tell the page which panel is which, and whether a logarithmic scale would show all losses."""
    axes = {f"y{number}" if number > 1 else "y": name for number, name in enumerate(view.panels, start=first)}
    losses = [value for curve in view.panels.get("Loss", []) for value in curve.finite]
    shows_all = bool(losses) and min(losses) > 0
    return {"panels": axes, "log_axis": f"yaxis{first if first > 1 else ''}" if shows_all else None}


def _base_layout(height: float) -> dict[str, Any]:
    return {
        "template": {},
        "height": int(height),
        "autosize": True,
        "margin": dict(_MARGIN),
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": _FONT, "size": 12, "color": _INK},
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "hoverlabel": {"font": {"size": 12}, "namelength": -1, "align": "left"},
        "showlegend": True,
    }


def _axis(domain: list[float]) -> dict[str, Any]:
    look = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "ticks": "", "nticks": 6}
    return look | {"domain": domain, "anchor": "x"}


def _lane_axis(domain: list[float], rows: Sequence[Row]) -> dict[str, Any]:
    return _axis(domain) | {
        "range": [-0.7, len(rows) - 0.3],
        "tickvals": list(range(len(rows))),
        "ticktext": [row.value for row in rows],
        "showgrid": False,
        "fixedrange": True,
    }


def _steps_axis(anchor: str) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "title": {"text": "Step", "standoff": 8},
        "gridcolor": _GRID,
        "zeroline": False,
        "ticks": "",
        "spikethickness": 1,
        "spikedash": "dot",
        "spikecolor": _INK,
        "tickformat": ",d",
        "hoverformat": ",d",
    }


def _legend(upper: float) -> dict[str, Any]:
    place = {"x": 1.015, "xanchor": "left", "y": upper, "yanchor": "top"}
    return place | {"bgcolor": "rgba(0,0,0,0)", "font": {"size": 11.5}, "tracegroupgap": 0, "itemwidth": 30}


def _title(text: str, upper: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": upper, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": f"<b>{text}</b>", "showarrow": False, "font": {"size": 13.5}, "yshift": 5}


def _notes(view: LogView, total: float) -> list[dict[str, Any]]:
    left_out = sum(not curve.drawn for curve in view.curves)
    notes = ["Numbers were read from messages, which may round them."] if view.from_messages else []
    if left_out:
        notes.append(f"{left_out:,} more metrics are not drawn.")
    if not notes:
        return []
    place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0, "xanchor": "right", "yanchor": "top"}
    return [place | {"text": " ".join(notes), "showarrow": False, "font": {"size": 11}, "yshift": -26}]


def _lines(view: LogView, rows: Sequence[Row], lane: float) -> list[dict[str, Any]]:
    """Draw a line through all panels at what changes or ends a curve; too many would hide the curves."""
    shapes: list[dict[str, Any]] = []
    for row, dash in _LINED.items():
        marks = [mark for mark in view.marks if mark.row is row]
        for mark in marks if len(marks) <= _MOST_LINES else marks[-1:]:
            colour = _END_COLOURS.get(mark.outcome or "", _ROW_LOOKS[row][1])
            upper = 1 - lane * (1 - (rows.index(row) + 0.4) / (len(rows) + 0.4))
            place = {"xref": "x", "yref": "paper", "x0": mark.step, "x1": mark.step, "y0": 0, "y1": upper}
            look = {"line": {"color": colour, "width": 1.3, "dash": dash}, "opacity": 0.6, "layer": "above"}
            shapes.append({"type": "line"} | place | look)
    return shapes


def _empty_layout(view: LogView) -> dict[str, Any]:
    said = sum(event.message != "" for event in view.events)
    sentence = f"{NO_METRICS}<br>It has {said:,} message{'s' * (said != 1)}." if said else NO_METRICS
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    hidden = {"visible": False, "fixedrange": True}
    note = place | {"text": sentence, "font": {"size": 15}}
    return _base_layout(220) | {"annotations": [note], "xaxis": hidden, "yaxis": hidden, "hovermode": False}
