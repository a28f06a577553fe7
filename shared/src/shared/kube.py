"""The Kubernetes API, as plain JSON: list, watch, get, create, JSON Patch, delete.

Objects stay the dicts that the API server sends; what they mean is for `watcher.translate` and
pod-manager. Errors are told apart here: refused for good, unknown, or too old a revision.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
from pydantic_core import from_json

from shared import metrics
from shared.errors import GoneError, RefusedError, SettingsError, UnreachableError

T = TypeVar("T")
Object = Mapping[str, Any]
"""A Kubernetes object as the API server sends it."""

REQUEST_TIMEOUT = 30.0
"""Seconds until the outcome of a request counts as unknown."""
WATCH_SECONDS = 300
"""How long the API server keeps one watch open."""
WATCH_SILENCE = 120
"""Seconds without a line, bookmarks included, after which a watch counts as broken."""
LOG_SILENCE = 10
"""Seconds without a piece of a log that was asked for, after which it counts as unreadable."""
CLOSING = 0.25
"""Seconds that connections over TLS need to close (aiohttp, Graceful Shutdown)."""
LONGEST_LINE = 2**21
"""Bytes of one event of a watch; an object in etcd has at most 1.5 MiB."""
PAGE = 500
"""Objects in one page of a LIST."""


@dataclass(frozen=True)
class Resource:
    """A kind of namespaced object, and which of them are meant."""

    plural: str
    group: str = ""
    version: str = "v1"
    label_selector: str = ""
    field_selector: str = ""
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """The path in the API."""
        parts = ["apis", self.group] if self.group else ["api"]
        parts.append(self.version)
        if self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(parts)


@dataclass(frozen=True)
class Listing(Generic[T]):
    """What a LIST found, and the revision at which that was so."""

    items: Sequence[T]
    revision: int


class Kube(Protocol):
    """The port to the API server; every method can raise `UnreachableError`."""

    namespace: str
    """Where everything is that has a namespace."""

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Every object, consistent as of now, each as `project` makes it."""
        ...

    def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Every object, a page at a time: for what is too much to hold.

        Raises:
            GoneError: it took so long that the rest can't be had as of the first page's revision.

        """
        ...

    def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """What the container has written up to now, in pieces.

        Raises:
            RefusedError: it has not started (400), or there is no such pod (404).

        """
        ...

    def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """(event type, object) for everything after the revision, until the server ends it.

        `opened` is called when the server has begun; of a quiet kind nothing else may come for a minute.

        Raises:
            GoneError: the revision is too old; list again.

        """
        ...

    async def get(self, resource: Resource, name: str) -> Object | None:
        """The object, or None."""
        ...

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create it and return it as the server has it.

        Raises:
            RefusedError: 409 if the name is taken.

        """
        ...

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch (RFC 6902).

        Raises:
            RefusedError: 422 if a `test` in it failed.

        """
        ...

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Write the whole object, at the resourceVersion it carries.

        Raises:
            RefusedError: 409 if it changed meanwhile.

        """
        ...

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> None:
        """Delete the object of that uid, if it still is at the revision; else do nothing.

        `force`: without waiting for its node to say that it has ended.
        """
        ...


@dataclass(frozen=True)
class Server:
    """An API server, and how it is told who asks."""

    url: str
    session: aiohttp.ClientSession
    sign: Callable[[dict[str, str]], Awaitable[None]]
    """Adds the credentials of the moment to a request's headers."""


