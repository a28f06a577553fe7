"""A cache of the catalog objects that pods are built from.

Facts carry no whole objects, because a Dataset may hold secrets. Each object is fetched from the API server
when it is needed, and again once a fact shows that it has changed.
"""

from phjob_core.api import Object
from phjob_core.groups import Groups
from phjob_core.kinds import DATASETS, IMAGES, INSTANCE_TYPES, KIND_OF, PHGROUPS, Kind
from phjob_core.messages import Fact, GroupGone, GroupSeen
from phjob_core.object_cache import ObjectCache
from phjob_kube.port import Kube

_CACHED_KINDS = (DATASETS, IMAGES, INSTANCE_TYPES)


class CatalogCache:
    """The catalog's objects by kind and name, each at least as new as the latest fact about it."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._group_facts: ObjectCache[GroupSeen] = ObjectCache()
        self._groups: Groups | None = None
        """The groups of `_group_facts`; None if they have changed since."""
        self._facts: dict[str, ObjectCache[Fact]] = {kind.plural: ObjectCache() for kind in _CACHED_KINDS}
        self._revisions: dict[tuple[str, str], int] = {}
        """The revision of the latest fact about each object. Without one, it is fetched at each use."""
        self._objects: dict[tuple[str, str], Object] = {}

    def reset(self, revisions: dict[str, int]) -> None:
        """Discard the facts that are older than the coming snapshot. The objects stay."""
        self._group_facts.reset(revisions[PHGROUPS.plural])
        self._groups = None
        for plural, facts in self._facts.items():
            facts.reset(revisions[plural])
        self._revisions.clear()

    def on_fact(self, fact: Fact, *, from_snapshot: bool) -> None:
        """Record a fact about the catalog; ignore any other fact."""
        kind = KIND_OF[type(fact)]
        if isinstance(fact, GroupSeen):
            self._group_facts.upsert(fact, from_snapshot=from_snapshot)
            self._groups = None
        elif isinstance(fact, GroupGone):
            self._group_facts.delete(fact.uid, fact.resource_version)
            self._groups = None
        elif (facts := self._facts.get(kind.plural)) is not None:
            key = kind.plural, fact.name
            if isinstance(fact, kind.observed):
                if facts.upsert(fact, from_snapshot=from_snapshot):
                    self._revisions[key] = fact.resource_version
            elif facts.delete(fact.uid, fact.resource_version):
                self._revisions.pop(key, None)
                self._objects.pop(key, None)

    @property
    def groups(self) -> Groups:
        """The PhGroups as last observed, and which of them count."""
        if self._groups is None:
            self._groups = Groups()
            for seen in self._group_facts:
                self._groups.upsert(seen)
        return self._groups

    async def get(self, kind: Kind, name: str) -> Object | None:
        """Return the object, at least as new as the latest fact about it.

        Returns None if it does not exist.

        Raises:
            UnreachableError: the API server has given no definite answer.

        """
        key = kind.plural, name
        cached, revision = self._objects.get(key), self._revisions.get(key)
        if cached and revision and int(cached["metadata"]["resourceVersion"]) >= revision:
            return cached
        fetched = await self._kube.get(kind.resource, name)
        if fetched is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = fetched
        return fetched
