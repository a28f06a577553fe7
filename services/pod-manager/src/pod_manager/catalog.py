"""The catalog's objects that a pod is made of, fetched when the facts say that they changed."""

from shared.kube import Kube, Object, Resource
from shared.messages import Fact
from shared.phjob import GROUP, VERSION
from shared.view import View

IMAGES = "images"
INSTANCE_TYPES = "instancetypes"


class CatalogObjects:
    """Whole objects by kind and name, as new as the latest fact about them."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.seen: dict[str, View[Fact]] = {IMAGES: View(), INSTANCE_TYPES: View()}
        self._revisions: dict[tuple[str, str], int] = {}
        self._objects: dict[tuple[str, str], Object] = {}

    def begin(self, revisions: dict[str, int]) -> None:
        """A snapshot starts."""
        for kind, view in self.seen.items():
            view.begin(revisions[kind])
        self._revisions.clear()

    def put(self, kind: str, fact: Fact, *, listed: bool) -> None:
        """The object is new or has changed."""
        if self.seen[kind].put(fact, listed=listed):
            self._revisions[kind, fact.name] = fact.resource_version

    def drop(self, kind: str, fact: Fact) -> None:
        """The object is gone."""
        if self.seen[kind].drop(fact.uid, fact.resource_version):
            self._revisions.pop((kind, fact.name), None)
            self._objects.pop((kind, fact.name), None)

    async def get(self, kind: str, name: str) -> Object | None:
        """The object, not older than the latest fact about it; None if there is none.

        Raises:
            UnreachableError: the API server has no definite answer.

        """
        known = self._objects.get((kind, name))
        revision = self._revisions.get((kind, name))
        if known and revision and int(known["metadata"]["resourceVersion"]) >= revision:
            return known
        fetched = await self._kube.get(Resource(kind, GROUP, VERSION), name)
        if fetched is None:
            self._objects.pop((kind, name), None)
        else:
            self._objects[kind, name] = fetched
        return fetched
