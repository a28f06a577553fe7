"""The handler of the scheduler: applies messages to the engine, and sends the engine's commands.

It is the scheduler's half of the fence (design/consistency.md, The fence). Every session starts with a
`Fence`, after which pod-manager accepts no other session. pod-manager then requests the snapshot for it, once
all earlier writes have ended.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from phjob_core.kinds import (
    KIND_OF,
    KINDS,
    PODS,
    SCHEDULING_CATALOG,
    Subscriber,
)
from phjob_core.messages import (
    Admit,
    AdmitPod,
    CatalogRequest,
    CatalogSynced,
    Command,
    Fact,
    Fence,
    GroupGone,
    GroupSeen,
    Heartbeat,
    ImageGone,
    ImageSeen,
    InstanceTypeGone,
    InstanceTypeSeen,
    JobGone,
    JobSeen,
    Message,
    PodGone,
    PodSeen,
    SessionRequest,
    SnapshotBegin,
    SnapshotEnd,
)
from phjob_core.object_cache import ObjectCache
from phjob_core.scheduling.acceptance import PendingLimits
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.stream import Envelope, StreamWriter
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.clock import Clock, SteadyClock
from phjob_runtime.consumer import Acknowledge
from phjob_runtime.settings import JobSubmission
from phjob_scheduler import metrics
from phjob_scheduler.group_status import GroupStatusReporter, reports_on_group

CATALOG_REQUEST_TIMEOUT = timedelta(seconds=10)
"""The time to wait for the watcher's answer to a `CatalogRequest` before it may be repeated."""
_OBSERVED_KINDS = tuple(kind for kind in KINDS if Subscriber.SCHEDULER in kind.subscribers)

_log = structlog.get_logger()


