"""A connection's settings, checked once and the same for both transports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus

from airflow_ft_events.connection.address import checked_base_url, checked_dashboard_url, with_port
from airflow_ft_events.connection.authentication import ClientCertificate, authenticated, checked_certificate
from airflow_ft_events.connection.credential import Credential
from airflow_ft_events.connection.fields import Fields
from airflow_ft_events.connection.redaction import NO_WORD, Redactor
from airflow_ft_events.events import one_line
from airflow_ft_events.vendors import AUTO, Vendor

CONNECT_TIMEOUT = 10.0
KNOWN_EXTRA = {"vendor", "organization", "project", "api_version", "auth", "signals", "headers"}
KNOWN_EXTRA |= {"timeout", "max_retries", "page_size", "verify", "allow_http", "params", "client_cert"}
KNOWN_EXTRA |= {"key_header", "key_prefix", "token_scope", "aws_conn_id", "dashboard_url", "states"}
RETIRED = 16
"""Earlier keys that are still masked, and as many other earlier secrets."""
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
    :param params: query parameters for every request, Azure's API version among them.
    :param timeout: seconds to wait for a read; default 30.
    :param connect_timeout: seconds to wait for a connection; 10.
    :param max_retries: how often a call on a worker is retried; default 5.
    :param page_size: events per page; default 100.
    :param verify: whether TLS certificates are verified, or the path of a CA bundle; default True.
    :param client_cert: the certificate with which this side identifies itself; default None.
    :param dashboard_url: where people see a job, with ``{job_id}`` for its id; default None.
    """

    conn_id: str
    root: str
    vendor: Vendor
    credential: Credential = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 30.0
    connect_timeout: float = CONNECT_TIMEOUT
    max_retries: int = 5
    page_size: int = 100
    verify: bool | str = True
    client_cert: ClientCertificate | None = None
    dashboard_url: str | None = None
    unknown: tuple[str, ...] = ()
    """Unknown names in the connection's extra, most likely misspelt."""

    retired: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Secrets of this connection before it was edited: what was read with them may still quote them."""

    retired_keys: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Its earlier keys and tokens; apart, so that many headers and parameters do not push them out."""

    redact: Redactor = field(init=False, repr=False, compare=False)
    """Masks the key, the values of the connection's own headers, and what else it may hold as a secret."""

    def __post_init__(self) -> None:
        for name in ("headers", "params"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        hidden = dict.fromkeys((*self._values(), *self.retired, *self.retired_keys))
        object.__setattr__(self, "redact", Redactor(self.credential, tuple(hidden)))

    def _values(self) -> Iterator[str]:
        """Yield what may be a secret besides the key; error texts quote URLs encoded."""
        for value in self.headers.values():
            yield value
            # a server may repeat the token without its scheme
            yield from (part for part in value.split() if NO_WORD <= len(part) < len(value))
        for name, value in self.params.items():
            if len(value) >= NO_WORD and name != "api-version":
                yield from (value, quote_plus(value))
        if self.client_cert and self.client_cert.password:
            yield self.client_cert.password

    def after(self, earlier: Settings) -> Settings:
        """
        Take the place of what the connection said before.

        :param earlier: the connection as it was.
        :returns: these settings, which mask the earlier secrets as well.
        """
        return replace(
            self,
            retired=_retired(earlier.retired, earlier._values(), present=self._values()),
            retired_keys=_retired(earlier.retired_keys, earlier.credential.secrets),
        )

    def headers_with(self, secret: str) -> dict[str, str]:
        """
        Return all headers of a request.

        :param secret: the credential's current secret.
        :returns: values by header name.
        """
        return {"Accept": "application/json", **self.headers, **self.key_headers(secret)}

    def key_headers(self, secret: str) -> dict[str, str]:
        """
        Return the header that carries the secret.

        :param secret: the credential's current secret.
        :returns: one value by header name; none for a server that asks for no key.
        """
        name = self.vendor.key_header
        return {name: f"{self.vendor.key_prefix}{secret}"} if name else {}


def _retired(known: Iterable[str], newly: Iterable[str], *, present: Iterable[str] = ()) -> tuple[str, ...]:
    """Keep the last secrets that are no longer used, the newest last, each once."""
    last = dict.fromkeys(newly)
    kept = [value for value in known if value not in last]
    used = set(present)
    return tuple(value for value in (*kept, *last) if value not in used)[-RETIRED:]


def _of_openai(fields: Fields, host: str, password: str) -> tuple[str, str, dict[str, Any]]:
    """Read a connection of the openai provider; refuse by name what is not supported here."""
    client = fields.fields.get("openai_client_kwargs") or {}
    if not isinstance(client, Mapping):
        raise fields.wrong("the extra's 'openai_client_kwargs' must be a JSON object.")
    known = {"api_key", "base_url", "organization", "project", "default_headers", "default_query"}
    known |= {"timeout", "max_retries"}
    if refused := sorted(set(client) - known):
        raise fields.wrong(
            f"'openai_client_kwargs' contains {', '.join(refused)}, which this provider does not support. "
            "Create a connection of type 'fine_tuning' for it."
        )
    extra = {name: value for name, value in fields.fields.items() if name != "openai_client_kwargs"}
    extra |= {
        name: client[name] for name in ("organization", "project", "timeout", "max_retries") if name in client
    }
    for name, own in (("default_headers", "headers"), ("default_query", "params")):
        if client.get(name) is not None:
            lent = Fields(fields.conn_id, client, where="'openai_client_kwargs':").object(name)
            extra[own] = {**lent, **fields.object(own)}
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
    fields = Fields(conn_id, options, where="the extra's")
    if conn_type == "openai":
        given, secret, options = _of_openai(fields, given, secret)
    elif conn_type == "http":
        if given and "://" not in given:
            given = f"{(schema or 'http').strip()}://{given}"
        given = with_port(given, port)
    elif conn_type not in ("fine_tuning", "fine-tuning"):
        raise fields.wrong(f"its type is {conn_type!r}; use one of type fine_tuning, openai or http.")
    elif schema or port:
        raise fields.wrong(
            "a fine_tuning connection takes its whole base URL from 'Host' (such as "
            "https://api.openai.com/v1); leave 'Schema' and 'Port' empty. In a URI, percent-encode the base "
            "URL, and each / (%2F) and @ (%40) in the key."
        )
    fields = Fields(conn_id, options, where="the extra's")
    allow_http = fields.flag("allow_http", default=False)
    if isinstance(allow_http, str):
        raise fields.wrong(
            f"the extra's 'allow_http' is {one_line(allow_http, limit=40)!r}; it must be true or false."
        )
    base_url, vendor = checked_base_url(fields, given, fields.text("vendor") or AUTO, allow_http=allow_http)
    key = fields.header_value("the API key in 'Password'", secret)
    vendor, credential = authenticated(fields, base_url, vendor, key)
    try:
        root, params = vendor.root(base_url, api_version=fields.text("api_version") or None)
        vendor = vendor.with_signals(fields.mapping("signals")).with_states(fields.mapping("states"))
    except ValueError as fault:
        raise fields.wrong(f"the extra: {fault}.") from None
    return Settings(
        conn_id=fields.conn_id,
        root=root,
        vendor=vendor,
        credential=credential,
        headers=_headers(fields, vendor),
        params=params | fields.params("params", own=params),
        timeout=fields.number("timeout", 30.0, least=0.1, most=3600),
        max_retries=fields.whole("max_retries", 5, least=0, most=100),
        page_size=fields.whole("page_size", 100, least=1, most=10_000),
        verify=fields.flag("verify", default=True),
        client_cert=checked_certificate(fields, root),
        dashboard_url=checked_dashboard_url(fields),
        unknown=tuple(sorted(set(fields.fields) - KNOWN_EXTRA)),
    )


def _headers(fields: Fields, vendor: Vendor) -> dict[str, str]:
    headers = fields.headers("headers")
    for name, header in (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project")):
        if value := fields.text(name):
            headers[header] = fields.header_value(f"the extra's {name!r}", value)
    if twice := [name for name in headers if name.lower() == vendor.key_header.lower()]:
        raise fields.wrong(
            f"the extra's 'headers' sets {twice[0]!r}, which 'key_header' says carries the key; leave one "
            "out."
        )
    return headers
