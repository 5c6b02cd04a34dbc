"""How a connection authenticates: which credential, in which header, and the certificate beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from airflow_ft_events.connection.credential import Credential, Key, NoKey
from airflow_ft_events.connection.fields import Fields
from airflow_ft_events.events import one_line
from airflow_ft_events.vendors import Vendor

_NO_PREFIX = ("", "none")
_AUTHS = ("key", "entra", "aws", "none")
_NEEDED_AUTH = {"token_scope": "entra", "aws_conn_id": "aws"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """
    The certificate with which this side of a TLS connection identifies itself.

    :param cert: path of a PEM file with the certificate, and with its chain and key if it has them.
    :param key: path of a PEM file with the key; default None, in the same file.
    :param password: the key's password; default None.
    """

    cert: str
    key: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files."""
        return (self.cert,) if self.key is None else (self.cert, self.key)


def authenticated(fields: Fields, base_url: str, vendor: Vendor, key: str) -> tuple[Vendor, Credential]:
    """
    Choose what authenticates the requests of a connection.

    :param fields: the connection's extra.
    :param base_url: the checked base URL.
    :param vendor: the server family.
    :param key: the checked password; may be empty.
    :returns: the family, with the header that carries the secret, and the credential.
    """
    auth = fields.text("auth").lower() or "key"
    if auth not in _AUTHS:
        raise fields.wrong(
            f"the extra's 'auth' is {one_line(auth, limit=40)!r}; use one of {', '.join(map(repr, _AUTHS))}."
        )
    for name, needed in _NEEDED_AUTH.items():
        if fields.text(name) and auth != needed:
            raise fields.wrong(
                f"the extra sets {name!r}, which is used with 'auth': {needed!r} only, but 'auth' is "
                f"{auth!r}."
            )
    if auth == "entra":
        credential = _entra(fields, base_url, vendor)
    elif auth == "aws":
        credential = _aws(fields, base_url, vendor)
    elif auth == "key":
        if not key:
            raise fields.wrong(
                "it has no API key. Put the key into 'Password' (any text for a server that asks for none, "
                "or set 'auth' in the extra to 'none')."
            )
        return _in_header(fields, vendor), Key(key)
    else:
        return _without_header(fields, vendor), NoKey()
    return _in_header(fields, replace(vendor, key_header="Authorization", key_prefix="Bearer ")), credential


def _entra(fields: Fields, base_url: str, vendor: Vendor) -> Credential:
    scope = fields.text("token_scope")
    if not scope.isprintable() or " " in scope:
        raise fields.wrong("the extra's 'token_scope' contains white space or a control character.")
    parts = urlsplit(base_url)
    known = vendor.token_scope(parts.hostname or "", path=parts.path)
    if not (scope or known):
        raise fields.wrong(
            "the extra's 'auth' is 'entra', which needs 'token_scope' for any server but Azure; the vendor "
            f"is {vendor.name}."
        )
    # imported only here: it uses the clock, which the rest of this module does not need
    from airflow_ft_events.connection.entra import EntraCredential

    return EntraCredential(scope or str(known), fields.conn_id)


def _aws(fields: Fields, base_url: str, vendor: Vendor) -> Credential:
    if not vendor.takes_aws_keys:
        raise fields.wrong(
            f"the extra's 'auth' is 'aws', which only Amazon Bedrock supports; the vendor is {vendor.name}."
        )
    from airflow_ft_events.connection.bedrock import DEFAULT_AWS_CONN_ID, BedrockCredential

    return BedrockCredential(
        region=vendor.region_of(urlsplit(base_url).hostname or ""),
        aws_conn_id=fields.text("aws_conn_id") or DEFAULT_AWS_CONN_ID,
        conn_id=fields.conn_id,
    )


def _in_header(fields: Fields, vendor: Vendor) -> Vendor:
    """Put the secret where the connection says, else where the family wants it."""
    name = fields.key_header("key_header")
    prefix: object = fields.fields.get("key_prefix")
    if prefix is not None:
        prefix = fields.header_value("the extra's 'key_prefix'", _text(fields, prefix))
        # a scheme's name ends before the key begins: "Basic" means "Basic "
        prefix = "" if prefix.lower() in _NO_PREFIX else f"{prefix} " if prefix[-1].isalnum() else prefix
    elif name:
        prefix = "Bearer " if name.lower() == "authorization" else ""
    return replace(
        vendor,
        key_header=name or vendor.key_header,
        key_prefix=vendor.key_prefix if prefix is None else str(prefix),
    )


def _text(fields: Fields, value: object) -> str:
    if not isinstance(value, str):
        raise fields.wrong(f"the extra's 'key_prefix' must be text, not {type(value).__name__}.")
    return value


def _without_header(fields: Fields, vendor: Vendor) -> Vendor:
    for name in ("key_header", "key_prefix"):
        if fields.fields.get(name):
            raise fields.wrong(
                f"the extra sets {name!r}, but 'auth' is 'none', which sends no key; leave one out."
            )
    return replace(vendor, key_header="", key_prefix="")


def checked_certificate(fields: Fields, root: str) -> ClientCertificate | None:
    """
    Read the client certificate of a connection; whether its files exist is checked where they are used.

    :param fields: the connection's extra.
    :param root: the API's root.
    :returns: the certificate; None if there is none.
    """
    given = fields.value("client_cert")
    if given is None:
        return None
    parts = {"cert": given} if isinstance(given, str) else given
    if not isinstance(parts, Mapping) or not all(isinstance(text, str | None) for text in parts.values()):
        raise fields.wrong(
            "the extra's 'client_cert' must be the path of a PEM file, or an object with the texts 'cert', "
            "'key' and 'password'."
        )
    if others := sorted(set(map(str, parts)) - {"cert", "key", "password"}):
        raise fields.wrong(
            f"the extra's 'client_cert' contains {one_line(', '.join(others), limit=60)}; it may contain "
            "'cert', 'key' and 'password'."
        )
    paths = {name: (parts.get(name) or "").strip() for name in ("cert", "key")}
    if not paths["cert"] or not all(path.isprintable() for path in paths.values()):
        raise fields.wrong("the extra's 'client_cert' contains no usable path for 'cert'.")
    if not root.startswith("https://"):
        raise fields.wrong("the extra's 'client_cert' needs an https:// address in 'Host'.")
    return ClientCertificate(
        cert=paths["cert"], key=paths["key"] or None, password=parts.get("password") or None
    )
