"""What goes over the wire: a whole response, and the ways to send one that no HTTP library has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from http import HTTPStatus

_HEARTBEAT = 1.0
_PAUSE_BEFORE_RESET = 0.05
_SLICES_A_SECOND = 20


@dataclass(kw_only=True)
class Reply:
    """A whole response, ready to send, and what happens to it on the wire."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    truncate: bool = False
    reset: bool = False
    exact_headers: bool = False
    stall: float = 0.0
    linger: float = 0.0
    bandwidth: float | None = None
    endless: bool = False

    @property
    def odd(self) -> bool:
        """Whether no HTTP library would send it so."""
        told = (self.drop, self.truncate, self.reset, self.exact_headers, self.endless, self.linger)
        return any(told) or self.bandwidth is not None


async def send_odd(transport: asyncio.Transport, reply: Reply) -> None:
    """
    Write a response to the socket, as oddly as it asks for, and close the connection.

    :param transport: the connection.
    :param reply: the response.
    """
    if reply.drop:
        transport.abort()
        return
    half = reply.truncate or reply.reset
    body = reply.body[: len(reply.body) // 2] if half else reply.body
    transport.write(_head(reply))
    if reply.bandwidth is None:
        transport.write(body)
    else:
        await _trickle(transport, body, reply.bandwidth)
    while reply.endless and not transport.is_closing():
        await asyncio.sleep(_HEARTBEAT)
        transport.write(b": still here\n\n")
    if reply.reset:
        # what was sent must arrive before the reset, which would overtake it
        await asyncio.sleep(_PAUSE_BEFORE_RESET)
        with contextlib.suppress(OSError):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        return
    if reply.linger:
        await asyncio.sleep(reply.linger)
    transport.close()


async def _trickle(transport: asyncio.Transport, body: bytes, bandwidth: float) -> None:
    size = max(int(bandwidth / _SLICES_A_SECOND), 1)
    for start in range(0, len(body), size):
        if transport.is_closing():
            return
        part = body[start : start + size]
        await asyncio.sleep(len(part) / bandwidth)
        transport.write(part)


def _head(reply: Reply) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = reply.headers | {"Connection": "close"}
    if not (reply.linger or reply.endless):
        headers["Content-Length"] = str(len(reply.body))
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
