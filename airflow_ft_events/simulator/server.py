"""Serves a simulator on loopback: one thread, one event loop, one handler."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future

from aiohttp import web

from airflow_ft_events.simulator.bodies import Body, read_body
from airflow_ft_events.simulator.wire import Reply, send_odd

HOST = "127.0.0.1"


class HttpThread:
    """
    Passes requests to a plain function and sends its replies.

    :param answer: makes the reply to a request; called in the server's thread; must not block.
    """

    def __init__(self, answer: Callable[[web.BaseRequest, Body], Reply]) -> None:
        self._answer = answer
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self, *, port: int) -> int:
        """
        Start to listen.

        :param port: the port to listen on; 0 takes a free one.
        :returns: the port.
        :raises OSError: if the port cannot be used.
        """
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(port, ready), name="fine-tuning-simulator", daemon=True
        )
        self._thread.start()
        try:
            return ready.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    def stop(self) -> None:
        """Close every socket and end the thread; does nothing if it is not running."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def _run(self, port: int, ready: Future[int]) -> None:
        try:
            asyncio.run(self._serve(port, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, port: int, ready: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        handler = web.Server(self._handle, access_log=None)
        server = await self._loop.create_server(handler, HOST, port, backlog=1024)
        ready.set_result(server.sockets[0].getsockname()[1])
        try:
            await self._stopping.wait()
        finally:
            server.close()
            handler.pre_shutdown()  # otherwise idle connections would be waited for as if they were busy
            await handler.shutdown(timeout=0.1)
            await server.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        reply = self._answer(request, await read_body(request))
        if reply.stall:
            await asyncio.sleep(reply.stall)
        response = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        if reply.odd:
            if request.transport is not None:
                await send_odd(request.transport, reply)
            response.force_close()
        return response
