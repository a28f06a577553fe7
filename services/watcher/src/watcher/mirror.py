"""A mirror of one kind of object: LIST, then WATCH, and every change told once.

It survives ended watches and an API server that is away. When a revision has expired, something may have
come and gone unseen, and the reign is over (`HistoryLostError`). Who is told is `publish`'s part.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import structlog

from shared.clock import Clock
from shared.errors import GoneError, RetryableError, UnreachableError
from shared.kube import Kube, Listing, Object, Resource
from shared.messages import Fact
from watcher import metrics
from watcher.translate import UntranslatableError, guarded

F = TypeVar("F", bound=Fact)

LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach the API server, at most."""

_log = structlog.get_logger()


class HistoryLostError(RetryableError):
    """Nobody knows any more what happened meanwhile: whoever was told what was before has to start over.

    To list again and tell the difference would not do: pod-manager knows of its own writes before the
    watch tells them, and of an object that came and went unseen it would never hear the end.
    """


class Mirror(Generic[F]):
    """What is known of one kind of object, complete up to `revision`."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        resource: Resource,
        translate: Callable[[Object, F | None], F],
        gone: Callable[[F, int], Fact],
        tell: Callable[[Fact], None],
    ) -> None:
        """`translate` also gets what was known of the object; `gone` makes the fact of its end."""
        self._kube = kube
        self._clock = clock
        self.resource = resource
        self._translate = translate
        self._gone = gone
        self._tell = tell
        self._known: dict[str, F] = {}
        self.revision = 0
        self.unreachable = ""
        """Why the API server tells nothing of this kind now; empty if it does."""
        self._failures = 0
        """Watches that broke one after the other, and told nothing."""

    async def start(self) -> None:
        """List for the first time; nobody is told, for a snapshot tells it all."""
        listing = await self.list()
        self._known = {fact.uid: fact for fact in listing.items}
        self.revision = listing.revision

    async def follow(self) -> None:
        """Watch and tell every change, for ever.

        Raises:
            HistoryLostError: changes were missed.

        """
        while True:
            try:
                await self._watch()
                self._failures = 0
            except GoneError as error:
                _log.warning("watch_expired", resource=self.resource.plural)
                metrics.expired(self.resource.plural)
                raise HistoryLostError(f"the watch of {self.resource.plural} has expired") from error
            except UnreachableError as error:
                self.unreachable = str(error)
                self._failures += 1
                pause = min(0.1 * 2**self._failures, LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                _log.warning("watch_broken", resource=self.resource.plural, why=str(error))
                await self._clock.sleep(pause)

    async def refresh(self) -> int:
        """List anew and tell the difference; the revision up to which all is told then."""
        while True:
            try:
                listing = await self.list()
            except UnreachableError as error:
                self.unreachable = str(error)
                await self._clock.sleep(LONGEST_PAUSE)
            else:
                break
        self.unreachable = ""
        there = {fact.uid for fact in listing.items}
        for uid, known in list(self._known.items()):
            if uid not in there and known.resource_version <= listing.revision:
                self._drop(uid, listing.revision)
        for fact in listing.items:
            self._put(fact)
        self.revision = max(self.revision, listing.revision)
        return self.revision

    async def list(self) -> Listing[F]:
        """Every object as a fact, straight from the API server."""
        listing = await self._kube.list(self.resource, self._fact)
        return Listing([fact for fact in listing.items if fact is not None], listing.revision)

    def facts(self) -> Iterable[F]:
        """Every object as it is known now."""
        return self._known.values()

    def newest(self, listing: Listing[F]) -> Listing[F]:
        """The listing, or what the watch has told since, if that is newer.

        What was told while the list was on its way went out before the snapshot, and a consumer
        ignores what comes before its snapshot: so the snapshot itself must hold it.
        """
        if self.revision < listing.revision:
            return listing
        return Listing(list(self._known.values()), self.revision)

    async def _watch(self) -> None:
        async for kind, item in self._kube.watch(self.resource, self.revision, self._reached):
            self._failures = 0
            revision = int(item["metadata"]["resourceVersion"])
            if kind != "BOOKMARK" and revision > self.revision:
                fact = self._fact(item)
                # What makes no sense any more would be in no snapshot, either.
                if kind == "DELETED" or fact is None:
                    self._drop(item["metadata"]["uid"], revision)
                else:
                    self._put(fact)
            self.revision = max(self.revision, revision)
        await asyncio.sleep(0)

    def _reached(self) -> None:
        self.unreachable = ""

    def _fact(self, item: Object) -> F | None:
        known = self._known.get(item.get("metadata", {}).get("uid", ""))
        try:
            fact: F = guarded(lambda it: self._translate(it, known), item)
        except UntranslatableError as error:
            _log.error("object_skipped", resource=self.resource.plural, why=str(error))
            metrics.skipped(self.resource.plural)
            return None
        return fact

    def _put(self, fact: F) -> None:
        if fact.resource_version <= self.revision:
            return
        known = self._known.get(fact.uid)
        self._known[fact.uid] = fact
        unchanged = {"resource_version": fact.resource_version}
        if known is None or known.model_copy(update=unchanged) != fact:
            self._tell(fact)

    def _drop(self, uid: str, revision: int) -> None:
        known = self._known.pop(uid, None)
        if known is not None:
            self._tell(self._gone(known, revision))
