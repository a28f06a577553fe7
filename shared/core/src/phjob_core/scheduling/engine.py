"""The scheduling engine: one session's state and decisions for the groups of one shard. Pure.

Facts go in, and commands come out. The engine knows the jobs and the catalog, `accounting` the charges. The
`queue` of each group decides. An admission is a reservation until it is observed, so that its room is not
given away twice. `now` is an argument. The engine decides nothing before `start`, because an incomplete
snapshot may lack charges, and a decision on it could exceed a quota.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from phjob_core.api import EVERYONE, Phase, Reason
from phjob_core.labels import label_value
from phjob_core.lifecycle import requeue_backoff
from phjob_core.messages import Admit, Command, GroupSeen, JobSeen, PodSeen, Reject, SetPendingReason
from phjob_core.quantities import Amounts, quota_charge
from phjob_core.scheduling.accounting import Accounting, BackoffEnd, Reservation, TrackedJob
from phjob_core.scheduling.eligibility import Catalog, Ineligible
from phjob_core.scheduling.pending_reasons import PendingReason, PendingReasons
from phjob_core.scheduling.queue import GroupQueue, QueuedJob, QueueKey

RESERVATION_TIMEOUT = timedelta(seconds=60)
"""The time in which an admission must be observed. Otherwise a command or a fact may be lost."""
MAX_REJECTION_AGE = timedelta(seconds=60)
"""The age up to which an infeasible job is rejected (spec.md, Q4).

An older job was feasible once. It waits until it is feasible again.
"""
MAX_CREATION_DELAY = timedelta(seconds=5)
"""The longest backoff of a job whose pod cannot be created yet (spec.md, Q10)."""
_BLOCKING_REASONS = (Reason.USER_QUOTA, Reason.GROUP_QUOTA, Reason.INVALID_SPEC, Reason.OVER_QUOTA)
"""The pending reasons that are written. A job in its queue that has one is watched until it is outdated."""


class _AdmissionTimeout(NamedTuple):
    """The time by which an admission must be observed."""

    at: datetime
    uid: str
    token: str


def queue_key(job: JobSeen) -> QueueKey:
    """Return a job's position in the queue of its group (spec.md, Q1)."""
    return job.created, job.revision, job.name


