"""Numbers in what servers send: found in nested data, read, and made safe for databases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 20
_LONGEST = 80
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(?:(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE
)


def number_of(value: object) -> int | float | None:
    """
    Read a number, which some servers write as text.

    :param value: a number, or text such as ``0.52``, ``-3``, ``1e-05``, ``NaN``; not one with zeros ahead,
        which is a name.
    :returns: the number, NaN and Infinity among them; None for anything else, bools and integers that no
        float can hold included.
    """
    if type(value) is float or is_number(value):
        return value  # type: ignore[return-value]
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    text = value.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def whole_number(value: object) -> int | None:
    """
    Read a number of steps or tokens.

    :param value: a number or its text; fractions are cut off.
    :returns: the number; None for anything else, and for one that no training reaches, which would break
        arithmetic.
    """
    number = value if type(value) is int else number_of(value)
    return int(number) if number is not None and abs(number) < 1e15 else None


def flat_values(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """
    Walk the values in an event's data; nested names are joined by dots, more than 20 levels left out.

    :param data: the event's ``data``.
    :param prefix: what to put before each name.
    :returns: pairs of name and value, in the data's order.
    """
    for name, value in data.items():
        if not isinstance(value, Mapping):
            yield f"{prefix}{name}", value
        elif prefix.count(".") < _DEEPEST:
            yield from flat_values(value, f"{prefix}{name}.")


def is_number(value: object) -> bool:
    """
    Return whether a value counts as a number; bools and integers too large for a float do not.

    :param value: a value read from JSON; NaN and Infinity are numbers here.
    """
    return isinstance(value, float) or (type(value) is int and abs(value) < 1e300)


def flat_numbers(data: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """
    Walk the numbers in an event's data, named as :func:`flat_values` names them; numbers that are written as
    text are read, lists left out.

    :param data: the event's ``data``.
    :returns: pairs of name and number, in the data's order.
    """
    for name, value in flat_values(data):
        if type(value) is float:
            yield name, value
        elif (number := number_of(value)) is not None:
            yield name, number
