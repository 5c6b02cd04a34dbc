"""Bearer tokens of Microsoft Entra, for connections with ``auth: entra``; one a scope for a process."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, replace
from typing import Any

from airflow_ft_events.api.errors import FineTuningAuthError, FineTuningInputError
from airflow_ft_events.api.settings import Settings
from airflow_ft_events.clock import clock
from airflow_ft_events.events import one_line

REFRESH_BEFORE = 300.0
"""Seconds before its end at which a token is replaced; a poll takes far less."""
ASK_EVERY = 30.0
"""Seconds between two tries to replace a token that is still valid."""
REFUSED_AFTER = 300.0
"""Seconds of age below which a token that the server refuses is an answer, and no reason for another one."""
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

    def at_hand(self, scope: str) -> str | None:
        """
        Tell the token that needs no asking.

        :param scope: what it is for.
        :returns: the token; None where there is none, or it must be replaced now.
        """
        known, now = self._tokens.get(scope), clock().now()
        if known is None or now >= known.expires_at:
            return None
        asked_lately = 0 <= now - self._asked_at.get(scope, 0.0) < ASK_EVERY
        return known.value if now < known.expires_at - REFRESH_BEFORE or asked_lately else None

    def get(self, scope: str, *, conn_id: str) -> str:
        """
        Get a token. It may take a while, so it is not for an event loop's thread.

        :param scope: what it is for.
        :param conn_id: the connection, for messages.
        :raises FineTuningInputError: azure-identity is not installed.
        :raises FineTuningAuthError: there is no token to be had.
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
            except Exception as error:  # noqa: BLE001 - azure's own, or those of what a credential asks
                why = f"{type(error).__name__}: {one_line(str(error).split('To mitigate')[0], limit=300)}"
                if known is None or clock().now() >= known.expires_at:
                    raise _no_token(conn_id, why) from None
                log.warning("Connection %r: its Entra token cannot be replaced now. %s", conn_id, why)
                return known.value
            self._tokens[scope] = token
            return token.value

    def forget(self, scope: str, refused: str) -> bool:
        """
        Forget a token that the server refused, and the credential that remembers it.

        :param scope: what it was for.
        :param refused: the token.
        :returns: whether another one is worth a try: it is not where the refused one was new.
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
        f"Connection {conn_id!r}: no Microsoft Entra token could be had ({why}). Give this process (worker "
        "or triggerer) a managed identity, a workload identity, or AZURE_TENANT_ID, AZURE_CLIENT_ID and "
        "AZURE_CLIENT_SECRET, and that identity a role on the Azure OpenAI resource.",
        conn_id=conn_id,
    )


TOKENS = EntraTokens()


def with_token(settings: Settings) -> Settings:
    """
    Give a connection a token that is valid for some minutes. Not for an event loop's thread.

    :param settings: the connection.
    :returns: it as it is where it uses a key, or where its token is still good.
    :raises FineTuningInputError: azure-identity is not installed.
    :raises FineTuningAuthError: there is no token to be had.
    """
    if settings.token_scope is None:
        return settings
    token = TOKENS.get(settings.token_scope, conn_id=settings.conn_id)
    return settings if token == settings.key else replace(settings, key=token)


async def awith_token(settings: Settings) -> Settings:
    """
    Do what :func:`with_token` does, without blocking the event loop.

    :param settings: the connection.
    """
    if settings.token_scope is None:
        return settings
    token = TOKENS.at_hand(settings.token_scope)
    if token is None:
        return await asyncio.to_thread(with_token, settings)
    return settings if token == settings.key else replace(settings, key=token)


def forget_refused(settings: Settings, refused: str) -> bool:
    """
    Forget a token that the server refused with a 401.

    :param settings: the connection.
    :param refused: the token.
    :returns: whether another try with a new one may help; True for a connection with a key.
    """
    return settings.token_scope is None or TOKENS.forget(settings.token_scope, refused)
