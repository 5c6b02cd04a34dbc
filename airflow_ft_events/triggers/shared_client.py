"""One client for all waits of an event loop that use the same connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from weakref import WeakKeyDictionary

from airflow_ft_events.api.calls import ReadAgain
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, ApiResult, retry_after, server_time
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.network import Network
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.transport.aio import TRIGGER_BODY_LIMIT, AsyncTransport, shared_session
from airflow_ft_events.triggers.job_list import JobList

ReadConnection = Callable[[], Awaitable[tuple[Settings, Network]]]
PAUSE_WITHOUT_WORD = 30.0
"""Seconds of pause after a 429 that does not say how long to wait."""
FAILURE_HOLDS = 10.0
"""Seconds, or the shortest interval, for which a failed read of the connection counts for all waits."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
"""Successive steps of this fraction of an interval leave no large gap and no cluster anywhere in it."""


class SharedClient:
    """
    Sends the requests of many waits: one session, one read of the connection, one pause when the server
    asks for it.
    """

    def __init__(self) -> None:
        self.users = 0
        self._reading: asyncio.Task[None] | None = None
        self._read_again_at = 0.0
        self._resources = AsyncExitStack()
        self._transport: AsyncTransport | None = None
        self._not_before = 0.0
        self._refusals = 0
        self._heard: Mapping[str, str] = {}
        self._slot: float | None = None
        self._intervals: Counter[float] = Counter()
        self.job_list = JobList(self._send, pause_left=self.pause_left)

    @property
    def settings(self) -> Settings:
        """The connection as it was last read."""
        assert self._transport is not None, "the client is not open"
        return self._transport.settings

    async def open(self, read_connection: ReadConnection) -> None:
        """
        Read the connection and open a transport to its server, once for all waits.

        :param read_connection: reads the connection, once, without blocking the event loop; what it raises
            reaches all waits.
        """
        if self._transport is None:
            await self._read_together(partial(self._connect, read_connection))

    async def read_again(self, step: ReadAgain, read_connection: ReadConnection) -> Settings:
        """
        Read the connection again after a 401, once for all waits that got one.

        :param step: what the server refused.
        :param read_connection: as for :meth:`open`.
        :returns: the connection as it is now.
        """
        if self.settings == step.refused and self.settings.credential.at_hand() == step.secret:
            await self._read_together(partial(self._reconnect, step, read_connection))
        return self.settings

    async def _read_together(self, read: Callable[[], Awaitable[None]]) -> None:
        """Let waits that come during a read of the connection, or soon after it failed, share its result."""
        if self._reading is None or (self._reading.done() and clock().now() >= self._read_again_at):
            self._reading = asyncio.get_running_loop().create_task(self._read(read))
        # the wait that began it may be cancelled; the others still wait for it
        await asyncio.shield(self._reading)

    async def _read(self, read: Callable[[], Awaitable[None]]) -> None:
        self._read_again_at = 0.0
        try:
            await read()
        except Exception:
            self._read_again_at = clock().now() + min(FAILURE_HOLDS, self.job_list.period)
            raise

    async def _reconnect(self, step: ReadAgain, read_connection: ReadConnection) -> None:
        if await asyncio.to_thread(step.refused.credential.refused, step.secret):
            await self._connect(read_connection)

    async def _connect(self, read_connection: ReadConnection) -> None:
        settings, network = await read_connection()
        if self._transport is not None:
            if settings != self._transport.settings:
                self._not_before = 0.0  # another key need not pause
            settings = settings.after(self._transport.settings)
        resources = AsyncExitStack()
        session = await resources.enter_async_context(shared_session(network))
        self._transport = AsyncTransport(settings, network, session, body_limit=TRIGGER_BODY_LIMIT)
        self.job_list.settings = settings
        old, self._resources = self._resources, resources
        await old.aclose()

    async def close(self) -> None:
        """Leave the session."""
        self.job_list.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._resources.aclose()
        self._transport = None

    def join(self, interval: float) -> None:
        """
        Register a wait.

        :param interval: its seconds between polls.
        """
        self.users += 1
        self._intervals[interval] += 1
        self._tell_board()

    def leave(self, interval: float) -> None:
        """
        Unregister a wait.

        :param interval: as given to :meth:`join`.
        """
        self.users -= 1
        self._intervals[interval] -= 1
        self._intervals += Counter()
        self._tell_board()

    def _tell_board(self) -> None:
        self.job_list.period = min(self._intervals, default=0.0)
        self.job_list.waits = self.users

    def pause_left(self) -> float:
        """Return the seconds for which this connection must pause; 0 for none."""
        return max(0.0, self._not_before - clock().now())

    def slot(self) -> float:
        """Return a fraction of an interval, from 0 to 1; successive ones are spread evenly."""
        self._slot = clock().jitter() if self._slot is None else (self._slot + GOLDEN_RATIO) % 1.0
        return self._slot

    def take_refusals(self) -> int:
        """Return how many requests got a 429 since the last call."""
        taken, self._refusals = self._refusals, 0
        return taken

    def server_now(self) -> float:
        """Return the server's clock at its newest response, seconds since 1970; ours if it sent none."""
        told = server_time(self._heard)
        return told if told is not None else clock().now()

    def send(self, request: ApiRequest, *, patience: float = 0.0) -> Awaitable[ApiResult]:
        """
        Send one request, or answer it from a poll that many waits share.

        :param request: the request.
        :param patience: seconds for which the answer may be held back while nothing changes; default 0.
        :returns: the response, or the fault.
        """
        return self.job_list.send(request, patience=patience)

    def send_alone(self, request: ApiRequest) -> Awaitable[ApiResult]:
        """
        Send one request, whatever others have requested: for a wait's last look.

        :param request: the request.
        :returns: the response, or the fault.
        """
        return self._send(request)

    async def _send(self, request: ApiRequest) -> ApiResult:
        assert self._transport is not None, "the client is not open"
        reply = await self._transport.send(request)
        if isinstance(reply, ApiResponse):
            self._heard = reply.headers
            if reply.status == 429:
                self._refusals += 1
                now = clock().now()
                asked = retry_after(reply, now=now)
                self._not_before = max(
                    self._not_before, now + (asked if asked is not None else PAUSE_WITHOUT_WORD)
                )
        return reply


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_client(conn_id: str, *, interval: float) -> AsyncIterator[SharedClient]:
    """
    Join the client of this event loop and connection; the last wait to leave closes it.

    :param conn_id: the connection.
    :param interval: the wait's seconds between polls.
    :returns: the client, not opened yet.
    """
    here = _clients.setdefault(asyncio.get_running_loop(), {})
    client = here.get(conn_id)
    if client is None:
        client = here[conn_id] = SharedClient()
    client.join(interval)
    try:
        yield client
    finally:
        client.leave(interval)
        if client.users == 0:
            # removed from the map first: a wait that comes while it closes makes a new one
            if here.get(conn_id) is client:
                del here[conn_id]
            await client.close()