class SchedulingEngine:
    """The state and the decisions of one session of the scheduler."""

    def __init__(self, session: str, default_limits: Amounts | None = None) -> None:
        """`default_limits` are a job's limits of the resources that its instance type does not name."""
        self.session = session
        self.catalog = Catalog(default_limits)
        self.catalog_revision = 0
        """The resourceVersion up to which the catalog is complete."""
        self.phases: dict[str, Counter[Phase]] = {}
        """The number of unfinished jobs by phase, by the label value of the group, if it has any."""
        self.dirty_groups: set[str] = set()
        """The label values of the groups that may have changed. The caller empties it."""
        self.queues: dict[str, GroupQueue] = {}
        """By the label value of the group. A queue without jobs, charges and quotas is deleted."""
        self.jobs: dict[str, TrackedJob] = {}
        """All unfinished jobs, by uid."""
        self.pending_catalog_check: dict[str, None] = {}
        """The jobs that look infeasible, but may be newer than the known catalog (spec.md, Q8)."""
        self.infeasible: dict[str, Ineligible] = {}
        """The infeasible jobs that wait, each with the reason (spec.md, Q4)."""
        self.foreign_admissions = 0
        """The number of admissions that were observed, and that this session did not decide."""
        self.accounting = Accounting(self._queue)
        self.wall_clock_offset = timedelta()
        """The time of day minus `now`, which never goes backwards. Other programs write the time of day."""
        self._pending_reasons = PendingReasons()
        self._backoffs: list[tuple[datetime, str]] = []
        """A heap of the jobs in backoff, each with its end by the time of day. Some may be outdated."""
        self._timeouts: deque[_AdmissionTimeout] = deque()
        """Of all admissions, in order. Those that were observed are skipped lazily."""
        self._admissions = 0
        self._started = False

    # --- Facts. ---

    def start(self, now: datetime) -> list[Command]:
        """Decide for all groups, because the snapshot is complete."""
        self._started = True
        return [
            *(command for job in list(self.jobs.values()) for command in self._record_revision(job)),
            *(command for uid in list(self.jobs) for command in self._enqueue_or_reject(uid, now)),
            *(command for label in list(self.queues) for command in self._decide(label, now)),
        ]

    def on_job(self, seen: JobSeen, now: datetime) -> list[Command]:
        """Process a job's new state. Returns the commands that follow from it."""
        label = label_value(seen.group)
        if seen.phase.final:
            if not self._started:
                self.accounting.charge_unseen_pod(seen)
            return self.on_job_gone(seen.uid, now)
        known = self.jobs.get(seen.uid)
        job = self.jobs.setdefault(seen.uid, TrackedJob(seen))
        self._count_phase(label, known.seen.phase if known else None, seen.phase)
        was_admitted = job.seen is not seen and job.seen.phase.admitted
        job.seen = seen
        if seen.phase.admitted:
            self._on_admission_observed(job, was_admitted=was_admitted)
        elif job.reservation and seen.fence != job.reservation.fence:
            # Another pod-manager settled the admission, or the job was admitted and requeued since.
            job.reservation = None
        self.accounting.update_job(job)
        return [
            *self._record_revision(job),
            *self._enqueue_or_reject(seen.uid, now),
            *self._decide(label, now),
        ]

    def on_job_gone(self, uid: str, now: datetime) -> list[Command]:
        """Remove a finished or deleted job. Only its pod remains charged."""
        self.pending_catalog_check.pop(uid, None)
        self.infeasible.pop(uid, None)
        job = self.jobs.pop(uid, None)
        if job is None:
            return []
        label = label_value(job.seen.group)
        self._count_phase(label, job.seen.phase, None)
        self._queue(label).remove(uid)
        self.accounting.remove_job(job)
        return self._decide(label, now)

    def on_pod(self, seen: PodSeen, now: datetime) -> list[Command]:
        """Process a pod's new state."""
        return self._decide_all(self.accounting.update_pod(seen, self._job_of(seen.job_uid, seen.name)), now)

    def on_pod_gone(self, uid: str, name: str, job_uid: str, now: datetime) -> list[Command]:
        """Remove a deleted pod."""
        return self._decide_all(self.accounting.remove_pod(uid, self._job_of(job_uid, name)), now)

    def on_pods_synced(self, revision: int, now: datetime) -> list[Command]:
        """Process that all facts about pods up to `revision` are known."""
        return self._decide_all(self.accounting.on_pods_synced(revision), now)

    def on_group(self, seen: GroupSeen, now: datetime) -> list[Command]:
        """Process a PhGroup's new state."""
        return self._on_groups_changed(self.catalog.groups.upsert(seen), now)

    def on_group_gone(self, name: str, now: datetime) -> list[Command]:
        """Remove a deleted PhGroup, by the name of the object."""
        return self._on_groups_changed(self.catalog.groups.delete(name), now)

    def on_catalog_changed(self, now: datetime) -> list[Command]:
        """Check all jobs again, because an instance type or an image changed."""
        return self._recheck(list(self.jobs), now)

    def on_catalog_synced(self, revision: int, now: datetime) -> list[Command]:
        """Process that all facts about the catalog up to `revision` are known."""
        self.catalog_revision = max(self.catalog_revision, revision)
        return self._recheck(list(self.pending_catalog_check), now)

    # --- Time. ---

    def next_wakeup(self) -> datetime | None:
        """Return when `on_wakeup` or `take_overdue_admissions` is due next; None if never."""
        times = [
            self._pending_reasons.next_wakeup(),
            self._backoffs[0][0] - self.wall_clock_offset if self._backoffs else None,
            self._timeouts[0].at if self._timeouts else None,
        ]
        return min((time for time in times if time), default=None)

    def on_wakeup(self, now: datetime) -> list[Command]:
        """Put jobs whose backoff is over back into their queues, and write pending reasons that are due."""
        commands: list[Command] = []
        while self._backoffs and self._backoffs[0][0] <= now + self.wall_clock_offset:
            _, uid = heapq.heappop(self._backoffs)
            if uid in self.jobs:
                commands += self._enqueue_or_reject(uid, now)
                commands += self._decide(label_value(self.jobs[uid].seen.group), now)
        for uid, (reason, message) in self._pending_reasons.due_changes(now, self._current_and_wanted_reason):
            commands.append(_set_pending_reason(self.jobs[uid].seen, reason, message))
        return commands

    def take_overdue_admissions(self, now: datetime) -> list[str]:
        """Return the uids of the jobs whose admission was not observed in time, each once."""
        overdue: list[str] = []
        while self._timeouts and self._timeouts[0].at <= now:
            timeout = self._timeouts.popleft()
            if self._is_unobserved(timeout):
                overdue.append(timeout.uid)
        return overdue

    def unobserved_admissions(self) -> Iterator[tuple[datetime, str]]:
        """Iterate over the jobs whose admission is not observed yet: the time of its timeout, and the uid."""
        # A copy, because metrics are read in another thread.
        return ((timeout.at, timeout.uid) for timeout in list(self._timeouts) if self._is_unobserved(timeout))

    def _is_unobserved(self, timeout: _AdmissionTimeout) -> bool:
        job = self.jobs.get(timeout.uid)
        return bool(job and job.reservation and job.reservation.token == timeout.token)

    # --- State. ---

    def _queue(self, label: str) -> GroupQueue:
        """Return the queue of a group. Creates it if there is none."""
        queue = self.queues.get(label)
        if queue is None:
            queue = self.queues[label] = GroupQueue()
        return queue

    def _count_phase(self, label: str, before: Phase | None, after: Phase | None) -> None:
        """Count a job's change of phase. None: the job did not exist before, or does not after."""
        phases = self.phases.setdefault(label, Counter())
        if before:
            phases[before] -= 1
        if after:
            phases[after] += 1
        elif not any(phases.values()):
            # Without this, the engine would keep a counter for every group name that a user invented.
            del self.phases[label]

    def _job_of(self, uid: str, name: str) -> TrackedJob | None:
        """Return a pod's job. A pod with another name than its job is not ours, and has none."""
        job = self.jobs.get(uid)
        return job if job and job.seen.name == name else None

    def _on_admission_observed(self, job: TrackedJob, *, was_admitted: bool) -> None:
        """End the reservation of a job that is Preparing or Running."""
        is_ours = job.reservation and job.reservation.token == job.seen.fence
        if self._started and not is_ours and not was_admitted:
            self.foreign_admissions += 1
        job.reservation = None
        job.limits = job.seen.resources or job.limits

    def _record_revision(self, job: TrackedJob) -> list[Command]:
        """Return the command that writes the revision at creation of an edited job, if it is not written.

        Only the watcher's current session knows it. Without this, the next one would take the revision of the
        edit for it, and the job would lose its position.
        """
        seen = job.seen
        if not self._started or seen.phase is not Phase.PENDING or job.reservation:
            return []
        if seen.revision_recorded or seen.resource_version == seen.revision:
            return []
        return [_set_pending_reason(seen, seen.reason, seen.message)]

    # --- Decisions. ---

    def _enqueue_or_reject(self, uid: str, now: datetime) -> list[Command]:
        """Put a Pending job where it belongs. Returns the command that rejects it, if it is rejected.

        The job waits in its queue, in its backoff, or outside both if it is infeasible for now.
        """
        job = self.jobs[uid]
        seen = job.seen
        queue = self._queue(label_value(seen.group))
        if not self._started or job.reservation:
            return []
        self.pending_catalog_check.pop(uid, None)
        self.infeasible.pop(uid, None)
        if seen.phase is not Phase.PENDING or seen.cancel or seen.deleting:
            queue.remove(uid)
            return []
        if (until := self._end_of_backoff(job, now)) and until > now + self.wall_clock_offset:
            queue.remove(uid)
            heapq.heappush(self._backoffs, (until, uid))
            return []
        verdict = self._judge(seen, queue)
        if isinstance(verdict, Ineligible):
            return self._set_aside_or_reject(job, verdict, queue, now)
        job.limits, job.was_feasible = verdict, True
        queue.add(QueuedJob(uid, label_value(seen.user), quota_charge(verdict), queue_key(seen)))
        if seen.reason in _BLOCKING_REASONS:
            self._pending_reasons.watch(uid, now)
        return []

    def _judge(self, seen: JobSeen, queue: GroupQueue) -> Amounts | Ineligible:
        """Return the limits of the job's pod, or why the job is infeasible."""
        verdict = self.catalog.check(seen)
        if isinstance(verdict, Ineligible):
            return verdict
        problem = queue.infeasibility(quota_charge(verdict))
        if problem:
            return Ineligible(Reason.OVER_QUOTA, f"instance type {seen.instance_type!r} {problem}")
        return verdict

    def _set_aside_or_reject(
        self, job: TrackedJob, verdict: Ineligible, queue: GroupQueue, now: datetime
    ) -> list[Command]:
        """Let an infeasible job wait, or return the command that rejects it (spec.md, Q4, Q8)."""
        seen = job.seen
        if seen.revision > self.catalog_revision:
            # The catalog may lack an object that was created just before the job.
            self.pending_catalog_check[seen.uid] = None
            user = label_value(seen.user)
            queue.add(QueuedJob(seen.uid, user, {}, queue_key(seen), pending_catalog_check=True))
            return []
        queue.remove(seen.uid)
        is_old = now + self.wall_clock_offset - seen.created > MAX_REJECTION_AGE
        if job.was_feasible or seen.fence or is_old:
            self.infeasible[seen.uid] = verdict
            self._pending_reasons.watch(seen.uid, now)
            return []
        return [
            Reject(
                uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
                reason=verdict.reason, message=verdict.message,
            )
        ]  # fmt: skip

    def _end_of_backoff(self, job: TrackedJob, now: datetime) -> datetime | None:
        """Return when the job's backoff is over, by the time of day; None if it has none.

        pod-manager wrote it by its own clock, which may be an hour ahead. It is therefore limited to the
        longest backoff that the job's requeues can cause, from the time at which it was first observed.
        """
        written = job.seen.requeue_after
        if written is None:
            return None
        if job.backoff_end is None or job.backoff_end.written != written:
            longest = max(requeue_backoff(job.seen.requeued), MAX_CREATION_DELAY)
            effective = min(written, now + self.wall_clock_offset + longest)
            job.backoff_end = BackoffEnd(written, effective)
        return job.backoff_end.effective

    def _decide_all(self, labels: Iterable[str], now: datetime) -> list[Command]:
        """Let the queues of these groups decide, in a fixed order."""
        return [command for label in sorted(labels) for command in self._decide(label, now)]

    def _decide(self, label: str, now: datetime) -> list[Command]:
        """Let the group's queue decide. Returns the commands that admit its decisions."""
        self.dirty_groups.add(label)
        if not self._started:
            return []
        queue = self._queue(label)
        commands: list[Command] = [self._admit(self.jobs[admitted.uid], now) for admitted in queue.decide()]
        for uid in (*queue.newly_blocked_by_user_quota, queue.blocking_job):
            if uid:
                self._pending_reasons.watch(uid, now)
        self._drop_unused_queue(label)
        return commands

    def _drop_unused_queue(self, label: str) -> None:
        """Delete the group's queue if it has no jobs, charges and quotas.

        Without this, the engine would keep a queue for every group name that a user invented.
        """
        queue = self.queues.get(label)
        if queue and not queue.jobs and not queue.ledger and not queue.group_quota and not queue.user_quota:
            del self.queues[label]

    def _admit(self, job: TrackedJob, now: datetime) -> Admit:
        """Reserve the job's admission. Returns the command."""
        seen = job.seen
        self._admissions += 1
        job.reservation = Reservation(f"{self.session}#{self._admissions}", seen.fence)
        self._timeouts.append(_AdmissionTimeout(now + RESERVATION_TIMEOUT, seen.uid, job.reservation.token))
        return Admit(
            uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
            token=job.reservation.token, resources=dict(job.limits), revision=seen.revision,
        )  # fmt: skip

    def _on_groups_changed(self, groups: set[str], now: datetime) -> list[Command]:
        """Apply the quotas of these group names, whose PhGroup changed, and check their jobs again."""
        for label in {label_value(group) for group in groups}:
            seen = next(filter(self.catalog.groups.counts, self.catalog.groups.with_label(label)), None)
            self.dirty_groups.add(label)
            self._queue(label).set_quota(seen.user_quota if seen else {}, seen.group_quota if seen else {})
        concerns_all = EVERYONE in groups
        uids = [uid for uid, job in self.jobs.items() if concerns_all or job.seen.group in groups]
        commands = self._recheck(uids, now)
        for group in groups:
            self._drop_unused_queue(label_value(group))
        return commands

    def _recheck(self, uids: list[str], now: datetime) -> list[Command]:
        """Check these jobs again after the catalog changed, and let their groups decide."""
        if not self._started:
            return []
        commands: list[Command] = []
        for uid in uids:
            commands += self._enqueue_or_reject(uid, now)
        labels = {label_value(self.jobs[uid].seen.group) for uid in uids}
        return [*commands, *self._decide_all(labels, now)]

    def _current_and_wanted_reason(self, uid: str) -> tuple[PendingReason, PendingReason] | None:
        """Return the pending reason in a job's status, and the one that it should have.

        Returns None if the job is neither in its queue nor infeasible.
        """
        job = self.jobs.get(uid)
        if job is None:
            return None
        current = (job.seen.reason, job.seen.message)
        if ineligible := self.infeasible.get(uid):
            return current, (ineligible.reason, ineligible.message)
        queue = self.queues.get(label_value(job.seen.group))
        if queue is None or uid not in queue.jobs:
            return None
        return current, queue.pending_reason(uid)


def _set_pending_reason(seen: JobSeen, reason: str, message: str) -> SetPendingReason:
    """Return the command that writes a job's pending reason, and its revision at creation."""
    return SetPendingReason(
        uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
        reason=reason, message=message, revision=seen.revision,
    )  # fmt: skip
