"""What the janitor does with each fact: it sets the job's timer, and orders when it rings.

An order is repeated until the job is seen to have changed, so a lost one does no harm.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from janitor import metrics
from janitor.deadlines import deadline
from janitor.timers import Timers
from shared import topology
from shared.clock import Clock
from shared.messages import (
    GroupGone,
    GroupSeen,
    JobGone,
    JobSeen,
    Message,
    SnapshotBegin,
    SnapshotWanted,
)
from shared.session import Envelope, Stream
from shared.settings import JobSubmission
from shared.view import View

AGAIN = timedelta(seconds=30)
"""How long an order may stay without effect before it is given again."""

_log = structlog.get_logger()


class Handlers:
    """The janitor of one shard, as the consumer's handler."""

    def __init__(
        self,
        shard: int,
        clock: Clock,
        send: Callable[[str, Envelope], None],
        settings: JobSubmission,
    ) -> None:
        """`send` is the bus's."""
        self._queue = topology.queue_of(topology.JANITOR, shard)
        self._pod_manager = topology.queue_of(topology.POD_MANAGER, shard)
        self._clock = clock
        self._send = send
        self._settings = settings
        self._reset("")

    def _reset(self, session: str) -> None:
        self._stream = Stream(topology.JANITOR, session, self._send)
        self._jobs: View[JobSeen] = View()
        self._groups: View[GroupSeen] = View()
        self._defaults: dict[str, int | None] = {}
        self._timers = Timers()

    def ask(self, request: str) -> None:
        """Forget all and ask the watcher."""
        self._reset(request)
        self._stream.send(topology.WATCHER, SnapshotWanted(queue=self._queue, request=request))

    def begin(self, begin: SnapshotBegin) -> None:
        """Start from nothing, at the snapshot's revisions."""
        self._jobs.begin(begin.revisions["phjobs"])
        self._groups.begin(begin.revisions["phgroups"])

    def end(self) -> None:
        """Jobs were told before their groups: set every timer by what is known now."""
        for job in self._jobs:
            self._set(job)

    def fact(self, fact: Message, *, listed: bool) -> None:
        """Something in Kubernetes is so."""
        match fact:
            case JobSeen():
                if self._jobs.put(fact, listed=listed):
                    self._set(fact)
            case JobGone():
                if self._jobs.drop(fact.uid, fact.resource_version):
                    self._timers.set(fact.uid, None)
            case GroupSeen():
                if self._groups.put(fact, listed=listed):
                    self._set_default(fact.group, fact.default_active_deadline_seconds)
            case GroupGone():
                if self._groups.drop(fact.uid, fact.resource_version):
                    self._set_default(fact.group, None)

    def other(self, _: Envelope, done: Callable[[], None]) -> None:
        """Nobody else speaks to the janitor."""
        done()

    def due(self) -> datetime | None:
        """When the next timer rings."""
        return self._timers.due()

    def tick(self) -> None:
        """Order what is due."""
        now = self._clock.now()
        for uid in self._timers.take(now):
            job = self._jobs.get(uid)
            due = deadline(job, self._defaults.get(job.group), self._settings) if job else None
            if job is None or due is None:
                continue
            kind = type(due[1]).__name__
            metrics.ordered(kind)
            _log.info("ordered", order=kind, job=job.name, uid=uid, group=job.group)
            self._stream.send(self._pod_manager, due[1])
            self._timers.set(uid, now + AGAIN)

    def _set(self, job: JobSeen) -> None:
        due = deadline(job, self._defaults.get(job.group), self._settings)
        self._timers.set(job.uid, due[0] if due else None)

    def _set_default(self, group: str, seconds: int | None) -> None:
        if self._defaults.get(group) == seconds:
            return
        self._defaults[group] = seconds
        for job in self._jobs:
            if job.group == group:
                self._set(job)
