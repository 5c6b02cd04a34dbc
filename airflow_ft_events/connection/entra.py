"""Microsoft Entra bearer tokens, for connections with ``auth: entra``; one per scope in a process."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from airflow_ft_events.clock import clock
from airflow_ft_events.connection.credential import Credential
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


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: float
    got_at: float


class EntraTokens:
    """Gets tokens from ``DefaultAzureCredential`` and keeps them in memory, nowhere else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credential: Any = None
        self._tokens: dict[str, _Token] = {}
        self._asked_at: dict[str, float] = {}
        self._lately: dict[str, deque[str]] = {}

    def at_hand(self, scope: str) -> str | None:
        """
        Return the token if it needs no request.

        :param scope: the token's scope.
        :returns: the token; None if there is none, or it must be replaced now.
        """
        known, now = self._tokens.get(scope), clock().now()
        if known is None or now >= known.expires_at:
            return None
        asked_lately = 0 <= now - self._asked_at.get(scope, 0.0) < ASK_EVERY
        return known.value if now < known.expires_at - REFRESH_BEFORE or asked_lately else None

    def get(self, scope: str, *, conn_id: str) -> str:
        """
        Get a token. It may block, so it is not for an event loop's thread.

        :param scope: the token's scope.
        :param conn_id: the connection, for messages.
        :returns: a token that is valid now.
        :raises FineTuningInputError: azure-identity is not installed.
        :raises FineTuningAuthError: could not get a token.
        """
        with self._lock:
            if (at_hand := self.at_hand(scope)) is not None:
                return at_hand
            known = self._tokens.get(scope)
            now = self._asked_at[scope] = clock().now()
            try:
                made = self._made_credential(conn_id).get_token(scope)
                token = _Token(made.token, float(made.expires_on), now)
            except FineTuningInputError:
                raise
            except Exception as error:  # noqa: BLE001 - azure's own, or those of its HTTP library
                why = f"{type(error).__name__}: {one_line(str(error).split('To mitigate')[0], limit=300)}"
                if known is None or clock().now() >= known.expires_at:
                    raise _no_token(conn_id, why) from None
                log.warning("Connection %r: its Entra token cannot be replaced now. %s", conn_id, why)
                return known.value
            self._tokens[scope] = token
            self._lately.setdefault(scope, deque(maxlen=LATELY)).append(token.value)
            return token.value

    def forget(self, scope: str, refused: str) -> bool:
        """
        Forget a token that the server refused, and the credential that caches it.

        A recent token is kept: another one would be refused as well.

        :param scope: the token's scope.
        :param refused: the token.
        :returns: False if it was kept.
        """
        with self._lock:
            known = self._tokens.get(scope)
            if known is None or known.value != refused:
                return True
            if clock().now() - known.got_at < REFUSED_AFTER:
                return False
            del self._tokens[scope]
            self._asked_at.pop(scope, None)
            self._credential = None
            return True

    def lately(self, scope: str) -> tuple[str, ...]:
        """
        Return the last tokens, for masking.

        :param scope: their scope.
        :returns: up to three tokens, the oldest first.
        """
        return tuple(self._lately.get(scope, ()))

    def _made_credential(self, conn_id: str) -> Any:
        if self._credential is None:
            try:
                from azure.identity import DefaultAzureCredential
            except ImportError:
                raise FineTuningInputError(
                    f"Connection {conn_id!r}: 'auth' is 'entra', which needs the package azure-identity "
                    "where tasks and the triggerer run. Install airflow-ft-events[azure], or use an API key.",
                    conn_id=conn_id,
                ) from None
            self._credential = DefaultAzureCredential()
        return self._credential


def _no_token(conn_id: str, why: str) -> FineTuningAuthError:
    return FineTuningAuthError(
        f"Connection {conn_id!r}: could not get a Microsoft Entra token ({why}). Give this process (worker "
        "or triggerer) a managed identity, a workload identity, or AZURE_TENANT_ID, AZURE_CLIENT_ID and "
        "AZURE_CLIENT_SECRET, and that identity a role on the Azure OpenAI resource.",
        conn_id=conn_id,
    )


TOKENS = EntraTokens()


@dataclass(frozen=True, slots=True)
class EntraCredential(Credential):
    """
    A token of this process's identity, shared by all connections with the same scope.

    :param scope: the token's scope.
    :param conn_id: the connection, for messages.
    """

    scope: str
    conn_id: str = field(compare=False)

    def at_hand(self) -> str | None:
        """Return the token; None if it must be replaced now."""
        return TOKENS.at_hand(self.scope)

    def renewed(self) -> str:
        """
        Get a token.

        :returns: a token that is valid now.
        :raises FineTuningInputError: azure-identity is not installed.
        :raises FineTuningAuthError: could not get a token.
        """
        return TOKENS.get(self.scope, conn_id=self.conn_id)

    def refused(self, secret: str | None) -> bool:
        """
        Forget a token that the server refused, unless it is recent.

        :param secret: the token.
        :returns: False for a recent token: its identity lacks a role, whatever the connection says.
        """
        return secret is None or TOKENS.forget(self.scope, secret)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last tokens, including refused ones."""
        return TOKENS.lately(self.scope)
