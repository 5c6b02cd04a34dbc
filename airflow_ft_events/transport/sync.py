"""The transport on requests: carries requests and responses, enforces the byte limit, decides nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

import requests
import urllib3

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult, FaultKind
from airflow_ft_events.connection.network import Network, tls_context
from airflow_ft_events.connection.settings import WORKER_BODY_LIMIT, Settings
from airflow_ft_events.errors import FineTuningAuthError
from airflow_ft_events.transport.bounded_http import BoundedAdapter, IncompleteInTime, ending_at

READ_AT_ONCE = 256 * 1024
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: 407 ?(.*)", re.DOTALL)
"""What the standard library makes of a proxy's 407 to a CONNECT: it keeps the line and not the answer."""


class KeyAuth(requests.auth.AuthBase):
    """
    Puts the key on each request. Its repr shows nothing of it.

    :param settings: the connection.
    :param secret: the secret to use; default None, the one that is current at each request.
    """

    def __init__(self, settings: Settings, *, secret: str | None = None) -> None:
        self._settings, self._secret = settings, secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        secret = self._settings.credential.current() if self._secret is None else self._secret
        request.headers.update(self._settings.key_headers(secret))
        return request

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, KeyAuth) and other._settings is self._settings and other._secret == self._secret
        )

    def __hash__(self) -> int:
        return id(self._settings)

    def __repr__(self) -> str:
        return f"KeyAuth(conn_id={self._settings.conn_id!r})"


class _NoCookies(requests.cookies.RequestsCookieJar):
    def set_cookie(self, cookie: Any, *args: Any, **kwargs: Any) -> None:
        """Keep none: a wait must not depend on a gateway's cookies."""


