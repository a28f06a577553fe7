"""A service's HTTP port: /healthz, /readyz and /metrics.

A service is healthy while its process answers. It is ready while it works, or is on standby for the replica
that works.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from phjob_core.errors import SettingsError

EVERY_ADDRESS = "::"
"""The host that stands for every address of the machine, both of IPv6 and of IPv4 (spec.md, S7)."""
EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104 - where a machine has no IPv6
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""The errors of a kernel without IPv6, and of one in which it is disabled."""

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


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address.

    On `EVERY_ADDRESS` it also accepts connections over IPv4, and over IPv4 only where there is no IPv6.

    Raises:
        SettingsError: nothing can listen there.

    """
    try:
        if host == EVERY_ADDRESS:
            try:
                return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
            except OSError as error:
                if error.errno not in _NO_IPV6:
                    raise
                host = EVERY_IPV4_ADDRESS
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        msg = f"HTTP_HOST {host!r}, HTTP_PORT {port}: nothing can listen there: {error.strerror or error}"
        raise SettingsError(msg) from error


@asynccontextmanager
async def serve(readiness: Readiness, host: str, port: int) -> AsyncIterator[None]:
    """Answer requests on the port while the context lasts.

    Raises:
        SettingsError: nothing can listen there.

    """
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
        await web.SockSite(runner, listen(host, port)).start()
        yield
    finally:
        await runner.cleanup()
