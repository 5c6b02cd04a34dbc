"""The address of a connection: its base URL, checked, and the server family that it leads to."""

from __future__ import annotations

import ipaddress
import re
from string import ascii_letters, digits
from urllib.parse import quote, unquote, urlsplit

from airflow_ft_events.connection.fields import Fields
from airflow_ft_events.connection.redaction import redacted_url
from airflow_ft_events.vendors import Vendor, vendor_for

_UNRESERVED = ascii_letters + digits + "-._~"
_IN_PATH = re.compile(r"(?P<encoded>%[0-9a-fA-F]{2})|[^/:@!$&'()*+,;=\w.~-]", re.ASCII)
"""What a path may not contain as it is, and what is already encoded."""
JOB_ID = "{job_id}"
"""What stands for a job's id in the address of its page."""


def checked_base_url(fields: Fields, given: str, vendor_name: str, *, allow_http: bool) -> tuple[str, Vendor]:
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
    try:
        root = f"{parts.scheme}://{_netloc(_ascii_host(host), port)}{_quoted_path(parts.path).rstrip('/')}"
    except UnicodeError:
        raise fields.wrong(f"the base URL in 'Host' is {shown!r}; its host is no valid name.") from None
    if vendor.base_url and not parts.path.strip("/") and vendor.serves(host):
        root += urlsplit(vendor.base_url).path
    return root, vendor


def _ascii_host(host: str) -> str:
    """Encode an international name as DNS needs it; the HTTP clients would do so in different ways."""
    if host.isascii():
        return host
    import idna  # loads large tables, for few

    return idna.encode(host, uts46=True).decode("ascii")


def _quoted_path(path: str) -> str:
    """Write a path as it is sent, which the HTTP clients would do in different ways."""
    quoted = _IN_PATH.sub(_quoted_part, path)
    kept: list[str] = []
    for segment in quoted.split("/"):
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def _quoted_part(found: re.Match[str]) -> str:
    plain = unquote(found[0], "latin-1") if found["encoded"] else ""
    return plain if plain and plain in _UNRESERVED else found[0].upper() if plain else quote(found[0])


def _netloc(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def with_port(url: str, port: int | None) -> str:
    """Add a port to a URL that has none; a URL that cannot be parsed is left for the later check."""
    try:
        parts = urlsplit(url)
        if not port or not parts.hostname or parts.port:
            return url
    except ValueError:
        return url
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}").geturl()


def unused_fields(
    *, host: str | None, schema: str | None, port: int | None, login: str | None
) -> tuple[str, ...]:
    """
    Name the fields of a connection that its address and key do not come from.

    :param host: as written; a whole URL leaves nothing to Schema and Port.
    :param schema: as written.
    :param port: as written.
    :param login: as written.
    :returns: their labels; empty if all are used or empty.
    """
    try:
        whole = urlsplit((host or "").strip()) if "://" in (host or "") else None
        scheme, own_port = (whole.scheme, whole.port) if whole else (schema, None)
    except ValueError:
        return ()
    found = {"Login": bool(login), "Schema": bool(schema) and schema != scheme}
    return tuple(
        name
        for name, unused in {**found, "Port": bool(port and own_port not in (None, port))}.items()
        if unused
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_dashboard_url(fields: Fields) -> str | None:
    """Check the address of a page about a job, in which ``{job_id}`` stands for the job's id."""
    given = fields.text("dashboard_url")
    if not given:
        return None
    try:
        parts = urlsplit(given.replace(JOB_ID, "job"))
        whole = parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not given.isprintable() or " " in given:
        raise fields.wrong(
            "the extra's 'dashboard_url' is no https:// address; it must look like "
            f"https://llm.example.com/jobs/{JOB_ID}."
        )
    if parts.username is not None:
        raise fields.wrong("the extra's 'dashboard_url' must contain no user and no password: links show it.")
    if JOB_ID not in given.partition("://")[2].partition("/")[2] or set("{}") & set(
        given.replace(JOB_ID, "")
    ):
        raise fields.wrong(
            f"the extra's 'dashboard_url' must contain {JOB_ID} after its host, which becomes the job's id, "
            "and no other braces."
        )
    return given
