"""What a consumer knows of one kind of object, and which facts are news to it.

A snapshot was listed at a revision; the live facts around it may be older than that. This is where
they are recognized. What a fact means is the consumer's business.
"""

from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from shared.messages import Fact

F = TypeVar("F", bound=Fact)


REMEMBERED = 10_000
"""Objects of which it is remembered that they are gone: the answer to an own write may come later still."""


class View(Generic[F]):
    """The latest fact about each object of a kind, by its uid."""

    def __init__(self) -> None:
        self._facts: dict[str, F] = {}
        self._gone: dict[str, float] = {}
        """At which revision an object was gone."""
        self._floor = 0

    def begin(self, revision: int) -> None:
        """Forget all but what is newer than `revision`, at which what follows was listed.

        That is what the answers to one's own writes have told: the watch tells it again later, but
        to have forgotten it until then would be to believe what is no longer so.
        """
        self._facts = {uid: fact for uid, fact in self._facts.items() if fact.resource_version > revision}
        self._gone = {uid: gone for uid, gone in self._gone.items() if gone > revision}
        self._floor = revision

    def put(self, fact: F, *, listed: bool = False) -> bool:
        """Remember the fact if it is news: newer than the snapshot and than what is known.

        `listed` facts belong to the snapshot itself and may be as old as they like.
        """
        known = self._facts.get(fact.uid)
        if known is not None and known.resource_version >= fact.resource_version:
            return False
        if not listed and fact.resource_version <= self._floor:
            return False
        if fact.resource_version < self._gone.get(fact.uid, 0):
            return False
        self._facts[fact.uid] = fact
        return True

    def drop(self, uid: str, revision: int) -> F | None:
        """Forget an object that was deleted at `revision`: what was known of it, if that is news."""
        if not self._is_news(uid, revision):
            return None
        self._remember(uid, revision)
        return self._facts.pop(uid, None)

    def forget(self, uid: str) -> None:
        """Spend no memory on an object about which nothing more is to be known."""
        self._facts.pop(uid, None)
        self._remember(uid, inf)

    def get(self, uid: str) -> F | None:
        """What is known of the object."""
        return self._facts.get(uid)

    def __iter__(self) -> Iterator[F]:
        """Iterate over every object's latest fact."""
        return iter(self._facts.values())

    def __len__(self) -> int:
        """How many objects are known."""
        return len(self._facts)

    def _remember(self, uid: str, revision: float) -> None:
        self._gone.pop(uid, None)
        self._gone[uid] = revision
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _is_news(self, uid: str, revision: int) -> bool:
        known = self._facts.get(uid)
        return revision > self._floor and (known is None or revision > known.resource_version)
