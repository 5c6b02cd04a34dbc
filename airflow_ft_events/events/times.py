"""Points in time as servers write them, and as people and warehouses read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_LATEST = 1e11
"""Seconds of the year 5138, and milliseconds of 1973: what lies above is counted in a smaller unit."""
_UNITS = (1, 10**3, 10**6, 10**9)
_LONGEST = 80
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_ZONE = re.compile(
    r"(?<=\d)\s*(?:(?:UTC|GMT|Z)|(?P<offset>[+-]\d\d(?::?\d\d)?)(?:\s+(?:[A-Z]{1,5}|[+-]\d\d(?:\d\d)?))?)"
    r"(?:\[[^\]]*\])?(?:\s+m=[+-][\d.]+)?\Z",
    re.ASCII | re.IGNORECASE,
)
_MAIL_DATE = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s|\d{1,2}[\s-][a-z]{3}[\s-]\d).*\d:\d\d",
    re.ASCII | re.IGNORECASE,
)


def epoch_seconds(value: object) -> float | None:
    """
    Read a point in time as servers write it, in whatever unit and notation.

    :param value: seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size, as
        a number or as text; or a date: ISO 8601, with a space or a name of UTC too, or RFC 1123. A date
        without a zone is in UTC.
    :returns: seconds since 1970, above 0 and below 1e11; None for anything else.
    """
    if (type(value) is int or type(value) is float) and 0 < value < _LATEST:
        return float(value)
    if isinstance(value, str):
        return _written(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _counted(value)


def _counted(count: float) -> float | None:
    """Read a number by its size, in the largest unit that gives a year below 5138."""
    # a server without a time writes 0, and an end so long ago would be believed at once
    if not 0 < count < _LATEST * _UNITS[-1]:
        return None
    return next((count / unit for unit in _UNITS if count / unit < _LATEST), None)


def _written(text: str) -> float | None:
    if not text or len(text) > _LONGEST:
        return None
    if _NUMBER.fullmatch(text):
        return _counted(int(text) if text.isdigit() else float(text))
    moment = _iso_date(text) or _mail_date(text)
    if moment is None:
        return None
    try:
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < _LATEST else None


def _iso_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    zone = _ZONE.search(text)
    if zone is None:
        return None
    try:
        return datetime.fromisoformat(text[: zone.start()] + (zone["offset"] or "+00:00"))
    except ValueError:
        return None


def _mail_date(text: str) -> datetime | None:
    """Read a date as mail, HTTP and C's ``ctime`` write it."""
    if not _MAIL_DATE.match(text):
        return None
    from email.utils import parsedate_to_datetime  # costs a Dag file an import, and few servers need it

    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def iso_utc(seconds: float | None) -> str | None:
    """
    Format a point in time for people and warehouses.

    :param seconds: seconds since 1970, or None.
    :returns: ISO 8601 in UTC, such as ``2026-01-31T12:00:00+00:00``; None for None or a year out of range.
    """
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return None


def short_utc(seconds: float | None) -> str | None:
    """
    Format a point in time for a log line.

    :param seconds: seconds since 1970, or None.
    :returns: such as ``2026-01-31T12:00:00Z``; None for None or a year out of range.
    """
    written = iso_utc(seconds)
    return f"{written[:19]}Z" if written else None
