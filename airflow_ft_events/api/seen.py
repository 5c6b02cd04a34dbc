"""Seen: which events a walk through a log has met, on servers that show some of them twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from airflow_ft_events.events import server_id

_SAID = ("created_at", "message", "level")
_WORDS = itemgetter(*_SAID)


class Seen:
    """
    The events of the pages so far, each known by its id together with what it says.

    Some servers give one id to several events, so an id alone does not tell.

    :param keeps_pages: whether the pages lie in memory anyway, unchanged: then what events say is not looked
        at before an id comes a second time. Else a hash of each event is kept.
    """

    __slots__ = ("_ids", "_keeps_pages", "_keys", "_pages")

    def __init__(self, *, keeps_pages: bool) -> None:
        self._keeps_pages = keeps_pages
        self._ids: set[str] = set()
        self._keys: set[int] = set()
        self._pages: list[list[dict[str, Any]]] = []

    def clear(self) -> None:
        """Forget all events."""
        self._ids.clear()
        self._keys.clear()
        self._pages.clear()

    def unseen(self, raws: list[dict[str, Any]], ids: Sequence[str] | None) -> list[dict[str, Any]]:
        """
        Take one more page.

        :param raws: its events as they came.
        :param ids: their ids; None where not every one has an id.
        :returns: those that were not met before; without ids nothing can be told, so all.
        """
        if ids is not None:
            fresh = set(ids)
            if len(fresh) == len(raws) and fresh.isdisjoint(self._ids):
                self._ids |= fresh
                self._pages.append(raws)
                if not self._keeps_pages:
                    self._hash_pages()
                return raws
        self._hash_pages()
        unseen: list[dict[str, Any]] = []
        for raw in raws:
            given = server_id(raw)
            if given is not None:
                key = _key_of(raw, given)
                if key in self._keys:
                    continue
                self._keys.add(key)
                self._ids.add(given)
            unseen.append(raw)
        return unseen

    def _hash_pages(self) -> None:
        for raws in self._pages:
            self._keys.update(_keys_of(raws))
        self._pages.clear()


def _keys_of(raws: Sequence[Mapping[str, Any]]) -> list[int]:
    try:
        # without a call for each event: a long log has many
        return [hash((raw["id"], *said)) for raw, said in zip(raws, map(_WORDS, raws), strict=True)]
    except (KeyError, TypeError):
        # one by one, so that an event has the same key whatever else is on its page
        return [_key_of(raw, raw["id"]) for raw in raws]


def _key_of(raw: Mapping[str, Any], given: str) -> int:
    said = [raw.get(name) for name in _SAID]
    try:
        return hash((given, *said))
    except TypeError:
        return hash((given, *map(repr, said)))
