"""The catalog's objects that a pod is made of, fetched when the facts say that they changed."""

from shared.kube import Kube, Object, Resource
from shared.messages import (
    DatasetGone,
    DatasetSeen,
    Fact,
    GroupGone,
    GroupSeen,
    ImageGone,
    ImageSeen,
    InstanceTypeGone,
    InstanceTypeSeen,
)
from shared.phjob import GROUP, VERSION
from shared.view import View

DATASETS = "datasets"
IMAGES = "images"
INSTANCE_TYPES = "instancetypes"

_SEEN: dict[type[Fact], str] = {DatasetSeen: DATASETS, ImageSeen: IMAGES, InstanceTypeSeen: INSTANCE_TYPES}
_GONE: dict[type[Fact], str] = {DatasetGone: DATASETS, ImageGone: IMAGES, InstanceTypeGone: INSTANCE_TYPES}


class CatalogObjects:
    """Whole objects by kind and name, as new as the latest fact about them."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.groups: View[GroupSeen] = View()
        self._seen: dict[str, View[Fact]] = {kind: View() for kind in _SEEN.values()}
        self._revisions: dict[tuple[str, str], int] = {}
        self._objects: dict[tuple[str, str], Object] = {}

    def begin(self, revisions: dict[str, int]) -> None:
        """A snapshot starts."""
        self.groups.begin(revisions["phgroups"])
        for kind, view in self._seen.items():
            view.begin(revisions[kind])
        self._revisions.clear()

    def fact(self, fact: Fact, *, listed: bool) -> None:
        """Something in the catalog is so."""
        if isinstance(fact, GroupSeen):
            self.groups.put(fact, listed=listed)
        elif isinstance(fact, GroupGone):
            self.groups.drop(fact.uid, fact.resource_version)
        elif (kind := _SEEN.get(type(fact))) and self._seen[kind].put(fact, listed=listed):
            self._revisions[kind, fact.name] = fact.resource_version
        elif (kind := _GONE.get(type(fact))) and self._seen[kind].drop(fact.uid, fact.resource_version):
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
