"""A connection's settings, checked once and the same for both transports."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow_ft_events.connection.credential import Credential, Key
from airflow_ft_events.connection.redaction import Redactor, redacted_url
from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.events import one_line
from airflow_ft_events.vendors import AUTO, Vendor, vendor_for

CONNECT_TIMEOUT = 10.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = {"authorization", "api-key", "host", "content-length", "transfer-encoding", "accept-encoding"}
_OWN_HEADERS |= {
    "content-encoding",
    "content-type",
    "connection",
    "cookie",
    "proxy-authorization",
    "te",
    "trailer",
}
KNOWN_EXTRA = {"vendor", "organization", "project", "api_version", "auth", "signals", "headers"}
KNOWN_EXTRA |= {"timeout", "max_retries", "page_size", "verify", "allow_http"}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
RETIRED = 16
"""Earlier secrets that are still masked."""
READ_TIMEOUTS = 10
"""Read timeouts that a whole response may take: a server that sends slowly must not hold up a wait."""
WORKER_BODY_LIMIT = 32 * 1024 * 1024
"""The largest response that is read on a worker, in decoded bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    One connection, ready for either transport. Its repr shows no secret.

    :param conn_id: the Airflow connection.
    :param root: the API's root URL, without a trailing slash.
    :param vendor: the server family.
    :param credential: the API key, or a source of tokens.
    :param headers: additional headers, including the organization's and the project's.
    :param params: query parameters for every request (Azure's API version).
    :param timeout: seconds to wait for a read; default 30.
    :param connect_timeout: seconds to wait for a connection; 10.
    :param max_retries: how often a call on a worker is retried; default 5.
    :param page_size: events per page; default 100.
    :param verify: whether TLS certificates are verified, or the path of a CA bundle; default True.
    """

    conn_id: str
    root: str
    vendor: Vendor
    credential: Credential = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 30.0
    connect_timeout: float = CONNECT_TIMEOUT
    max_retries: int = 5
    page_size: int = 100
    verify: bool | str = True
    unknown: tuple[str, ...] = ()
    """Unknown names in the connection's extra, most likely misspelt."""

    retired: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Secrets of this connection before it was edited: what was read with them may still quote them."""

    def __post_init__(self) -> None:
        for name in ("headers", "params"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def after(self, earlier: Settings) -> Settings:
        """
        Take the place of what the connection said before.

        :param earlier: the connection as it was.
        :returns: these settings, which mask the earlier secrets as well.
        """
        known = dict.fromkeys((*earlier.retired, *earlier.redact.secrets))
        return replace(self, retired=tuple(known)[-RETIRED:])

    def headers_with(self, secret: str) -> dict[str, str]:
        """
        Return all headers of a request.

        :param secret: the credential's current secret.
        :returns: values by header name.
        """
        vendor = self.vendor
        key = {vendor.key_header: f"{vendor.key_prefix}{secret}"}
        return {"Accept": "application/json", **self.headers, **key}

    @property
    def redact(self) -> Redactor:
        """Masks the key and the values of the connection's own headers."""
        return Redactor(self.credential, (*self.headers.values(), *self.retired))


class _Fields:
    """The fields of one connection, read with errors that name the connection and the field."""

    def __init__(self, conn_id: str, fields: Mapping[str, Any], *, where: str) -> None:
        self.conn_id, self.fields, self.where = conn_id, fields, where

    def wrong(self, problem: str) -> FineTuningInputError:
        return FineTuningInputError(f"Connection {self.conn_id!r}: {problem}", conn_id=self.conn_id)

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(f"{self.where} {name!r} must be text, not {type(value).__name__}.")
        return value.strip()

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
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
        number = self.number(name, default, least=least, most=most)
        if number != int(number):
            raise self.wrong(f"{self.where} {name!r} is {number:g}; it must be a whole number.")
        return int(number)

    def flag(self, name: str, *, default: bool) -> bool | str:
        value = self.fields.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip()
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        return word

    def mapping(self, name: str) -> dict[str, str]:
        value = self.fields.get(name)
        if value is None or value == "":
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise self.wrong(f"{self.where} {name!r} is not JSON.") from None
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise self.wrong(f"{self.where} {name!r} must be a JSON object with text values.")
        return {str(key): text for key, text in value.items()}


def _header_value(fields: _Fields, name: str, value: str) -> str:
    value = value.strip()
    if not value.isascii() or not value.isprintable():
        raise fields.wrong(f"{name} contains characters that no header can carry (line break, or not ASCII).")
    return value


def _base_url(fields: _Fields, given: str, vendor_name: str, *, allow_http: bool) -> tuple[str, Vendor]:
    """Check the base URL and find its server family."""
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise fields.wrong("the base URL in 'Host' is not a URL.") from None
    shown = redacted_url(given)
    if given and (parts.scheme not in ("http", "https") or not host):
        fix = "" if "://" in given else f" Write https://{shown.lstrip('/')} if that is the server."
        raise fields.wrong(
            f"the base URL in 'Host' is {shown!r}; it needs http:// or https:// and a host name.{fix}"
        )
    if given and (parts.username is not None or parts.query or parts.fragment):
        raise fields.wrong(
            "the base URL in 'Host' must contain no user, password, query or fragment; the API key "
            "belongs in 'Password'."
        )
    if re.search(r"[\s\x00-\x1f\x7f]", given):
        raise fields.wrong("the base URL in 'Host' contains white space or control characters.")
    try:
        vendor = vendor_for(vendor_name, host=host)
    except ValueError as fault:
        raise fields.wrong(f"{fault}.") from None
    if not given:
        if not vendor.base_url:
            raise fields.wrong(
                f"vendor {vendor.name} has no default address; put the resource's URL into 'Host'."
            )
        return vendor.base_url, vendor
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise fields.wrong(
            f"the base URL {shown!r} is not encrypted, and the API key would cross the network in plain "
            "text. Use https://, or set 'allow_http' in the extra if that network is yours."
        )
    root = f"{parts.scheme}://{_netloc(host, port)}{parts.path.rstrip('/')}"
    if vendor.base_url and not parts.path.strip("/") and vendor.serves(host):
        root += urlsplit(vendor.base_url).path
    return root, vendor


def _netloc(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def _with_port(url: str, port: int | None) -> str:
    """Add a port to a URL that has none; a URL that cannot be parsed is left for the later check."""
    try:
        parts = urlsplit(url)
        if not port or not parts.hostname or parts.port:
            return url
    except ValueError:
        return url
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}").geturl()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_openai(fields: _Fields, host: str, password: str) -> tuple[str, str, dict[str, Any]]:
    """Read a connection of the openai provider; refuse by name what is not supported here."""
    client = fields.fields.get("openai_client_kwargs") or {}
    if not isinstance(client, Mapping):
        raise fields.wrong("the extra's 'openai_client_kwargs' must be a JSON object.")
    known = {"api_key", "base_url", "organization", "project", "default_headers", "timeout", "max_retries"}
    if refused := sorted(set(client) - known):
        raise fields.wrong(
            f"'openai_client_kwargs' contains {', '.join(refused)}, which this provider does not support. "
            "Create a connection of type 'fine_tuning' for it."
        )
    extra = {name: value for name, value in fields.fields.items() if name != "openai_client_kwargs"}
    extra |= {
        name: client[name] for name in ("organization", "project", "timeout", "max_retries") if name in client
    }
    if "default_headers" in client:
        extra["headers"] = client["default_headers"]
    return str(client.get("base_url") or host), str(client.get("api_key") or password), extra


def settings_of(
    *,
    conn_id: str,
    conn_type: str = "fine_tuning",
    host: str | None = None,
    schema: str | None = None,
    port: int | None = None,
    password: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Settings:
    """
    Read a connection of type ``fine_tuning``, ``openai`` or ``http``.

    :param conn_id: its id, for messages.
    :param conn_type: its type.
    :param host: base URL, or for ``http`` a host name; empty for the vendor's own address.
    :param schema: ``http`` or ``https``, for type ``http`` only.
    :param port: port, for type ``http`` only.
    :param password: the API key.
    :param extra: the connection's extra as a dict.
    :returns: checked settings.
    :raises FineTuningInputError: for anything that cannot work; the message contains the field's name.
    """
    given, secret, options = (host or "").strip(), password or "", dict(extra or {})
    fields = _Fields(conn_id, options, where="the extra's")
    if conn_type == "openai":
        given, secret, options = _of_openai(fields, given, secret)
    elif conn_type == "http":
        if given and "://" not in given:
            given = f"{(schema or 'http').strip()}://{given}"
        given = _with_port(given, port)
    elif conn_type not in ("fine_tuning", "fine-tuning"):
        raise fields.wrong(f"its type is {conn_type!r}; use one of type fine_tuning, openai or http.")
    elif schema or port:
        raise fields.wrong(
            "a fine_tuning connection takes its whole base URL from 'Host' (such as "
            "https://api.openai.com/v1); leave 'Schema' and 'Port' empty."
        )
    fields = _Fields(conn_id, options, where="the extra's")
    allow_http = fields.flag("allow_http", default=False)
    if isinstance(allow_http, str):
        raise fields.wrong(
            f"the extra's 'allow_http' is {one_line(allow_http, limit=40)!r}; it must be true or false."
        )
    base_url, vendor = _base_url(fields, given, fields.text("vendor") or AUTO, allow_http=allow_http)
    key = _header_value(fields, "the API key in 'Password'", secret)
    if not key and fields.text("auth").lower() != "entra":
        raise fields.wrong(
            "it has no API key. Put the key into 'Password' (any text for a server that asks for none)."
        )
    return _settings(fields, base_url, vendor, key)


def _settings(fields: _Fields, base_url: str, vendor: Vendor, key: str) -> Settings:
    auth = fields.text("auth").lower() or "key"
    credential: Credential = Key(key)
    if auth == "entra":
        scope = vendor.token_scope(urlsplit(base_url).hostname or "")
        if scope is None:
            raise fields.wrong(
                f"the extra's 'auth' is 'entra', which only Azure supports; the vendor is {vendor.name}."
            )
        # imported only here: it uses the clock, which the rest of this module does not need
        from airflow_ft_events.connection.entra import EntraCredential

        vendor = replace(vendor, key_header="Authorization", key_prefix="Bearer ")
        credential = EntraCredential(scope, fields.conn_id)
    elif auth != "key":
        raise fields.wrong(f"the extra's 'auth' is {one_line(auth, limit=40)!r}; use 'key' or 'entra'.")
    try:
        root, params = vendor.root(base_url, api_version=fields.text("api_version") or None)
        vendor = vendor.with_signals(fields.mapping("signals"))
    except ValueError as fault:
        raise fields.wrong(f"the extra: {fault}.") from None
    headers: dict[str, str] = {}
    for name, value in fields.mapping("headers").items():
        if name.lower() in _OWN_HEADERS or not _HEADER_NAME.fullmatch(name):
            raise fields.wrong(f"the extra's 'headers' may not set {one_line(name, limit=60)!r}.")
        headers[name] = _header_value(fields, f"header {name!r}", value)
    for name, header in (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project")):
        if value := fields.text(name):
            headers[header] = _header_value(fields, f"the extra's {name!r}", value)
    return Settings(
        conn_id=fields.conn_id,
        root=root,
        vendor=vendor,
        credential=credential,
        headers=headers,
        params=params,
        timeout=fields.number("timeout", 30.0, least=0.1, most=3600),
        max_retries=fields.whole("max_retries", 5, least=0, most=100),
        page_size=fields.whole("page_size", 100, least=1, most=10_000),
        verify=fields.flag("verify", default=True),
        unknown=tuple(sorted(set(fields.fields) - KNOWN_EXTRA)),
    )
