"""The latest facts about one kind of object, and which facts are newer than those. Pure.

A snapshot is listed at a revision, and the facts around it may be older than that. The cache recognizes
those. What a fact means is the consumer's concern.
"""

from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from phjob_core.messages import Fact
from phjob_core.sharing import share

F = TypeVar("F", bound=Fact)

MAX_TOMBSTONES = 10_000
"""The number of tombstones of one kind.

Without them, a late response to one of our own writes would bring a deleted object back into the cache.
"""


class ObjectCache(Generic[F]):
    """The latest fact about each object of a kind, by uid."""

    def __init__(self) -> None:
        self._facts: dict[str, F] = {}
        self._tombstones: dict[str, float] = {}
        """The revision at which each deleted object was deleted."""
        self._snapshot_revision = 0

    def reset(self, revision: int) -> None:
        """Discard everything that is not newer than `revision`, at which the coming snapshot was listed.

        Responses to our own writes may be newer. Discarding those would leave the cache older than our own
        writes until the watch catches up.
        """
        self._facts = {uid: fact for uid, fact in self._facts.items() if fact.resource_version > revision}
        self._tombstones = {uid: deleted for uid, deleted in self._tombstones.items() if deleted > revision}
        self._snapshot_revision = revision

    def upsert(self, fact: F, *, from_snapshot: bool = False, relative: Fact | None = None) -> bool:
        """Store the fact if it is newer than the snapshot and than the stored one. Returns whether it is.

        Facts `from_snapshot` belong to the snapshot itself, and may have any age. The fact shares memory with
        its `relative`: the fact about its job or its pod.
        """
        stored = self._facts.get(fact.uid)
        if stored is not None and stored.resource_version >= fact.resource_version:
            return False
        if not from_snapshot and fact.resource_version <= self._snapshot_revision:
            return False
        if fact.resource_version < self._tombstones.get(fact.uid, 0):
            return False
        share(fact, stored, relative)
        self._facts[fact.uid] = fact
        return True

    def delete(self, uid: str, revision: int) -> F | None:
        """Remove an object that was deleted at `revision`. Returns its latest fact, if that is older."""
        if not self._is_newer(uid, revision):
            return None
        self._add_tombstone(uid, revision)
        return self._facts.pop(uid, None)

    def evict(self, uid: str) -> None:
        """Remove an object that needs no further tracking."""
        self._facts.pop(uid, None)
        self._add_tombstone(uid, inf)

    def get(self, uid: str) -> F | None:
        """Return the latest fact about the object; None if there is none."""
        return self._facts.get(uid)

    def __iter__(self) -> Iterator[F]:
        """Iterate over the latest fact about every object."""
        return iter(self._facts.values())

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._facts)

    def _add_tombstone(self, uid: str, revision: float) -> None:
        self._tombstones.pop(uid, None)
        self._tombstones[uid] = revision
        if len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _is_newer(self, uid: str, revision: int) -> bool:
        stored = self._facts.get(uid)
        is_newer = stored is None or revision > stored.resource_version
        return is_newer and revision > self._snapshot_revision
