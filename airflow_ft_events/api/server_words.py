"""What a server says in a body that is no answer: code and message of an error, the text of a page."""

from __future__ import annotations

import contextlib
from html.parser import HTMLParser
from typing import Any, NamedTuple

MOST_OF_A_PAGE = 32_768
"""Characters that are read; what a page has to say stands at its beginning."""
MOST_ERRORS = 5
DEEPEST = 6
_NOT_READ = frozenset({"script", "style", "template", "svg"})
_MESSAGES = ("message", "msg", "error_description", "detail", "title")
_CODES = ("code", "error_code", "type")
_LISTS = ("errors", "detail", "details")


class ServerWords(NamedTuple):
    """
    What a body says.

    :param code: the error's code, or None.
    :param message: the text for people, or None.
    """

    code: str | None = None
    message: str | None = None


def words_of(found: Any, *, depth: int = DEEPEST, most: int = MOST_ERRORS) -> ServerWords:
    """
    Find code and message of an error, in any of the forms that servers and gateways use.

    Those are an object, a list of objects or a text under ``error``, ``errors`` or ``detail``, one in
    another, or at the top.

    :param found: the decoded body, or a part of it.
    :param depth: levels that are read; default 6.
    :param most: items of a list that are read; default 5, of lists in a list 1.
    :returns: the words; without a message if none was found.
    """
    if isinstance(found, str):
        return ServerWords(message=readable(found) or None)
    if depth <= 0:
        return ServerWords()
    if isinstance(found, list):
        said = [words_of(item, depth=depth - 1, most=1) for item in found[:most]]
        messages = dict.fromkeys(each.message for each in said if each.message)
        return ServerWords(next((each.code for each in said if each.code), None), "; ".join(messages) or None)
    if not isinstance(found, dict):
        return ServerWords()
    inner = words_of(found.get("error"), depth=depth - 1, most=most)
    code = next((str(found[name]) for name in _CODES if _is_code(found.get(name))), None)
    message = inner.message or next(
        (text for name in _MESSAGES if isinstance(found.get(name), str) and (text := readable(found[name]))),
        None,
    )
    for name in _LISTS:
        if message is None:
            inner = words_of(found.get(name), depth=depth - 1, most=most)
            message = inner.message
    where = found.get("loc")  # FastAPI's
    if message and isinstance(where, list):
        message = f"{'.'.join(str(part) for part in where if isinstance(part, str | int))}: {message}"
    return ServerWords(inner.code or code, message)


def _is_code(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, str | int) and bool(value)


def readable(text: str) -> str:
    """
    Return what people would read of a text: of a page its text, without comments, scripts and styles.

    :param text: the text; it is taken for a page if it begins with a tag.
    :returns: the text, at most 32,768 characters of it; "" for a page without any.
    """
    text = text.lstrip("\ufeff \t\r\n")[:MOST_OF_A_PAGE]
    if not text.startswith("<"):
        return text
    page = _Page()
    with contextlib.suppress(AssertionError):  # a declaration that this parser does not take
        page.feed(text)
    if not page.pieces and "</" not in text and not text.startswith("<!"):
        return text
    return " ".join(page.pieces)


class _Page(HTMLParser):
    """Collects the text of a page. It is never closed: what is not complete at the end is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _NOT_READ and tag not in self._within:
            self._within.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Leave out what has no content."""

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            del self._within[self._within.index(tag) :]

    def handle_data(self, data: str) -> None:
        piece = " ".join(data.split())
        # a page's heading often repeats its title
        if piece and not self._within and piece not in self.pieces[-1:]:
            self.pieces.append(piece)