class _Session(requests.Session):
    """A session that never waits for ever, and takes full URLs or paths relative to the API's root."""

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__()
        self._root = settings.root
        # requests takes no password for a certificate's key, so the context is ours where there is one
        context = tls_context(network) if network.client_cert else None
        for scheme in ("http://", "https://"):
            self.mount(scheme, BoundedAdapter(context))
        self.timeout: tuple[float, float] = (settings.connect_timeout, settings.timeout)

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self.timeout)
        return super().request(
            method, f"{self._root}{url}" if str(url).startswith("/") else url, *args, **kwargs
        )

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow no redirects: requests would read the body without a limit, and keep an api-key header."""
        return None


def session_of(settings: Settings, network: Network) -> _Session:
    """
    Build a session that is ready to use against the connection's server.

    :param settings: the connection.
    :param network: proxies, CA bundle and client certificate.
    :returns: a session that uses nothing else from the environment and keeps no cookies.
    """
    session = _Session(settings, network)
    session.trust_env = False
    session.auth = KeyAuth(settings)
    session.headers.update({"Accept": "application/json", **settings.headers})
    session.params = dict(settings.params)
    session.cookies = _NoCookies()
    session.verify = network.ca if network.ca is not None else False
    if network.proxy:
        session.proxies = {"http": network.proxy, "https": network.proxy}
    return session


class SyncTransport:
    """
    Sends requests over one session.

    :param settings: the connection.
    :param network: proxies and CA bundle.
    :param body_limit: the largest response that is read, in decoded bytes; default 32 MiB.
    """

    def __init__(self, settings: Settings, network: Network, *, body_limit: int = WORKER_BODY_LIMIT) -> None:
        self.settings = settings
        self.session = session_of(settings, network)
        self._body_limit = body_limit
        self._reused = False

    def send(self, request: ApiRequest) -> ApiResult:
        """
        Send one request.

        :param request: the request.
        :returns: the whole response, whatever its status, or the fault.
        """
        try:
            secret = self.settings.credential.current()
        except FineTuningAuthError as error:
            return ApiFault(FaultKind.NO_TOKEN, str(error).rstrip("."))
        reply = self._send(request, secret=secret)
        if isinstance(reply, ApiFault) and reply.kind is FaultKind.STALE:
            reply = self._send(request, secret=secret)
            if request.method != "GET":
                # the server may have acted before it closed the connection
                reply = replace(reply, tries=reply.tries + 1)
        return reply

    def sender_within(self, seconds: float) -> Callable[[ApiRequest], ApiResult]:
        """
        Make a sender for requests that may take so long together, whatever the server does.

        :param seconds: from now on.
        :returns: a function as :meth:`send`; it answers with a timeout when the time is over.
        """
        ends_at = time.monotonic() + seconds

        def send(request: ApiRequest) -> ApiResult:
            left = ends_at - time.monotonic()
            if left <= 0:
                return ApiFault(FaultKind.TIMEOUT, f"no answer in {seconds:g} s")
            self.session.timeout = (min(self.settings.connect_timeout, left), left)
            try:
                with ending_at(ends_at):
                    return self.send(request)
            finally:
                self.session.timeout = (self.settings.connect_timeout, self.settings.timeout)

        return send

    def _send(self, request: ApiRequest, *, secret: str) -> ApiResult:
        reused, self._reused = self._reused, True
        try:
            with self.session.request(
                request.method,
                request.path,
                params=request.params,
                auth=KeyAuth(self.settings, secret=secret),
                allow_redirects=False,
                stream=True,
            ) as answer:
                body = self._body(answer)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return self._fault(error, reused=reused)
        if body is None:
            limit = self._body_limit // (1024 * 1024)
            return ApiFault(FaultKind.TOO_LARGE, f"the response is larger than {limit} MiB, the limit here")
        return ApiResponse(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body)

    def _body(self, answer: requests.Response) -> bytes | None:
        """Read the decoded body up to the limit; None beyond it."""
        chunks: list[bytes] = []
        size = 0
        while chunk := answer.raw.read1(READ_AT_ONCE, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._body_limit:
                return None
        return b"".join(chunks)

    def _fault(self, error: Exception, *, reused: bool) -> ApiResult:
        if refusal := _TUNNEL_REFUSED.search(str(_innermost(error))):
            return ApiResponse(407, {}, refusal[1].encode())
        kind = FaultKind.BROKEN
        if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
            kind = FaultKind.TLS
        elif isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
            kind = FaultKind.TIMEOUT
            if late := _late(error):
                return ApiFault(kind, str(late))
        elif _dropped_before_answer(error):
            kind = FaultKind.STALE if reused else FaultKind.BROKEN
        elif isinstance(error, requests.ConnectionError | urllib3.exceptions.NewConnectionError):
            kind = FaultKind.CONNECT
        return ApiFault(kind, _in_words(kind, error, self.settings))

    def close(self) -> None:
        """Close the session."""
        self.session.close()

    def __enter__(self) -> SyncTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _dropped_before_answer(error: BaseException) -> bool:
    """Whether the server closed the connection without a single byte of a response."""
    found: BaseException | None = error
    for _ in range(6):
        if found is None:
            return False
        if type(found).__name__ in ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"):
            return True
        inner = next((arg for arg in found.args if isinstance(arg, BaseException)), None)
        found = inner or found.__cause__ or found.__context__
    return False


def _late(error: BaseException | None) -> IncompleteInTime | None:
    """Find the limit of the whole response among the causes of a timeout."""
    for _ in range(10):
        if error is None or isinstance(error, IncompleteInTime):
            return error
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = inner or error.__cause__ or error.__context__
    return None


def _innermost(error: BaseException) -> BaseException:
    """Return the reason of an error's reason, and so on."""
    for _ in range(6):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _in_words(kind: FaultKind, error: Exception, settings: Settings) -> str:
    """Say what happened, with the innermost reason, but never with a header or a URL's secrets."""
    reason = _innermost(error)
    text = settings.redact.line(reason, limit=200)
    text = text.rpartition("object at 0x")[2].partition(": ")[2] or text
    what = {
        FaultKind.TIMEOUT: f"no answer in {settings.timeout:g} s (connect: {settings.connect_timeout:g} s)",
        FaultKind.CONNECT: "could not connect",
        FaultKind.TLS: "the TLS connection failed",
    }.get(kind, "the connection broke")
    return what if kind is FaultKind.TIMEOUT else f"{what} ({type(reason).__name__}: {text})"
