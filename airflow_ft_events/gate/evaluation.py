"""Evaluates a gate's conditions on a job's log."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_ft_events.events import Event, flat_values, is_number, number_of, one_line
from airflow_ft_events.gate.conditions import Condition, Metric, Negative, Number, Term, metrics_in, shown

SHOWN_NAMES = 20
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """
    The result of a condition.

    :param condition: as its author wrote it.
    :param passed: whether it holds.
    :param value: the value of its left side; None if that is not a number.
    :param limit: the value of its right side.
    :param step: the training step of the value, if it is one metric's value at a step.
    :param reason: why it does not hold; None if it does.
    """

    condition: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    step: int | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result, by the names above; Airflow cannot carry a value that is NaN or infinite."""
        return {
            "condition": self.condition,
            "value": self.value,
            "limit": self.limit,
            "step": self.step,
            "passed": self.passed,
            "reason": self.reason,
        }


def evaluate(conditions: Sequence[Condition], events: Iterable[Event]) -> list[ConditionResult]:
    """
    Evaluate conditions on a job's log.

    :param conditions: the conditions.
    :param events: the job's events, oldest first.
    :returns: one result each, in the order given.
    """
    log = _MetricLog(events, {metric.name for condition in conditions for metric in condition.metrics})
    return [_judged(condition, log) for condition in conditions]


class _NoNumberError(Exception):
    """A term without a finite value: the reason, and the step if it is known."""

    def __init__(self, reason: str, *, step: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.step = reason, step


class _MetricLog:
    """The values of the wanted metrics, and the names of all that reported a number."""

    def __init__(self, events: Iterable[Event], wanted: set[str]) -> None:
        self._series: dict[str, list[tuple[int | None, Any]]] = {}
        self.names: set[str] = set()
        for event in events:
            if not event.is_metrics:
                continue
            step, numbers = event.step, event.metrics
            self.names.update(numbers)
            reported = list(flat_values(event.data))
            # the step and the total under these names, where the data have others
            reported += [(name, numbers[name]) for name in numbers.keys() - dict(reported).keys()]
            for name, value in reported:
                if name in wanted:
                    # other values are kept too: an older number must not replace them
                    number = number_of(value)
                    self._series.setdefault(name, []).append((step, value if number is None else number))

    def reported(self, name: str) -> bool:
        return name in self._series

    def reading(self, metric: Metric) -> tuple[float, int | None]:
        """A metric's value, and its step; no step for a mean."""
        series = self._series[metric.name]
        if metric.function == "last":
            series = series[-1:]
        for step, value in series:
            if not (is_number(value) and math.isfinite(value)):
                where = "" if step is None else f" at step {step}"
                raise _NoNumberError(f"{_plain(metric.name)} is {_kind_of(value)}{where}", step=step)
        if metric.function == "mean":
            return _mean([float(value) for _, value in series]), None
        choose = max if metric.function == "max" else min
        step, value = choose(series, key=lambda point: float(point[1]))
        return float(value), step

    def missing(self, names: Sequence[str]) -> str:
        from difflib import get_close_matches

        lacking = f"the job never reported {' and '.join(_plain(name) for name in names)}"
        if not self.names:
            return f"{lacking}; it reported no metrics at all"
        near = {near for name in names for near in get_close_matches(name, self.names, n=SHOWN_NAMES)}
        listed = [*sorted(near), *sorted(self.names - near)]
        more = f" and {len(listed) - SHOWN_NAMES} more" if len(listed) > SHOWN_NAMES else ""
        return f"{lacking}; it reported {', '.join(map(_plain, listed[:SHOWN_NAMES]))}{more}"


def _plain(name: str) -> str:
    return one_line(name, limit=80)


def _kind_of(value: Any) -> str:
    """Say what is there instead of a finite number."""
    if isinstance(value, float):
        return shown(value)
    if value is None:
        return "null (which XCom and some servers write for NaN)"
    kinds: dict[type, str] = {bool: "a boolean", str: "text", list: "a list"}
    return f"{kinds.get(type(value), 'too large')}, not a number"


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.inf


def _value(term: Term, log: _MetricLog) -> float:
    if isinstance(term, Number):
        return term.value
    if isinstance(term, Negative):
        return -_value(term.of, log)
    if isinstance(term, Metric):
        value = log.reading(term)[0]
    else:
        left, right = _value(term.left, log), _value(term.right, log)
        if term.sign == "/" and right == 0:
            raise _NoNumberError(f"{term} divides by zero: {term.right} is 0")
        value = _ARITHMETIC[term.sign](left, right)
    if not math.isfinite(value):
        raise _NoNumberError(f"{term} comes to {shown(value)}")
    return value


def _judged(condition: Condition, log: _MetricLog) -> ConditionResult:
    names = dict.fromkeys(metric.name for metric in condition.metrics)
    lacking = [name for name in names if not log.reported(name)]
    if lacking:
        return ConditionResult(condition.text, passed=False, reason=log.missing(lacking))
    value, limit = _side(condition.left, log), _side(condition.right, log)
    wrong = [side for side in (value, limit) if isinstance(side, _NoNumberError)]
    if isinstance(value, _NoNumberError) or isinstance(limit, _NoNumberError):
        return ConditionResult(
            condition.text,
            passed=False,
            value=None if isinstance(value, _NoNumberError) else value,
            limit=None if isinstance(limit, _NoNumberError) else limit,
            step=wrong[0].step,
            reason="; ".join(dict.fromkeys(side.reason for side in wrong)),
        )
    asked = list(metrics_in(condition.left)) or condition.metrics
    step = log.reading(asked[0])[1] if len(asked) == 1 else None
    passed = _COMPARISONS[condition.sign](value, limit)
    reason = None if passed else f"{shown(value)} {condition.sign} {shown(limit)} is false"
    return ConditionResult(condition.text, passed=passed, value=value, limit=limit, step=step, reason=reason)


def _side(term: Term, log: _MetricLog) -> float | _NoNumberError:
    try:
        return _value(term, log)
    except _NoNumberError as error:
        return error
