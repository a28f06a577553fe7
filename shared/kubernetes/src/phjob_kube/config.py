"""Connections to the API server of a kubeconfig, or of the cluster that the process runs in."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from phjob_core.errors import SettingsError
from phjob_kube.http import REQUEST_TIMEOUT_SECONDS, HttpKube, Observe, Server, observe_nothing

MAX_CONNECTIONS = 128
"""The number of connections to the API server that are open at the same time."""
READ_BUFFER_BYTES = 2**16
"""The size of a connection's buffer. aiohttp stops reading once twice as much waits."""
TLS_CLOSE_SECONDS = 0.25
"""The time that connections over TLS need to close (aiohttp, Graceful Shutdown)."""
MIN_LOAD_INTERVAL_SECONDS = 10.0
"""The time between two loads of the credentials, however many requests are answered with 401."""
EARLY_LOAD = timedelta(seconds=30)
"""The time before a plugin's token expires at which the plugin runs again, beside the requests.

Without this, the watcher's Lease could expire while the plugin runs, each time that the token does.
"""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def connect(
    kubeconfig: Path | None,
    namespace: str,
    *,
    context: str | None = None,
    observe: Observe = observe_nothing,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[HttpKube]:
    """Connect to the API server of a kubeconfig.

    Without a kubeconfig, connect to the cluster around this process, with the pod's service account.

    Raises:
        SettingsError: there are no usable credentials.

    """
    connection = _Connection(partial(_load, kubeconfig, context), monotonic)
    try:
        yield HttpKube(await connection.open(observe), namespace)
    finally:
        await connection.close()
        await asyncio.sleep(TLS_CLOSE_SECONDS)


@dataclass(frozen=True)
class _Access:
    """The access that a kubeconfig or a service account gives, as it was loaded."""

    configuration: Any
    expires: datetime | None
    """The time at which the token of a plugin expires; None if that is unknown."""
    certificate: tuple[bytes, ...]
    """The client certificate and its key; empty if there are none."""


class _Connection:
    """A connection to one API server, which loads its credentials again after a 401.

    As in client-go, the request that was answered with 401 fails, and its caller repeats it. A plugin also
    runs again when its token expires.
    """

    def __init__(self, load: Callable[[], Awaitable[_Access]], monotonic: Callable[[], float]) -> None:
        self._load = load
        self._monotonic = monotonic
        self._access: _Access
        self._server: Server
        self._loaded = 0.0
        """When the last load ended (monotonic)."""
        self._loading: asyncio.Task[None] | None = None
        """The latest load after the first."""
        self._session = AsyncExitStack()

    async def open(self, observe: Observe) -> Server:
        self._access = await self._load()
        self._loaded = self._monotonic()
        configuration = self._access.configuration
        session = await self._session.enter_async_context(_open_session(configuration, self._send))
        self._server = Server(configuration.host or "", session, self._sign, observe)
        return self._server

    async def close(self) -> None:
        if self._loading:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._session.aclose()

    async def _sign(self, headers: dict[str, str]) -> None:
        """Add the token to the headers. A service account's is read from its file each minute."""
        if expires := self._access.expires:
            remaining = expires - datetime.now(UTC)
            if remaining <= timedelta():
                await self._renew()
            elif remaining <= EARLY_LOAD:
                self._start_loading()
        if token := await self._access.configuration.get_api_key_with_prefix("BearerToken"):
            headers["authorization"] = token.strip()  # A token file may end with a line break.

    async def _send(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request. If the answer is 401, return it once the credentials are loaded again."""
        request.server_hostname = self._access.configuration.tls_server_name
        response = await send(request)
        if response.status == 401:
            await self._renew()
        return response

    async def _renew(self) -> None:
        """Load the credentials, unless that was a moment ago. All requests wait for the same load."""
        self._start_loading()
        if self._loading:
            # A request that is cancelled does not cancel the load.
            await asyncio.wait([self._loading], timeout=REQUEST_TIMEOUT_SECONDS)

    def _start_loading(self) -> None:
        if self._loading and not self._loading.done():
            return
        if self._monotonic() - self._loaded >= MIN_LOAD_INTERVAL_SECONDS:
            self._loading = asyncio.create_task(self._load_again())

    async def _load_again(self) -> None:
        try:
            await self._use(await self._load())
        except Exception as error:
            _log.warning("the credentials for the API server could not be loaded again: %s", error)
        finally:
            self._loaded = self._monotonic()

    async def _use(self, access: _Access) -> None:
        """Use the credentials for all new requests."""
        if (access.configuration.host or "") != self._server.url:
            # Writes that are repeated would reach another cluster.
            raise SettingsError("the kubeconfig has another API server: restart the service to use it")
        former = AsyncExitStack()
        if access.certificate != self._access.certificate:
            # A certificate belongs to a connection. As in client-go, the connections with the old one end.
            new = AsyncExitStack()
            session = await new.enter_async_context(_open_session(access.configuration, self._send))
            former, self._session, self._server.session = self._session, new, session
        self._access = access
        await former.aclose()


async def _load(kubeconfig: Path | None, context: str | None) -> _Access:
    """Load the kubeconfig and run its plugin; without one, load the service account."""
    # The import takes a second or two, because of thousands of models. Only a caller of `connect` pays.
    from kubernetes_asyncio import client, config  # noqa: PLC0415

    configuration = client.Configuration()
    loader = None
    try:
        if kubeconfig:
            loader = await config.load_kube_config(
                config_file=str(kubeconfig), context=context, client_configuration=configuration
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        certificate = _read_certificate(configuration)
    except (config.ConfigException, OSError) as error:
        msg = f"KUBECONFIG {kubeconfig or '(not set, and there is no service account)'}: {error}"
        raise SettingsError(msg) from error
    if configuration.proxy and not configuration.proxy.startswith(("http://", "https://")):
        raise SettingsError(f"KUBECONFIG {kubeconfig}: proxy-url must start with http:// or https://")
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    # From 3.13 on, Python refuses a CA without key identifiers, such as that of an older EKS cluster. Go has
    # no such check, so kubectl connects. The chain, the host name and the dates are verified all the same.
    configuration.disable_strict_ssl_verification = True
    return _Access(configuration, getattr(loader, "exec_plugin_expiry", None), certificate)


def _read_certificate(configuration: Any) -> tuple[bytes, ...]:
    files = (configuration.cert_file, configuration.key_file)
    return tuple(Path(file).read_bytes() for file in files if file)


@asynccontextmanager
async def _open_session(
    configuration: Any, middleware: aiohttp.ClientMiddlewareType
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session that uses the connections of a client of kubernetes_asyncio.

    The client's own session searches for a proxy and a `.netrc` before each request, in a thread.
    """
    from kubernetes_asyncio import client  # noqa: PLC0415

    async with (
        client.ApiClient(configuration=configuration) as api,
        aiohttp.ClientSession(
            connector=api.rest_client.pool_manager.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER_BYTES,
            proxy=configuration.proxy,
            middlewares=(middleware,),
        ) as session,
    ):
        yield session
