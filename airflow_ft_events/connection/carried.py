"""What Airflow can carry: the only place that fits values from a server into XComs and trigger events."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DEEPEST = 60
"""Levels of a value that are kept; Airflow pushes deeper ones and cannot read them back."""
TOO_DEEP = "(nested too deeply for Airflow: see the archive)"
REPLACEMENT = "\ufffd"
ESCAPE = "~"
"""What is put before a name that Airflow's serializers would read as the name of a class."""
_UNCARRIED = re.compile("[\x00\ud800-\udfff]")
_INT64 = 2**63


@dataclass(slots=True)
class Carrier:
    """
    Fits values into what Airflow's transport and databases carry, and counts what it had to change.

    A NUL or a lone surrogate becomes U+FFFD, an integer beyond 64 bits its digits as text, NaN and Infinity
    None; a name that begins with two underscores gets ``~`` in front, and what lies more than 60 levels deep
    is left out. One such value in a trigger event would end the triggerer's process, with everybody's waits.

    :param mask: masks secrets in each text and name; default None, no masking.
    :param changed: how many values and names were changed, not counting masked ones.
    """

    mask: Callable[[str], str] | None = None
    changed: int = 0

    def fit(self, value: Any, *, depth: int = DEEPEST) -> Any:
        """
        Fit a value.

        :param value: a value read from JSON.
        :param depth: how many levels are kept; default 60.
        :returns: the same where Airflow can carry it.
        """
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict | list):
            if depth == 0:
                self.changed += 1
                return TOO_DEEP
            if isinstance(value, list):
                return [self.fit(each, depth=depth - 1) for each in value]
            fitted: dict[str, Any] = {}
            alike: Counter[str] = Counter()
            for name, each in value.items():
                fitted[self._name(name, fitted, alike)] = self.fit(each, depth=depth - 1)
            return fitted
        if isinstance(value, float):
            return value if math.isfinite(value) else self._changed(None)
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return self._changed(_digits(value))
        return value

    def _text(self, text: str) -> str:
        if self.mask:
            text = self.mask(text)
        return self._changed(_UNCARRIED.sub(REPLACEMENT, text)) if _UNCARRIED.search(text) else text

    def _name(self, name: object, taken: dict[str, Any], alike: Counter[str]) -> str:
        """Fit a name; those that become the same are numbered, so that none is lost."""
        fitted = self._text(str(name))
        if fitted.startswith("__"):
            fitted = self._changed(ESCAPE + fitted)
        free = fitted
        while free in taken:
            alike[fitted] += 1
            free = f"{fitted}{ESCAPE}{alike[fitted] + 1}"
        return free if free == fitted else str(self._changed(free))

    def _changed(self, value: Any) -> Any:
        self.changed += 1
        return value


def carried(value: Any, *, mask: Callable[[str], str] | None = None) -> Any:
    """
    Fit a value into what Airflow can carry.

    :param value: a value read from JSON.
    :param mask: as for :class:`Carrier`.
    :returns: the same where Airflow can carry it.
    """
    return Carrier(mask).fit(value)


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no more than 4,300 digits
        return hex(number)
