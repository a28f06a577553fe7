"""What pod-manager does with each message: facts and janitor's orders to `jobs`, the rest to `orders`."""

from collections.abc import Callable
from datetime import datetime

from pod_manager.jobs import Jobs
from pod_manager.orders import Orders
from shared import topology
from shared.lifecycle import Event
from shared.messages import (
    Fact,
    JobGone,
    JobSeen,
    Message,
    PodGone,
    PodSeen,
    Reclaim,
    Requeue,
    SnapshotBegin,
    SnapshotWanted,
    TimeOut,
)
from shared.session import Envelope, Stream


class Handlers:
    """The pod-manager of one shard, as the consumer's handler."""

    def __init__(self, jobs: Jobs, orders: Orders, stream: Stream, shard: int) -> None:
        self._jobs = jobs
        self._orders = orders
        self._stream = stream
        self._queue = topology.queue_of(topology.POD_MANAGER, shard)
        self._fenced = False

    def ask(self, request: str) -> None:
        """Ask the watcher for everything, and at first the scheduler for a session to obey."""
        self._stream.send(topology.WATCHER, SnapshotWanted(queue=self._queue, request=request))
        if not self._fenced:
            self._fenced = True
            self._orders.want_fence()

    def begin(self, begin: SnapshotBegin) -> None:
        """A snapshot starts."""
        self._jobs.begin(begin.revisions)

    def end(self) -> None:
        """The snapshot is complete."""
        self._jobs.end()

    def fact(self, fact: Message, *, listed: bool) -> None:
        """Something in Kubernetes is so."""
        match fact:
            case JobSeen():
                self._jobs.job_seen(fact, listed=listed)
            case JobGone():
                self._jobs.job_gone(fact)
            case PodSeen():
                self._jobs.pod_seen(fact, listed=listed)
            case PodGone():
                self._jobs.pod_gone(fact)
            case Fact():
                self._jobs.catalog.fact(fact, listed=listed)

    def other(self, envelope: Envelope, done: Callable[[], None]) -> None:
        """The janitor or the scheduler orders something."""
        match envelope.message:
            case Requeue(uid=uid, message=message, fence=fence):
                self._jobs.wish(uid, Event.NOT_STARTED, message, fence)
            case TimeOut(uid=uid, message=message, fence=fence):
                self._jobs.wish(uid, Event.OVER_DEADLINE, message, fence)
            case Reclaim(uid=uid, fence=fence):
                self._jobs.wish(uid, None, "", fence)
            case _:
                self._orders.receive(envelope, done)
                return
        done()

    def due(self) -> datetime | None:
        """There are no timers here: others say when."""
        return None

    def tick(self) -> None:
        """Nothing is ever due."""
