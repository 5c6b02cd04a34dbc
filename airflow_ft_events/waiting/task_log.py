"""What a wait writes into the task log: messages as they come, one progress line per poll."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from airflow_ft_events.events import Event, counts_steps, one_line, short_utc
from airflow_ft_events.jobs import Job, JobState

LogEvents = Literal["messages", "all", "none"]
Line = tuple[str, str]
# The most telling first; the line shows the first of these groups that the job reports.
_GROUPS = (re.compile(r"loss|reward", re.IGNORECASE), re.compile(r"accura|score|perplexity", re.IGNORECASE))
_FAULTS = re.compile(r"error|unresponsive|invalid|failure", re.IGNORECASE)
_ROLES = (re.compile(r"full", re.IGNORECASE), re.compile(r"valid|eval|test", re.IGNORECASE))
_MOST_NUMBERS = 4
_LOGGED_AS = {"warn": "warning", "error": "error"}


class TaskLog:
    """
    Turns new events into lines for people.

    :param mode: ``messages`` (messages, and one progress line for all metrics of a poll), ``all``, or
        ``none``.
    :param quiet: whether the log takes only warnings and errors, so that no other line is made; default
        False.
    """

    def __init__(self, mode: LogEvents, *, quiet: bool = False) -> None:
        self._mode = mode
        self._quiet = quiet
        self._first: tuple[int, float] | None = None

    def lines(self, events: Sequence[Event], *, more_before: bool = False) -> list[Line]:
        """
        Write the lines for one poll's new events.

        :param events: oldest first.
        :param more_before: whether there are earlier ones that were not read; default False.
        :returns: a logging level and a text for each line.
        """
        if self._mode == "none" or not events:
            return []
        if self._quiet:
            grave = [event for event in events if event.level in _LOGGED_AS]
            return [_line(event) for event in grave if self._mode == "all" or not event.is_metrics]
        lines: list[Line] = [("info", "Earlier events are not shown here.")] if more_before else []
        metrics = {at for at, event in enumerate(events) if event.is_metrics}
        for at in metrics:
            self._remember(events[at])
        last = max(metrics, default=None)
        for at, event in enumerate(events):
            if at not in metrics or self._mode == "all":
                lines.append(_line(event))
            elif at == last:
                lines.append(("info", self._progress(event)))
        return lines

    def _remember(self, event: Event) -> None:
        step, at = event.step, event.created_at
        if step is not None and at is not None and (self._first is None or step < self._first[0]):
            self._first = (step, at)

    def _progress(self, event: Event) -> str:
        """One line: step, total, what is measured, rate, and the time left if the total is known."""
        step, total = event.step, event.total_steps
        measured = [f"{one_line(name, limit=60)} {value:.4g}" for name, value in _telling(event.metrics)]
        if step is None:
            return one_line(event.message) or ", ".join(measured) or "Training goes on."
        parts = [f"Step {step}/{total}" if total else f"Step {step}", *measured]
        if len(parts) == 1 and ": " in event.message:
            parts.append(one_line(event.message.partition(": ")[2], limit=120))
        rate = self._rate(step, event.created_at)
        if rate:
            parts.append(f"{rate:.2g} steps/s" if rate >= 1 else f"{rate * 60:.2g} steps/min")
            if total and total > step:
                parts.append(f"about {_duration((total - step) / rate)} left")
        return ", ".join(parts)

    def _rate(self, step: int, at: float | None) -> float | None:
        if self._first is None or at is None or at <= self._first[1] or step <= self._first[0]:
            return None
        return (step - self._first[0]) / (at - self._first[1])


def _telling(metrics: Mapping[str, int | float]) -> list[tuple[str, int | float]]:
    """The numbers that say most about the training: losses and rewards, else scores, else what there is."""
    ranked = sorted((_rank(name), at, name) for at, name in enumerate(metrics) if not counts_steps(name))
    return [(name, metrics[name]) for rank, _, name in ranked if rank[:2] == ranked[0][0][:2]][:_MOST_NUMBERS]


def _rank(name: str) -> tuple[int, bool, int]:
    groups = () if _FAULTS.search(name) else _GROUPS
    group = next((at for at, words in enumerate(groups) if words.search(name)), len(_GROUPS))
    role = next((len(_ROLES) - at for at, words in enumerate(_ROLES) if words.search(name)), 0)
    return group, "." in name, role


def _line(event: Event) -> Line:
    return _LOGGED_AS.get(event.level, "info"), text_of(event)


def text_of(event: Event, *, limit: int = 500) -> str:
    """
    Describe an event for people.

    :param event: the event.
    :param limit: characters of its message that are kept; default 500.
    :returns: one line: its time, if it has one, and its message.
    """
    when = short_utc(event.created_at)
    text = one_line(event.message, limit=limit) or f"(no message, type {one_line(event.type, limit=60)})"
    return f"{when} {text}" if when else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def odd_state(job: Job, status: str) -> str:
    """
    Say what is odd about a job that neither goes on nor has ended.

    :param job: the job.
    :param status: its status, safe for a line.
    """
    if job.state is JobState.PAUSED:
        return "is paused"
    if job.contradicts_itself:
        return f"reports an error, and its status {status!r} means success"
    return f"has a status that is not known here, {status!r}"
