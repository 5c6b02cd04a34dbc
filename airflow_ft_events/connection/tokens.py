"""Tokens that expire: kept in memory, replaced before they end, forgotten when refused; one for each kind."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from airflow_ft_events.clock import clock
from airflow_ft_events.errors import FineTuningAuthError, FineTuningInputError
from airflow_ft_events.events import one_line

REFRESH_BEFORE = 300.0
"""Seconds before its expiry at which a token is replaced; a poll takes far less."""
ASK_EVERY = 30.0
"""Seconds between two tries to replace a token that is still valid."""
REFUSED_AFTER = 300.0
"""Age in seconds below which a refused token is not replaced: a new one would be refused too."""
LATELY = 3
"""Tokens that are remembered for masking: a server may repeat an earlier one."""
log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: float
    got_at: float


class Tokens(ABC, Generic[K]):
    """Keeps tokens by what they are for, in memory and nowhere else."""

    what: ClassVar[str]
    """What a token is, for messages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[K, _Token] = {}
        self._asked_at: dict[K, float] = {}
        self._lately: dict[K, deque[str]] = {}

    @abstractmethod
    def _new(self, wanted: K, *, conn_id: str) -> tuple[str, float]:
        """
        Get a token. It may block.

        :param wanted: what it is for.
        :param conn_id: the connection, for messages.
        :returns: the token, and its end in seconds since 1970.
        """

    @abstractmethod
    def _none(self, conn_id: str, why: str) -> FineTuningAuthError:
        """Make the error for a token that could not be got."""

    def _forgotten(self, wanted: K) -> None:
        """Forget what keeps a token as well."""

    def _outdated(self, wanted: K) -> bool:
        """Tell whether a token must be replaced although it has not ended."""
        return False

    def at_hand(self, wanted: K) -> str | None:
        """
        Return the token if it needs no request.

        :param wanted: what it is for.
        :returns: the token; None if there is none, or it must be replaced now.
        """
        known, now = self._tokens.get(wanted), clock().now()
        if known is None or now >= known.expires_at:
            return None
        asked_lately = 0 <= now - self._asked_at.get(wanted, 0.0) < ASK_EVERY
        fresh = now < known.expires_at - REFRESH_BEFORE and not self._outdated(wanted)
        return known.value if fresh or asked_lately else None

    def get(self, wanted: K, *, conn_id: str) -> str:
        """
        Get a token. It may block, so it is not for an event loop's thread.

        :param wanted: what it is for.
        :param conn_id: the connection, for messages.
        :returns: a token that is valid now.
        :raises FineTuningInputError: a required package is not installed.
        :raises FineTuningAuthError: could not get a token.
        """
        with self._lock:
            if (at_hand := self.at_hand(wanted)) is not None:
                return at_hand
            known = self._tokens.get(wanted)
            now = self._asked_at[wanted] = clock().now()
            try:
                token = _Token(*self._new(wanted, conn_id=conn_id), now)
            except FineTuningInputError:
                raise
            except Exception as error:  # noqa: BLE001 - the vendor's own, or those of its HTTP library
                why = f"{type(error).__name__}: {one_line(str(error).split('To mitigate')[0], limit=300)}"
                if known is None or clock().now() >= known.expires_at:
                    raise self._none(conn_id, why) from None
                log.warning("Connection %r: its %s cannot be replaced now. %s", conn_id, self.what, why)
                return known.value
            self._tokens[wanted] = token
            lately = self._lately.setdefault(wanted, deque(maxlen=LATELY))
            if token.value in lately:  # a source may give the same one again
                lately.remove(token.value)
            lately.append(token.value)
            return token.value

    def forget(self, wanted: K, refused: str) -> bool:
        """
        Forget a token that the server refused, and what caches it.

        A recent token is kept: another one would be refused as well.

        :param wanted: what it is for.
        :param refused: the token.
        :returns: False if it was kept.
        """
        with self._lock:
            known = self._tokens.get(wanted)
            if known is None or known.value != refused:
                return True
            if clock().now() - known.got_at < REFUSED_AFTER:
                return False
            self._drop(wanted)
            return True

    def _drop(self, wanted: K) -> None:
        self._tokens.pop(wanted, None)
        self._asked_at.pop(wanted, None)
        self._forgotten(wanted)

    def lately(self, wanted: K) -> tuple[str, ...]:
        """
        Return the last tokens, for masking.

        :param wanted: what they were for.
        :returns: up to three different tokens, the oldest first.
        """
        return tuple(self._lately.get(wanted, ()))
