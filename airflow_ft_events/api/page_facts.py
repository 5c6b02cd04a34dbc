"""What a page of events tells: ids, order, and which events are the same where ids are missing or no help."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_ft_events.events import Event, Order, content_hash, ids_of, order_of

PAIRS = 3
"""Pairs of events, from both ends of what was read, that vote on the order: one odd time decides nothing."""


def server_ids(raws: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """
    Read the ids of a page.

    :param raws: events as they came.
    :returns: their ids; None where the server does not give each of them one, as a text.
    """
    ids = [raw.get("id") for raw in raws]
    return ids if set(map(type, ids)) == {str} and "" not in ids else None  # type: ignore[return-value]


def said_by(raw: Mapping[str, Any]) -> int:
    """
    Hash what an event says, without its id; cheap, and of use in this process only.

    :param raw: the event as it came.
    """
    at, message, is_error = raw.get("created_at"), raw.get("message"), raw.get("level") == "error"
    try:
        return hash((at, message, is_error))
    except TypeError:
        return hash((repr(at), repr(message), is_error))


def say_the_same(raws: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """
    Tell whether two pages say the same, whatever ids they give.

    :param raws: a page.
    :param others: the page before.
    """
    return 0 < len(raws) == len(others) and all(
        raw.get(name) == other.get(name)
        for raw, other in zip(raws, others, strict=True)
        for name in ("message", "created_at", "data")
    )


def identify_among(wanted: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]]) -> list[Event]:
    """
    Make ids for a few events of a log that has none, the same as if they were made for all.

    :param wanted: the events, some of those in the log.
    :param whole: the log, oldest first: equal events are told apart by their count from there.
    :returns: one Event each, in the order given.
    """
    alike = set(map(said_by, wanted))
    among = [raw for raw in whole if said_by(raw) in alike]
    made = dict(zip(map(id, among), ids_of(among, order=Order.OLDEST_FIRST), strict=True))
    return [Event(raw, made[id(raw)]) for raw in wanted]


def find_made_ids(known: Collection[str], whole: Sequence[dict[str, Any]]) -> list[int]:
    """
    Find the events whose made ids are known; from the newest on, and no further than needed.

    :param known: the made ids.
    :param whole: a log without ids, oldest first.
    :returns: the places of those that are there, in ascending order.
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
    Tell the order of a log from both ends of what was read of it.

    :param first: the first page.
    :param page: the newest page, perhaps the same.
    :param believed: the order so far: one pair is enough to confirm it.
    :returns: what most of three pairs of events say; None where no times can tell.
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
    Find the events of a page that are known, where ids alone may mislead.

    Some servers make ids up at each reading: then events are known by what they say. Others give one id to
    several events: then the newest of them are new, as far as they say what no known one said.

    :param raws: events as they came.
    :param known_at: the places of those whose ids are known, in ascending order.
    :param hashes: what the known ones say, by :func:`said_by`.
    :param order: which end comes first.
    :returns: the places of the known ones, in ascending order.
    """
    if not known_at:
        said = frozenset(hashes)  # else most polls look two of them up, and a set would cost more
        return [at for at, raw in enumerate(raws) if said_by(raw) in said]
    from_newest = known_at if order is Order.NEWEST_FIRST else known_at[::-1]
    new = next((count for count, at in enumerate(from_newest) if said_by(raws[at]) in hashes), 0)
    return known_at[new:] if order is Order.NEWEST_FIRST else known_at[: len(known_at) - new]
