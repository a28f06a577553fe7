"""The network between two parts, as far as it can break: every connection goes through a `Link`.

Links live on a thread of their own, so that a test can block.
"""

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web
from tests.support.waiting import WITHIN

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
CHUNK = 65536
POLL = 0.01
REASONS = {410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
REFUSED = 0.5
"""The share of the requests that an `ApiFront` answers with an error."""


class Network:
    """All links of one stack; as a context manager they are open inside."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._begun = threading.Event()
        self._at_end: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await self._end.wait()
        for close in self._at_end:
            await close()

    def at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this before the network is gone."""
        self._at_end.append(close)

    def link(self, target: int) -> "Link":
        """A new way to that port."""
        link = Link(self, target)
        self.run(link.open())
        return link

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the network's own thread; its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it there, and return when that is done."""

        async def call() -> None:
            callback()

        self.run(call())


class Link:
    """A port of its own that leads to another one, until it is broken."""

    def __init__(self, network: Network, target: int) -> None:
        self._network = network
        self._target = target
        self._delay = 0.0
        self._is_cut = False
        self._is_silent = False
        self._connections: set[_Connection] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen."""
        server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self._network.at_end(lambda: self._close(server))
        self.port = server.sockets[0].getsockname()[1]

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        self._cut()
        while self._connections:  # noqa: ASYNC110 - they end by themselves, each in its own task
            await asyncio.sleep(POLL)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Every connection is reset, and none is made."""
        self._network.soon(self._cut)
        try:
            yield
        finally:
            self._is_cut = False

    @contextmanager
    def half_open(self) -> Iterator[None]:
        """The far end is gone and the near end does not hear of it; nor does it of what it sends.

        A new connection is made, and silent. What was silent stays so after the fault: only who gives
        it up gets a new one.
        """
        self._is_silent = True
        self._network.soon(self._silence)
        try:
            yield
        finally:
            self._is_silent = False

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Whatever comes from the far end comes so much later."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0

    @contextmanager
    def instead(self, target: int) -> Iterator[None]:
        """Lead to another port; connections are made anew at the beginning and at the end."""
        before, self._target = self._target, target
        self._network.soon(self._reset)
        try:
            yield
        finally:
            self._target = before
            self._network.soon(self._reset)

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
        with suppress(
            asyncio.CancelledError
        ):  # The network's end, which asyncio's server takes for an error.
            await connection.run(self._target, lambda: self._delay)
        self._connections.discard(connection)


class _Connection:
    """One connection through a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._near = reader, writer
        self._far: asyncio.StreamWriter | None = None
        self._silent = False

    async def run(self, target: int, delay: Callable[[], float]) -> None:
        """Pass on what comes from either end, until one of them closes."""
        reader, writer = self._near
        with suppress(OSError):
            if not self._silent:
                far_reader, self._far = await asyncio.open_connection(LOOPBACK, target)
                ways = (
                    asyncio.ensure_future(self._pass_on(reader, self._far, lambda: 0.0)),
                    asyncio.ensure_future(self._pass_on(far_reader, writer, delay)),
                )
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            while self._silent and await reader.read(CHUNK):
                pass
        self.reset()

    def reset(self) -> None:
        """Let both ends see that it is over."""
        self._silent = False
        self._near[1].transport.abort()
        if self._far:
            self._far.transport.abort()

    def silence(self) -> None:
        """Let the near end believe that it still is there."""
        self._silent = True
        if self._far:
            self._far.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float]
    ) -> None:
        """In order, each piece so much later than it came."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        deliver = asyncio.ensure_future(self._deliver(pieces, writer))
        now = asyncio.get_running_loop().time
        try:
            while piece := await reader.read(CHUNK):
                await pieces.put((now() + delay(), piece))
            await pieces.put((now() + delay(), b""))
            await deliver
        finally:
            deliver.cancel()

    async def _deliver(
        self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, piece = await pieces.get()
            if (pause := due - now()) > 0:
                await asyncio.sleep(pause)
            if not piece or self._silent:
                return
            writer.write(piece)
            await writer.drain()


class ApiFront:
    """Stands before an API server and answers some requests itself, with an error.

    Of those that it answers with 500 half are done all the same, as with a server that dies of it.
    """

    def __init__(self, network: Network, target: int, server: tuple[str, str], ca: str) -> None:
        """`server`: files of the certificate and key that it shows; `ca`: of who signed the target's."""
        self._base = f"https://{LOOPBACK}:{target}"
        self._serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._serving.load_cert_chain(*server)
        self._trusted = ssl.create_default_context(cafile=ca)
        self._network = network
        self._error = 0
        self._watches = False
        self._chance = random.Random(7)  # noqa: S311 - a fault
        self.port = network.run(self._open())

    @contextmanager
    def answers(self, error: int, *, watches: bool = False) -> Iterator[None]:
        """This, to every other request; or to every watch, and to nothing else."""
        self._error, self._watches = error, watches
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
        self._network.at_end(runner.cleanup)
        self._network.at_end(self._session.close)
        address: tuple[str, int] = runner.addresses[0]
        return address[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        error = self._error if self._error and self._meets(request) else 0
        if not error or (error >= 500 and self._chance.random() < 0.5):
            answer = await self._forward(request, quiet=bool(error))
            if not error:
                return answer
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": error}
        status |= {"message": "an error on purpose", "reason": REASONS[error]}
        return web.json_response(status, status=error, headers={"Retry-After": "1"})

    def _meets(self, request: web.BaseRequest) -> bool:
        return "watch" in request.query if self._watches else self._chance.random() < REFUSED

    async def _forward(self, request: web.BaseRequest, *, quiet: bool) -> web.StreamResponse:
        """Let the API server answer; `quiet`: only let it do it."""
        headers = {
            name: value for name, value in request.headers.items() if name not in ("Host", "Connection")
        }
        async with self._session.request(
            request.method, f"{self._base}{request.path_qs}", headers=headers, data=await request.read()
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            if quiet:
                await answer.read()
                return response
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response
