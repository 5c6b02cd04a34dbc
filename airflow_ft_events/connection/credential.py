"""Credentials: what proves to a server who asks. A secret that ends is renewed here, and nowhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field


class Credential(ABC):
    """The secret that goes into one header of each request. It can be compared, and shows nothing."""

    __slots__ = ()

    @abstractmethod
    def at_hand(self) -> str | None:
        """Return the secret that needs no asking; None if it must be renewed first."""

    def renewed(self) -> str:
        """
        Get a secret that is valid for some minutes. It may take a while: not for an event loop's thread.

        :raises FineTuningInputError: what is needed for it is not installed.
        :raises FineTuningAuthError: there is none.
        """
        secret = self.at_hand()
        assert secret is not None, "a secret that ends must say how it is renewed"
        return secret

    def refused(self, secret: str | None) -> None:  # noqa: B027 - a key has nothing to forget
        """
        Take note that the server refused a secret, so that another one is got if that may help.

        :param secret: it; None if it is not known.
        """

    def current(self) -> str:
        """Return the secret for the next request; as :meth:`renewed`, but at once where it is at hand."""
        at_hand = self.at_hand()
        return self.renewed() if at_hand is None else at_hand

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: the secrets that were in use lately."""


@dataclass(frozen=True, slots=True)
class Key(Credential):
    """
    An API key, which is as good as its connection.

    :param value: it.
    """

    value: str = field(repr=False)

    def at_hand(self) -> str:
        """Return the key."""
        return self.value

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self.value,)