class HttpKube:
    """The API over HTTP."""

    page = PAGE

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._session = server.session

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Every object, consistent as of now, each as `project` makes it."""
        while True:
            items: list[T] = []
            revision = 0
            try:
                async for page in self._pages(resource):
                    items += [project(item) for item in page.get("items") or ()]
                    revision = int(page["metadata"]["resourceVersion"])
            except GoneError:
                continue  # etcd was compacted between two pages: from the start.
            return Listing(items, revision)

    async def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Every object, a page at a time: for what is too much to hold."""
        async for page in self._pages(resource):
            yield page.get("items") or ()

    async def _pages(self, resource: Resource) -> AsyncIterator[dict[str, Any]]:
        query = self._selectors(resource) | {"limit": str(self.page)}
        while True:
            page = await self._call("GET", resource, query=query)
            yield page
            if not page["metadata"].get("continue"):
                return
            query["continue"] = page["metadata"]["continue"]

    async def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """What the container has written up to now, in pieces."""
        async for piece in self._log(pod, {"container": container}, LOG_SILENCE):
            yield piece

    async def _log(self, pod: str, query: Mapping[str, str], silence: float) -> AsyncIterator[bytes]:
        url = self._url(Resource("pods"), pod, "log")
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=silence)
        try:
            async with self._session.get(
                url, params=query, headers=await self._headers(), timeout=timeout
            ) as response:
                if response.status != 200:
                    _raise(response.status, await response.read())
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """(event type, object) for everything after the revision, until the server ends it."""
        query = self._selectors(resource) | {
            "watch": "true",
            "resourceVersion": str(revision),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=WATCH_SILENCE)
        try:
            async with self._session.get(
                self._url(resource), params=query, headers=await self._headers(), timeout=timeout
            ) as response:
                if response.status != 200:
                    _raise(response.status, await response.read())
                opened()
                async for line in response.content:
                    event = from_json(line)
                    if event["type"] == "ERROR":
                        _raise(event["object"].get("code", 500), line)
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def get(self, resource: Resource, name: str) -> Object | None:
        """The object, or None."""
        try:
            found: Object = await self._call("GET", resource, name)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create it and return it as the server has it."""
        return await self._call("POST", resource, body=body)

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch (RFC 6902)."""
        return await self._call("PATCH", resource, name, subresource, body=operations)

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Write the whole object, at the resourceVersion it carries."""
        return await self._call("PUT", resource, name, body=body)

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> None:
        """Delete the object of that uid, if it still is at the revision; else do nothing."""
        preconditions = {"uid": uid}
        if revision is not None:
            preconditions["resourceVersion"] = str(revision)
        options: dict[str, Any] = {"preconditions": preconditions}
        if force:
            options["gracePeriodSeconds"] = 0
        try:
            await self._call("DELETE", resource, name, body=options)
        except RefusedError as error:
            # 409: the object is another by now, or has changed since the revision.
            if error.status not in (404, 409):
                raise

    def _selectors(self, resource: Resource) -> dict[str, str]:
        selectors = {
            "labelSelector": resource.label_selector,
            "fieldSelector": resource.field_selector,
        }
        return {key: value for key, value in selectors.items() if value}

    def _url(self, resource: Resource, name: str = "", subresource: str = "") -> str:
        return self.server.url + resource.path(self.namespace, name, subresource)

    async def _headers(self, content_type: str = "application/json") -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self.server.sign(headers)
        return headers

    async def _call(
        self,
        method: str,
        resource: Resource,
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:
        content_type = "application/json-patch+json" if method == "PATCH" else "application/json"
        started = time.perf_counter()
        code = 0
        try:
            async with self._session.request(
                method,
                self._url(resource, name, subresource),
                params=query,
                data=None if body is None else json.dumps(body),
                headers=await self._headers(content_type),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
            ) as response:
                content = await response.read()
                code = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        finally:
            metrics.api_request(method, resource.plural, code, time.perf_counter() - started)
        if not 200 <= code < 300:
            _raise(code, content)
        answer: dict[str, Any] = from_json(content)
        return answer


def _unreachable(error: BaseException) -> UnreachableError:
    return UnreachableError(f"the API server does not answer: {type(error).__name__}: {error}")


def _raise(status: int, content: bytes) -> None:
    """Raise what an answer that is no success means."""
    try:
        answer = from_json(content)
        answer = answer.get("object", answer)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", content[:1000].decode(errors="replace")
    if status == 410:
        raise GoneError(message)
    if status in (408, 429) or status >= 500:
        msg = f"the API server answered {status} {reason}: {message}"
        raise UnreachableError(msg, status)
    raise RefusedError(status, reason, message)


@asynccontextmanager
async def connect(
    kubeconfig: Path | None, namespace: str, *, context: str | None = None
) -> AsyncIterator[HttpKube]:
    """The API of a kubeconfig file and its context, or of the cluster that the process runs in.

    Raises:
        SettingsError: there are no usable credentials.

    """
    # Its thousands of models take a second or two to import: a cost for those alone who come here.
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
        msg = f"KUBECONFIG {kubeconfig or '(not set; no service account either)'}: {error}"
        raise SettingsError(msg) from error
    configuration.connection_pool_maxsize = 128
    try:
        async with client.ApiClient(configuration=configuration) as api, _session(api) as session:

            async def sign(headers: dict[str, str]) -> None:
                await api.update_params_for_auth(headers, [], ["BearerToken"])

            yield HttpKube(Server(configuration.host or "", session, sign), namespace)
    finally:
        await asyncio.sleep(CLOSING)


def _session(api: Any) -> aiohttp.ClientSession:
    """A session over the client's connections.

    Its own one looks for a proxy and for a `.netrc` before each request, in a thread.
    """
    return aiohttp.ClientSession(
        connector=api.rest_client.pool_manager.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=LONGEST_LINE,
    )
