"""An HTTPS server on the loopback interface, with a certificate of a private CA."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from dev.pki import Pki


@asynccontextmanager
async def https_server(pki: Pki, answer: Handler) -> AsyncIterator[str]:
    """Answer every request while the context lasts. Yields the URL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_cert, pki.server_key)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url(""))
    finally:
        await server.close()
