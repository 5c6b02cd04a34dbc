"""Short-term keys of Amazon Bedrock, for connections with ``auth: aws``; one per AWS identity and region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from airflow_ft_events.clock import clock
from airflow_ft_events.connection.credential import Credential
from airflow_ft_events.connection.tokens import REFRESH_BEFORE, Tokens
from airflow_ft_events.errors import FineTuningAuthError, FineTuningInputError

DEFAULT_AWS_CONN_ID = "aws_default"
"""The AWS connection that need not exist: without it, the process's own AWS identity is used."""
LIFETIME = 3600.0
"""Seconds for which a key is made: at most 12 hours are allowed, and a short one is the smaller loss."""
Wanted = tuple[str, str | None]
"""An AWS connection's id, and a region; None for the one that the AWS connection names."""


class BedrockKeys(Tokens[Wanted]):
    """Makes keys with AWS's token package from the AWS credentials of an Airflow connection."""

    what: ClassVar[str] = "Bedrock key"

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, Any] = {}
        self._sessions: dict[Wanted, Any] = {}

    def take(self, aws_conn_id: str, connection: Any) -> None:
        """
        Take an AWS connection as it is now; after an edit its keys are made again.

        :param aws_conn_id: its id.
        :param connection: the Airflow connection; None for the process's own AWS identity.
        """
        with self._lock:
            before = self._connections.get(aws_conn_id)
            self._connections[aws_conn_id] = connection
            if _contents(before) != _contents(connection):
                for wanted in [each for each in {*self._tokens, *self._sessions} if each[0] == aws_conn_id]:
                    self._drop(wanted)

    def _new(self, wanted: Wanted, *, conn_id: str) -> tuple[str, float]:
        try:
            from airflow.providers.amazon.aws.hooks.base_aws import resolve_session_factory
            from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
            from aws_bedrock_token_generator import provide_token  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError:
            raise FineTuningInputError(
                f"Connection {conn_id!r}: 'auth' is 'aws', which needs the packages "
                "apache-airflow-providers-amazon and aws-bedrock-token-generator where tasks and the "
                "triggerer run. Install airflow-ft-events[bedrock], or use an API key.",
                conn_id=conn_id,
            ) from None
        aws_conn_id, region = wanted
        if wanted not in self._sessions:
            connection = self._connections.get(aws_conn_id)
            wrapped = AwsConnectionWrapper(conn=connection, region_name=region)
            made = resolve_session_factory()(conn=wrapped, region_name=region)
            self._sessions[wanted] = made.create_session()
        session = self._sessions[wanted]
        if not (region := region or session.region_name):
            raise FineTuningInputError(
                f"Connection {conn_id!r}: the AWS region is not known. Set 'region_name' in the extra of "
                f"connection {aws_conn_id!r}, or put a host that names it into 'Host'.",
                conn_id=conn_id,
            )
        credentials = session.get_credentials()
        if credentials is None:
            raise LookupError("this AWS identity has no credentials")
        # frozen: temporary credentials must not be replaced between two parts of one signature
        frozen = SimpleNamespace(load=credentials.get_frozen_credentials)
        until = clock().now() + LIFETIME
        key = provide_token(
            region=region, aws_credentials_provider=frozen, expiry=timedelta(seconds=LIFETIME)
        )
        return key, until

    def _outdated(self, wanted: Wanted) -> bool:
        """Tell whether the AWS credentials that signed the key end soon, and the key with them."""
        session = self._sessions.get(wanted)
        credentials = session.get_credentials() if session is not None else None
        ends_soon = getattr(credentials, "refresh_needed", None)
        return ends_soon is not None and bool(ends_soon(REFRESH_BEFORE))

    def _forgotten(self, wanted: Wanted) -> None:
        self._sessions.pop(wanted, None)

    def _none(self, conn_id: str, why: str) -> FineTuningAuthError:
        return FineTuningAuthError(
            f"Connection {conn_id!r}: could not make an Amazon Bedrock key ({why}). Check the AWS connection "
            "that 'aws_conn_id' names, or give this process (worker or triggerer) AWS credentials.",
            conn_id=conn_id,
        )


def _contents(connection: Any) -> tuple[Any, ...]:
    names = ("conn_type", "host", "login", "password", "extra")
    return tuple(getattr(connection, name, None) for name in names)


KEYS = BedrockKeys()


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockCredential(Credential):
    """
    A short-term key, shared by all connections with the same AWS connection and region.

    :param region: the AWS region; None for the one that the AWS connection names.
    :param aws_conn_id: the Airflow connection with the AWS credentials.
    :param conn_id: the connection, for messages.
    """

    region: str | None
    aws_conn_id: str
    conn_id: str = field(compare=False)

    @property
    def _wanted(self) -> Wanted:
        return self.aws_conn_id, self.region

    def at_hand(self) -> str | None:
        """Return the key; None if it must be replaced now."""
        return KEYS.at_hand(self._wanted)

    def renewed(self) -> str:
        """
        Get a key.

        :returns: a key that is valid now.
        :raises FineTuningInputError: a required package is not installed.
        :raises FineTuningAuthError: could not make a key.
        """
        return KEYS.get(self._wanted, conn_id=self.conn_id)

    def refused(self, secret: str | None) -> bool:
        """
        Forget a key that the server refused, unless it is recent.

        :param secret: the key.
        :returns: True: the AWS connection may have been edited, whatever the age of the key.
        """
        if secret is not None:
            KEYS.forget(self._wanted, secret)
        return True

    @property
    def needs_connection(self) -> str | None:
        """The AWS connection."""
        return self.aws_conn_id

    def take_connection(self, connection: Any) -> None:
        """
        Take the AWS connection as it is now.

        :param connection: the Airflow connection; None if it is not defined.
        :raises FineTuningInputError: it is not defined, and is not the default, which need not be.
        """
        if connection is None and self.aws_conn_id != DEFAULT_AWS_CONN_ID:
            raise FineTuningInputError(
                f"Connection {self.conn_id!r}: connection {self.aws_conn_id!r}, which 'aws_conn_id' in its "
                "extra names, is not defined.",
                conn_id=self.conn_id,
            )
        KEYS.take(self.aws_conn_id, connection)

    def after_refusal(self, conn_id: str) -> str:
        """Say what to do when the server refuses the key."""
        return (
            f"Check that the AWS identity of connection {self.aws_conn_id!r} ('aws_conn_id' of connection "
            f"{conn_id!r}) may call Amazon Bedrock with a bearer token (bedrock-mantle) in this region."
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last keys, including refused ones."""
        return KEYS.lately(self._wanted)
