"""The cache of a gateway: answers that are given again for some seconds."""

from __future__ import annotations

from dataclasses import replace

from airflow_ft_events.simulator.wire import Reply

_MOST = 10_000


class Cache:
    """Answers by the address that was asked for, whoever asks; times are seconds of the simulator's clock."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Reply, float, float]] = {}

    def keep(self, address: str, reply: Reply, now: float, until: float) -> None:
        """
        Keep an answer.

        :param address: path and query.
        :param reply: the answer.
        :param now: when it was given.
        :param until: until when it is given again.
        """
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[address] = (reply, now, until)

    def find(self, address: str, now: float) -> Reply | None:
        """Return the answer that is given again, with its age; None if there is none."""
        if address not in self._kept:
            return None
        reply, since, until = self._kept[address]
        if now >= until:
            return None
        return replace(reply, headers=reply.headers | {"Age": str(int(now - since))})
