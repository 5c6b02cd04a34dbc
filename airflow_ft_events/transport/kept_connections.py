"""
Keeps aiohttp from reading an answer that nobody asked for as the answer to the next request.

A server or gateway that sends two answers to one request, or a late 408, leaves one on the kept connection.
urllib3 gives up a kept connection on which something lies; aiohttp asks only whether it is still open.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from urllib3.util import wait_for_read


class CleanConnector(aiohttp.TCPConnector):
    """Uses a kept connection again only if nothing came on it since the last answer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """Get a connection from the pool or make a new one."""
        while True:
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
            assert protocol is not None, "a connection has its protocol until it is released"
            if protocol not in self._used:
                self._used.add(protocol)
                return connection
            if not (protocol.should_close or _unread(connection)):
                return connection
            connection.close()


def _unread(connection: Connection) -> bool:
    """Whether something lies in the socket that the event loop has not read yet, or the server closed it."""
    transport = connection.transport
    found = None if transport is None else transport.get_extra_info("socket")
    return found is None or found.fileno() < 0 or wait_for_read(found, timeout=0)
