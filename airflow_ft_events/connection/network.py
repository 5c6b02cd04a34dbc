"""The environment's network settings, read once and passed to both clients."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from airflow_ft_events.connection.authentication import ClientCertificate
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningInputError

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """
    How a server is reached. It can be compared, so that waits with the same one share a session.

    :param proxy: proxy URL, or None for a direct connection; it may contain a password.
    :param ca: path of the CA bundle (file or folder), or None if certificates are not verified.
    :param client_cert: the certificate with which this side identifies itself; default None.
    :param client_cert_changed: when its files were last changed, in ns: a renewed one needs a new session.
    """

    proxy: str | None = field(default=None, repr=False)
    ca: str | None = None
    client_cert: ClientCertificate | None = None
    client_cert_changed: tuple[int, ...] = ()

    @property
    def tls(self) -> Network:
        """What a TLS context is made from."""
        return replace(self, proxy=None)


def network_of(settings: Settings) -> Network:
    """
    Read proxies and CA bundle from the environment, as requests understands them.

    ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; ``REQUESTS_CA_BUNDLE``,
    ``CURL_CA_BUNDLE`` or ``SSL_CERT_FILE``, unless the connection's ``verify`` says otherwise. It imports
    requests and accesses files, so it is not for an event loop's thread.

    :param settings: the connection.
    :returns: proxy and CA bundle.
    :raises FineTuningInputError: for a proxy that one of the clients cannot use, a missing CA bundle, or a
        client certificate that cannot be used.
    """
    import certifi
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(settings.root, get_environ_proxies(settings.root, no_proxy=None)) or None
    if proxy:
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if problem := _proxy_problem(proxy):
            raise FineTuningInputError(
                f"Connection {settings.conn_id!r}: the environment sets a proxy {problem}. Add "
                f"{urlsplit(settings.root).hostname} to NO_PROXY if it needs none.",
                conn_id=settings.conn_id,
            )
    own = _own_certificate(settings)
    if settings.verify is False:
        return replace(own, proxy=proxy)
    found = settings.verify if isinstance(settings.verify, str) else None
    origin = "the extra's 'verify'" if found else ""
    for name in () if found else _CA_VARIABLES:
        if os.environ.get(name):
            found, origin = os.environ[name], name
            break
    if found and not Path(found).exists():
        raise FineTuningInputError(
            f"Connection {settings.conn_id!r}: the CA bundle set by {origin} does not exist: {found}",
            conn_id=settings.conn_id,
        )
    if found and (problem := _bundle_problem(found, Path(found).stat().st_mtime_ns)):
        raise FineTuningInputError(
            f"Connection {settings.conn_id!r}: the CA bundle set by {origin} cannot be used: {found} "
            f"({problem}).",
            conn_id=settings.conn_id,
        )
    return replace(own, proxy=proxy, ca=found or certifi.where())


def _own_certificate(settings: Settings) -> Network:
    """Check the connection's client certificate, by loading it, once per change."""
    own = settings.client_cert
    if own is None:
        return Network()
    missing = [path for path in own.paths if not Path(path).is_file()]
    problem = f"there is no file {missing[0]} where this runs" if missing else None
    if not problem:
        changed = tuple(Path(path).stat().st_mtime_ns for path in own.paths)
        problem = _certificate_problem(own, changed)
    if problem:
        raise FineTuningInputError(
            f"Connection {settings.conn_id!r}: the certificate that the extra's 'client_cert' names cannot "
            f"be used: {problem}.",
            conn_id=settings.conn_id,
        )
    return Network(client_cert=own, client_cert_changed=changed)


@lru_cache(maxsize=32)
def _certificate_problem(own: ClientCertificate, changed: tuple[int, ...]) -> str | None:
    """Say why a client certificate cannot be used, without its password."""
    try:
        _load(ssl.create_default_context(), own)
    except ssl.SSLError as fault:
        reason = (fault.reason or "").replace("_", " ").lower() or type(fault).__name__
        return (
            f"{' and '.join(own.paths)}: {reason} (is it PEM, with its key, and is the key's password right?)"
        )
    except OSError as fault:
        return f"{' and '.join(own.paths)}: {fault.strerror or type(fault).__name__}"
    return None


def _load(context: ssl.SSLContext, own: ClientCertificate) -> None:
    # without a password OpenSSL would ask for one on the terminal, and wait
    context.load_cert_chain(own.cert, own.key, password=lambda: own.password or "")


@lru_cache(maxsize=32)
def _bundle_problem(path: str, changed: int) -> str | None:
    """Say why a CA bundle cannot be used; reading a big one takes long, so only once per change."""
    try:
        tls_context(Network(ca=path))
    except OSError as fault:
        return fault.strerror or type(fault).__name__
    return None


def _proxy_problem(proxy: str) -> str | None:
    """Say why a proxy cannot be used by both clients, without showing it: it may contain a password."""
    try:
        parts = urlsplit(proxy)
        whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole:
        return "that is not a URL with a host name; a password in it must be percent-encoded"
    if parts.scheme not in ("http", "https"):
        return f"of scheme {parts.scheme!r}; only http and https proxies can be used"
    return None


def tls_context(network: Network) -> ssl.SSLContext:
    """
    Build the TLS context; it reads the whole CA bundle, so it is not for an event loop's thread.

    :param network: the network, with the CA bundle and the client certificate to use.
    :returns: the context.
    """
    if network.ca is None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif Path(network.ca).is_dir():
        context = ssl.create_default_context(capath=network.ca)
    else:
        context = ssl.create_default_context(cafile=network.ca)
    if network.client_cert is not None:
        _load(context, network.client_cert)
    return context
