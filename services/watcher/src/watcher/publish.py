"""Who is told what: the facts that concern a service, and its snapshots.

The stream's session is the Lease's epoch. A consumer that does not know it asks; nothing is told
twice for its own sake.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count

from shared import topology
from shared.labels import label_value
from shared.messages import (
    CatalogListed,
    DatasetGone,
    DatasetSeen,
    Fact,
    GroupGone,
    GroupSeen,
    Heartbeat,
    ImageGone,
    ImageSeen,
    InstanceTypeGone,
    InstanceTypeSeen,
    JobGone,
    JobSeen,
    NodeGone,
    NodeSeen,
    PodGone,
    PodSeen,
    Record,
    RecordsListed,
    SnapshotBegin,
    SnapshotEnd,
)
from shared.session import Envelope, Stream
from shared.topology import JANITOR, POD_MANAGER, SCHEDULER
from watcher import metrics

AUDIENCE: dict[type[Fact], tuple[str, ...]] = {
    JobSeen: (SCHEDULER, JANITOR, POD_MANAGER),
    JobGone: (SCHEDULER, JANITOR, POD_MANAGER),
    PodSeen: (SCHEDULER, POD_MANAGER),
    PodGone: (SCHEDULER, POD_MANAGER),
    GroupSeen: (SCHEDULER, JANITOR, POD_MANAGER),
    GroupGone: (SCHEDULER, JANITOR, POD_MANAGER),
    InstanceTypeSeen: (SCHEDULER, POD_MANAGER),
    InstanceTypeGone: (SCHEDULER, POD_MANAGER),
    ImageSeen: (SCHEDULER, POD_MANAGER),
    ImageGone: (SCHEDULER, POD_MANAGER),
    DatasetSeen: (POD_MANAGER,),
    DatasetGone: (POD_MANAGER,),
    NodeSeen: (JANITOR, POD_MANAGER),
    NodeGone: (JANITOR, POD_MANAGER),
}
"""Which services each kind of fact concerns."""


class Publisher:
    """One reign's stream to every queue."""

    def __init__(self, epoch: int, shards: int, send: Callable[[str, Envelope], None]) -> None:
        self._stream = Stream(topology.WATCHER, f"{epoch:020d}", send)
        self._shards = shards
        self._snapshots = count()

    @property
    def session(self) -> str:
        """The session of this reign."""
        return self._stream.session

    def tell(self, fact: Fact) -> None:
        """Tell a fact to everyone whom it concerns."""
        metrics.told(type(fact).__name__)
        shard = self._shard(fact)
        shards = range(self._shards) if shard is None else (shard,)
        for service in AUDIENCE[type(fact)]:
            for number in shards:
                self._stream.send(topology.queue_of(service, number), fact)

    def beat(self, now: datetime, answering: Mapping[str, str]) -> None:
        """Let every consumer know that the stream lives, how far it is, and which request is answered."""
        for queue in topology.queues(self._shards):
            if queue.name != topology.WATCHER:
                self._stream.send(queue.name, Heartbeat(sent=now, answering=answering.get(queue.name, "")))

    def snapshot(self, queue: str, request: str, revisions: dict[str, int], facts: Iterable[Fact]) -> None:
        """Tell a queue everything that concerns it, in one piece."""
        service, _, number = queue.partition(".")
        place = f"{self.session}/{next(self._snapshots):010d}"
        self._stream.send(queue, SnapshotBegin(request=request, revisions=revisions, place=place))
        for fact in facts:
            if service in AUDIENCE[type(fact)] and self._shard(fact) in (None, int(number)):
                self._stream.send(queue, fact)
        self._stream.send(queue, SnapshotEnd(request=request))
        metrics.snapshot(queue)

    def catalog_listed(self, queue: str, request: int, revision: int) -> None:
        """Say that the catalog has been told up to a revision."""
        self._stream.send(queue, CatalogListed(request=request, revision=revision))

    def records_listed(self, queue: str, request: int, total: int, oldest: Sequence[Record]) -> None:
        """Answer how many records there are, and which are the oldest."""
        self._stream.send(queue, RecordsListed(request=request, total=total, oldest=tuple(oldest)))

    def _shard(self, fact: Fact) -> int | None:
        """The shard that a fact concerns; None: all of them."""
        match fact:
            case JobSeen() | JobGone():
                return topology.shard_of(label_value(fact.group), self._shards)
            case PodSeen() | PodGone():
                return topology.shard_of(fact.group, self._shards)
        return None
