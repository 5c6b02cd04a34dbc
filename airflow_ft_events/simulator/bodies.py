"""The body of a request: read to a limit, and a form taken apart."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

MOST_BYTES = 32 * 1024 * 1024
"""Longest body that is read; OpenAI takes more, but nobody needs that for a test."""
_CHUNK = 256 * 1024
_UNREADABLE = (
    ValueError,
    RuntimeError,
    AssertionError,
    LookupError,
    HttpProcessingError,
    ClientPayloadError,
    zlib.error,
)
"""What aiohttp raises for a body that is not what its headers say."""


class BodyError(ValueError):
    """The body cannot be used; the message says why in one line."""


@dataclass(frozen=True, kw_only=True)
class FormFile:
    """A file of a form."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Body:
    """
    A request's body.

    :param raw: the bytes, unless it is a form.
    :param fields: the fields of a form.
    :param files: its files, by field.
    :param too_large: whether it is longer than the limit; nothing of it is kept.
    :param broken: why it cannot be read, if it cannot.
    """

    raw: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FormFile] = field(default_factory=dict)
    too_large: bool = False
    broken: str | None = None

    def json(self) -> dict[str, Any]:
        """
        Read it as a JSON object.

        :raises BodyError: if it is none.
        """
        if self.broken:
            raise BodyError(self.broken)
        try:
            told = json.loads(self.raw)
        except (ValueError, RecursionError):
            raise BodyError(
                "We could not parse the JSON body of your request. (HINT: the API expects a JSON object.)"
            ) from None
        if not isinstance(told, dict):
            raise BodyError("The body of your request must be a JSON object.")
        return told


NO_BODY = Body()


async def read_body(request: web.BaseRequest, *, most: int = MOST_BYTES) -> Body:
    """
    Read a request's body.

    :param request: the request.
    :param most: longest body in bytes; default 32 MiB.
    :returns: the body; one that is too long is read no further.
    """
    if not request.can_read_body:
        return NO_BODY
    if (request.content_length or 0) > most:
        return Body(too_large=True)
    form = request.content_type == "multipart/form-data"
    try:
        return await (_read_form if form else _read_raw)(request, most)
    except _UNREADABLE as error:
        what = " ".join(str(error).split()) or type(error).__name__
        return Body(broken=f"Could not parse {'multipart form' if form else 'the body'}: {what[:200]}")


async def _read_raw(request: web.BaseRequest, most: int) -> Body:
    raw = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        raw += chunk
        if len(raw) > most:
            return Body(too_large=True)
    return Body(raw=bytes(raw))


async def _read_form(request: web.BaseRequest, most: int) -> Body:
    fields: dict[str, str] = {}
    files: dict[str, FormFile] = {}
    left = most
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise ValueError("a form within the form")
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            content += chunk
            left -= len(chunk)
            if left < 0:
                return Body(too_large=True)
        if part.filename is None:
            fields[part.name or ""] = content.decode(errors="replace")
        else:
            files[part.name or ""] = FormFile(name=part.filename, content=bytes(content))
    return Body(fields=fields, files=files)
