"""The names under which servers count training steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_ft_events.events.numbers import flat_numbers, whole_number

_STEP = (
    "step",
    "globalstep",
    "currentstep",
    "currentsteps",
    "trainingstep",
    "trainstep",
    "iteration",
    "iter",
)
_STEP_OR_TOTAL = ("steps", "iterations", "iters")
"""Names that count the steps so far at one server, and at another those to come."""
_TOTAL = (
    "totalsteps",
    "maxsteps",
    "totalstep",
    "maxstep",
    "numsteps",
    "numtrainingsteps",
    "trainingsteps",
    "totaliterations",
    "maxiterations",
    "totaliters",
    "maxiters",
)
_EPOCH = ("epoch", "epochs", "currentepoch", "numepochs", "nepochs", "totalepochs")
_STEPS = frozenset((*_STEP, *_STEP_OR_TOTAL, *_TOTAL))
_COUNTERS = _STEPS | frozenset(_EPOCH)
_MEASURED = re.compile(r"loss|reward|accura|score|perplexity|grad_?norm", re.IGNORECASE)
_SECTION = re.compile(r"(?:trainer|train|training|eval|valid|val|progress)/", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\W_]+")


def _plain(name: object) -> str:
    """Write ``train/global_step`` and ``globalStep`` alike, but not ``seconds/step``."""
    written = str(name)
    section = _SECTION.match(written)
    return _SEPARATORS.sub("", written[section.end() :] if section else written).lower()


def counts_steps(name: str) -> bool:
    """
    Tell whether a name is one of a step, or of how many there are.

    :param name: a name in an event's data.
    :returns: True if it is.
    """
    return _plain(name) in _STEPS


def measures(data: Mapping[str, Any]) -> bool:
    """
    Tell whether data have a number that counts neither steps nor epochs.

    :param data: an event's ``data``.
    :returns: True if they have.
    """
    return any(_plain(name) not in _COUNTERS for name, _ in flat_numbers(data))


def shows_progress(data: Mapping[str, Any]) -> bool:
    """
    Tell whether data have something that only training measures.

    :param data: an event's ``data``.
    :returns: True if they have, such as a loss.
    """
    return any(_MEASURED.search(str(name)) for name in data)


def step_in(data: Mapping[str, Any], *, steps_so_far: bool) -> int | None:
    """
    Find the step that data name.

    :param data: an event's ``data``.
    :param steps_so_far: whether ``steps`` is the step; else it may count the steps to come.
    :returns: the step, or None.
    """
    step = whole_number(data.get("step"))
    if step is not None or not data:
        return step
    return _first(data, (*_STEP, *_STEP_OR_TOTAL) if steps_so_far else _STEP)


def total_in(data: Mapping[str, Any]) -> int | None:
    """
    Find how many steps the training has.

    :param data: an event's ``data``.
    :returns: the number, or None.
    """
    total = whole_number(data.get("total_steps"))
    if total is not None or not data:
        return total
    return _first(data, _TOTAL)


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    named: dict[str, str] = {}
    for name in data:
        named.setdefault(_plain(name), name)
    numbers = (whole_number(data[named[name]]) for name in names if name in named)
    return next((number for number in numbers if number is not None), None)
