"""Seen: which events a walk through a log has met, on servers that show some of them twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from airflow_ft_events.events import server_id

_SAID = ("id", "created_at", "message", "level")
_WORDS = itemgetter(*_SAID)


class Seen:
    """
    The events of the pages so far, each known by its id together with what it says.

    Some servers give one id to several events, so an id alone does not tell.
    """

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[int] = set()

    def clear(self) -> None:
        """Forget all events."""
        self._keys.clear()

    def unseen(self, raws: list[dict[str, Any]], ids: Sequence[str] | None) -> list[dict[str, Any]]:
        """
        Take one more page.

        :param raws: its events as they came.
        :param ids: their ids; None where not every one has an id.
        :returns: those that were not met before; an event without an id never was.
        """
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
