"""Credentials: what authenticates a request. A secret that expires is renewed here, and nowhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any


class Credential(ABC):
    """The secret in one header of each request. It can be compared, and its repr does not show it."""

    __slots__ = ()

    @abstractmethod
    def at_hand(self) -> str | None:
        """Return the secret that is valid now, without a request; None if it must be renewed first."""

    def renewed(self) -> str:
        """
        Get a secret that is valid for some minutes. It may block, so it is not for an event loop's thread.

        :returns: the secret.
        :raises FineTuningInputError: a required package is not installed.
        :raises FineTuningAuthError: could not get one.
        """
        secret = self.at_hand()
        assert secret is not None, "a secret that expires must say how it is renewed"
        return secret

    def refused(self, secret: str | None) -> bool:
        """
        Note that the server refused a secret, so that the next request gets another one if that may help.

        :param secret: the refused secret; None if it is not known.
        :returns: whether reading the connection again may help as well; True for a key.
        """
        return True

    def current(self) -> str:
        """Return the secret for the next request, renewed only if it must be."""
        at_hand = self.at_hand()
        return self.renewed() if at_hand is None else at_hand

    @property
    def needs_connection(self) -> str | None:
        """The id of another Airflow connection that renewing takes; None for none."""
        return None

    def take_connection(self, connection: Any) -> None:  # noqa: B027 - most need none
        """
        Take what :attr:`needs_connection` names, as it is now.

        :param connection: the Airflow connection; None if it is not defined.
        :raises FineTuningInputError: it is not defined, and must be.
        """

    def after_refusal(self, conn_id: str) -> str:
        """
        Say what to do when the server refuses the secret.

        :param conn_id: the connection.
        :returns: a sentence.
        """
        return f"Check the API key in 'Password' of connection {conn_id!r}."

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: the secrets used recently."""


@dataclass(frozen=True, slots=True)
class Key(Credential):
    """
    An API key, which is valid as long as its connection.

    :param value: the key.
    """

    value: str = field(repr=False)

    def at_hand(self) -> str:
        """Return the key."""
        return self.value

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class NoKey(Credential):
    """Nothing: the server asks for no key, or takes one from the connection's own headers or parameters."""

    def at_hand(self) -> str:
        """Return nothing, which is sent in no header."""
        return ""

    def after_refusal(self, conn_id: str) -> str:
        """Say what to do when the server refuses a request without a key."""
        return (
            f"Connection {conn_id!r} sends no key ('auth' is 'none'): check its 'headers' and 'params', or "
            "put a key into 'Password' and leave 'auth' out."
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """None."""
        return ()
