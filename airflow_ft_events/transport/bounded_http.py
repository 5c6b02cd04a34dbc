"""
Limits how long a whole response may take in requests.

The read timeout of requests and urllib3 limits the wait between two reads, and urllib3's ``Timeout(total=)``
does no more: as its docs say, a server that sends a byte every fifteen seconds never hits a timeout of
twenty. The limit on the body does not help while the status line or the headers trickle in, which the
standard library reads itself before anybody sees a response. urllib3 has no hook for a deadline there; what
can be replaced are the pools of a manager, the connections of a pool and the ``response_class`` of a
connection.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from airflow_ft_events.connection.settings import READ_TIMEOUTS


class _BoundedReader(io.RawIOBase):
    """Reads a socket until a deadline; a single read is limited by the socket's own timeout."""

    def __init__(self, raw: io.RawIOBase, *, ends_at: float) -> None:
        self._raw, self._ends_at = raw, ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._ends_at:
            raise TimeoutError("the response takes too long")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedAnswer(http.client.HTTPResponse):
    """A response whose headers and body together may take ten read timeouts."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        if timeout := sock.gettimeout():
            ends_at = time.monotonic() + READ_TIMEOUTS * timeout
            self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), ends_at=ends_at))


class _HttpPool(urllib3.HTTPConnectionPool):
    class ConnectionCls(urllib3.connection.HTTPConnection):
        """A connection whose responses end in time."""

        response_class = _BoundedAnswer


class _HttpsPool(urllib3.HTTPSConnectionPool):
    class ConnectionCls(urllib3.connection.HTTPSConnection):
        """The same with TLS."""

        response_class = _BoundedAnswer


class BoundedAdapter(HTTPAdapter):
    """
    Connects through those pools, with and without a proxy.

    :param context: the TLS context to use; default None, requests' own.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._tls: dict[str, Any] = {} if context is None else {"ssl_context": context}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, **self._tls})
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **{**kwargs, **self._tls})
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager
