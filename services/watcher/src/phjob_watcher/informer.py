"""An informer: LIST, then WATCH, and one fact for each change of one kind of object.

It survives watches that end, and an API server that does not answer. When the revision of its watch has
expired, an object may have come and gone unobserved, so the term is over (`WatchGapError`). `publisher`
decides which consumers get a fact.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import structlog

from phjob_core.api import Object
from phjob_core.backoff import Backoff
from phjob_core.catalog_projection import ProjectionError, project_or_raise
from phjob_core.errors import ExpiredError, RejectedError, RetryableError, UnreachableError
from phjob_core.kinds import Kind
from phjob_core.messages import Fact
from phjob_core.sharing import share
from phjob_kube.port import Kube, Listing
from phjob_runtime.clock import Clock
from phjob_runtime.retry import retry_delay
from phjob_watcher import metrics

F = TypeVar("F", bound=Fact)

WATCH_BACKOFF = Backoff(first=0.2, longest=5.0, jitter=0.2)
"""The delay before a watch that broke is opened again."""

_log = structlog.get_logger()


class WatchGapError(RetryableError):
    """The watch has a gap, so every consumer has to resync.

    It would not be enough to list again and to publish the difference. pod-manager knows its own writes
    before the watch reports them. It would never learn the end of an object that came and went in the gap.
    """


class KindRejectedError(RetryableError):
    """The API server rejects a list or a watch of a kind.

    Somebody has deleted or replaced its CRD. The service starts again, and then waits until the CRD is
    PhJob's (`crd_check`).
    """


class Informer(Generic[F]):
    """The latest facts about one kind of object, complete up to `revision`."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        kind: Kind,
        publish: Callable[[Fact, Fact | None], None],
        project: Callable[[Object, F | None], F | None] | None = None,
        relative: Callable[[F], Fact | None] = lambda _: None,
    ) -> None:
        """Create an informer that has not listed yet.

        `publish` takes a fact, and the fact about the same object that was published before it. `project`
        replaces the kind's own projection, and returns None for an object that no consumer needs. `relative`
        returns the fact about a job's pod, or about a pod's job, with which a fact shares memory.
        """
        self._kube = kube
        self._clock = clock
        self._kind = kind
        self._publish = publish
        self._project: Callable[[Object, Any], Fact | None] = project or kind.project
        self._relative = relative
        self._facts: dict[str, F] = {}
        self.revision = 0
        self.unreachable_reason = ""
        """Why the API server does not answer about this kind now; empty if it does."""
        self._failures = 0
        """The number of watches in a row that broke without an event."""

    @property
    def plural(self) -> str:
        """The kind's name in the API."""
        return self._kind.plural

    async def start(self) -> None:
        """List for the first time.

        This publishes nothing, because consumers request snapshots.
        """
        listing = await self.list()
        self._facts = {fact.uid: fact for fact in listing.items}
        self.revision = listing.revision

    async def run(self) -> None:
        """Watch and publish every change, until cancelled.

        Raises:
            WatchGapError: changes were missed.
            KindRejectedError: the API server no longer serves the kind as PhJob needs it.

        """
        while True:
            try:
                await self._watch()
                self._failures = 0
            except ExpiredError as error:
                _log.warning("watch_expired", resource=self.plural)
                metrics.watch_expired(self.plural)
                raise WatchGapError(f"the watch of {self.plural} has expired") from error
            except RejectedError as error:
                raise self._kind_rejected("watch", error) from error
            except UnreachableError as error:
                self.unreachable_reason = str(error)
                self._failures += 1
                _log.warning("watch_broken", resource=self.plural, error=str(error))
                await self._clock.sleep(retry_delay(WATCH_BACKOFF, self._failures))

    async def relist(self) -> int:
        """List again and publish the difference.

        Returns a revision. Every fact up to it is published.
        """
        while True:
            try:
                listing = await self.list()
            except UnreachableError as error:
                self.unreachable_reason = str(error)
                await self._clock.sleep(WATCH_BACKOFF.longest)
            else:
                break
        self.unreachable_reason = ""
        listed = {fact.uid for fact in listing.items}
        for uid, known in list(self._facts.items()):
            if uid not in listed and known.resource_version <= listing.revision:
                self._delete(uid, listing.revision)
        for fact in listing.items:
            self._upsert(fact)
        self.revision = max(self.revision, listing.revision)
        return self.revision

    async def list(self) -> Listing[F]:
        """Return the fact about every object, from the API server.

        The facts about objects that have not changed are those that are stored already. Without this, each
        snapshot would hold everything twice.

        Raises:
            UnreachableError: the API server does not answer.
            KindRejectedError: the API server does not serve the kind as PhJob needs it.

        """
        try:
            listing = await self._kube.list(self._kind.watched, self._fact_about)
        except RejectedError as error:
            raise self._kind_rejected("list", error) from error
        return Listing([fact for fact in listing.items if fact is not None], listing.revision)

    def get(self, uid: str) -> F | None:
        """Return the latest fact about an object; None if there is none."""
        return self._facts.get(uid)

    def facts(self) -> Iterable[F]:
        """Return the latest fact about every object."""
        return self._facts.values()

    def merge_with_listing(self, listing: Listing[F]) -> Listing[F]:
        """Return the newer of the listing and the facts that the watch has observed.

        The facts that were published during the LIST preceded the snapshot, so consumers ignored them.
        Therefore the snapshot must contain them.
        """
        if self.revision < listing.revision:
            return listing
        return Listing(list(self._facts.values()), self.revision)

    async def _watch(self) -> None:
        async for event, item in self._kube.watch(self._kind.watched, self.revision, self._on_opened):
            self._failures = 0
            revision = int(item["metadata"]["resourceVersion"])
            if event != "BOOKMARK" and revision > self.revision:
                fact = self._fact_about(item)
                if event == "DELETED":
                    self._delete(item["metadata"]["uid"], revision, fact)
                elif fact is None:
                    # No consumer needs the object any longer, or it cannot be parsed. No snapshot has it.
                    self._delete(item["metadata"]["uid"], revision)
                else:
                    self._upsert(fact)
            self.revision = max(self.revision, revision)
        await asyncio.sleep(0)

    def _kind_rejected(self, operation: str, error: RejectedError) -> KindRejectedError:
        return KindRejectedError(f"the API server rejects the {operation} of {self.plural}: {error}")

    def _on_opened(self) -> None:
        self.unreachable_reason = ""

    def _fact_about(self, item: Object) -> F | None:
        known = self._facts.get(item.get("metadata", {}).get("uid", ""))
        try:
            fact: F | None = project_or_raise(lambda it: self._project(it, known), item)
        except ProjectionError as error:
            _log.error("object_skipped", resource=self.plural, error=str(error))
            metrics.object_skipped(self.plural)
            return None
        if fact == known:
            return known
        if fact is not None:
            share(fact, known, self._relative(fact))
        return fact

    def _upsert(self, fact: F) -> None:
        """Store a fact, and publish it if a reader may need it."""
        if fact.resource_version <= self.revision:
            return
        known = self._facts.get(fact.uid)
        self._facts[fact.uid] = fact
        if known is not None and _group(known) != _group(fact):
            # The old group may belong to another shard, which does not get the facts about the new group.
            # Without this, that shard would count the object forever.
            self._publish(self._kind.deletion(known, fact.resource_version), None)
            known = None
        if known is None or self._kind.has_changed(known, fact):
            self._publish(fact, known)

    def _delete(self, uid: str, revision: int, last: F | None = None) -> None:
        """Remove an object, and publish its deletion.

        `last`: its last state, from the deletion's event.
        """
        known = self._facts.pop(uid, None)
        if known is not None:
            self._publish(self._kind.deletion(last or known, revision), None)


def _group(fact: Fact) -> str:
    return getattr(fact, "group", "")
