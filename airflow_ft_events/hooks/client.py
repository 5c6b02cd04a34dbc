"""ClientHook: turns a connection into settings and a client, sync and async."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from airflow_ft_events.api import calls
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, ApiResult, next_try
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.address import unused_fields
from airflow_ft_events.connection.credential import NoKey
from airflow_ft_events.connection.redaction import Redactor
from airflow_ft_events.connection.settings import Settings, settings_of
from airflow_ft_events.errors import FineTuningError, FineTuningInputError
from airflow_ft_events.events import one_line
from airflow_ft_events.parameters import DEFAULT_CONN_ID, check_conn_id
from airflow_ft_events.provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_ft_events.connection.network import Network
    from airflow_ft_events.transport.aio import AsyncTransport
    from airflow_ft_events.transport.sync import SyncTransport

T = TypeVar("T")

_imported: dict[str, ModuleType] = {}


async def import_off_loop(module: str) -> Any:
    """
    Import a module that takes too long for an event loop, such as one that needs an HTTP library.

    :param module: its name.
    :returns: the module.
    """
    if module not in _imported:
        # sys.modules would show one that another wait's thread is still importing
        _imported[module] = await asyncio.to_thread(importlib.import_module, module)
    return _imported[module]


class ConnectionNotRead(FineTuningError):
    """
    A secrets backend did not give a connection now; it may do so later.

    :param why: what it raised, in one word: its text may contain a secret.
    """

    why = ""


def not_read(conn_id: str, error: Exception) -> FineTuningError:
    """
    Say why a connection cannot be read now.

    :param conn_id: the connection.
    :param error: what reading it raised; our own errors contain no secret, those of a secrets backend may.
    :returns: the error itself if it is our own, else a temporary one.
    """
    if isinstance(error, FineTuningError):
        return error
    why = type(error).__name__
    away = ConnectionNotRead(
        f"Connection {conn_id!r} cannot be read now: the secrets backend, or Airflow itself, raised {why}. A "
        "retry reads it again.",
        conn_id=conn_id,
    )
    away.why = why
    return away


def why_not_read(error: Exception) -> str:
    """
    Say in a few words why a connection cannot be read now.

    :param error: what reading it raised.
    :returns: the text of our own errors; of others only the class.
    """
    if isinstance(error, ConnectionNotRead) and error.why:
        return error.why
    return str(error).rstrip(".") if isinstance(error, FineTuningError) else type(error).__name__


def not_read_again(conn_id: str, error: Exception) -> FineTuningError:
    """
    Say why a connection whose key was refused cannot be read again.

    :param conn_id: the connection.
    :param error: what reading it raised.
    :returns: the error itself if the connection cannot work as it is now, else a temporary one.
    """
    if isinstance(error, FineTuningInputError):
        return error
    return FineTuningError(
        f"The key was refused, and connection {conn_id!r} cannot be read again now ({why_not_read(error)}).",
        conn_id=conn_id,
    )


class ClientHook(BaseHook):
    """
    Reach a server through an Airflow connection, and retry after temporary faults.

    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http``; default
        ``fine_tuning_default``.
    :raises FineTuningInputError: the conn_id is empty, or not text.
    """

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_conn_id(conn_id)
        self.conn_id = conn_id
        self._settings: Settings | None = None
        self._network: Network | None = None
        self._transport: SyncTransport | None = None
        self._server_ahead = 0.0

    @property
    def settings(self) -> Settings:
        """
        The connection, read and checked on first use. Not for an event loop's thread.

        :raises FineTuningInputError: if it does not exist or cannot work.
        :raises FineTuningError: if it cannot be read now.
        """
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    def _read_settings(self) -> Settings:
        connection = self._connection(self.conn_id)
        if connection is None:
            raise self._no_connection()
        settings = self._settings_from(connection, connection.extra_dejson)
        if needed := settings.credential.needs_connection:
            settings.credential.take_connection(self._connection(needed))
        settings.credential.current()
        for secret in settings.redact.for_airflow:
            mask_secret(secret)
        return settings

    def _connection(self, conn_id: str) -> Connection | None:
        try:
            return self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            raise not_read(conn_id, error) from None

    def _reread_settings(self) -> Settings:
        """Read the connection again; if that fails, everything stays as it was."""
        found, before = self._read_settings(), self._settings
        if before is None or found != before:
            self._forget_connection()
            self._settings = found.after(before) if before else found
        return self.settings

    async def aget_settings(self) -> Settings:
        """
        Read the connection, on first use, without blocking the event loop.

        :returns: the checked settings.
        :raises FineTuningInputError: if it does not exist or cannot work.
        :raises FineTuningError: if it cannot be read now.
        """
        if self._settings is None:
            from airflow.providers.common.compat.connection import get_async_extra_dejson

            connection = await self._aconnection(self.conn_id)
            if connection is None:
                raise self._no_connection()
            settings = self._settings_from(connection, await get_async_extra_dejson(connection))
            if needed := settings.credential.needs_connection:
                other = await self._aconnection(needed)
                # it may wait for another thread that is just renewing
                await asyncio.to_thread(settings.credential.take_connection, other)
            if settings.credential.at_hand() is None:
                await asyncio.to_thread(settings.credential.current)
            self._settings = settings
        return self._settings

    async def _aconnection(self, conn_id: str) -> Connection | None:
        from airflow.providers.common.compat.connection import get_async_connection

        try:
            return await get_async_connection(conn_id)
        except AirflowNotFoundException:
            return None
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            raise not_read(conn_id, error) from None

    def _settings_from(self, connection: Connection, extra: dict[str, Any]) -> Settings:
        _check_extra(self.conn_id, connection.extra, extra)
        settings = settings_of(
            conn_id=self.conn_id,
            conn_type=connection.conn_type or "",
            host=connection.host,
            schema=connection.schema,
            port=connection.port,
            password=connection.password,
            extra=extra,
        )
        if settings.unknown:
            self.log.warning(
                "Connection %r: ignoring unknown settings in its extra: %s.%s",
                self.conn_id,
                ", ".join(one_line(name, limit=40) for name in settings.unknown),
                " Headers belong under 'headers'." if connection.conn_type == "http" else "",
            )
        unused = unused_fields(
            host=connection.host, schema=connection.schema, port=connection.port, login=connection.login
        )
        if unused and connection.conn_type != CONNECTION_TYPE:
            self.log.warning(
                "Connection %r (type %s): ignoring %s. The address comes from Host%s, the key from Password.",
                self.conn_id,
                connection.conn_type,
                ", ".join(unused),
                ", Schema and Port" if connection.conn_type == "http" else "",
            )
        return settings

    def _no_connection(self) -> FineTuningInputError:
        variable = f"AIRFLOW_CONN_{self.conn_id.upper()}"
        if os.environ.get(variable):
            return FineTuningInputError(
                f"Connection {self.conn_id!r} cannot be read from {variable}, which is set. In a "
                "URI, percent-encode the base URL (https%3A%2F%2F…), and each / (%2F) and @ (%40) in "
                "the key; in JSON, check the quotes.",
                conn_id=self.conn_id,
            )
        return FineTuningInputError(
            f"Connection {self.conn_id!r} is not defined. Create it under Admin > Connections with type "
            f"'Fine-tuning API', or set {variable}.",
            conn_id=self.conn_id,
        )

    def _forget_connection(self) -> None:
        self._settings = self._network = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # sending

    def _sync_transport(self) -> SyncTransport:
        if self._transport is None:
            from airflow_ft_events.connection.network import network_of
            from airflow_ft_events.transport.sync import SyncTransport

            settings = self.settings
            self._network = self._network or network_of(settings)
            self._transport = SyncTransport(settings, self._network)
        return self._transport

    async def aget_network(self) -> Network:
        """Read proxies and CA bundle, on first use, without blocking the event loop."""
        settings = await self.aget_settings()
        if self._network is None:
            module = await import_off_loop("airflow_ft_events.connection.network")
            network: Network = await asyncio.to_thread(module.network_of, settings)
            self._network = network
        return self._network

    @asynccontextmanager
    async def async_transport(self) -> AsyncIterator[AsyncTransport]:
        """Open a transport to the server; all users in one event loop share its session."""
        settings, network = await self.aget_settings(), await self.aget_network()
        aio = await import_off_loop("airflow_ft_events.transport.aio")
        async with aio.shared_session(network) as session:
            yield aio.AsyncTransport(settings, network, session)

    def _send(self, request: ApiRequest) -> ApiResult:
        transport, attempt = self._sync_transport(), 1
        while True:
            reply = transport.send(request)
            wait = self._next_try(request, reply, attempt)
            if isinstance(reply, ApiResponse) and reply.server_time is not None:
                self._server_ahead = reply.server_time - clock().now()
            if wait is None:
                return replace(reply, tries=attempt) if attempt > 1 else reply
            clock().sleep(wait)
            attempt += 1

    async def _asend(self, transport: AsyncTransport, request: ApiRequest) -> ApiResult:
        attempt = 1
        while True:
            reply = await transport.send(request)
            wait = self._next_try(request, reply, attempt)
            if wait is None:
                return replace(reply, tries=attempt) if attempt > 1 else reply
            await clock().asleep(wait)
            attempt += 1

    def _next_try(self, request: ApiRequest, reply: ApiResult, attempt: int) -> float | None:
        time = clock()
        assert self._settings is not None
        most = self._settings.max_retries
        wait = next_try(reply, attempt=attempt, max_retries=most, jitter=time.jitter(), now=time.now())
        if wait is not None:
            what = getattr(reply, "text", None) or f"status {getattr(reply, 'status', '')}"
            self.log.warning(
                "Asking for %s: %s; trying again in %.1f s (%d of %d).",
                request.what,
                what,
                wait,
                attempt,
                most,
            )
        return wait

    def _run(self, conversation: Generator[ApiRequest, ApiResult, T]) -> T:
        return calls.converse(conversation, self._send)

    async def _arun(self, conversation: Generator[ApiRequest, ApiResult, T]) -> T:
        async with self.async_transport() as transport:
            return await calls.aconverse(conversation, partial(self._asend, transport))

    def server_now(self) -> float:
        """Return the server's clock (its last Date header, else ours), seconds since 1970."""
        return clock().now() + self._server_ahead

    @property
    def redact(self) -> Redactor:
        """Masks the connection's secrets; masks nothing while the connection has not been read."""
        return self._settings.redact if self._settings else Redactor(NoKey())


def _check_extra(conn_id: str, written: object, read: dict[str, Any]) -> None:
    """Refuse an extra that Airflow could not read: Airflow goes on as if it were empty."""
    if read or not isinstance(written, str) or not written.strip():
        return
    try:
        json.loads(written)
    except ValueError:
        raise FineTuningInputError(
            f"Connection {conn_id!r}: its extra is not JSON, so none of its settings can be read. It must "
            'be an object, such as {"vendor": "azure", "timeout": 60}.',
            conn_id=conn_id,
        ) from None
