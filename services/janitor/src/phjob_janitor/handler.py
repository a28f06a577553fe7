"""The janitor's handler: it sets a timer for each job, and sends a command when the timer is due.

It repeats a command until a fact shows its effect. Therefore losing a command is harmless.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from phjob_core.groups import Groups
from phjob_core.kinds import NODES, PHGROUPS, PHJOBS
from phjob_core.messages import (
    Command,
    DeleteJob,
    GroupGone,
    GroupSeen,
    HistoryPage,
    HistoryRequest,
    JobGone,
    JobSeen,
    Message,
    NodeGone,
    NodeSeen,
    SnapshotBegin,
    SnapshotRequest,
)
from phjob_core.object_cache import ObjectCache
from phjob_core.stream import Envelope, StreamWriter
from phjob_core.timers import Timers
from phjob_janitor import metrics
from phjob_janitor.deadlines import Deadline, PhaseObservation, next_deadline
from phjob_janitor.history import MAX_JOBS_PER_REQUEST, History
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.clock import Clock, SteadyClock
from phjob_runtime.consumer import Acknowledge
from phjob_runtime.settings import JobSubmission

REPEAT_INTERVAL = timedelta(seconds=30)
"""The time after which a command without an effect is sent again."""
_UNUSED = {"message": "", "log_url": "", "pod": "", "pod_uid": "", "requeue_after": None}
"""The fields of a job that no deadline depends on, and that other jobs do not share."""

_log = structlog.get_logger()


class JanitorHandler:
    """The handler of one shard's janitor.

    The janitor of the first shard also enforces the history's limits, for all shards.
    """

    def __init__(
        self, shard: Shard, clock: Clock, send: Callable[[str, Envelope], None], settings: JobSubmission
    ) -> None:
        self._queue = topology.queue_of(topology.JANITOR, shard.index)
        self._pod_manager = topology.queue_of(topology.POD_MANAGER, shard.index)
        self._shards = shard.count
        self._has_history = shard.index == 0
        self._clock = clock
        self._send = send
        self._settings = settings
        self._reset("")

    def _reset(self, session: str) -> None:
        self._stream = StreamWriter(topology.JANITOR, session, self._send)
        self._jobs: ObjectCache[JobSeen] = ObjectCache()
        self._groups: ObjectCache[GroupSeen] = ObjectCache()
        self._nodes: ObjectCache[NodeSeen] = ObjectCache()
        self._lost_nodes: dict[str, datetime] = {}
        """The time since which each unresponsive node has been lost."""
        self._groups_by_name = Groups()
        self._timers = Timers()
        """The deadlines, by the time of day, because their inputs are times of day that others wrote."""
        self._steady = SteadyClock(self._clock)
        self._repeats = Timers()
        """The times to repeat commands, by `_steady`."""
        self._observations: dict[str, PhaseObservation] = {}
        self._outstanding: dict[str, Deadline] = {}
        """The deadline whose command was sent and has had no effect yet, by uid."""
        self._history = History(self._settings, self._clock.now()) if self._has_history else None

    def request_snapshot(self, request: str) -> None:
        """Discard the state, and request a snapshot from the watcher."""
        self._reset(request)
        self._stream.send(topology.WATCHER, SnapshotRequest(queue=self._queue, request=request))

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        """Start to receive a snapshot, as of its revisions."""
        self._jobs.reset(begin.revisions[PHJOBS.plural])
        self._groups.reset(begin.revisions[PHGROUPS.plural])
        self._nodes.reset(begin.revisions[NODES.plural])

    def on_snapshot_end(self) -> None:
        """Set every timer again, because the jobs arrived before their groups."""
        for job in self._jobs:
            self._set_timer(job)

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:
        """Update the state from a fact, and the timers that depend on it."""
        match fact:
            case JobSeen():
                self._on_job(fact, from_snapshot=from_snapshot)
            case JobGone() if self._jobs.delete(fact.uid, fact.resource_version):
                self._observations.pop(fact.uid, None)
                self._clear_timers(fact.uid)
            case GroupSeen() if self._groups.upsert(fact, from_snapshot=from_snapshot):
                self._on_groups_changed(self._groups_by_name.upsert(fact))
            case GroupGone() if self._groups.delete(fact.uid, fact.resource_version):
                self._on_groups_changed(self._groups_by_name.delete(fact.name))
            case NodeSeen() if self._nodes.upsert(fact, from_snapshot=from_snapshot):
                self._set_lost_since(fact.name, fact.lost_since)
            case NodeGone() if self._nodes.delete(fact.uid, fact.resource_version):
                self._set_lost_since(fact.name, None)
            case HistoryPage() if self._history:
                self._history.on_page(fact, self._clock.now())

    def on_command(self, _: Envelope, acknowledge: Acknowledge) -> None:
        """Acknowledge a command, because no service sends one to the janitor."""
        acknowledge()

    def next_wakeup(self) -> datetime | None:
        """Return when the next timer or request is due, by the time of day."""
        now, repeat = self._clock.now(), self._repeats.due()
        times = (
            self._timers.due(),
            self._history.next_wakeup() if self._history else None,
            now + (repeat - self._steady.now()) if repeat else None,
        )
        return min((time for time in times if time), default=None)

    def on_wakeup(self) -> None:
        """Send the commands that are due, and the request for the history."""
        now, steady = self._clock.now(), self._steady.now()
        for uid in (*self._timers.take(now), *self._repeats.take(steady)):
            job = self._jobs.get(uid)
            deadline = self._next_deadline(job) if job else None
            if deadline is not None:
                self._send_command(deadline.command, self._pod_manager)
                self._outstanding[uid] = deadline
                self._repeats.set(uid, steady + REPEAT_INTERVAL)
        if self._history:
            self._clean_history(self._history, now)

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the janitor holds for jobs, for tests and debugging.

        Its keys are:

        - `jobs`: the name of each job that is not reclaimed, by uid.
        - `observed`: the uids of the jobs whose latest change of phase is recorded.
        - `outstanding`: the uids of the jobs for which a command was sent that has had no effect yet.
        - `timers`, `repeats`: the number of timers for deadlines, and for the repetition of commands.
        """
        return {
            "jobs": {job.uid: job.name for job in self._jobs},
            "observed": list(self._observations),
            "outstanding": list(self._outstanding),
            "timers": len(self._timers),
            "repeats": len(self._repeats),
        }

    def _clean_history(self, history: History, now: datetime) -> None:
        """Delete the next jobs that are over a limit of the history, or request them."""
        for job in history.take_deletions(now):
            shard = topology.shard_of_group(job.group, self._shards)
            self._send_command(
                DeleteJob(uid=job.uid, name=job.name, group=job.group, fence=job.fence),
                topology.queue_of(topology.POD_MANAGER, shard),
            )
        if due := history.take_request(now):
            number, limits = due
            most = MAX_JOBS_PER_REQUEST
            request = HistoryRequest(queue=self._queue, request=number, most=most, limits=limits)
            self._stream.send(topology.WATCHER, request)

    def _send_command(self, command: Command, queue: str) -> None:
        metrics.command_sent(command.kind)
        _log.info(
            "command_sent",
            command=command.kind,
            job=command.name,
            uid=command.uid,
            group=command.group,
            fence=command.fence,
        )
        self._stream.send(queue, command)

    def _next_deadline(self, job: JobSeen) -> Deadline | None:
        group = self._groups_by_name.get(job.group)
        observation = self._observations[job.uid]
        lost_since, now = self._lost_nodes.get(job.node), self._clock.now()
        return next_deadline(job, group, lost_since, self._settings, observation, now)

    def _set_timer(self, job: JobSeen) -> None:
        """Set the job's timer, unless the command of the same deadline is outstanding."""
        deadline = self._next_deadline(job)
        if deadline is None or self._outstanding.get(job.uid) != deadline:
            self._clear_timers(job.uid)
            self._timers.set(job.uid, deadline.at if deadline else None)

    def _clear_timers(self, uid: str) -> None:
        self._outstanding.pop(uid, None)
        self._timers.set(uid, None)
        self._repeats.set(uid, None)

    def _on_job(self, job: JobSeen, *, from_snapshot: bool) -> None:
        previous = self._jobs.get(job.uid)
        job = job.model_copy(update=_UNUSED)
        if not self._jobs.upsert(job, from_snapshot=from_snapshot):
            return
        if previous is None or (previous.phase, previous.fence) != (job.phase, job.fence):
            self._observations[job.uid] = PhaseObservation(self._clock.now(), is_entry=not from_snapshot)
        self._set_timer(job)

    def _on_groups_changed(self, groups: set[str]) -> None:
        for job in self._jobs:
            if job.group in groups:
                self._set_timer(job)

    def _set_lost_since(self, node: str, since: datetime | None) -> None:
        if self._lost_nodes.get(node) == since:
            return
        if since:
            self._lost_nodes[node] = since
        else:
            self._lost_nodes.pop(node, None)
        for job in self._jobs:
            if job.node == node:
                self._set_timer(job)
