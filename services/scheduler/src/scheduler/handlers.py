"""What the scheduler does with each message: it asks `admission` and sends the orders.

The fence: every session starts by telling pod-manager to obey nobody else, and by getting its
snapshot through it, after all that was ordered before has ended (design: ARCHITECTURE.md).
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from scheduler import metrics
from scheduler.admission import Admission
from scheduler.reports import Reports, report
from shared import topology
from shared.clock import Clock
from shared.consumer import Done
from shared.messages import (
    CatalogListed,
    CatalogWanted,
    Fence,
    FenceWanted,
    GroupGone,
    GroupSeen,
    ImageGone,
    ImageSeen,
    InstanceTypeGone,
    InstanceTypeSeen,
    JobGone,
    JobSeen,
    Message,
    Order,
    PodGone,
    PodSeen,
    SnapshotBegin,
    SnapshotEnd,
)
from shared.session import Envelope, Stream
from shared.view import View

CATALOG = ("phgroups", "instancetypes", "images")
CATALOG_AGAIN = timedelta(seconds=10)
"""How long the watcher may take to answer a `CatalogWanted`."""

_log = structlog.get_logger()


class Handlers:
    """The scheduler of one shard, as the consumer's handler."""

    def __init__(
        self,
        shard: int,
        shards: int,
        clock: Clock,
        send: Callable[[str, Envelope], None],
        doubt: Callable[[str], None],
    ) -> None:
        """`send` is the bus's; `doubt` makes the consumer open a new session."""
        self._publisher = topology.SCHEDULER
        self._queue = topology.queue_of(topology.SCHEDULER, shard)
        self._pod_manager = topology.queue_of(topology.POD_MANAGER, shard)
        self._shard, self._shards = shard, shards
        self._clock = clock
        self._send = send
        self._doubt = doubt
        self._catalog_asked: datetime | None = None
        self._catalog_request = 0
        self._reset("")
        metrics.observe(lambda: self._admission)

    def _reset(self, session: str) -> None:
        self._admission = Admission(session)
        self._stream = Stream(self._publisher, session, self._send)
        # Of their own, so that one that an older pod-manager can't read is no gap in the orders.
        self._report_stream = Stream(self._publisher, f"{session}/reports", self._send)
        self._reports = Reports()
        self._jobs: View[JobSeen] = View()
        self._pods: View[PodSeen] = View()
        self._groups: View[GroupSeen] = View()
        self._instance_types: View[InstanceTypeSeen] = View()
        self._images: View[ImageSeen] = View()
        self._catalog_asked = None

    def ask(self, request: str) -> None:
        """Open a session: fence off every older one, and get the snapshot behind the fence."""
        self._reset(request)
        self._stream.send(self._pod_manager, Fence(session=request, queue=self._queue))

    def begin(self, begin: SnapshotBegin) -> None:
        """Start from nothing, at the snapshot's revisions."""
        self._reports.begin(begin.place)
        revisions = begin.revisions
        self._jobs.begin(revisions["phjobs"])
        self._pods.begin(revisions["pods"])
        self._groups.begin(revisions["phgroups"])
        self._instance_types.begin(revisions["instancetypes"])
        self._images.begin(revisions["images"])
        revision = min(revisions[kind] for kind in CATALOG)
        self._admission.catalog_listed(revision, self._clock.now())

    def end(self) -> None:
        """All is known that was ever admitted: say so, and decide."""
        self._stream.send(self._pod_manager, SnapshotEnd(request=self._stream.session))
        self._order(self._admission.start(self._clock.now()))

    def fact(self, fact: Message, *, listed: bool) -> None:
        """Something in Kubernetes is so."""
        self._order(self._orders(fact, self._clock.now(), listed=listed))

    def _orders(self, fact: Message, now: datetime, *, listed: bool) -> Iterable[Order]:  # noqa: PLR0911, C901, PLR0912 - one case for each kind of fact
        mind = self._admission
        match fact:
            case JobSeen():
                is_new = self._jobs.get(fact.uid) is None and fact.uid not in mind.jobs
                if self._jobs.put(fact, listed=listed):
                    if fact.phase.final:
                        self._jobs.forget(fact.uid)
                    elif is_new and not listed:
                        metrics.submitted(fact.group)
                    return mind.job_seen(fact, now)
            case JobGone():
                self._jobs.drop(fact.uid, fact.resource_version)
                return mind.job_gone(fact.uid, fact.group, now)
            case PodSeen():
                if self._pods.put(fact, listed=listed):
                    if fact.phase.finished:
                        self._pods.forget(fact.uid)
                    return mind.pod_seen(fact, now)
            case PodGone():
                self._pods.drop(fact.uid, fact.resource_version)
                return mind.pod_gone(fact.uid, fact.group, now)
            case GroupSeen():
                if self._groups.put(fact, listed=listed):
                    return mind.group_seen(fact, now)
            case GroupGone():
                if self._groups.drop(fact.uid, fact.resource_version):
                    return mind.group_gone(fact.group, fact.name, now)
            case InstanceTypeSeen():
                if self._instance_types.put(fact, listed=listed):
                    mind.catalog.instance_types[fact.name] = fact
                    return mind.catalog_changed(now)
            case InstanceTypeGone():
                if self._instance_types.drop(fact.uid, fact.resource_version):
                    mind.catalog.instance_types.pop(fact.name, None)
                    return mind.catalog_changed(now)
            case ImageSeen():
                if self._images.put(fact, listed=listed):
                    mind.catalog.images[fact.name] = fact
                    return mind.catalog_changed(now)
            case ImageGone():
                if self._images.drop(fact.uid, fact.resource_version):
                    mind.catalog.images.pop(fact.name, None)
                    return mind.catalog_changed(now)
            case CatalogListed():
                if fact.request == self._catalog_request:
                    self._catalog_asked = None
                return mind.catalog_listed(fact.revision, now)
        return ()

    def other(self, envelope: Envelope, done: Done) -> None:
        """pod-manager knows no session: open a new one."""
        if isinstance(envelope.message, FenceWanted):
            self._doubt("fence wanted")
        done()

    def due(self) -> datetime | None:
        """When there is something to do though no message comes."""
        times = (self._admission.due(), self._catalog_asked, self._reports.due())
        return min((time for time in times if time), default=None)

    def tick(self) -> None:
        """Do it."""
        now = self._clock.now()
        late = self._admission.overdue(now)
        if late:
            metrics.unseen(len(late))
            _log.error("admissions_unseen", jobs=late)
            self._doubt("admission unseen")
            return
        if self._catalog_asked and self._catalog_asked <= now:
            self._catalog_asked = None
        self._order(self._admission.tick(now))
        for told in self._reports.tell(now, lambda label: report(self._admission, label)):
            metrics.ordered(type(told).__name__)
            self._report_stream.send(self._pod_manager, told)

    def _ours(self, labels: set[str]) -> Iterable[str]:
        """Those groups that are this shard's: the catalog tells of all."""
        return (label for label in labels if topology.shard_of(label, self._shards) == self._shard)

    def _order(self, orders: Iterable[Order]) -> None:
        for order in orders:
            kind = type(order).__name__
            metrics.ordered(kind)
            _log.info("ordered", order=kind, job=order.name, uid=order.uid, group=order.group)
            self._stream.send(self._pod_manager, order)
        self._reports.watch(self._ours(self._admission.touched), self._clock.now())
        self._admission.touched.clear()
        if self._admission.doubtful and self._catalog_asked is None:
            self._catalog_request += 1
            self._catalog_asked = self._clock.now() + CATALOG_AGAIN
            self._stream.send(
                topology.WATCHER,
                CatalogWanted(queue=self._queue, request=self._catalog_request),
            )
