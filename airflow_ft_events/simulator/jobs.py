"""A simulated job: events that appear on a timeline, and a state that is a function of time."""

from __future__ import annotations

import contextlib
import json
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "canceled", "completed", "error", "user_error"})
CANCEL_MESSAGE = "The job was stopped due to a cancellation request"
CANCEL_EVENT_DELAY = 60
PAUSED = "paused"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


Filler = Callable[..., dict[str, Any]]


class JobStateError(ValueError):
    """The job is in a state in which that cannot be done."""


class JobEndedError(JobStateError):
    """The job has ended and can no longer be cancelled."""


@dataclass(frozen=True, kw_only=True)
class Cancelling:
    """
    What follows a cancel request.

    :param states: (seconds later, status) pairs.
    :param events: (seconds later, raw event) pairs.
    """

    states: Sequence[tuple[int, str]] = ((0, "cancelled"),)
    events: Sequence[tuple[int, Mapping[str, Any]]] = ()


OPENAI_CANCELLING = Cancelling(
    events=((CANCEL_EVENT_DELAY, {"level": "warn", "message": CANCEL_MESSAGE, "data": None}),)
)


@dataclass(frozen=True, kw_only=True)
class Held:
    """
    What a paused job has before it: it goes on from there when it is resumed.

    :param at: when it was paused, seconds since 1970.
    :param status: its status then.
    :param events: (event, from when it would have been visible) pairs.
    :param states: (time, status) pairs.
    :param metrics: (time, numbers) pairs.
    """

    at: float
    status: str
    events: Sequence[tuple[Any, float]]
    states: Sequence[tuple[float, str]]
    metrics: Sequence[tuple[float, Mapping[str, float]]]


