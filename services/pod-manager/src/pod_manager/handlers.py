"""What pod-manager does with each message: facts and janitor's orders to `jobs`, the scheduler's to `orders`.

What it reports of groups goes to `reports`.
"""

from datetime import datetime

from pod_manager.jobs import Jobs
from pod_manager.orders import Orders
from pod_manager.plan import Wish
from pod_manager.reports import Reports
from shared import topology
from shared.consumer import Done
from shared.lifecycle import Event
from shared.messages import (
    Fact,
    Forget,
    GiveUp,
    Message,
    Reclaim,
    ReportGroup,
    Requeue,
    SnapshotBegin,
    SnapshotWanted,
    TimeOut,
)
from shared.session import Envelope, Stream


class Handlers:
    """The pod-manager of one shard, as the consumer's handler."""

    def __init__(self, jobs: Jobs, orders: Orders, reports: Reports, stream: Stream, shard: int) -> None:
        self._jobs = jobs
        self._orders = orders
        self._reports = reports
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
        if isinstance(fact, Fact):
            self._jobs.fact(fact, listed=listed)

    def other(self, envelope: Envelope, done: Done) -> None:
        """The janitor or the scheduler orders something."""
        order = envelope.message
        match order:
            case Requeue():
                wish = Wish(Event.NOT_STARTED, order.name, order.fence, order.message)
            case TimeOut():
                wish = Wish(Event.OVER_DEADLINE, order.name, order.fence, order.message, order.generation)
            case GiveUp():
                wish = Wish(Event.NODE_GIVEN_UP, order.name, order.fence, order.message)
            case Reclaim():
                wish = Wish(Event.TTL_OVER, order.name, order.fence, generation=order.generation)
            case Forget():
                wish = Wish(Event.HISTORY_OVER, order.name, order.fence)
            case ReportGroup():
                self._reports.receive(order)
                done()
                return
            case _:
                self._orders.receive(envelope, done)
                return
        self._jobs.wish(order.uid, wish)
        done()

    def due(self) -> datetime | None:
        """When to look at a job though no message comes."""
        return self._jobs.due()

    def tick(self) -> None:
        """Do so."""
        self._jobs.tick()
