"""The watcher's work while it holds the Lease: mirror, tell, and answer requests."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared import projection, topology
from shared.bus import Bus, Delivery
from shared.clock import Clock
from shared.errors import GoneError, UnreachableError
from shared.kube import Kube, Object, Resource
from shared.labels import GROUP_LABEL, label_value
from shared.messages import (
    CatalogWanted,
    DatasetGone,
    Fact,
    GroupGone,
    ImageGone,
    InstanceTypeGone,
    JobGone,
    NodeGone,
    PodGone,
    RecordsWanted,
    SnapshotWanted,
)
from shared.phjob import GROUP, VERSION
from shared.resources import Amounts
from watcher import records, translate
from watcher.mirror import Mirror
from watcher.publish import AUDIENCE, Publisher
from watcher.requests import Requests, Wanted

HEARTBEAT = 1.0
"""Seconds between two heartbeats to every queue: how long a replica that has to take over may not know it."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class _Kind:
    """A kind of object: where it is, and how it becomes facts."""

    resource: Resource
    translate: Callable[[Object, Any], Fact]
    gone: type[Fact]
    kept: tuple[str, ...] = ()
    """What the fact of its end says beside its name."""

    def end(self, known: Fact, revision: int) -> Fact:
        """The fact of an object's end, from the last that was known of it."""
        kept = {field: getattr(known, field) for field in ("uid", "name", *self.kept)}
        return self.gone(**kept, resource_version=revision)


def _ours(plural: str, field_selector: str = "") -> Resource:
    return Resource(plural, GROUP, VERSION, field_selector=field_selector)


KINDS: dict[str, _Kind] = {
    "phjobs": _Kind(
        _ours("phjobs", "status.reclaimed!=true"),
        lambda item, known: projection.job_seen(item, known.revision if known else None),
        JobGone,
        ("group",),
    ),
    "pods": _Kind(
        Resource("pods", label_selector=GROUP_LABEL),
        lambda item, _: projection.pod_seen(item),
        PodGone,
        ("group", "job_uid"),
    ),
    "phgroups": _Kind(_ours("phgroups"), lambda item, _: translate.group(item), GroupGone, ("group",)),
    "instancetypes": _Kind(
        _ours("instancetypes"),
        lambda item, _: translate.instance_type(item),
        InstanceTypeGone,
    ),
    "images": _Kind(_ours("images"), lambda item, _: translate.image(item), ImageGone),
    "datasets": _Kind(_ours("datasets"), lambda item, _: translate.dataset(item), DatasetGone),
    "nodes": _Kind(Resource("nodes", namespaced=False), lambda item, _: translate.node(item), NodeGone),
}
CATALOG = ("phgroups", "instancetypes", "images")
REQUESTS = (SnapshotWanted, CatalogWanted, RecordsWanted)
_LONGEST_NAME = 64


