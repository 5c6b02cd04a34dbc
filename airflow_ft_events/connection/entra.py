"""Microsoft Entra bearer tokens, for connections with ``auth: entra``; one per scope in a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_ft_events.connection.credential import Credential
from airflow_ft_events.connection.tokens import REFRESH_BEFORE, REFUSED_AFTER, Tokens
from airflow_ft_events.errors import FineTuningAuthError, FineTuningInputError

__all__ = ["REFRESH_BEFORE", "REFUSED_AFTER", "TOKENS", "EntraCredential", "EntraTokens"]


class EntraTokens(Tokens[str]):
    """Gets tokens by their scope from ``DefaultAzureCredential``."""

    what: ClassVar[str] = "Entra token"

    def __init__(self) -> None:
        super().__init__()
        self._credential: Any = None

    def _new(self, wanted: str, *, conn_id: str) -> tuple[str, float]:
        made = self._made_credential(conn_id).get_token(wanted)
        return made.token, float(made.expires_on)

    def _forgotten(self, wanted: str) -> None:
        self._credential = None

    def _none(self, conn_id: str, why: str) -> FineTuningAuthError:
        return FineTuningAuthError(
            f"Connection {conn_id!r}: could not get a Microsoft Entra token ({why}). Give this process "
            "(worker or triggerer) a managed identity, a workload identity, or AZURE_TENANT_ID, "
            "AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, and that identity a role on the Azure OpenAI resource.",
            conn_id=conn_id,
        )

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

    def after_refusal(self, conn_id: str) -> str:
        """Say what to do when the server refuses the token."""
        return (
            "Check that this process's identity has a role on the resource, and that the server takes tokens "
            f"for {self.scope} (else set 'token_scope' in the extra of connection {conn_id!r})."
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last tokens, including refused ones."""
        return TOKENS.lately(self.scope)
