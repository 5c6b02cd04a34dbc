"""The fields of a connection, read with errors that name the connection and the field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.events import one_line

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
KEY_HEADERS = {"authorization", "api-key"}
"""Headers that carry a key, in lower case."""
_OWN_HEADERS = KEY_HEADERS | {
    "host",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "content-encoding",
    "content-type",
    "connection",
    "cookie",
    "proxy-authorization",
    "te",
    "trailer",
}


class Fields:
    """
    The fields of one connection.

    :param conn_id: the connection, for messages.
    :param fields: values by name, as written.
    :param where: what the names belong to, for messages: "the extra's".
    """

    def __init__(self, conn_id: str, fields: Mapping[str, Any], *, where: str) -> None:
        self.conn_id, self.fields, self.where = conn_id, fields, where

    def wrong(self, problem: str) -> FineTuningInputError:
        """
        Make the error for a connection that cannot work.

        :param problem: what is wrong, as a sentence that begins in lower case.
        """
        return FineTuningInputError(f"Connection {self.conn_id!r}: {problem}", conn_id=self.conn_id)

    def text(self, name: str) -> str:
        """Return a text without the white space around it; "" if it is not given."""
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(f"{self.where} {name!r} must be text, not {type(value).__name__}.")
        return value.strip()

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """Return a number of a range; the default if it is not given."""
        value = self.fields.get(name)
        if value is None or value == "":
            return default
        try:
            number = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            number = float("nan")
        if not least <= number <= most:
            shown = one_line(repr(value), limit=40)
            raise self.wrong(
                f"{self.where} {name!r} is {shown}; it must be a number from {least:g} to {most:g}."
            )
        return number

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """Return a whole number of a range; the default if it is not given."""
        number = self.number(name, default, least=least, most=most)
        if number != int(number):
            raise self.wrong(f"{self.where} {name!r} is {number:g}; it must be a whole number.")
        return int(number)

    def flag(self, name: str, *, default: bool) -> bool | str:
        """Return true or false, or another word as it was written."""
        value = self.fields.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip()
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        return word

    def value(self, name: str) -> Any:
        """Return a value that may be an object, which a URI writes as JSON text; None if it is not given."""
        value = self.fields.get(name)
        if isinstance(value, str) and value.strip().startswith("{"):
            try:
                value = json.loads(value)
            except ValueError:
                raise self.wrong(f"{self.where} {name!r} is not JSON.") from None
        return None if value == "" else value

    def object(self, name: str) -> dict[str, Any]:
        """Return a JSON object; empty if it is not given."""
        value = self.fields.get(name)
        if value is None or value == "":
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise self.wrong(f"{self.where} {name!r} is not JSON.") from None
        if not isinstance(value, Mapping):
            raise self.wrong(f"{self.where} {name!r} must be a JSON object with text values.")
        return {str(key): each for key, each in value.items()}

    def mapping(self, name: str) -> dict[str, str]:
        """Return a JSON object with text values; empty if it is not given."""
        found = self.object(name)
        if not all(isinstance(each, str) for each in found.values()):
            raise self.wrong(f"{self.where} {name!r} must be a JSON object with text values.")
        return found

    def headers(self, name: str) -> dict[str, str]:
        """Return headers, none of which is one that the package itself sets."""
        found = {}
        for header, value in self.mapping(name).items():
            if header.lower() in _OWN_HEADERS or not _HEADER_NAME.fullmatch(header):
                raise self.wrong(f"{self.where} {name!r} may not set {one_line(header, limit=60)!r}.")
            found[header] = self.header_value(f"header {header!r}", value)
        return found

    def key_header(self, name: str) -> str:
        """Return the name of the header that carries the key; "" if it is not given."""
        header = self.text(name)
        if header and (
            header.lower() in (_OWN_HEADERS - KEY_HEADERS) | {"accept"} or not _HEADER_NAME.fullmatch(header)
        ):
            raise self.wrong(
                f"{self.where} {name!r} is {one_line(header, limit=60)!r}, which cannot carry the key. Give "
                "the name of a header, such as X-Api-Key."
            )
        return header

    def header_value(self, what: str, value: str) -> str:
        """
        Check that a value can be sent in a header.

        :param what: the value, for messages.
        :param value: the value.
        :returns: the value without the white space around it.
        """
        value = value.strip()
        if not value.isascii() or not value.isprintable():
            raise self.wrong(
                f"{what} contains characters that no header can carry (line break, or not ASCII)."
            )
        return value

    def params(self, name: str, *, own: Mapping[str, str]) -> dict[str, str]:
        """
        Return query parameters for every request; numbers and flags are written as the openai client does.

        :param name: the field.
        :param own: parameters that come from other settings.
        """
        found = {}
        for param, value in self.object(name).items():
            shown = one_line(param, limit=60)
            if not param.strip() or not param.isprintable():
                raise self.wrong(f"{self.where} {name!r} contains {shown!r}, which is no parameter's name.")
            if param in _OWN_PARAMS or param in own:
                raise self.wrong(
                    f"{self.where} {name!r} may not set {shown!r}, which "
                    f"{_OWN_PARAMS.get(param, repr(param.replace('-', '_')) + ' of the extra sets')}."
                )
            if not isinstance(value, str | bool | int | float):
                raise self.wrong(
                    f"{self.where} {name!r} sets {shown!r} to a {type(value).__name__}; it must be text, a "
                    "number, true or false."
                )
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if not text.isprintable():
                raise self.wrong(f"{self.where} {name!r} sets {shown!r} to a text with a control character.")
            found[param] = text
        return found


_OWN_PARAMS = {
    "after": "each request sets for itself",
    "limit": "'page_size' of the extra sets",
}