class Watcher:
    """One reign: from the Lease's acquisition to its loss."""

    def __init__(self, kube: Kube, bus: Bus, clock: Clock, *, epoch: int, shards: int) -> None:
        self._kube = kube
        self._bus = bus
        self._clock = clock
        self._publisher = Publisher(epoch, shards, bus.send)
        self._requests: asyncio.Queue[Delivery] = asyncio.Queue()
        self._history_requests: asyncio.Queue[Delivery] = asyncio.Queue()
        self._mirrors: dict[str, Mirror[Any]] = {
            name: Mirror(kube, clock, kind.resource, kind.translate, kind.end, self._publisher.tell)
            for name, kind in KINDS.items()
        }
        self._queues = {queue.name for queue in topology.queues(shards)} - {topology.WATCHER}
        self._started = False
        self._answering: Mapping[str, str] = {}
        """The request that is being answered, or will be, by queue."""

    def held(self) -> Mapping[str, Amounts]:
        """What the unfinished pods of each group hold, counted anew: by the group's name where it has one."""
        names = {label_value(group.group): group.group for group in self._mirrors["phgroups"].facts()}
        return {
            names.get(label, label): amounts
            for label, amounts in translate.held(self._mirrors["pods"].facts()).items()
        }

    def waiting_for(self) -> str:
        """What keeps it from telling all there is; empty if nothing."""
        if not self._started:
            return "the API server to list everything"
        return next((m.unreachable for m in self._mirrors.values() if m.unreachable), "")

    async def run(self) -> None:
        """Reign until cancelled."""
        for mirror in self._mirrors.values():
            await mirror.start()
        self._started = True
        _log.info("leading", session=self._publisher.session)
        async with asyncio.TaskGroup() as tasks:
            for mirror in self._mirrors.values():
                tasks.create_task(mirror.follow())
            tasks.create_task(self._answer())
            tasks.create_task(self._answer_history())
            await self._bus.consume(topology.WATCHER, self._receive)
            while True:
                self._publisher.beat(self._clock.now(), self._answering)
                await self._clock.sleep(HEARTBEAT)

    def _receive(self, delivery: Delivery) -> None:
        """Requests about the history may take long, and nothing waits for them: a queue of their own.

        Nobody reads the queue that a request of an installation with more shards names.
        """
        message = delivery.envelope.message
        if isinstance(message, REQUESTS) and message.queue not in self._queues:
            delivery.bury(f"there is no queue {message.queue[:_LONGEST_NAME]!r} to answer to")
            return
        of_history = isinstance(delivery.envelope.message, RecordsWanted)
        (self._history_requests if of_history else self._requests).put_nowait(delivery)

    async def _answer_history(self) -> None:
        while True:
            delivery = await self._history_requests.get()
            message = delivery.envelope.message
            if isinstance(message, RecordsWanted) and self._history_requests.empty():
                try:
                    total, oldest = await records.oldest(self._kube, message.most)
                except (UnreachableError, GoneError) as error:
                    _log.warning("history_not_listed", why=str(error))  # Its asker asks again.
                else:
                    self._publisher.records_listed(message.queue, message.request, total, oldest)
            self._bus.when_sent(delivery.ack)

    async def _answer(self) -> None:
        """One after the other; what came meanwhile may have made another needless."""
        requests = Requests()
        while True:
            while not requests or not self._requests.empty():
                delivery = await self._requests.get()
                if isinstance(delivery.envelope.message, Wanted):
                    requests.add(delivery.envelope.message, delivery)
                else:
                    self._bus.when_sent(delivery.ack)
            self._answering = requests.snapshots()
            match requests.first():
                case SnapshotWanted() as wanted:
                    await self._snapshot_until_told(wanted)
                case CatalogWanted() as wanted:
                    revisions = [await self._mirrors[kind].refresh() for kind in CATALOG]
                    self._publisher.catalog_listed(wanted.queue, wanted.request, min(revisions))
            for delivery in requests.answered():
                self._bus.when_sent(delivery.ack)
            self._answering = requests.snapshots()

    async def _snapshot(self, wanted: SnapshotWanted) -> None:
        """LIST now, for what was written before the request must be in it, then tell."""
        service = wanted.queue.partition(".")[0]
        kinds = [name for name, kind in KINDS.items() if service in AUDIENCE[kind.gone]]
        # One at a time: those of all queues together could be more than may wait to be sent.
        await self._sent()
        # Jobs before pods: an admission that is listed has its pod, if any, listed too.
        listings = {kind: await self._mirrors[kind].list() for kind in kinds}
        # From here on nothing may be told before the snapshot is: no more waiting.
        facts: list[Fact] = []
        revisions: dict[str, int] = {}
        for kind, listing in listings.items():
            newest = self._mirrors[kind].newest(listing)
            facts += newest.items
            revisions[kind] = newest.revision
        self._publisher.snapshot(wanted.queue, wanted.request, revisions, facts)
        _log.info("snapshot_told", queue=wanted.queue, request=wanted.request, facts=len(facts))

    async def _sent(self) -> None:
        """Return when RabbitMQ has all that was told up to now."""
        sent = asyncio.Event()
        self._bus.when_sent(sent.set)
        await sent.wait()

    async def _snapshot_until_told(self, wanted: SnapshotWanted) -> None:
        while True:
            try:
                await self._snapshot(wanted)
            except UnreachableError as error:
                _log.warning("snapshot_delayed", why=str(error))
                await self._clock.sleep(1.0)
            else:
                return
