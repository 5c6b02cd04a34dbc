"""The transport on aiohttp: carries requests and responses, enforces the byte limit, decides nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult, FaultKind
from airflow_ft_events.connection.network import Network, tls_context
from airflow_ft_events.connection.settings import READ_TIMEOUTS, WORKER_BODY_LIMIT, Settings
from airflow_ft_events.errors import FineTuningAuthError
from airflow_ft_events.transport.bounded_http import incomplete
from airflow_ft_events.transport.encodings import decoded, left_encoded
from airflow_ft_events.transport.kept_connections import CleanConnector

TRIGGER_BODY_LIMIT = 4 * 1024 * 1024
CONNECTIONS = 100
"""Maximum requests in flight of all waits of one event loop and connection together."""

LONGEST_LINE = 65_536
"""Of a response's headers, in bytes: what the standard library takes, and with it requests."""


class _Shared:
    """One session and how many use it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.users = 0


_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Network, _Shared]] = WeakKeyDictionary()
_contexts: dict[Network, ssl.SSLContext] = {}
_MOST_CONTEXTS = 32


@asynccontextmanager
async def shared_session(network: Network) -> AsyncIterator[aiohttp.ClientSession]:
    """
    Share one session among all users in this event loop with the same network settings.

    The last one to leave closes it. Sessions never cross event loops, and contain no credentials and no
    cookies.

    :param network: proxies, CA bundle and client certificate.
    :returns: the session.
    """
    tls = network.tls
    if (context := _contexts.get(tls)) is None:
        context = await asyncio.to_thread(tls_context, tls)
        while len(_contexts) >= _MOST_CONTEXTS:
            # the oldest: most likely of a certificate that was renewed since
            _contexts.pop(next(iter(_contexts)), None)
        _contexts[tls] = context
    shared_here = _sessions.setdefault(asyncio.get_running_loop(), {})
    if network not in shared_here:
        shared_here[network] = _Shared(
            aiohttp.ClientSession(
                # each Airflow connection has its own limit: one slow server must not starve the others
                connector=CleanConnector(limit=0, ssl=context),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
                trust_env=False,
            )
        )
    shared = shared_here[network]
    shared.users += 1
    try:
        yield shared.session
    finally:
        shared.users -= 1
        if shared.users == 0:
            # removed from the map first: a user who comes while it closes makes a new one
            if shared_here.get(network) is shared:
                del shared_here[network]
            await shared.session.close()


@lru_cache(maxsize=2048)
def _url(text: str) -> URL:
    """Parse a URL once: polls use the same ones again and again, and keep what aiohttp derives from them."""
    return URL(text, encoded=True)


class AsyncTransport:
    """
    Sends requests over a shared session.

    :param settings: the connection; its key goes on each request, never into the session.
    :param network: its proxy.
    :param session: from :func:`shared_session`.
    :param body_limit: the largest response that is read, in decoded bytes; default 32 MiB.
    """

    def __init__(
        self,
        settings: Settings,
        network: Network,
        session: aiohttp.ClientSession,
        *,
        body_limit: int = WORKER_BODY_LIMIT,
    ) -> None:
        self.settings = settings
        self._network = network
        self._session = session
        self._body_limit = body_limit
        self._secret: str | None = None
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._params = tuple(settings.params.items())
        self._token_lock = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONNECTIONS)
        # a total would count the wait for a free slot; that wait comes first here, without a limit
        self._timeout = aiohttp.ClientTimeout(
            total=settings.connect_timeout + READ_TIMEOUTS * settings.timeout,
            sock_connect=settings.connect_timeout,
            sock_read=settings.timeout,
        )

    async def send(self, request: ApiRequest) -> ApiResult:
        """
        Send one request.

        :param request: the request.
        :returns: the whole response, whatever its status, or the fault.
        """
        secret = self.settings.credential.at_hand()
        if secret is None:
            try:
                secret = await self._renewed()
            except FineTuningAuthError as error:
                return ApiFault(FaultKind.NO_TOKEN, str(error).rstrip("."))
        if secret is not self._secret:
            self._secret, self._headers = secret, CIMultiDict(self.settings.headers_with(secret))
        query = _query((*self._params, *request.params.items()))
        await self._slots.acquire()
        try:
            async with self._session.request(
                request.method,
                _url(f"{self.settings.root}{request.path}{query}"),
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
                proxy=self._network.proxy,
            ) as answer:
                body = await self._body(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._fault(error)
        finally:
            self._slots.release()
        if body is None:
            limit = self._body_limit // (1024 * 1024)
            return ApiFault(FaultKind.TOO_LARGE, f"the response is larger than {limit} MiB, the limit here")
        return ApiResponse(answer.status, answer.headers, body)

    async def _renewed(self) -> str:
        """Renew the credential's secret off the loop, and once for all senders."""
        async with self._token_lock:
            return await asyncio.to_thread(self.settings.credential.current)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes | None:
        """Read the decoded body up to the limit; None beyond it."""
        length = answer.content_length
        if length is not None and length <= self._body_limit and "Content-Encoding" not in answer.headers:
            return await answer.read()
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._body_limit:
                answer.close()
                return None
        body = b"".join(chunks)
        left = left_encoded(answer.headers.getall("Content-Encoding", ()))
        return decoded(body, left, limit=self._body_limit) if left else body

    def _fault(self, error: Exception) -> ApiResult:
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == 407:  # to a CONNECT
            return ApiResponse(407, {}, error.message.encode())
        settings = self.settings
        refused = isinstance(error, OSError) and "_ALERT_" in str(error)  # after the handshake, in TLS 1.3
        if refused or isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            kind, what = FaultKind.TLS, "the TLS connection failed"
        elif (
            type(error) is TimeoutError and error.errno is None
        ):  # of the total: the others are ServerTimeoutError
            return ApiFault(FaultKind.TIMEOUT, incomplete(self._timeout.total or 0))
        elif isinstance(error, TimeoutError | aiohttp.ServerTimeoutError):
            return ApiFault(
                FaultKind.TIMEOUT,
                f"no answer in {settings.timeout:g} s (connect: {settings.connect_timeout:g} s)",
            )
        elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientProxyConnectionError):
            kind, what = FaultKind.CONNECT, "could not connect"
        else:
            # never STALE: aiohttp itself retries a GET on a connection that the server had closed
            kind, what = FaultKind.BROKEN, "the connection broke"
        reason: BaseException = getattr(error, "os_error", None) or error
        return ApiFault(kind, f"{what} ({type(reason).__name__}: {_words(error, reason, settings)})")


@lru_cache(maxsize=1024)
def _query(params: tuple[tuple[str, str], ...]) -> str:
    """Encode query parameters; most polls of all waits have the same ones."""
    return f"?{urlencode(dict(params))}" if params else ""


def _words(error: Exception, reason: BaseException, settings: Settings) -> str:
    """Say why, but never with the text of an error that prints its request's headers."""
    if isinstance(error, aiohttp.ClientResponseError):
        return settings.redact.line(f"status {error.status} {error.message}", limit=200)
    return settings.redact.line(reason, limit=200)
