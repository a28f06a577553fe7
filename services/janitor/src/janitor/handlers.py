"""What the janitor does with each fact: it sets the job's timer, and orders when it rings.

An order is repeated until the job is seen to have changed, so a lost one does no harm.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from janitor import metrics
from janitor.deadlines import Deadline, deadline
from janitor.history import BATCH, History
from shared import topology
from shared.clock import Clock
from shared.consumer import Done
from shared.messages import (
    Forget,
    GroupGone,
    GroupSeen,
    JobGone,
    JobSeen,
    Message,
    NodeGone,
    NodeSeen,
    Order,
    Record,
    RecordsListed,
    RecordsWanted,
    SnapshotBegin,
    SnapshotWanted,
)
from shared.session import Envelope, Stream
from shared.settings import JobSubmission
from shared.timers import Timers
from shared.view import View

AGAIN = timedelta(seconds=30)
"""How long an order may stay without effect before it is given again."""

_log = structlog.get_logger()


class Handlers:
    """The janitor of one shard, as the consumer's handler."""

    def __init__(
        self,
        shard: int,
        shards: int,
        clock: Clock,
        send: Callable[[str, Envelope], None],
        settings: JobSubmission,
    ) -> None:
        """`send` is the bus's. The first shard's janitor keeps the history of all."""
        self._queue = topology.queue_of(topology.JANITOR, shard)
        self._pod_manager = topology.queue_of(topology.POD_MANAGER, shard)
        self._shards = shards
        self._keeps_history = shard == 0
        self._clock = clock
        self._send = send
        self._settings = settings
        self._reset("")

    def _reset(self, session: str) -> None:
        self._stream = Stream(topology.JANITOR, session, self._send)
        self._jobs: View[JobSeen] = View()
        self._groups: View[GroupSeen] = View()
        self._nodes: View[NodeSeen] = View()
        self._lost: dict[str, datetime] = {}
        self._defaults: dict[str, int | None] = {}
        self._timers = Timers()
        self._given: dict[str, Deadline] = {}
        self._history = History(self._settings, self._clock.now()) if self._keeps_history else None
        self._history_request = 0

    def ask(self, request: str) -> None:
        """Forget all and ask the watcher."""
        self._reset(request)
        self._stream.send(topology.WATCHER, SnapshotWanted(queue=self._queue, request=request))

    def begin(self, begin: SnapshotBegin) -> None:
        """Start from nothing, at the snapshot's revisions."""
        self._jobs.begin(begin.revisions["phjobs"])
        self._groups.begin(begin.revisions["phgroups"])
        self._nodes.begin(begin.revisions["nodes"])

    def end(self) -> None:
        """Jobs were told before their groups: set every timer by what is known now."""
        for job in self._jobs:
            self._set(job)

    def fact(self, fact: Message, *, listed: bool) -> None:
        """Something in Kubernetes is so."""
        match fact:
            case JobSeen() if self._jobs.put(fact, listed=listed):
                self._set(fact)
            case JobGone() if self._jobs.drop(fact.uid, fact.resource_version):
                self._timers.set(fact.uid, None)
                self._given.pop(fact.uid, None)
            case GroupSeen() if self._groups.put(fact, listed=listed):
                self._set_default(fact.group, fact.default_active_deadline_seconds)
            case GroupGone() if self._groups.drop(fact.uid, fact.resource_version):
                self._set_default(fact.group, None)
            case NodeSeen() if self._nodes.put(fact, listed=listed):
                self._set_lost(fact.name, fact.lost_since)
            case NodeGone() if self._nodes.drop(fact.uid, fact.resource_version):
                self._set_lost(fact.name, None)
            case RecordsListed():
                self._forget(fact)

    def other(self, _: Envelope, done: Done) -> None:
        """Nobody else speaks to the janitor."""
        done()

    def due(self) -> datetime | None:
        """When the next timer rings."""
        times = (self._timers.due(), self._history.due() if self._history else None)
        return min((time for time in times if time), default=None)

    def tick(self) -> None:
        """Order what is due."""
        now = self._clock.now()
        for uid in self._timers.take(now):
            job = self._jobs.get(uid)
            due = self._deadline(job) if job else None
            if due is not None:
                self._order(due.order, self._pod_manager)
                self._given[uid] = due
                self._timers.set(uid, now + AGAIN)
        if self._history and (ask_at := self._history.due()) and ask_at <= now:
            self._history.asked(now)
            self._history_request += 1
            wanted = RecordsWanted(queue=self._queue, request=self._history_request, most=BATCH)
            self._stream.send(topology.WATCHER, wanted)

    def _forget(self, listed: RecordsListed) -> None:
        """Order that the records over the history's limits be deleted."""
        if self._history is None or listed.request != self._history_request:
            return
        standing = [
            Record(uid=job.uid, name=job.name, group=job.group, finish_time=job.finish_time)
            for job in self._jobs
            if job.phase.final and job.finish_time
        ]
        for record in self._history.over(listed.total, listed.oldest, standing, self._clock.now()):
            job = self._jobs.get(record.uid)
            shard = topology.shard_of_group(record.group, self._shards)
            self._order(
                Forget(
                    uid=record.uid, name=record.name, group=record.group, fence=job.fence if job else ""
                ),
                topology.queue_of(topology.POD_MANAGER, shard),
            )  # fmt: skip

    def _order(self, order: Order, queue: str) -> None:
        kind = type(order).__name__
        metrics.ordered(kind)
        _log.info("ordered", order=kind, job=order.name, uid=order.uid, group=order.group)
        self._stream.send(queue, order)

    def _deadline(self, job: JobSeen) -> Deadline | None:
        return deadline(job, self._defaults.get(job.group), self._lost.get(job.node), self._settings)

    def _set(self, job: JobSeen) -> None:
        """Set the job's timer; one whose order is under way goes on as it is."""
        due = self._deadline(job)
        if due is None or self._given.get(job.uid) != due:
            self._given.pop(job.uid, None)
            self._timers.set(job.uid, due.at if due else None)

    def _set_default(self, group: str, seconds: int | None) -> None:
        if self._defaults.get(group) == seconds:
            return
        self._defaults[group] = seconds
        for job in self._jobs:
            if job.group == group:
                self._set(job)

    def _set_lost(self, node: str, since: datetime | None) -> None:
        if self._lost.get(node) == since:
            return
        if since:
            self._lost[node] = since
        else:
            self._lost.pop(node, None)
        for job in self._jobs:
            if job.node == node:
                self._set(job)
