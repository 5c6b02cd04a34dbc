"""What a page of events shows: ids, order, and which events are the same if ids are missing or useless."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from airflow_ft_events.events import Event, Order, are_plain, content_hash, ids_of, order_of, server_id

_SAID = ("id", "created_at", "message", "level")
_WORDS = itemgetter(*_SAID)
PAIRS = 3
"""Pairs of events, from both ends of what was read, that vote on the order: one odd time must not decide."""


def server_ids(raws: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """
    Read the ids of a page.

    :param raws: events as they came.
    :returns: their ids; None unless the server gives each of them one, as text that a URL can carry.
    """
    ids = [raw.get("id") for raw in raws]
    if set(map(type, ids)) != {str} or "" in ids:
        return None
    plain = are_plain("".join(ids))  # type: ignore[arg-type]
    return ids if plain or None not in map(server_id, raws) else None  # type: ignore[return-value]


def said_by(raw: Mapping[str, Any]) -> int:
    """
    Hash what an event says, without its id; cheap, and usable only in this process.

    :param raw: the event as it came.
    :returns: the hash.
    """
    at, message, is_error = raw.get("created_at"), raw.get("message"), raw.get("level") == "error"
    try:
        return hash((at, message, is_error))
    except TypeError:
        return hash((repr(at), repr(message), is_error))


def say_the_same(raws: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """
    Tell whether two pages say the same, whatever their ids.

    :param raws: a page.
    :param others: the previous page.
    :returns: True if they do.
    """
    return 0 < len(raws) == len(others) and all(
        raw.get(name) == other.get(name)
        for raw, other in zip(raws, others, strict=True)
        for name in ("message", "created_at", "data")
    )


def identify_among(wanted: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]]) -> list[Event]:
    """
    Make ids for a few events of a log that has none; the same ids as if they were made for all.

    :param wanted: the events, some of those in the log.
    :param whole: the log, oldest first: equal events are distinguished by counting from there.
    :returns: one Event each, in the order given.
    """
    alike = set(map(said_by, wanted))
    among = [raw for raw in whole if said_by(raw) in alike]
    made = dict(zip(map(id, among), ids_of(among, order=Order.OLDEST_FIRST), strict=True))
    return [Event(raw, made[id(raw)]) for raw in wanted]


def find_made_ids(known: Collection[str], whole: Sequence[dict[str, Any]]) -> list[int]:
    """
    Find the events whose generated ids are known, from the newest on, and no further than needed.

    :param known: the generated ids.
    :param whole: a log without ids, oldest first.
    :returns: the positions of those that are there, in ascending order.
    """
    left, alike = {made.rpartition("-")[0] for made in known}, set()
    for raw in reversed(whole):
        if (digest := content_hash(raw)) in left:
            left.discard(digest)
            alike.add(said_by(raw))
        if not left:
            break
    among = [at for at, raw in enumerate(whole) if said_by(raw) in alike]
    made = ids_of([whole[at] for at in among], order=Order.OLDEST_FIRST)
    return [at for at, given in zip(among, made, strict=True) if given in known]


def order_by_ends(
    first: Sequence[dict[str, Any]], page: Sequence[dict[str, Any]], *, believed: Order | None = None
) -> Order | None:
    """
    Determine the order of a log from both ends of what was read of it.

    :param first: the first page.
    :param page: the newest page, perhaps the same.
    :param believed: the order assumed so far: one pair is enough to confirm it.
    :returns: what most of three pairs of events say; None if the times do not show it.
    """
    if page and believed is not None and order_of((first[0], page[-1])) is believed:
        return believed
    pairs = min(PAIRS, len(first), len(page)) if page is not first else min(PAIRS, len(page) // 2)
    ends = zip(first[:pairs], page[: -pairs - 1 : -1], strict=True)
    votes = [order for pair in ends if (order := order_of(pair))]
    if not votes:
        return order_of(page)
    against = sum(order is not votes[0] for order in votes)
    return votes[0] if 2 * against <= len(votes) else votes[-1]


def known_by_words(
    raws: Sequence[dict[str, Any]], known_at: Sequence[int], hashes: Collection[int], *, order: Order
) -> Sequence[int]:
    """
    Find the events of a page that are known, when ids alone may mislead.

    Some servers generate new ids on each read: then events are recognised by what they say. Others give one
    id to several events: then the newest of them are new if they say what no known one said.

    :param raws: events as they came.
    :param known_at: the positions of those whose ids are known, in ascending order.
    :param hashes: what the known ones say, by :func:`said_by`.
    :param order: which end comes first.
    :returns: the positions of the known ones, in ascending order.
    """
    if not known_at:
        said = frozenset(hashes)  # else most polls look two of them up, and a set would cost more
        return [at for at, raw in enumerate(raws) if said_by(raw) in said]
    from_newest = known_at if order is Order.NEWEST_FIRST else known_at[::-1]
    new = next((count for count, at in enumerate(from_newest) if said_by(raws[at]) in hashes), 0)
    return known_at[new:] if order is Order.NEWEST_FIRST else known_at[: len(known_at) - new]


class Seen:
    """
    The events of the pages so far, each identified by its id together with what it says.

    Some servers give one id to several events, so an id alone is not enough.
    """

    __slots__ = ("_first_page", "_keys")

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._first_page: list[dict[str, Any]] = []

    def clear(self) -> None:
        """Forget all events."""
        self._keys.clear()
        self._first_page = []

    def unseen(self, raws: list[dict[str, Any]], ids: Sequence[str] | None) -> list[dict[str, Any]]:
        """
        Take one more page.

        :param raws: its events as they came.
        :param ids: their ids; None if not every one has an id.
        :returns: those that were not seen before; an event without an id counts as new.
        """
        if ids is not None and not self._keys and not self._first_page and len(set(ids)) == len(ids):
            self._first_page = raws  # most polls read no second page, and need no hashes of the first
            return raws
        self._keys.update(_keys_of(self._first_page))  # type: ignore[arg-type]
        self._first_page = []
        keys = _keys_of(raws) if ids is not None else [_key_of(raw) for raw in raws]
        fresh = set(keys)
        if len(fresh) == len(raws) and None not in fresh and fresh.isdisjoint(self._keys):
            self._keys |= fresh  # type: ignore[arg-type]
            return raws
        unseen = []
        for raw, key in zip(raws, keys, strict=True):
            if key is None or key not in self._keys:
                unseen.append(raw)
            if key is not None:
                self._keys.add(key)
        return unseen


def _keys_of(raws: Sequence[Mapping[str, Any]]) -> Sequence[int | None]:
    try:
        # without a call for each event: a long log has many
        return list(map(hash, map(_WORDS, raws)))
    except (KeyError, TypeError):
        # one by one, so that an event has the same key whatever else is on its page
        return [_key_of(raw) for raw in raws]


def _key_of(raw: Mapping[str, Any]) -> int | None:
    given = server_id(raw)
    if given is None:
        return None
    said = (given, *(raw.get(name) for name in _SAID[1:]))
    try:
        return hash(said)
    except TypeError:
        return hash(repr(said))
