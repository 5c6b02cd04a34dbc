"""What is to be drawn of a log: curves by kind of metric, marks by kind of message."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_ft_events.events import Event, counts_steps, last_metrics, metrics_table, one_line
from airflow_ft_events.vendors import VENDORS, Meaning
from airflow_ft_events.vendors.base import READ_OF_MESSAGE

MOST_IN_PANEL = 18
"""Maximum curves in a panel: as many names as its legend has room for."""
MOST_POINTS = 60_000
"""Maximum points of all curves in a figure."""
_FEWEST, _MOST = 200, 2_000
_SMOOTHED_FROM = 80
_SMOOTH_POINTS = 300
_READ_BACK = 300


class Role(StrEnum):
    """The data that a metric was measured on."""

    TRAIN = "train"
    VALID = "valid"
    FULL_VALID = "full_valid"


class Row(StrEnum):
    """A kind of message that is marked; the value is the name of its row in the figure."""

    END = "End"
    ERROR = "Errors"
    WARNING = "Warnings"
    CHECKPOINT = "Checkpoints"
    MESSAGE = "Messages"


PANELS = ("Loss", "Accuracy", "Reward", "Errors", "Tokens", "Time", "Other")
# The first that fits: a token accuracy is an accuracy, an unresponsive reward is an error.
_PANEL_WORDS = (
    ("Accuracy", re.compile(r"accura")),
    ("Loss", re.compile(r"loss")),
    ("Errors", re.compile(r"error|unresponsive|invalid|failure")),
    ("Reward", re.compile(r"reward|score|margin")),
    ("Tokens", re.compile(r"token")),
    ("Time", re.compile(r"timing|latency|seconds|duration|runtime|(^|[^a-z])time($|[^a-z])")),
)
_ONE_SCALE = {"Errors", "Tokens", "Time", "Other"}
_VALID_WORD = re.compile(r"(^|[^a-z])(valid|validation|val|eval|test)($|[^a-z])")
_FULL_WORD = re.compile(r"(^|[^a-z])full($|[^a-z])")
_AT_STEP = re.compile(r"\bat step (\d{1,15})\b", re.IGNORECASE)
_CHECKPOINT = re.compile(r"Checkpoint created\b", re.IGNORECASE)
_NUMBER_IN_MESSAGE = re.compile(
    r"\b((?:full |train|valid)[a-z ]{1,60}?) ?= ?([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf(?:inity)?))\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Curve:
    """
    One metric over the steps.

    :param name: the metric's name, nested ones joined by dots.
    :param panel: the kind of metric, one of :data:`PANELS`.
    :param role: the data that it was measured on.
    :param steps: the steps at which it was reported, ascending.
    :param values: what was reported, NaN and Infinity as they came.
    :param drawn: whether the figure has room for it; the tables show all.
    :param shown: whether it is visible before the legend is used.
    """

    name: str
    panel: str
    role: Role
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    drawn: bool = False
    shown: bool = False

    @property
    def finite(self) -> list[float]:
        """The values without NaN and Infinity."""
        return [value for value in self.values if math.isfinite(value)]

    def broken(self, *, most: int = 100) -> list[tuple[int, float, float]]:
        """
        Find where the metric was no number that can be drawn.

        :param most: how many are returned, from the first on; default 100.
        :returns: step, what was reported, and the last finite value before it (else the first one after it).
        """
        found: list[tuple[int, float, float]] = []
        beside = next(iter(self.finite), 0.0)
        for step, value in zip(self.steps, self.values, strict=True):
            if math.isfinite(value):
                beside = value
            elif len(found) < most:
                found.append((step, value, beside))
        return found

    def thinned(self, most: int) -> tuple[list[int], list[float | None]]:
        """
        Thin out to what the eye can see: of each section the lowest and the highest point, and any gap.

        :param most: approximate number of points, including the first and the last.
        :returns: steps and values, with None for values that are not finite.
        """
        size = len(self.steps)
        points = [value if math.isfinite(value) else None for value in self.values]
        if size <= most:
            return self.steps, points
        kept = {0, size - 1}
        stretch = math.ceil(size / max(most // 2, 1))
        for begin in range(0, size, stretch):
            places = range(begin, min(begin + stretch, size))
            finite = [place for place in places if points[place] is not None]
            if finite:
                kept |= {min(finite, key=self.values.__getitem__), max(finite, key=self.values.__getitem__)}
            if len(finite) < len(places):
                kept.add(next(place for place in places if points[place] is None))
        ordered = sorted(kept)
        return [self.steps[place] for place in ordered], [points[place] for place in ordered]

    def smoothed(self) -> tuple[list[int], list[float | None]]:
        """
        Smooth a noisy curve: at each point the mean of the values around it, in which nearer ones weigh more.

        :returns: steps and means, at most 300; empty if there are too few values to need it.
        """
        size = len(self.steps)
        if self.role is not Role.TRAIN or size < _SMOOTHED_FROM:
            return [], []
        half = min(max(size // 30, 6), 600)
        gap = max((size - 1) / (_SMOOTH_POINTS - 1), 1.0)
        places = sorted({min(round(count * gap), size - 1) for count in range(_SMOOTH_POINTS)} | {size - 1})
        means = [_mean_around(self.values, place, half) for place in places]
        return [self.steps[place] for place in places], means


def _mean_around(values: Sequence[float], place: int, half: int) -> float | None:
    weighed = [
        (1 - abs(other - place) / (half + 1), values[other])
        for other in range(max(place - half, 0), min(place + half + 1, len(values)))
        if math.isfinite(values[other])
    ]
    try:
        return math.fsum(weight * value for weight, value in weighed) / math.fsum(w for w, _ in weighed)
    except (OverflowError, ZeroDivisionError):
        return None


@dataclass(frozen=True, slots=True)
class ChartMark:
    """The messages at one step: the row they are drawn in, their texts, and the outcome if it is the end."""

    row: Row
    step: int
    texts: tuple[str, ...]
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class LogView:
    """
    A log, read for drawing.

    :param events: the events, oldest first; numbers that were only in messages are in their data.
    :param curves: every metric, those that are drawn first within each panel.
    :param marks: the messages, by row and step.
    :param end: the event that states the outcome, if any.
    :param outcome: that outcome.
    :param from_messages: whether numbers were read from messages, which round them.
    :param last: the last known number of every metric.
    """

    events: list[Event]
    curves: list[Curve]
    marks: list[ChartMark]
    end: Event | None
    outcome: str | None
    from_messages: bool
    last: dict[str, int | float]

    @property
    def panels(self) -> dict[str, list[Curve]]:
        """The drawn curves by panel, in the order of :data:`PANELS`; only panels that have some."""
        drawn = {
            name: [curve for curve in self.curves if curve.drawn and curve.panel == name] for name in PANELS
        }
        return {name: curves for name, curves in drawn.items() if curves}

    @property
    def points_each(self) -> int:
        """How many points a curve may have."""
        return max(_FEWEST, min(_MOST, MOST_POINTS // max(sum(curve.drawn for curve in self.curves), 1)))


def read_log(given: Iterable[Any]) -> LogView:
    """
    Read a log for drawing.

    :param given: events or event dicts, oldest first; anything else is skipped.
    :returns: the log, ready to draw.
    """
    events: list[Event] = []
    from_messages = False
    for item in given:
        if not isinstance(item, Event | Mapping):
            continue
        event = item if isinstance(item, Event) else Event(dict(item), "")
        known = _with_numbers_of_message(event)
        from_messages = from_messages or known is not event
        events.append(known)
    end, outcome = _end_of(events)
    curves = _curves_of(metrics_table(events))
    last = {name: value for name, value in last_metrics(events).items() if not counts_steps(name)}
    return LogView(events, curves, _marks_of(events, end, outcome), end, outcome, from_messages, last)


def is_said(event: Event) -> bool:
    """
    Tell whether an event is for people: not metrics, or a warning or an error.

    :param event: the event.
    :returns: True if it is.
    """
    return not event.is_metrics or event.level in ("warn", "error")


def _with_numbers_of_message(event: Event) -> Event:
    if not event.is_metrics or event.step is None or event.level in ("warn", "error"):
        return event
    if not all(map(counts_steps, event.data)):
        return event
    numbers = {
        _name_of(words): float(number)
        for words, number in _NUMBER_IN_MESSAGE.findall(event.message[:READ_OF_MESSAGE])
    }
    if not numbers:
        return event
    return replace(event, raw={**event.raw, "data": {**numbers, **event.data}})


def _name_of(words: str) -> str:
    """Turn ``full validation loss`` into the name that servers use in the data."""
    text = words.strip().lower().replace("training", "train").replace("validation", "valid")
    return "_".join(text.split())


def _curves_of(rows: Sequence[Mapping[str, int | float]]) -> list[Curve]:
    curves: dict[str, Curve] = {}
    for row in rows:
        for name, value in row.items():
            curve = curves.get(name)
            if curve is None:
                if counts_steps(name):
                    continue
                curve = curves[name] = Curve(name, _panel_of(name), _role_of(name))
            curve.steps.append(int(row["step"]))
            curve.values.append(float(value))
    ordered = sorted(curves.values(), key=lambda curve: (PANELS.index(curve.panel), "." in curve.name))
    for panel in PANELS:
        _choose([curve for curve in ordered if curve.panel == panel])
    return ordered


def _choose(curves: Sequence[Curve]) -> None:
    """Choose what a panel draws, and what is visible at first: plain names before nested ones."""
    drawn = curves[:MOST_IN_PANEL]
    plain = [curve for curve in drawn if "." not in curve.name][:6] or drawn[:4]
    sizes = {curve.name: max(map(abs, curve.finite), default=0.0) for curve in plain}
    largest = next((size for size in sizes.values() if size > 0), 0.0)
    for curve in drawn:
        curve.drawn = True
    for curve in plain:
        size = sizes[curve.name]
        fits = size == 0 or largest / 30 <= size <= largest * 30
        curve.shown = curve.panel not in _ONE_SCALE or fits


def _panel_of(name: str) -> str:
    words = name.lower()
    return next((panel for panel, pattern in _PANEL_WORDS if pattern.search(words)), "Other")


def _role_of(name: str) -> Role:
    words = name.lower()
    if not _VALID_WORD.search(words):
        return Role.TRAIN
    return Role.FULL_VALID if _FULL_WORD.search(words) else Role.VALID


def _end_of(events: Sequence[Event]) -> tuple[Event | None, str | None]:
    """Find the message that states the outcome, in any family's wording, unless the job went on after it."""
    for event in events[: -_READ_BACK - 1 : -1]:
        meanings = [vendor.meaning_of(event) for vendor in VENDORS.values()]
        if Meaning.RESTARTED in meanings:
            break
        outcome = next((meaning.outcome for meaning in meanings if meaning and meaning.outcome), None)
        if outcome is not None:
            return event, str(outcome)
    return None, None


def _marks_of(events: Sequence[Event], end: Event | None, outcome: str | None) -> list[ChartMark]:
    texts: dict[tuple[Row, int], list[str]] = {}
    step = 0
    for event in events:
        reported = event.step
        step = step if reported is None else reported
        if not is_said(event):
            continue
        message = event.message[:READ_OF_MESSAGE]
        named = _AT_STEP.search(message) if reported is None else None
        place = int(named[1]) if named else step
        said = texts.setdefault((_row_of(event, message, end), place), [])
        said.append(one_line(message or event.type, limit=300))
    order = list(Row)
    return [
        ChartMark(row, place, tuple(said), outcome if row is Row.END else None)
        for (row, place), said in sorted(
            texts.items(), key=lambda pair: (order.index(pair[0][0]), pair[0][1])
        )
    ]


def _row_of(event: Event, message: str, end: Event | None) -> Row:
    if event is end:
        return Row.END
    if event.level in ("warn", "error"):
        return Row.WARNING if event.level == "warn" else Row.ERROR
    return Row.CHECKPOINT if _CHECKPOINT.match(message) else Row.MESSAGE