class SchedulerHandler:
    """The consumer's handler for the scheduler of one shard."""

    def __init__(
        self,
        shard: Shard,
        clock: Clock,
        send: Callable[[str, Envelope], None],
        request_session: Callable[[str], None],
        settings: JobSubmission,
    ) -> None:
        """`send` is the bus's. `request_session` makes the consumer open a new session."""
        self._publisher = topology.SCHEDULER
        self._queue = topology.queue_of(topology.SCHEDULER, shard.index)
        self._pod_manager = topology.queue_of(topology.POD_MANAGER, shard.index)
        self._shard = shard
        self._wall_clock = clock
        self.clock = SteadyClock(clock)
        """The clock of all timers; it is never set back."""
        self._send = send
        self._request_session = request_session
        self._limits = PendingLimits(settings.max_pending, settings.max_pending_per_user)
        self._reserved_names = settings.reserved_names
        self._default_limits = settings.default_limits
        self._gpus = settings.gpus
        self._notebooks = settings.notebooks
        self._catalog_request = 0
        """The number of the latest `CatalogRequest`."""
        self._reset("")
        metrics.observe(lambda: self._engine)

    def _reset(self, session: str) -> None:
        """Discard all state, and start a session with an empty engine."""
        self._engine = SchedulingEngine(
            session, self._limits, self._reserved_names, self._default_limits, self._gpus,
            notebooks=self._notebooks,
        )  # fmt: skip
        self._stream = StreamWriter(self._publisher, session, self._send)
        # A stream of its own. Without it, a report that an older pod-manager cannot decode would be a gap in
        # the commands.
        self._report_stream = StreamWriter(self._publisher, f"{session}/reports", self._send)
        self._reporter = GroupStatusReporter()
        self._facts: dict[str, ObjectCache[Fact]] = {kind.plural: ObjectCache() for kind in _OBSERVED_KINDS}
        self._catalog_timeout: datetime | None = None
        """When the outstanding `CatalogRequest` may be repeated; None if none is outstanding."""
        self._pods_revision = 0

    def request_snapshot(self, request: str) -> None:
        """Start a session, and fence off all earlier ones."""
        self._reset(request)
        self._stream.send(self._pod_manager, Fence(session=request, queue=self._queue))

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        """Start to receive the facts of the snapshot."""
        self._reporter.begin(begin.place)
        for plural, facts in self._facts.items():
            facts.reset(begin.revisions[plural])
        self._pods_revision = begin.revisions[PODS.plural]
        catalog_revision = min(begin.revisions[kind.plural] for kind in SCHEDULING_CATALOG)
        self._engine.on_catalog_synced(catalog_revision, self._now())

    def on_snapshot_end(self) -> None:
        """Start to decide, because every admission up to now is known."""
        # A pod-manager before release 0.1 creates no pod until it receives this.
        self._stream.send(self._pod_manager, SnapshotEnd(request=self._stream.session))
        now = self._now()
        self._execute(self._engine.on_pods_synced(self._pods_revision, now))
        self._execute(self._engine.start(now))
        metrics.groups_changed(self._engine.catalog.groups)

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:
        """Apply a message of the watcher to the engine, and send the commands that follow."""
        self._execute(self._apply(fact, self._now(), from_snapshot=from_snapshot))
        if isinstance(fact, GroupSeen | GroupGone) and not from_snapshot:
            metrics.groups_changed(self._engine.catalog.groups)

    def on_command(self, envelope: Envelope, acknowledge: Acknowledge) -> None:
        """Start a new session, if pod-manager requests one."""
        if isinstance(envelope.message, SessionRequest):
            self._request_session("session requested")
        acknowledge()

    def next_wakeup(self) -> datetime | None:
        """Return when to act without a message, by `clock`; None: never."""
        self._now()
        times = (self._engine.next_wakeup(), self._catalog_timeout, self._reporter.next_report())
        return min((time for time in times if time), default=None)

    def on_wakeup(self) -> None:
        """Send the commands and reports that are due, or start a new session."""
        now = self._now()
        overdue = self._engine.outstanding.take_overdue(now)
        if overdue:
            metrics.admissions_unobserved(len(overdue))
            _log.error("admissions_unobserved", jobs=overdue)
            self._request_session("admission unobserved")
            return
        if self._catalog_timeout and self._catalog_timeout <= now:
            self._catalog_timeout = None
        self._execute(self._engine.on_wakeup(now))
        for report in self._reporter.due_reports(now, lambda label: reports_on_group(self._engine, label)):
            metrics.command_sent(report.kind)
            self._report_stream.send(self._pod_manager, report)

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the scheduler holds for jobs and pods, for tests and debugging.

        Its keys are:

        - `jobs`: the name of each unfinished job, by uid.
        - `charges`: the uids of the jobs and pods that each group's ledger charges, by the group's label.
        """
        return {
            "jobs": {uid: job.seen.name for uid, job in self._engine.jobs.items()},
            "charges": {
                label: [holder for holder, _ in queue.ledger.charges()]
                for label, queue in self._engine.queues.items()
            },
        }

    def _now(self) -> datetime:
        """Return the time by `clock`, and update the engine's offset to the wall clock.

        The engine compares times that other services wrote with the wall clock.
        """
        now = self.clock.now()
        self._engine.wall_clock_offset = self._wall_clock.now() - now
        return now

    def _apply(self, message: Message, now: datetime, *, from_snapshot: bool) -> Iterable[Command]:
        """Apply a message of the watcher. Returns the commands that follow from it."""
        match message:
            case Fact():
                return self._apply_fact(message, now, from_snapshot=from_snapshot)
            case Heartbeat() if PODS.plural in message.told:
                return self._engine.on_pods_synced(message.told[PODS.plural], now)
            case CatalogSynced():
                if message.request == self._catalog_request:
                    self._catalog_timeout = None
                return self._engine.on_catalog_synced(message.revision, now)
        return ()

    def _apply_fact(self, fact: Fact, now: datetime, *, from_snapshot: bool) -> Iterable[Command]:
        """Apply a fact, unless the cache has a newer one.

        Returns the commands that follow from it.
        """
        apply = _APPLY.get(type(fact))
        if apply is None:
            return ()
        facts = self._facts[KIND_OF[type(fact)].plural]
        match fact:
            case JobGone() | PodGone():
                # The engine has to learn of it also if the cache has evicted the object as finished.
                facts.delete(fact.uid, fact.resource_version)
            case GroupGone() | InstanceTypeGone() | ImageGone():
                if facts.delete(fact.uid, fact.resource_version) is None:
                    return ()
            case _:
                is_new = facts.get(fact.uid) is None and fact.uid not in self._engine.jobs
                job = self._engine.jobs.get(fact.job_uid) if isinstance(fact, PodSeen) else None
                relative = job.seen if job else None
                if not facts.upsert(fact, from_snapshot=from_snapshot, relative=relative):
                    return ()
                if _is_finished(fact):
                    facts.evict(fact.uid)
                elif isinstance(fact, JobSeen) and is_new and not from_snapshot:
                    metrics.job_submitted(fact.group)
        return apply(self._engine, fact, now)

    def _execute(self, commands: Iterable[Command]) -> None:
        """Send the engine's commands, and follow up on the engine's state.

        Schedule a report on each group that has changed. Request the catalog if a job waits for it.
        """
        for command in commands:
            fence = command.token if isinstance(command, Admit | AdmitPod) else command.fence
            metrics.command_sent(command.kind)
            _log.info(
                "command_sent",
                command=command.kind, job=command.name, uid=command.uid, group=command.group, fence=fence,
            )  # fmt: skip
            self._stream.send(self._pod_manager, command)
        self._schedule_reports(self._engine.dirty_groups)
        self._engine.dirty_groups.clear()
        if self._engine.pending_catalog_check and self._catalog_timeout is None:
            self._catalog_request += 1
            self._catalog_timeout = self._now() + CATALOG_REQUEST_TIMEOUT
            request = CatalogRequest(queue=self._queue, request=self._catalog_request)
            self._stream.send(topology.WATCHER, request)

    def _schedule_reports(self, labels: Iterable[str]) -> None:
        """Schedule a report on each of the groups that is in this shard and has a PhGroup."""
        for label in labels:
            if not self._engine.catalog.groups.with_label(label):
                self._reporter.forget(label)
            elif topology.shard_of(label, self._shard.count) == self._shard.index:
                self._reporter.schedule(label, self._now())


def _is_finished(fact: Fact) -> bool:
    """Return whether the fact is about a finished job or pod."""
    return (isinstance(fact, JobSeen) and fact.phase.final) or (
        isinstance(fact, PodSeen) and fact.phase.finished
    )


def _set_instance_type(engine: SchedulingEngine, fact: InstanceTypeSeen, now: datetime) -> Iterable[Command]:
    engine.catalog.instance_types[fact.name] = fact
    return engine.on_catalog_changed(now)


def _remove_instance_type(engine: SchedulingEngine, fact: Fact, now: datetime) -> Iterable[Command]:
    engine.catalog.instance_types.pop(fact.name, None)
    engine.catalog.overheads.pop(fact.name, None)
    return engine.on_catalog_changed(now)


def _set_image(engine: SchedulingEngine, fact: ImageSeen, now: datetime) -> Iterable[Command]:
    engine.catalog.images[fact.name] = fact
    return engine.on_catalog_changed(now)


def _remove_image(engine: SchedulingEngine, fact: Fact, now: datetime) -> Iterable[Command]:
    engine.catalog.images.pop(fact.name, None)
    return engine.on_catalog_changed(now)


_APPLY: Mapping[type[Fact], Callable[[SchedulingEngine, Any, datetime], Iterable[Command]]] = {
    JobSeen: lambda engine, fact, now: engine.on_job(fact, now),
    JobGone: lambda engine, fact, now: engine.on_job_gone(fact.uid, now),
    PodSeen: lambda engine, fact, now: engine.on_pod(fact, now),
    PodGone: lambda engine, fact, now: engine.on_pod_gone(fact.uid, fact.name, fact.job_uid, now),
    GroupSeen: lambda engine, fact, now: engine.on_group(fact, now),
    GroupGone: lambda engine, fact, now: engine.on_group_gone(fact.name, now),
    InstanceTypeSeen: _set_instance_type,
    InstanceTypeGone: _remove_instance_type,
    ImageSeen: _set_image,
    ImageGone: _remove_image,
}
"""The call of the engine for each kind of fact."""
