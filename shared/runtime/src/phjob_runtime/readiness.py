"""A service's HTTP port: /healthz, /readyz and /metrics.

A service is healthy while its process answers. It is ready while it works, or is on standby for the replica
that works.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str]
"""Returns why a service is not ready, as the end of the sentence "waiting for ..."; empty if it is."""


def _always(reason: str) -> Check:
    return lambda: reason


class Readiness:
    """The readiness of a service, and the reason why it is not ready."""

    def __init__(self) -> None:
        self._check = _always("the service to start")
        self._extra_check = _always("")

    def set_waiting(self, reason: str) -> None:
        """Make the service not ready. `reason` ends the sentence "waiting for ..."."""
        self._check = _always(reason)

    def set_ready(self) -> None:
        """Make the service ready."""
        self._check = _always("")

    def set_check(self, check: Check) -> None:
        """Let `check` decide at each request, until the next call of a setter."""
        self._check = check

    @contextmanager
    def extra_check(self, check: Check) -> Iterator[None]:
        """Let `check` decide as well while the context lasts, whatever the setters set."""
        self._extra_check = check
        try:
            yield
        finally:
            self._extra_check = _always("")

    @property
    def reason(self) -> str:
        """The reason why the service is not ready; empty if it is."""
        return self._check() or self._extra_check()


class MetricsRenderer:
    """Renders the metrics in a thread, so that the service goes on meanwhile.

    A collector may need long for many jobs. Without this, each scrape would delay admissions and heartbeats.
    Collectors run in that thread, too, so they iterate over copies of what the service may change.
    """

    def __init__(self, render: Callable[[], bytes] = generate_latest) -> None:
        self._render = render
        self._running: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """Return the metrics. Requests at the same time share one answer, so that they cannot pile up."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(asyncio.to_thread(self._render))
        return await asyncio.shield(self._running)


@asynccontextmanager
async def serve(readiness: Readiness, host: str, port: int) -> AsyncIterator[None]:
    """Answer requests on the port while the context lasts."""
    renderer = MetricsRenderer()

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if reason := readiness.reason:
            return web.Response(status=503, text=f"waiting for {reason}\n")
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await renderer.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