def iso_time(seconds: float) -> str:
    """Format a time the way servers do that do not use seconds since 1970."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seeded(text: str) -> random.Random:
    """Make a generator that gives the same numbers for the same text."""
    return random.Random(text)  # noqa: S311  # nothing here is a secret


def random_id(rng: random.Random, prefix: str, *, length: int = 24) -> str:
    """
    Make an id like the API's: a prefix, then letters and digits in no chronological order.

    :param rng: source of the letters.
    :param prefix: what the id starts with, for example ``ftevent-``.
    :param length: number of letters after the prefix; default 24.
    :returns: the id.
    """
    return prefix + "".join(rng.choices(_LETTERS, k=length))


def fill_event(raw: Mapping[str, Any], *, created_at: int, rng: random.Random) -> dict[str, Any]:
    """
    Return the event with its missing keys added; an existing key is not changed, even if it is null.

    :param raw: the event as it was recorded or written.
    :param created_at: seconds since 1970, always set.
    :param rng: source of a missing id.
    """
    made_id = random_id(rng, "ftevent-")
    event: dict[str, Any] = {"object": "fine_tuning.job.event", "id": made_id, "created_at": created_at}
    event |= {"level": "info", "message": "", "type": "message"}
    event |= raw
    event["created_at"] = created_at
    return event


@dataclass(kw_only=True)
class Page:
    """One page of a log: encoded events in the requested order, and whether more follow."""

    items: list[bytes]
    has_more: bool


@dataclass(kw_only=True)
class SimulatedJob:
    """
    One job; every method takes the simulated time and none reads a clock.

    :param job_id: the id in requests.
    :param created_at: seconds since 1970.
    :param events: the log, oldest first, as it will be served.
    :param shows_at: for each event the time from which it is visible; never decreasing.
    :param states: (time, status) pairs, oldest first.
    :param details: fields of the job object that do not change with time.
    :param result: fields that appear at the end, by status: ``{"succeeded": {...}, "failed": {...}}``.
    :param metrics: (time, numbers) pairs, oldest first, of families that do not tell them in events.
    :param fill: adds an event's missing keys.
    :param cancelling: what follows a cancel request.
    """

    job_id: str
    created_at: int
    events: list[Any] = field(default_factory=list)
    shows_at: list[float] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    result: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)
    estimated_finish: int | None = None
    rng: random.Random = field(default_factory=lambda: seeded(""))
    fill: Filler = fill_event
    cancelling: Cancelling = OPENAI_CANCELLING

    def __post_init__(self) -> None:
        self._held: Held | None = None
        latest = float("-inf")
        for index, at in enumerate(self.shows_at):
            latest = self.shows_at[index] = max(latest, at)
        self._encoded: list[bytes | None] = [None] * len(self.events)
        self._positions = {key: index for index, event in enumerate(self.events) if (key := _event_id(event))}

    def state(self, *, now: float) -> tuple[str, float]:
        """Return the status at that time, and when it began."""
        index = bisect_right(self.states, now, key=lambda pair: pair[0]) - 1
        since, status = self.states[max(index, 0)]
        return status, since

    def visible(self, *, now: float) -> int:
        """Return how many events of the log are visible at that time."""
        return bisect_right(self.shows_at, now)

    def page(self, *, now: float, after: str | None, limit: int, newest_first: bool) -> Page | None:
        """Return one page of the visible events, or None if the cursor is not a visible event."""
        end = self.visible(now=now)
        position: int | None = None
        if after is not None:
            position = self._positions.get(after)
            if position is None or position >= end:
                return None
        if newest_first:
            stop = end if position is None else position
            start = max(stop - limit, 0)
            return Page(items=self._encode(start, stop)[::-1], has_more=start > 0)
        start = 0 if position is None else position + 1
        stop = min(start + limit, end)
        return Page(items=self._encode(start, stop), has_more=stop < end)

    def as_dict(self, *, now: float) -> dict[str, Any]:
        """Return the job object as the API returns it at that time."""
        status, since = self.state(now=now)
        job: dict[str, Any] = {
            "object": "fine_tuning.job",
            "id": self.job_id,
            **self.details,
            "created_at": self.created_at,
            "finished_at": int(since) if status in ("succeeded", "failed") else None,
            "fine_tuned_model": None,
            "result_files": [],
            "status": status,
            "trained_tokens": None,
            "error": {},
            "estimated_finish": self.estimated_finish if status == "running" else None,
        }
        return job | self.result.get(status, {})

    def cancel(self, *, now: float) -> None:
        """
        Cancel: the status changes immediately, later events are dropped, the cancel event follows later.

        :raises JobEndedError: if the job has ended by then.
        """
        status, _ = self.state(now=now)
        if status in TERMINAL:
            raise JobEndedError(f"Job {self.job_id} has already ended with status {status}")
        self._held = None
        self._drop_after(now)
        self.states += [(now + later, state) for later, state in self.cancelling.states]
        for later, raw in self.cancelling.events:
            at = int(now) + later
            self.add_event(self.fill(raw, created_at=at, rng=self.rng), shows_at=at)

    def pause(self, *, now: float) -> None:
        """
        Stop the job's time: what would have come later waits until it is resumed.

        :raises JobStateError: if the job has ended or is paused.
        """
        status, _ = self.state(now=now)
        if status in TERMINAL or status == PAUSED:
            raise JobStateError(f"Job {self.job_id} cannot be paused: its status is {status}")
        keep = self.visible(now=now)
        self._held = Held(
            at=now,
            status=status,
            events=list(zip(self.events[keep:], self.shows_at[keep:], strict=True)),
            states=[pair for pair in self.states if pair[0] > now],
            metrics=[pair for pair in self.metrics if pair[0] > now],
        )
        self._drop_after(now)
        self.states.append((now, PAUSED))

    def resume(self, *, now: float) -> None:
        """
        Go on where the job was paused; everything comes later by as many whole seconds as the pause took.

        :raises JobStateError: if the job is not paused.
        """
        status, _ = self.state(now=now)
        held, self._held = self._held, None
        if status != PAUSED or held is None:
            raise JobStateError(f"Job {self.job_id} cannot be resumed: its status is {status}")
        by = math.ceil(now - held.at)
        self.states += [(now, held.status), *((at + by, state) for at, state in held.states)]
        self.metrics += [(at + by, row) for at, row in held.metrics]
        for event, at in held.events:
            moved = move_event(dict(event), by) if isinstance(event, dict) else event
            self.add_event(moved, shows_at=at + by)
        if self.estimated_finish is not None:
            self.estimated_finish += by

    def set_status(self, status: str, *, now: float, result: Mapping[str, Any] | None = None) -> None:
        """
        Change the status from now on; statuses planned for later are dropped.

        :param status: any text, also one that the API does not know.
        :param now: seconds since 1970.
        :param result: fields that the job object shows while it has this status.
        """
        self.states = [pair for pair in self.states if pair[0] <= now]
        self.states.append((now, status))
        if result is not None:
            self.result[status] = dict(result)

    def span(self) -> float:
        """Return the seconds from the creation to the last thing that happens."""
        return max([self.created_at, *self.shows_at[-1:], self.states[-1][0]]) - self.created_at

    def move(self, *, seconds: float) -> None:
        """
        Move the whole job in time, before anybody has seen it.

        :param seconds: whole seconds; negative towards the past.
        """
        by = int(seconds)
        self.created_at += by
        self.shows_at = [at + by for at in self.shows_at]
        self.states = [(at + by, status) for at, status in self.states]
        self.metrics = [(at + by, row) for at, row in self.metrics]
        if self.estimated_finish is not None:
            self.estimated_finish += by
        for event in self.events:
            if isinstance(event, dict):
                move_event(event, by)

    def encode_log(self) -> None:
        """Encode the whole log now, so that the first reader waits no longer than the next one."""
        self._encode(0, len(self.events))

    def add_event(self, event: Any, *, shows_at: float) -> None:
        """Append one event to the log; it is not visible before the earlier ones."""
        self.shows_at.append(max(shows_at, self.shows_at[-1]) if self.shows_at else shows_at)
        self.events.append(event)
        self._encoded.append(None)
        if key := _event_id(event):
            self._positions[key] = len(self.events) - 1

    def _drop_after(self, now: float) -> None:
        keep = self.visible(now=now)
        for event in self.events[keep:]:
            if key := _event_id(event):
                self._positions.pop(key, None)
        del self.events[keep:], self.shows_at[keep:], self._encoded[keep:]
        self.states = [pair for pair in self.states if pair[0] <= now]
        self.metrics = [pair for pair in self.metrics if pair[0] <= now]

    def _encode(self, start: int, stop: int) -> list[bytes]:
        encoded = self._encoded
        items: list[bytes] = []
        for index in range(start, stop):
            item = encoded[index]
            if item is None:
                item = encoded[index] = encode(self.events[index])
            items.append(item)
        return items


def move_event(event: dict[str, Any], seconds: int) -> dict[str, Any]:
    """
    Move an event in time, in place and in the same format; one without a readable time is not changed.

    :param event: the event.
    :param seconds: whole seconds; negative towards the past.
    :returns: the same event.
    """
    at = event.get("created_at")
    if isinstance(at, int | float) and not isinstance(at, bool):
        event["created_at"] = at + seconds
    elif isinstance(at, str):
        with contextlib.suppress(ValueError):
            event["created_at"] = iso_time(datetime.fromisoformat(at).timestamp() + seconds)
    return event


def encode(value: Any) -> bytes:
    """Encode a value as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def job_details(
    rng: random.Random, *, model: str = "gpt-4o-mini-2024-07-18", epochs: int = 3
) -> dict[str, Any]:
    """Make the fields of a job object that describe the training."""
    hyperparameters = {"n_epochs": epochs, "batch_size": 1, "learning_rate_multiplier": 1.8}
    return {
        "model": model,
        "organization_id": random_id(rng, "org-"),
        "training_file": random_id(rng, "file-"),
        "validation_file": random_id(rng, "file-"),
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": dict(hyperparameters)}},
        "seed": rng.randrange(1, 2**31),
        "integrations": [],
        "metadata": None,
        "user_provided_suffix": None,
    }


def error_of(event: Any) -> dict[str, Any] | None:
    """Return the job error in a failure event, or None if the event is not a failure."""
    if not isinstance(event, Mapping) or event.get("level") != "error":
        return None
    data = event.get("data")
    if not isinstance(data, Mapping) or not data.get("error_code"):
        return None
    return {"code": data["error_code"], "message": event.get("message"), "param": data.get("error_param")}


def _event_id(event: Any) -> str | None:
    key = event.get("id") if isinstance(event, Mapping) else None
    return key if isinstance(key, str) else None
