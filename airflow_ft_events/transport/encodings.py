"""
Decodes what aiohttp leaves encoded, with the limits of the rest.

aiohttp decodes a body once, if its Content-Encoding is one word that it knows; requests decodes ``x-gzip``
too, and encodings that were applied one after another.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

_BY_AIOHTTP = frozenset({"gzip", "deflate", "br", "zstd"})
_GZIP = frozenset({"gzip", "x-gzip"})
_KNOWN = _BY_AIOHTTP | _GZIP
MOST_LAYERS = 5
"""As many as urllib3 takes."""
MOST_MEMBERS = 100
"""A gzip file may be many in a row, but no server sends that: thousands of tiny ones would only cost time."""


def left_encoded(lines: Sequence[str]) -> tuple[str, ...]:
    """
    Tell what is still to be undone after aiohttp.

    :param lines: the values of the response's Content-Encoding headers, in their order.
    :returns: encodings, the one to undo first in front; none where all of them are unknown, as in requests.
    """
    words = [word.strip() for line in lines for word in line.lower().split(",")]
    if lines and lines[-1].lower() in _BY_AIOHTTP:
        words.pop()
    if not any(word in _KNOWN for word in words):
        return ()
    return tuple(word for word in reversed(words) if word != "identity")


def decoded(body: bytes, encodings: Sequence[str], *, limit: int) -> bytes | None:
    """
    Undo encodings.

    :param body: the body.
    :param encodings: from :func:`left_encoded`.
    :param limit: the largest size that is read, in bytes, of each of the decoded bodies.
    :returns: the body; None if it is larger than that.
    :raises ValueError: the body is not encoded so, or in a way that is not known.
    """
    if len(encodings) > MOST_LAYERS:
        raise ValueError(f"the body is encoded {len(encodings)} times; the maximum is {MOST_LAYERS}")
    for encoding in encodings:
        try:
            if encoding in _GZIP:
                found = _gunzipped(body, limit=limit)
            elif encoding == "deflate":
                found = _inflated(body, limit=limit)
            else:
                raise ValueError(f"the body is encoded with {encoding[:40]!r}, which cannot be read here")
        except zlib.error as error:
            raise ValueError(f"the body is not {encoding}: {error}") from None
        if found is None:
            return None
        body = found
    return body


def _gunzipped(body: bytes, *, limit: int) -> bytes | None:
    members: list[bytes] = []
    left = limit + 1
    while body:
        if len(members) >= MOST_MEMBERS:
            raise ValueError(f"the body consists of more than {MOST_MEMBERS} gzip members")
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            members.append(member.decompress(body, left))
        except zlib.error:
            if members:
                break  # what follows a member and is none is ignored, as gzip itself does
            raise
        left -= len(members[-1])
        if left <= 0:
            return None
        body = member.unused_data
    return b"".join(members)


def _inflated(body: bytes, *, limit: int) -> bytes | None:
    try:
        found = zlib.decompressobj().decompress(body, limit + 1)
    except zlib.error:
        found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, limit + 1)  # as some servers mean it
    return found if len(found) <= limit else None
