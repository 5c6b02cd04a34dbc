"""Bookmark: where reading a log stopped, so that the next read continues from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_ft_events.api import matching
from airflow_ft_events.events import Event, Order

KEPT = 32
"""How many of the newest events a bookmark knows: enough to see late ones, small enough for 1,000 waits."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """
    Where reading stopped: what is known of the newest events, at most 32 of them.

    :param ids: their ids, oldest first, the server's or generated ones.
    :param order: the server's order, if a page has shown it.
    :param created_at: the newest time among them, seconds since 1970.
    :param hashes: what they say, without their ids; empty if only an id is known.
    :param length: how many events the log had, if it came whole and without ids.
    """

    ids: tuple[str, ...] = ()
    order: Order | None = None
    created_at: float | None = None
    hashes: tuple[int, ...] = ()
    length: int | None = None

    @property
    def last_id(self) -> str | None:
        """The newest known id."""
        return self.ids[-1] if self.ids else None

    def moved(self, events: Sequence[Event], *, order: Order | None, length: int | None = None) -> Bookmark:
        """
        Move the bookmark on.

        :param events: what was read since, oldest first.
        :param order: the server's order, if a page has shown it.
        :param length: how many events the log has, if it came whole and without ids.
        :returns: the new bookmark.
        """
        if not events and order is self.order and length == self.length:
            return self
        newest = events[-KEPT:]
        times = [event.created_at for event in newest]
        known = [time for time in (self.created_at, *times) if time is not None]
        return Bookmark(
            ids=(*self.ids, *[event.id for event in newest])[-KEPT:],
            order=order,
            created_at=max(known, default=None),
            hashes=(*self.hashes, *[matching.said_by(event.raw) for event in newest])[-KEPT:],
            length=length,
        )
