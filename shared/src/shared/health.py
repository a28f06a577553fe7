"""A service's HTTP port: /healthz, /readyz and /metrics.

Healthy: the process answers. Ready: it does its work, or stands by for the replica that does.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


class Health:
    """Why a service is not ready; it is ready when nothing is left."""

    def __init__(self) -> None:
        self.waiting_for: Callable[[], str] = lambda: "its start"
        """What it waits for, for a person to read; empty when it is ready."""
        self.stalled: Callable[[], str] = lambda: ""
        """What keeps it waiting though it could work, likewise."""


@asynccontextmanager
async def serve(health: Health, host: str, port: int) -> AsyncIterator[None]:
    """Answer on the port while the context lasts."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if what := health.waiting_for() or health.stalled():
            return web.Response(status=503, text=f"waiting for {what}\n")
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
