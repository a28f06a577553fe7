"""The scheduler's orders: which of them to obey, and in what order to write them.

The fence's half on this side (ARCHITECTURE.md, The fence): obey one session alone, and only after
every older write has ended; settle what a predecessor may have left under way. A group's orders are
written strictly one after the other, for that is what makes jobs enter Preparing in their order.
"""

import asyncio
from collections import deque
from datetime import datetime, timedelta

import structlog

from pod_manager import metrics, status
from pod_manager.jobs import PHJOBS, Jobs
from pod_manager.lanes import Lanes, failed
from pod_manager.under_way import UnderWay
from pod_manager.writes import Writer
from shared import topology
from shared.clock import Clock
from shared.consumer import Done
from shared.errors import RefusedError
from shared.kube import Kube
from shared.messages import Admit, Explain, Fence, FenceWanted, Message, Refuse, SnapshotEnd, SnapshotWanted
from shared.phjob import Phase, Reason
from shared.session import Envelope, Stream

FENCE_AGAIN = timedelta(seconds=5)
"""How long the scheduler may take to answer a `FenceWanted`."""

_log = structlog.get_logger()


class Orders:
    """The orders of one shard's scheduler."""

    def __init__(
        self, kube: Kube, clock: Clock, writer: Writer, jobs: Jobs, stream: Stream, shard: int
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._writer = writer
        self._jobs = jobs
        self._stream = stream
        self._scheduler = topology.queue_of(topology.SCHEDULER, shard)
        self._inbox: asyncio.Queue[tuple[Envelope, Done]] = asyncio.Queue()
        self._session: str | None = None
        self._expected = 0
        self._fence_asked: datetime | None = None
        self._settled = 0
        self._waiting: dict[str, deque[tuple[Message, bool, Done]]] = {}
        self._under_way = UnderWay()
        self._lanes = Lanes(self._write_group)

    def receive(self, envelope: Envelope, done: Done) -> None:
        """Take an order or a fence in; `done` is called when its writes have ended."""
        self._inbox.put_nowait((envelope, done))

    def want_fence(self) -> None:
        """Ask the scheduler for a session to obey."""
        now = self._clock.now()
        if self._fence_asked is None or now - self._fence_asked > FENCE_AGAIN:
            self._fence_asked = now
            self._stream.send(self._scheduler, FenceWanted())

    async def run(self) -> None:
        """Obey, one after the other, for ever."""
        while True:
            envelope, done = await self._inbox.get()
            message = envelope.message
            if isinstance(message, Fence):
                if not envelope.redelivered:
                    await self._fence(message, envelope.number)
                done()
            elif isinstance(message, Admit) and envelope.redelivered:
                self._enqueue(message, done, settle=True)
            elif isinstance(message, Admit | Refuse | Explain) and self._obeys(envelope):
                self._enqueue(message, done, settle=False)
            elif isinstance(message, SnapshotEnd) and self._obeys(envelope):
                self._jobs.resume_creations()
                done()
            else:
                done()

    async def close(self) -> None:
        """Break off what is under way: whatever is unacknowledged comes again, to be settled."""
        await self._lanes.close()

    async def _fence(self, fence: Fence, number: int) -> None:
        """Reach the fence: every older write has ended. Obey the new session from here on.

        So have the creations of pods, and none begins until the scheduler has its snapshot: the pod of a
        job that was deleted in between would be in no snapshot, nor its job.
        """
        self._jobs.hold_creations()
        await self._under_way.none()
        await self._jobs.no_creation_under_way()
        self._session, self._expected = fence.session, number + 1
        self._fence_asked = None
        wanted = SnapshotWanted(queue=fence.queue, request=fence.session)
        self._stream.send(topology.WATCHER, wanted)
        _log.info("fence_reached", session=fence.session)

    def _obeys(self, envelope: Envelope) -> bool:
        """Whether an order is the next one of the session that counts."""
        kind = type(envelope.message).__name__
        if envelope.redelivered:
            metrics.ignored(kind, "redelivered")
            return False
        if self._session is None or envelope.session != self._session:
            metrics.ignored(kind, "session")
            self.want_fence()
            return False
        if envelope.number < self._expected:
            metrics.ignored(kind, "duplicate")
            return False
        if envelope.number > self._expected:
            metrics.ignored(kind, "gap")
            self._session = None
            self.want_fence()
            return False
        self._expected += 1
        return True

    def _enqueue(self, order: Admit | Refuse | Explain, done: Done, *, settle: bool) -> None:
        self._waiting.setdefault(order.group, deque()).append((order, settle, done))
        self._under_way.begin()
        self._lanes.touch(order.group)

    async def _write_group(self, group: str) -> None:
        waiting = self._waiting.get(group, deque())
        while waiting:
            order, settle, done = waiting.popleft()
            failure = ""
            try:
                if not await self._obey(order, settle=settle):
                    self._disobey(group)
            except Exception as error:  # Of this order alone: those behind it have their turn.
                failed(error)
                failure = f"{type(error).__name__}: {error}"
            finally:
                self._under_way.end()
            done(failure)
        self._waiting.pop(group, None)

    async def _obey(self, order: Message, *, settle: bool) -> bool:
        """Write it, unless it comes too late; whether our session goes on."""
        try:
            await self._write(order, settle=settle)
        except RefusedError as error:
            metrics.refused(type(order).__name__)
            _log.info("order_too_late", order=type(order).__name__, why=str(error))
            return settle or not isinstance(order, Admit) or not await self._is_settled(order)
        return True

    async def _is_settled(self, order: Admit) -> bool:
        """Whether the order was refused because somebody has settled it: our session is over."""
        found = await self._writer.definite(lambda: self._kube.get(PHJOBS, order.name), "get phjob")
        if found is None or found["metadata"]["uid"] != order.uid:
            return False
        return found["status"]["fence"] not in (order.fence, order.token)

    def _disobey(self, group: str) -> None:
        """Write no more of the group's orders: a successor may not have settled the next ones yet.

        Else they would come before the one that it has settled already.
        """
        self._session = None
        waiting = self._waiting[group]
        for entry in [entry for entry in waiting if not entry[1]]:
            order, _, done = entry
            waiting.remove(entry)
            metrics.ignored(type(order).__name__, "settled")
            self._under_way.end()
            done()
        self.want_fence()

    async def _write(self, order: Message, *, settle: bool) -> None:
        now = self._clock.now()
        match order:
            case Admit() if settle:
                self._settled += 1
                token = f"{self._stream.session}!{self._settled}"
                await self._patch(order.name, status.settle(order, token), "settle")
                _log.info("admission_settled", job=order.name, uid=order.uid)
            case Admit():
                with self._jobs.being_admitted(order.uid):
                    job = await self._patch(order.name, status.admit(order, now), "admit")
                    self._jobs.admitted(job, now)
                metrics.transition(order.group, Phase.PREPARING, Reason.ADMITTED)
                metrics.waited(
                    order.group, now - datetime.fromisoformat(job["metadata"]["creationTimestamp"])
                )
                _log.info("admitted", job=order.name, uid=order.uid, group=order.group)
            case Refuse():
                patch = status.refuse(order.uid, order.fence, order.reason, order.message, now)
                await self._patch(order.name, patch, "refuse")
                metrics.transition(order.group, Phase.FAILED, order.reason)
                self._jobs.refused(order.uid)
                self._jobs.events.tell(order.uid, order.name, order.reason, order.message)
                _log.info("refused", job=order.name, uid=order.uid, why=order.message)
            case Explain():
                await self._patch(order.name, status.explain(order), "explain")

    async def _patch(self, name: str, patch: status.Patch, what: str) -> status.Object:
        return await self._writer.definite(
            lambda: self._kube.patch(PHJOBS, name, patch, subresource="status"), what
        )
