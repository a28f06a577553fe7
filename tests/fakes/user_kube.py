"""The command line's client of the API server, with objects in memory."""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from phjob_cli.console import Console
from phjob_cli.context import Context
from phjob_cli.kube_client import Caller, ConnectionOptions, UserKube
from phjob_core.api import Object
from phjob_core.errors import PhJobError
from phjob_core.resource import Resource
from phjob_kube.port import Listing

T = TypeVar("T")

_revisions = itertools.count(1000)


def stored(manifest: Mapping[str, Any], **status: Any) -> dict[str, Any]:
    """Return a manifest as the API server would have stored it, with this status."""
    metadata = {
        "uid": f"uid-{manifest['metadata']['name']}",
        "resourceVersion": str(next(_revisions)),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **manifest["metadata"],
    }
    return {**manifest, "metadata": metadata, "status": {**manifest.get("status", {}), **status}}


class FakeUserKube(UserKube):
    """Objects by the plural of their resource. Selectors are recorded, and select nothing."""

    def __init__(self, **objects: Sequence[Object]) -> None:
        self.namespace = "hub"
        self.objects = objects
        self.failures: dict[str, PhJobError] = {}
        """Errors of all requests for a resource, by its plural."""
        self.listed: list[Resource] = []
        self.watched: list[tuple[Resource, int]] = []
        self.read: list[tuple[str, str]] = []
        """The pod and the container of each log."""
        self.events: list[AsyncIterator[tuple[str, Object]]] = []
        """The events of each watch, in order of the watches."""
        self.log: AsyncIterator[bytes] | None = None
        self.caller = Caller("bob")
        """The user as the API server knows it."""
        self.created: list[Object] = []
        """The manifests of all objects that were created, in order."""
        self.patched: list[tuple[str, Sequence[Object]]] = []
        """The name and the operations of each patch, in order."""

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Return all objects of the resource."""
        self.listed.append(resource)
        return Listing([project(item) for item in self._items(resource)], next(_revisions))

    async def get(
        self,
        resource: Resource,
        name: str,
        *,
        cached: bool = False,  # noqa: ARG002 - nothing is cached here
    ) -> Object | None:
        """Return the object of that name."""
        return next((item for item in self._items(resource) if item["metadata"]["name"] == name), None)

    async def create(self, resource: Resource, body: Object) -> Object:
        """Record the manifest. Returns the object, whose generated name ends with `-new`."""
        self._items(resource)
        self.created.append(body)
        return _named(body)

    async def create_dry_run(self, resource: Resource, body: Object) -> Object:
        """Return the object, whose generated name ends with `-new`."""
        self._items(resource)
        return _named(body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        operations: Sequence[Object],
        *,
        subresource: str = "",  # noqa: ARG002 - the command line patches no status
    ) -> Object:
        """Record the patch, and change nothing."""
        found = await self.get(resource, name)
        assert found is not None
        self.patched.append((name, operations))
        return found

    async def whoami(self) -> Caller:
        """Return the user."""
        return self.caller

    async def watch(
        self,
        resource: Resource,
        revision: int,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield the events of the next watch."""
        self.watched.append((resource, revision))
        opened()
        async for event in self.events.pop(0):
            yield event

    async def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """Yield the log, or raise the error of the pods."""
        self.read.append((pod, container))
        self._items(Resource("pods"))
        async for piece in self.log or _nothing():
            yield piece

    async def follow_log(
        self, pod: str, container: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """Yield the log."""
        opened()
        async for piece in self.logs(pod, container):
            yield piece

    def _items(self, resource: Resource) -> Sequence[Object]:
        if resource.plural in self.failures:
            raise self.failures[resource.plural]
        return self.objects.get(resource.plural, ())


def a_context(kube: UserKube, **options: str) -> Context:
    """Return the context of a command that uses the client."""
    return Context(kube, Console(), ConnectionOptions(**options))


def _named(manifest: Object) -> Object:
    """Return the object that the manifest becomes if it is created now."""
    metadata = dict(manifest["metadata"])
    metadata.setdefault("name", f"{metadata.pop('generateName', '')}new")
    metadata["creationTimestamp"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return stored({**manifest, "metadata": metadata})


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece
