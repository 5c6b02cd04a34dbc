"""An event of a fine-tuning job: the server's dict with a typed view; metrics, order, identity."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_ft_events.events.numbers import flat_numbers, is_number, whole_number
from airflow_ft_events.events.steps import measures, shows_progress, step_in, total_in
from airflow_ft_events.events.times import epoch_seconds, iso_utc

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_NO_ID = re.compile(r"[\x00\ud800-\udfff]")
"""What no database keeps, and no URL carries: an id with such a character is none."""
_STEP_IN_MESSAGE = re.compile(r"Step (\d{1,15})(?:/(\d{1,15}))?\b")
_METRICS_TYPE = re.compile(r"(?:(?:train|training|eval|evaluation|valid|validation)[^a-z]?)?metrics?")
_PROGRESS_TYPES = ("progress", "training_progress", "step", "training_step", "train_step")
_LEVELS = {
    "legacy_info": "info",
    "legacy_iwarning": "warn",
    "legacy_ierror": "error",
    "warning": "warn",
    "err": "error",
    "critical": "error",
    "fatal": "error",
}


class Order(StrEnum):
    """Which end of the log a server's first page shows."""

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"


def one_line(text: object, *, limit: int = 500) -> str:
    """
    Make text from a server safe for one log line.

    :param text: anything; its ``str`` is used.
    :param limit: characters kept; default 500.
    :returns: the text without control characters and line breaks, cut with ``…``.
    """
    line = _CONTROL.sub(" ", str(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def level_of(word: object) -> str:
    """
    Normalise a level as servers write it.

    :param word: ``info``, ``warn``, ``warning``, …
    :returns: ``info``, ``warn``, ``error``, or the server's own word in lower case; "" for none.
    """
    level = str(word or "").strip().lower()
    return _LEVELS.get(level, level)


def server_id(raw: Mapping[str, Any]) -> str | None:
    """
    Read the id that the server gave an event.

    :param raw: the event as it came.
    :returns: the id, or None if it is missing, null, empty, not a string, or one that no URL can carry.
    """
    found = raw.get("id")
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found) if is_number(found) else None
    return found if isinstance(found, str) and found and not _NO_ID.search(found) else None


def content_hash(raw: Mapping[str, Any]) -> str:
    """
    Hash what an event says, without its id: two events that say the same have the same hash.

    :param raw: the event as it came.
    :returns: 20 hexadecimal digits.
    """
    said = {name: value for name, value in raw.items() if name != "id"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: ``raw`` is the server's dict, unchanged; the rest is a typed view of it."""

    raw: dict[str, Any]
    id: str

    @property
    def created_at(self) -> float | None:
        """Seconds since 1970, or None if the server gave no time."""
        return epoch_seconds(self.raw.get("created_at"))

    @property
    def level(self) -> str:
        """``info``, ``warn``, ``error``, or the server's own word in lower case; "" for none."""
        return level_of(self.raw.get("level"))

    @property
    def type(self) -> str:
        """``message``, ``metrics``, or a vendor's own; ``message`` if it is missing."""
        return str(self.raw.get("type") or "message")

    @property
    def message(self) -> str:
        """The message; "" if it is missing."""
        message = self.raw.get("message")
        return message if isinstance(message, str) else "" if message is None else str(message)

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; empty if it is null, missing or not an object."""
        data = self.raw.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def error_code(self) -> str | None:
        """The error code that an error-level event may carry in its data."""
        code = self.data.get("error_code")
        return str(code) if code else None

    @property
    def is_metrics(self) -> bool:
        """
        Whether the event reports training progress and not a message: its type decides.

        Without a type, an event with a message of its own is a message if its level is above info, or if its
        data measure nothing and only say at which step; so is one with a type of its server's own.
        """
        kind = self.raw.get("type")
        if kind == "metrics":
            return True
        if kind == "message":
            return False
        return self._reads_as_metrics(str(kind or "").lower())

    def _reads_as_metrics(self, kind: str) -> bool:
        """Decide for an event without a type, or with one of a server's own."""
        if kind and (kind == "message" or _METRICS_TYPE.fullmatch(kind)):
            return kind != "message"
        message, data = self.message, self.data
        names_step = _STEP_IN_MESSAGE.match(message)
        if not names_step and (not data or self.step is None):
            return False
        if not message:
            return True
        level = self.level
        if names_step:
            return level != "error" and (level != "warn" or "=" in message)
        return (not kind or kind in _PROGRESS_TYPES) and level not in ("warn", "error") and measures(data)

    @property
    def step(self) -> int | None:
        """The training step that the event names, in its data or else as ``Step 5/100: …``."""
        data, message = self.data, self.message
        step = whole_number(data.get("step"))
        if step is not None:
            return step
        found = _STEP_IN_MESSAGE.match(message)
        if data:
            is_report = self.raw.get("type") == "metrics" or not message or shows_progress(data)
            step = step_in(data, steps_so_far=is_report and not found)
        return int(found[1]) if found and step is None else step

    @property
    def total_steps(self) -> int | None:
        """How many steps the training has, if the event says so."""
        total = total_in(self.data)
        if total is not None:
            return total
        found = _STEP_IN_MESSAGE.match(self.message)
        return int(found[2]) if found and found[2] else None

    @property
    def metrics(self) -> dict[str, int | float]:
        """
        The numbers in the event's data by name, nested names joined by dots.

        Step and total are there as ``step`` and ``total_steps`` too if the data have other names for them.
        """
        if not self.is_metrics:
            return {}
        data = self.data
        numbers = dict(flat_numbers(data))
        if data and "step" not in numbers:
            named = step_in(data, steps_so_far=True) is not None
            counted = {"step": self.step if named else None, "total_steps": total_in(data)}
            numbers |= {name: count for name, count in counted.items() if count is not None}
        return numbers


@dataclass(frozen=True, slots=True)
class EventPage:
    """
    What one response of the events route contained.

    :param data: the events as they came, in the server's order.
    :param has_more: whether the server says that there are more; None if it does not say.
    :param order: which end of the log this server shows first, as far as it is known.
    :param new: those of ``data`` that this walk had not seen before, in the server's order.
    """

    data: Sequence[dict[str, Any]]
    has_more: bool | None
    order: Order
    new: Sequence[dict[str, Any]]

    @property
    def events(self) -> list[Event]:
        """The page's events, typed, in the server's order."""
        return identify(self.data, order=self.order)


class EventIds:
    """Gives the events of one log their ids, one by one, oldest first."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def id_of(self, raw: Mapping[str, Any]) -> str:
        """
        Return an event's id: the server's, or a stable one generated from its contents.

        :param raw: the next event as it came.
        :returns: the id; equal events without one are distinguished by counting from the oldest.
        """
        given = server_id(raw)
        if given is None:
            digest = content_hash(raw)
            given = f"{digest}-{self._seen[digest]}"
            self._seen[digest] += 1
        return given


def ids_of(raws: Sequence[dict[str, Any]], *, order: Order) -> list[str]:
    """
    Return each event's id: the server's, or a stable one generated from its contents.

    Equal events without an id are distinguished by counting from the oldest, so a generated id stays the same
    as the log grows, as long as the log comes whole (servers without ids do not page).

    :param raws: events as they came.
    :param order: which end comes first.
    :returns: one id each, in the order given.
    """
    ids = [raw.get("id") for raw in raws]
    if "" not in ids and set(map(type, ids)) <= {str} and are_plain("".join(ids)):  # type: ignore[arg-type]
        return ids  # type: ignore[return-value]
    known = EventIds()
    made = [known.id_of(raw) for raw in (raws if order is Order.OLDEST_FIRST else reversed(raws))]
    return made if order is Order.OLDEST_FIRST else made[::-1]


def are_plain(ids: str) -> bool:
    """
    Tell quickly whether ids can be used as they came, in URLs and in databases.

    :param ids: the ids, joined.
    :returns: False if each must be looked at by :func:`server_id`.
    """
    return ids.isascii() and "\x00" not in ids


def identify(raws: Sequence[dict[str, Any]], *, order: Order) -> list[Event]:
    """
    Give each event its typed view, with its id.

    :param raws: events as they came.
    :param order: which end comes first.
    :returns: one Event each, in the order given.
    """
    return [Event(raw, given) for raw, given in zip(raws, ids_of(raws, order=order), strict=True)]


def place_of(event: Event) -> dict[str, Any]:
    """
    Identify an event in a summary or a manifest.

    :param event: the event.
    :returns: ``{"id", "created_at"}``, the time in ISO 8601 UTC or None.
    """
    return {"id": event.id, "created_at": iso_utc(event.created_at)}


def order_of(raws: Sequence[Mapping[str, Any]]) -> Order | None:
    """
    Determine the order of events from the first and the last time among them.

    :param raws: events in the server's order.
    :returns: the order, or None if both times are the same or one is missing.
    """
    if len(raws) < 2:
        return None
    first, last = epoch_seconds(raws[0].get("created_at")), epoch_seconds(raws[-1].get("created_at"))
    if first is None or last is None or first == last:
        return None
    return Order.OLDEST_FIRST if first < last else Order.NEWEST_FIRST


def last_metrics(events: Iterable[Event]) -> dict[str, int | float]:
    """
    Collect the last known number for every metric.

    :param events: events, oldest first.
    :returns: numbers by name, including ``step`` and ``total_steps``; empty if none was reported.
    """
    known: dict[str, int | float] = {}
    for event in events:
        known.update(event.metrics)
    return known


def metrics_table(events: Iterable[Event | Mapping[str, Any]]) -> list[dict[str, int | float]]:
    """
    Put a job's numbers into rows, one per step, ready for pandas or a warehouse.

    Events of one step share a row, and the later value of a name counts. A number that belongs to no step is
    left out. NaN and Infinity stay as they are; no XCom may hold them.

    :param events: events or event dicts, oldest first.
    :returns: rows sorted by ``step``; each has the names that its step reported, nested ones joined by
        dots.
    """
    rows: dict[int, dict[str, int | float]] = {}
    for given in events:
        event = given if isinstance(given, Event) else Event(dict(given), "")
        numbers, step = event.metrics, event.step
        if numbers and step is not None:
            rows.setdefault(step, {"step": step}).update(numbers | {"step": step})
    return [rows[step] for step in sorted(rows)]
