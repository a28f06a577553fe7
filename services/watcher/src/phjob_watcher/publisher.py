"""The watcher's streams: which queues get a fact, and what a snapshot contains.

The session of the streams is the number of the term. A consumer that sees a new session requests a
snapshot.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count

from phjob_core.api import Phase, PodPhase
from phjob_core.kinds import KIND_OF
from phjob_core.messages import (
    CatalogSynced,
    Fact,
    FinishedJob,
    Heartbeat,
    HistoryPage,
    JobGone,
    JobSeen,
    PodGone,
    PodSeen,
    SnapshotBegin,
    SnapshotEnd,
)
from phjob_core.stream import Envelope, StreamWriter
from phjob_runtime.amqp import topology
from phjob_watcher import metrics

_NOT_FOR_THE_SCHEDULER = {
    "resource_version", "active_deadline_seconds", "ttl_seconds_after_finished", "requeue_limit",
    "start_time", "node", "log_url", "pod",
}  # fmt: skip
"""The fields of a job that the scheduler does not use."""


def is_relevant(service: str, fact: Fact, previous: Fact | None) -> bool:
    """Return whether a subscriber of the kind needs the fact.

    `previous` is the fact about the object that was published before. The scheduler needs only those changes
    of a pod that change its charge, which its node does not, and no edit of a job's times. The janitor needs
    no fact about a job that was and is Pending.
    """
    match service, fact, previous:
        case topology.SCHEDULER, JobSeen(), JobSeen():
            return _scheduling_inputs(fact) != _scheduling_inputs(previous)
        case topology.SCHEDULER, PodSeen(), PodSeen():
            return _charge_inputs(fact) != _charge_inputs(previous)
        case topology.JANITOR, JobSeen(), (JobSeen() | None):
            return any(job is not None and job.phase is not Phase.PENDING for job in (previous, fact))
    return True


def _scheduling_inputs(job: JobSeen) -> tuple[object, ...]:
    """Return everything that the scheduler uses of a job, and whether its revision has to be recorded."""
    used = (getattr(job, name) for name in JobSeen.__struct_fields__ if name not in _NOT_FOR_THE_SCHEDULER)
    return (*used, job.lacks_revision)


def _charge_inputs(pod: PodSeen) -> tuple[object, ...]:
    """Return the properties of a pod that its charge depends on.

    `phjob_core.scheduling.accounting` computes the charge.
    """
    of_job = pod.job_uid, pod.fence, pod.gated
    end = pod.over, pod.over and pod.started, pod.phase is PodPhase.SUCCEEDED
    return pod.group, pod.user, pod.limits, of_job, end


class Publisher:
    """One term's stream to every queue."""

    def __init__(self, term: int, shards: int, send: Callable[[str, Envelope], None]) -> None:
        # Sessions are compared as text, so the number needs leading zeros.
        self._stream = StreamWriter(topology.WATCHER, f"{term:020d}", send)
        self._shards = shards
        self._snapshots = count()

    @property
    def session(self) -> str:
        """The session of this term."""
        return self._stream.session

    def publish(self, fact: Fact, previous: Fact | None = None) -> None:
        """Publish a fact to every queue that needs it.

        `previous` is the fact about the object that was published before.
        """
        metrics.fact_published(fact.kind)
        shard = self._shard_of(fact)
        shards = range(self._shards) if shard is None else (shard,)
        for service in KIND_OF[type(fact)].subscribers:
            if not is_relevant(service, fact, previous):
                continue
            for index in shards:
                self._stream.send(topology.queue_of(service, index), fact)

    def publish_heartbeats(self, now: datetime, answering: Mapping[str, str], pods_revision: int) -> None:
        """Publish a heartbeat to every consumer.

        `answering` has the request for a snapshot that is in progress, by queue. Every fact about pods up to
        `pods_revision` was published before.
        """
        for queue in topology.queues(self._shards):
            if queue.name != topology.WATCHER:
                heartbeat = Heartbeat(
                    sent=now, answering=answering.get(queue.name, ""), told={"pods": pods_revision}
                )
                self._stream.send(queue.name, heartbeat)

    def publish_snapshot(
        self, queue: str, request: str, revisions: dict[str, int], facts: Iterable[Fact]
    ) -> int:
        """Publish a snapshot to a queue, with those of the facts that its consumer needs.

        Returns their number.
        """
        service, _, shard = queue.partition(".")
        place = f"{self.session}/{next(self._snapshots):010d}"
        self._stream.send(
            queue,
            SnapshotBegin(request=request, revisions=revisions, place=place, shards=self._shards),
        )
        sent = 0
        for fact in facts:
            is_of_shard = self._shard_of(fact) in (None, int(shard))
            subscribers = KIND_OF[type(fact)].subscribers
            if is_of_shard and service in subscribers and is_relevant(service, fact, None):
                self._stream.send(queue, fact)
                sent += 1
        self._stream.send(queue, SnapshotEnd(request=request))
        metrics.snapshot_published(queue)
        return sent

    def publish_catalog_synced(self, queue: str, request: int, revision: int) -> None:
        """Answer that every fact about the catalog up to the revision was published."""
        self._stream.send(queue, CatalogSynced(request=request, revision=revision))

    def publish_history_page(
        self, queue: str, request: int, total: int, over_limit: Sequence[FinishedJob]
    ) -> None:
        """Answer with the number of reclaimed jobs, and the oldest jobs over a limit of the history."""
        page = HistoryPage(request=request, total=total, over_limit=tuple(over_limit))
        self._stream.send(queue, page)

    def _shard_of(self, fact: Fact) -> int | None:
        """Return the index of the shard that needs the fact; None for all shards."""
        match fact:
            case JobSeen() | JobGone():
                return topology.shard_of_group(fact.group, self._shards)
            case PodSeen() | PodGone():
                return topology.shard_of(fact.group, self._shards)
        return None
