"""Connections to the API server of a kubeconfig, or of the cluster that the process runs in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from phjob_core.errors import SettingsError
from phjob_kube.http import HttpKube, Observe, Server, observe_nothing

MAX_CONNECTIONS = 128
"""The number of connections to the API server that are open at the same time."""
READ_BUFFER_BYTES = 2**16
"""The size of a connection's buffer. aiohttp stops reading once twice as much waits."""
TLS_CLOSE_SECONDS = 0.25
"""The time that connections over TLS need to close (aiohttp, Graceful Shutdown)."""


@asynccontextmanager
async def connect(
    kubeconfig: Path | None,
    namespace: str,
    *,
    context: str | None = None,
    observe: Observe = observe_nothing,
) -> AsyncIterator[HttpKube]:
    """Connect to the API server of a kubeconfig.

    Without a kubeconfig, connect to the cluster around this process, with the pod's service account.

    Raises:
        SettingsError: there are no usable credentials.

    """
    # The import takes a second or two, because of thousands of models. Only a caller of this function pays.
    from kubernetes_asyncio import client, config  # noqa: PLC0415

    configuration = client.Configuration()
    try:
        if kubeconfig:
            await config.load_kube_config(
                config_file=str(kubeconfig), context=context, client_configuration=configuration
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        msg = f"KUBECONFIG {kubeconfig or '(not set, and there is no service account)'}: {error}"
        raise SettingsError(msg) from error
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    # From 3.13 on, Python refuses a CA without key identifiers, such as that of an older EKS cluster. Go has
    # no such check, so kubectl connects. The chain, the host name and the dates are verified all the same.
    configuration.disable_strict_ssl_verification = True
    try:
        async with client.ApiClient(configuration=configuration) as api, _session(api) as session:

            async def sign(headers: dict[str, str]) -> None:
                await api.update_params_for_auth(headers, [], ["BearerToken"])

            yield HttpKube(Server(configuration.host or "", session, sign, observe), namespace)
    finally:
        await asyncio.sleep(TLS_CLOSE_SECONDS)


def _session(api: Any) -> aiohttp.ClientSession:
    """Return a session that uses the connections of the client `api`.

    The client's own session searches for a proxy and a `.netrc` before each request, in a thread.
    """
    return aiohttp.ClientSession(
        connector=api.rest_client.pool_manager.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
    )
