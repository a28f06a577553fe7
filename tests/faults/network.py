"""A network that can break: the services reach RabbitMQ and the API server through its links.

The links run on a thread of their own, so that a test can block.
"""

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web
from tests.support.waiting import TIMEOUT_SECONDS

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65536
POLL_SECONDS = 0.01
STATUS_REASONS = {410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
WEB_PAGE = """\
<html>
<head><title>404 Not Found</title></head>
<body>
<center><h1>404 Not Found</h1></center>
<hr><center>nginx</center>
</body>
</html>
"""
"""The answer of a load balancer that has no API server behind it."""
ERROR_SHARE = 0.5
"""The share of the requests that an `ApiProxy` answers with an error."""


class Network:
    """All links of one stack. They are open inside the context."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._started = threading.Event()
        self._cleanups: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._stopping.wait()
        for cleanup in self._cleanups:
            await cleanup()

    def add_cleanup(self, cleanup: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Add a coroutine function that the network runs before it stops."""
        self._cleanups.append(cleanup)

    def new_link(self, target: int) -> "Link":
        """Open a link to a port."""
        link = Link(self, target)
        self.run(link.open())
        return link

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the network's thread. Returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_SECONDS)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function on the network's thread, and wait for it to return."""

        async def run() -> None:
            function()

        self.run(run())


class Link:
    """A port of its own that forwards to another one, until a fault breaks it."""

    def __init__(self, network: Network, target: int) -> None:
        self._network = network
        self._target = target
        self._delay = 0.0
        self._is_cut = False
        self._is_silent = False
        self._connections: set[_Connection] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen on a free port."""
        server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self._network.add_cleanup(lambda: self._close(server))
        self.port = server.sockets[0].getsockname()[1]

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        self._cut()
        while self._connections:  # noqa: ASYNC110 - they end by themselves, each in its own task
            await asyncio.sleep(POLL_SECONDS)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Reset every connection, and accept none until the context ends."""
        self._network.call(self._cut)
        try:
            yield
        finally:
            self._is_cut = False

    @contextmanager
    def half_open(self) -> Iterator[None]:
        """Close the far end of every connection without letting the near end know.

        The link accepts new connections, and discards all that it receives on them. A silent connection
        stays silent after the context, so the near end has to close it to get a working one.
        """
        self._is_silent = True
        self._network.call(self._silence)
        try:
            yield
        finally:
            self._is_silent = False

    @contextmanager
    def delay(self, seconds: float) -> Iterator[None]:
        """Delay everything that comes from the far end."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0

    @contextmanager
    def redirect(self, target: int) -> Iterator[None]:
        """Forward to another port. Connections are reset at both ends of the context."""
        before, self._target = self._target, target
        self._network.call(self._reset)
        try:
            yield
        finally:
            self._target = before
            self._network.call(self._reset)

    def _cut(self) -> None:
        self._is_cut = True
        self._reset()

    def _reset(self) -> None:
        for connection in self._connections:
            connection.reset()

    def _silence(self) -> None:
        for connection in self._connections:
            connection.silence()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        connection = _Connection(reader, writer)
        self._connections.add(connection)
        if self._is_silent:
            connection.silence()
        # Without this, asyncio's server would log an error when the network stops.
        with suppress(asyncio.CancelledError):
            await connection.run(self._target, lambda: self._delay)
        self._connections.discard(connection)


class _Connection:
    """One connection through a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._near = reader, writer
        self._far: asyncio.StreamWriter | None = None
        self._silent = False

    async def run(self, target: int, delay: Callable[[], float]) -> None:
        """Forward in both directions, until one end closes."""
        reader, writer = self._near
        with suppress(OSError):
            if not self._silent:
                far_reader, self._far = await asyncio.open_connection(LOOPBACK, target)
                directions = (
                    asyncio.ensure_future(self._forward(reader, self._far, lambda: 0.0)),
                    asyncio.ensure_future(self._forward(far_reader, writer, delay)),
                )
                try:
                    await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for direction in directions:
                        direction.cancel()
                    await asyncio.gather(*directions, return_exceptions=True)
            while self._silent and await reader.read(CHUNK_BYTES):
                pass
        self.reset()

    def reset(self) -> None:
        """Reset the connection at both ends."""
        self._silent = False
        self._near[1].transport.abort()
        if self._far:
            self._far.transport.abort()

    def silence(self) -> None:
        """Reset the far end, and keep the near end open."""
        self._silent = True
        if self._far:
            self._far.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float]
    ) -> None:
        """Forward chunks in order, each after the delay that applied when it arrived."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        deliver = asyncio.ensure_future(self._deliver(chunks, writer))
        now = asyncio.get_running_loop().time
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await chunks.put((now() + delay(), chunk))
            await chunks.put((now() + delay(), b""))
            await deliver
        finally:
            deliver.cancel()

    async def _deliver(
        self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Write each chunk when it is due, until the empty one."""
        now = asyncio.get_running_loop().time
        while True:
            due, chunk = await chunks.get()
            if (pause := due - now()) > 0:
                await asyncio.sleep(pause)
            if not chunk or self._silent:
                return
            writer.write(chunk)
            await writer.drain()


class ApiProxy:
    """A proxy in front of an API server, which answers some requests with an error.

    The API server itself answers with 401 and 403, because the proxy replaces the request's token. 404 is a
    web page. Half of the requests that the proxy answers with 500 are carried out nevertheless, as by a
    server that crashes before it answers.
    """

    def __init__(
        self,
        network: Network,
        target: int,
        server: tuple[str, str],
        ca: str,
        rejected_tokens: Mapping[int, Sequence[str]],
    ) -> None:
        """Listen on a free port.

        `target`: the port of the API server. `server`: the files of the proxy's certificate and key. `ca`:
        the file of the CA of the API server. `rejected_tokens`: by status, the tokens to which the API
        server answers with it.
        """
        self._rejected_tokens = rejected_tokens
        self._base = f"https://{LOOPBACK}:{target}"
        self._serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._serving.load_cert_chain(*server)
        self._trusted = ssl.create_default_context(cafile=ca)
        self._network = network
        self._error = 0
        self._only_watches = False
        self._random = random.Random(7)  # noqa: S311 - a fault
        self.port = network.run(self._open())

    @contextmanager
    def fail(self, error: int, *, watches: bool = False) -> Iterator[None]:
        """Answer every other request with an error; with `watches`, every watch and nothing else."""
        self._error, self._only_watches = error, watches
        try:
            yield
        finally:
            self._error = 0

    async def _open(self) -> int:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trusted, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        server = web.Server(self._handle)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=self._serving)
        await site.start()
        self._network.add_cleanup(runner.cleanup)
        self._network.add_cleanup(self._session.close)
        address: tuple[str, int] = runner.addresses[0]
        return address[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward the request, or answer it with the error."""
        error = self._error if self._error and self._is_affected(request) else 0
        if not error:
            return await self._forward(request)
        if error in self._rejected_tokens:
            return await self._forward(request, token=self._random.choice(self._rejected_tokens[error]))
        if error == 404:
            return web.Response(status=error, text=WEB_PAGE, content_type="text/html")
        if error >= 500 and self._random.random() < 0.5:
            await self._forward(request, discard=True)
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": error}
        status |= {"message": "an error on purpose", "reason": STATUS_REASONS[error]}
        return web.json_response(status, status=error, headers={"Retry-After": "1"})

    def _is_affected(self, request: web.BaseRequest) -> bool:
        return "watch" in request.query if self._only_watches else self._random.random() < ERROR_SHARE

    async def _forward(
        self, request: web.BaseRequest, *, discard: bool = False, token: str | None = None
    ) -> web.StreamResponse:
        """Return the API server's answer.

        `discard`: carry the request out, but send no answer. `token`: the token to use in place of the
        request's own.
        """
        headers = {
            name: value for name, value in request.headers.items() if name not in ("Host", "Connection")
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self._session.request(
            request.method, f"{self._base}{request.path_qs}", headers=headers, data=await request.read()
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            if discard:
                await answer.read()
                return response
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
