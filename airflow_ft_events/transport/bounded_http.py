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

import http
import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from airflow_ft_events.connection.settings import READ_TIMEOUTS

MOST_INTERIM_ANSWERS = 100
"""A server sends one or two (103 Early Hints); more than that is no answer."""

_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)


@contextmanager
def ending_at(moment: float) -> Iterator[None]:
    """
    Let no response that begins within this block take longer.

    :param moment: on the monotonic clock.
    """
    token = _ends_at.set(moment)
    try:
        yield
    finally:
        _ends_at.reset(token)


class IncompleteInTime(TimeoutError):
    """
    A response was not complete within ten read timeouts.

    :param seconds: how long these are.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(incomplete(seconds))


def incomplete(seconds: float) -> str:
    """Say that a response took too long as a whole, although something came now and then."""
    return f"the response was not complete after {seconds:g} s"


class _BoundedReader(io.RawIOBase):
    """Reads a socket until a deadline; a single read is limited by the socket's own timeout, too."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, *, timeout: float) -> None:
        self._raw, self._sock, self._timeout = raw, sock, timeout
        self._seconds = READ_TIMEOUTS * timeout
        self._ends_at, self._asked = time.monotonic() + self._seconds, _ends_at.get()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = min(self._ends_at, self._asked) - time.monotonic()
        if left <= 0:
            raise self._late()
        if left >= self._timeout:
            return self._raw.readinto(buffer)
        self._sock.settimeout(left)  # for this response: urllib3 sets it anew for each
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            raise self._late() from None

    def _late(self) -> TimeoutError:
        return IncompleteInTime(self._seconds) if self._ends_at <= self._asked else TimeoutError()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedAnswer(http.client.HTTPResponse):
    """A response whose headers and body together may take ten read timeouts, or until :func:`ending_at`."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        if timeout := sock.gettimeout():
            raw = _BoundedReader(self.fp.detach(), sock, timeout=timeout)
            self.fp = io.BufferedReader(raw)

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line of the real answer: the standard library skips no interim one but 100."""
        for _ in range(MOST_INTERIM_ANSWERS + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {MOST_INTERIM_ANSWERS} interim answers")

    def begin(self) -> None:
        super().begin()
        if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.will_close = True  # whatever follows is no answer to the next request


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
