"""The port to the Kubernetes API: the requests that PhJob makes, on plain JSON.

Objects stay the dicts that the API server sends. `phjob_core.projection` and
`phjob_core.catalog_projection` project the fields that PhJob needs.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from phjob_core.api import Object
from phjob_core.resource import Resource

T = TypeVar("T")


@dataclass(frozen=True)
class Listing(Generic[T]):
    """The objects that a LIST returned, and the revision of the list."""

    items: Sequence[T]
    revision: int


class Kube(Protocol):
    """The port to the API server. Every method can raise `UnreachableError`."""

    namespace: str
    """The namespace of all namespaced objects."""

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Return every object, each as `project` makes it.

        All are as of one revision, which is at least the revision at the time of the request.
        """
        ...

    def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Yield every object, a page at a time, to save memory.

        Raises:
            ExpiredError: the revision of the first page expired before the last page was read.

        """
        ...

    def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """Yield what the container has written up to now, in pieces.

        Raises:
            RejectedError: the pod has no node (204), has not started (400), or does not exist (404).

        """
        ...

    def follow_log(
        self, pod: str, container: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """Yield what the container has written and still writes, in pieces, until it ends.

        `opened` is called when the server has begun to answer.

        Raises:
            RejectedError: as for `logs`.

        """
        ...

    def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (event type, object) for every change after the revision.

        The iterator ends when the server ends the watch. `opened` is called when the server has accepted
        it, because the first event of a kind that rarely changes may come a minute later.

        Raises:
            ExpiredError: the revision is too old; list again.

        """
        ...

    async def get(self, resource: Resource, name: str, *, cached: bool = False) -> Object | None:
        """Return the object; None if it does not exist.

        `cached`: from the API server's cache, which may be a moment old.
        """
        ...

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object. Returns it as the server stored it.

        Raises:
            RejectedError: 409 if the name is taken.

        """
        ...

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch (RFC 6902). Returns the object as it is then.

        Raises:
            RejectedError: 422 if a `test` in it failed.

        """
        ...

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Replace an object at the resourceVersion that `body` has, or at any if it has none.

        Returns it as the server stored it.

        Raises:
            RejectedError: 409 if the object has another resourceVersion.

        """
        ...

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> bool:
        """Delete the object with this uid, if it is still at the revision.

        Returns whether the object is being deleted, or does not exist. `force`: do not wait until its node
        confirms the end of its containers.
        """
        ...
