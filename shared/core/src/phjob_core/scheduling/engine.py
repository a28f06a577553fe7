"""The scheduling engine: one session's state and decisions for the groups of one shard. Pure.

Facts go in, and commands come out. The engine knows the jobs and the catalog, `accounting` the charges. The
`queue` of each group decides. An admission is a reservation until it is observed, so that its room is not
given away twice. `now` is an argument. The engine decides nothing before `start`, because an incomplete
snapshot may lack charges, and a decision on it could exceed a quota.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from phjob_core.api import EVERYONE, RESERVED_NAMES, Notebooks, Phase, Reason
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.lifecycle import requeue_backoff
from phjob_core.messages import Admit, AdmitPod, Command, GroupSeen, JobSeen, PodSeen, SetPendingReason
from phjob_core.pod_limits import describe_overhead
from phjob_core.quantities import Amounts
from phjob_core.retry import retry_backoff
from phjob_core.scheduling.acceptance import NO_LIMITS, Acceptance, PendingLimits
from phjob_core.scheduling.accounting import Accounting, BackoffEnd, Reservation, TrackedJob
from phjob_core.scheduling.eligibility import Catalog, Ineligible, PodResources
from phjob_core.scheduling.gated_pods import GatedPods, is_gated_pod
from phjob_core.scheduling.outstanding_admissions import OutstandingAdmissions
from phjob_core.scheduling.pending_reasons import PendingReason, PendingReasons
from phjob_core.scheduling.queue import IN_ORDER, GroupQueue, QueuedJob, QueueKey
from phjob_core.sharing import share_amounts
from phjob_core.timers import Timers

MAX_REJECTION_AGE = timedelta(seconds=60)
"""The age up to which a job is rejected (spec.md, Q4, Q11).

An older job was feasible once, and within the limits. It waits until it is feasible again.
"""
MAX_CREATION_DELAY = timedelta(seconds=5)
"""The longest backoff of a job whose pod cannot be created yet (spec.md, Q10)."""
_OUTDATED_REASONS = (
    Reason.USER_QUOTA, Reason.GROUP_QUOTA, Reason.INVALID_SPEC, Reason.OVER_QUOTA, Reason.SUSPENDED,
)  # fmt: skip
"""The pending reasons that are written. A job that waits and has one is watched until it is outdated."""
_SUSPENDED: PendingReason = (
    Reason.SUSPENDED,
    "spec.suspend is true: the job keeps its place, and waits until its user sets it to false",
)


def queue_key(job: JobSeen) -> QueueKey:
    """Return a job's position in the queue of its group (spec.md, Q1)."""
    return IN_ORDER, job.created, job.revision, job.name


class SchedulingEngine:
    """The state and the decisions of one session of the scheduler."""

    def __init__(
        self,
        session: str,
        limits: PendingLimits = NO_LIMITS,
        reserved_names: Sequence[str] = RESERVED_NAMES,
        default_limits: Amounts | None = None,
        gpus: GpuResources | None = None,
        *,
        notebooks: Notebooks = "first",
    ) -> None:
        """`limits` are those of `Acceptance`; `reserved_names` and `default_limits` those of `Catalog`.

        `gpus` are the resources that count as `gpu`; None: those that do so without a setting. With
        `notebooks` "first", gated pods are ahead of all jobs of their group; with "queue", they are in order.
        """
        self.session = session
        self.gpus = gpus or GpuResources()
        self.catalog = Catalog(reserved_names, default_limits)
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
        self.acceptance = Acceptance(limits)
        self.foreign_admissions = 0
        """The number of admissions that were observed, and that this session did not decide."""
        self.accounting = Accounting(self._queue, self.gpus)
        self.notebooks: Notebooks = notebooks
        self.gated_pods = GatedPods(
            self._queue, self.accounting, self.catalog.groups, first=notebooks == "first"
        )
        self.wall_clock_offset = timedelta()
        """The time of day minus `now`, which never goes backwards. Other programs write the time of day."""
        self._pending_reasons = PendingReasons()
        self._backoffs = Timers()
        """The ends of the jobs' backoffs."""
        self.outstanding = OutstandingAdmissions()
        self._admissions = 0
        self._started = False

    # --- Facts. ---

    def start(self, now: datetime) -> list[Command]:
        """Decide for all groups, because the snapshot is complete.

        Jobs that were never admitted come first, in the order of their queues. At any earlier time, at least
        as many of them were ahead of a job. So it is over a limit only if it was before this session.
        """
        self._started = True
        jobs = sorted(self.jobs.values(), key=lambda job: (bool(job.seen.fence), queue_key(job.seen)))
        for job in jobs:
            self._enqueue_or_reject(job.seen.uid, now)
        self.gated_pods.start()
        return [
            *(command for job in jobs for command in self._record_revision(job)),
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
        previous, job.seen = job.seen, seen
        was_admitted = previous is not seen and previous.phase.admitted
        if previous.overhead != seen.overhead:
            job.was_feasible = False  # It was judged without what the cluster adds to its pod.
        if seen.phase.admitted:
            self._on_admission_observed(job, now, was_admitted=was_admitted)
        elif job.reservation and seen.fence != job.reservation.fence:
            # Another pod-manager settled the admission, or the job was admitted and requeued since.
            self._end_reservation(job, now)
        self.accounting.update_job(job)
        of_type = self._jobs_of_type(seen) if self.catalog.learn_overhead(seen) else []
        self._enqueue_or_reject(seen.uid, now)
        return [*self._record_revision(job), *self._recheck(of_type, now), *self._decide(label, now)]

    def on_job_gone(self, uid: str, now: datetime) -> list[Command]:
        """Remove a finished or deleted job. Only its pod remains charged."""
        self._forget_verdict(uid)
        job = self.jobs.pop(uid, None)
        if job is None:
            return []
        label = label_value(job.seen.group)
        self._count_phase(label, job.seen.phase, None)
        self.acceptance.on_gone(job)
        self.outstanding.end(uid, now)
        self._queue(label).remove(uid)
        self.accounting.remove_job(job)
        return self._decide(label, now)

    def on_pod(self, seen: PodSeen, now: datetime) -> list[Command]:
        """Process a pod's new state."""
        if is_gated_pod(seen):
            changed = self.accounting.remove_pod(seen.uid, None) | self.gated_pods.update(seen)
            if not self.gated_pods.is_reserved(seen.uid):
                self.outstanding.end(seen.uid, now)
            return self._decide_all(changed, now)
        changed = self._forget_gated_pod(seen.uid, now)
        changed |= self.accounting.update_pod(seen, self._job_of(seen.job_uid, seen.name))
        return self._decide_all(changed, now)

    def on_pod_gone(self, uid: str, name: str, job_uid: str, now: datetime) -> list[Command]:
        """Remove a deleted pod."""
        changed = self._forget_gated_pod(uid, now)
        return self._decide_all(changed | self.accounting.remove_pod(uid, self._job_of(job_uid, name)), now)

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

    def name_of(self, uid: str) -> str:
        """Return the name of a job, or of a gated pod."""
        return self.gated_pods.name(uid) if uid in self.gated_pods else self.jobs[uid].seen.name

    # --- Time. ---

    def next_wakeup(self) -> datetime | None:
        """Return when `on_wakeup` or `outstanding.take_overdue` is due next; None if never."""
        times = [
            self._pending_reasons.next_wakeup(),
            self._backoffs.due(),
            self.outstanding.next_timeout(),
            self.acceptance.rejections.next_repeat(),
        ]
        return min((time for time in times if time), default=None)

    def on_wakeup(self, now: datetime) -> list[Command]:
        """Put jobs whose backoff is over back into their queues, and write pending reasons that are due."""
        commands: list[Command] = [*self.acceptance.rejections.take_due(now)]
        for uid in self._backoffs.take(now):
            self._enqueue_or_reject(uid, now)
            commands += self._decide(label_value(self.jobs[uid].seen.group), now)
        for uid, reason in self._pending_reasons.due_changes(now, self._current_and_wanted_reason):
            if uid in self.gated_pods:
                commands.append(self.gated_pods.explain(uid, reason))
            else:
                commands.append(_set_pending_reason(self.jobs[uid].seen, *reason))
        return commands

    # --- State. ---

    def _queue(self, label: str) -> GroupQueue:
        """Return the queue of a group. Creates it if there is none."""
        queue = self.queues.get(label)
        if queue is None:
            queue = self.queues[label] = GroupQueue()
        return queue

    def _forget_gated_pod(self, uid: str, now: datetime) -> set[str]:
        """Remove a pod from those that wait, because it is gone, or has lost its gate.

        Returns the label values of the groups that may have changed.
        """
        self.outstanding.end(uid, now)
        return self.gated_pods.remove(uid)

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

    def _jobs_of_type(self, seen: JobSeen) -> list[str]:
        """Return the uids of the jobs that have the instance type of this one."""
        return [uid for uid, job in self.jobs.items() if job.seen.instance_type == seen.instance_type]

    def _job_of(self, uid: str, name: str) -> TrackedJob | None:
        """Return a pod's job. A pod with another name than its job is not ours, and has none."""
        job = self.jobs.get(uid)
        return job if job and job.seen.name == name else None

    def _on_admission_observed(self, job: TrackedJob, now: datetime, *, was_admitted: bool) -> None:
        """End the reservation of a job that is Preparing or Running."""
        is_ours = job.reservation and job.reservation.token == job.seen.fence
        if self._started and not is_ours and not was_admitted:
            self.foreign_admissions += 1
        self._end_reservation(job, now)
        if job.seen.resources:
            job.resources = PodResources.admitted(job.seen)

    def _end_reservation(self, job: TrackedJob, now: datetime) -> None:
        """Release the reservation of a job, if it has one, because the outcome of its admission is known."""
        job.reservation = None
        self.outstanding.end(job.seen.uid, now)

    def _record_revision(self, job: TrackedJob) -> list[Command]:
        """Return the command that writes the revision at creation of an edited job, if it is not written.

        Only the watcher's current session knows it. Without this, the next one would take the revision of the
        edit for it, and the job would lose its position.
        """
        seen = job.seen
        if not self._started or seen.phase is not Phase.PENDING or job.reservation:
            return []
        if not seen.lacks_revision:
            return []
        return [_set_pending_reason(seen, seen.reason, seen.message)]

    # --- Decisions. ---

    def _enqueue_or_reject(self, uid: str, now: datetime) -> None:
        """Put a Pending job where it belongs.

        The job waits in its queue, in its backoff, or outside both if it is suspended or infeasible for now.
        Otherwise it is rejected.
        """
        job = self.jobs[uid]
        seen = job.seen
        queue = self._queue(label_value(seen.group))
        if not self._started or job.reservation:
            return
        self._forget_verdict(uid)
        if seen.phase is not Phase.PENDING or seen.cancel or seen.deleting:
            queue.remove(uid)
            self.acceptance.on_gone(job)
            return
        group = self.catalog.groups.get(seen.group)
        if not self.acceptance.accept(job, group, is_new=self._is_new(seen, now)):
            return
        if seen.suspend:
            queue.remove(uid)
            self.acceptance.rejections.discard(uid)
            self._pending_reasons.watch(uid, now)
            return
        if (until := self._end_of_backoff(job, now)) and until > now:
            queue.remove(uid)
            self._backoffs.set(uid, until)
            if seen.reason == Reason.SUSPENDED:
                self._pending_reasons.watch(uid, now)
            return
        verdict = self._judge(seen, queue)
        if isinstance(verdict, Ineligible):
            self._set_aside_or_reject(job, verdict, queue, now)
            return
        self.acceptance.rejections.discard(uid)
        job.resources, job.was_feasible = verdict, True
        charge = share_amounts(self.accounting.charge_of(verdict))
        queue.add(QueuedJob(uid, label_value(seen.user), charge, queue_key(seen)))
        if seen.reason in _OUTDATED_REASONS:
            self._pending_reasons.watch(uid, now)

    def _forget_verdict(self, uid: str) -> None:
        """Forget why the job was not in its queue."""
        self.pending_catalog_check.pop(uid, None)
        self.infeasible.pop(uid, None)
        self._backoffs.set(uid, None)

    def _judge(self, seen: JobSeen, queue: GroupQueue) -> PodResources | Ineligible:
        """Return the resources of the job's pod, or why the job is infeasible."""
        verdict = self.catalog.check(seen)
        if isinstance(verdict, Ineligible):
            return verdict
        problem = queue.infeasibility(self.accounting.charge_of(verdict))
        if problem:
            added = f"; {describe_overhead(verdict.overhead)}" if verdict.overhead else ""
            return Ineligible(Reason.OVER_QUOTA, f"instance type {seen.instance_type!r} {problem}{added}")
        return verdict

    def _set_aside_or_reject(
        self, job: TrackedJob, verdict: Ineligible, queue: GroupQueue, now: datetime
    ) -> None:
        """Let an infeasible job wait, or reject it (spec.md, Q4, Q8)."""
        seen = job.seen
        if seen.revision > self.catalog_revision:
            # The catalog may lack an object that was created just before the job.
            self.pending_catalog_check[seen.uid] = None
            user = label_value(seen.user)
            queue.add(QueuedJob(seen.uid, user, {}, queue_key(seen), pending_catalog_check=True))
            return
        queue.remove(seen.uid)
        if verdict.is_final or self._may_reject(job, now):
            self.acceptance.reject(job, verdict)
        else:
            self.acceptance.rejections.discard(seen.uid)
            self.infeasible[seen.uid] = verdict
            self._pending_reasons.watch(seen.uid, now)

    def _is_new(self, seen: JobSeen, now: datetime) -> bool:
        """Return whether the job is young, and nobody has let it wait (spec.md, Q4)."""
        return not seen.fence and not seen.has_pending_reason and self._is_young(seen, now)

    def _is_young(self, seen: JobSeen, now: datetime) -> bool:
        return now + self.wall_clock_offset - seen.created <= MAX_REJECTION_AGE

    def _may_reject(self, job: TrackedJob, now: datetime) -> bool:
        """Return whether an infeasible job may be rejected: it is young, and was never feasible.

        Its admission may have been refused because its pod was larger than expected. It was never feasible
        then, either (spec.md, Q13).
        """
        seen = job.seen
        was_too_large = bool(seen.overhead) and seen.preparing_time is None
        is_young = self._is_young(seen, now)
        return not job.was_feasible and (self._is_new(seen, now) or (was_too_large and is_young))

    def _end_of_backoff(self, job: TrackedJob, now: datetime) -> datetime | None:
        """Return when the job's backoff is over; None if it has none.

        pod-manager wrote it by its own clock, which may be an hour ahead. It is therefore limited to the
        longest backoff that the job's requeues and retries can cause, from the time of its first observation.
        From then on the time of day does not matter: it may be set back.
        """
        written = job.seen.requeue_after
        if written is None:
            return None
        if job.backoff_end is None or job.backoff_end.written != written:
            backoffs = requeue_backoff(job.seen.requeued), retry_backoff(job.seen.retried)
            longest = max(*backoffs, MAX_CREATION_DELAY)
            remaining = written - (now + self.wall_clock_offset)
            job.backoff_end = BackoffEnd(written, now + min(remaining, longest))
        return job.backoff_end.effective

    def _decide_all(self, labels: Iterable[str], now: datetime) -> list[Command]:
        """Let the queues of these groups decide, in a fixed order."""
        return [command for label in sorted(labels) for command in self._decide(label, now)]

    def _decide(self, label: str, now: datetime) -> list[Command]:
        """Let the group's queue decide. Returns the commands, and the rejections that are due."""
        self.dirty_groups.add(label)
        if not self._started:
            return []
        queue = self._queue(label)
        commands: list[Command] = [*self.acceptance.rejections.take_due(now)]
        commands += (self._admit(admitted.uid, now) for admitted in queue.decide())
        blocked = (*queue.newly_blocked_by_user_quota, queue.blocking_job)
        for uid in (*blocked, *self.gated_pods.waiting(label)):
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

    def _admit(self, uid: str, now: datetime) -> Admit | AdmitPod:
        """Reserve the admission of a job or a gated pod. Returns the command."""
        self._admissions += 1
        token = f"{self.session}#{self._admissions}"
        if uid in self.gated_pods:
            command = self.gated_pods.admit(uid, token)
            self.outstanding.add(uid, label_value(command.group), self._admissions, now)
            return command
        job = self.jobs[uid]
        seen = job.seen
        job.reservation = Reservation(token, seen.fence)
        self.acceptance.on_admitted(job)
        self.outstanding.add(uid, label_value(seen.group), self._admissions, now)
        return Admit(
            uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
            token=token, resources=dict(job.resources.limits), revision=seen.revision,
            overhead=dict(job.resources.overhead), gpu_resource=job.resources.gpu_resource,
        )  # fmt: skip

    def _on_groups_changed(self, groups: set[str], now: datetime) -> list[Command]:
        """Apply the quotas of these group names, whose PhGroup changed, and check their jobs again."""
        labels = {label_value(group) for group in groups}
        for label in labels:
            seen = self.catalog.groups.counting_with_label(label)
            self.dirty_groups.add(label)
            self._queue(label).set_quota(seen.user_quota if seen else {}, seen.group_quota if seen else {})
        concerns_all = EVERYONE in groups
        uids = [uid for uid, job in self.jobs.items() if concerns_all or job.seen.group in groups]
        # Before any decision: a queue whose group is gone has no quota.
        having_pods = self.gated_pods.recheck(labels)
        commands = self._recheck(uids, now)
        if self._started:
            commands += self._decide_all(having_pods, now)
        for group in groups:
            self._drop_unused_queue(label_value(group))
        return commands

    def _recheck(self, uids: list[str], now: datetime) -> list[Command]:
        """Check these jobs again after the catalog changed, and let their groups decide."""
        if not self._started:
            return []
        for uid in uids:
            self._enqueue_or_reject(uid, now)
        return self._decide_all({label_value(self.jobs[uid].seen.group) for uid in uids}, now)

    def _current_and_wanted_reason(self, uid: str) -> tuple[PendingReason, PendingReason] | None:
        """Return the pending reason in a job's status, and the one that it should have.

        Returns None if the job has no pending reason that is written.
        """
        if uid in self.gated_pods:
            return self.gated_pods.explained_and_current(uid)
        job = self.jobs.get(uid)
        if job is None or job.seen.phase is not Phase.PENDING or job.reservation:
            return None
        current = (job.seen.reason, job.seen.message)
        if job.seen.suspend:
            return None if job.seen.cancel or job.seen.deleting else (current, _SUSPENDED)
        if ineligible := self.infeasible.get(uid):
            return current, (ineligible.reason, ineligible.message)
        queue = self.queues.get(label_value(job.seen.group))
        if queue and uid in queue.jobs:
            return current, queue.pending_reason(uid)
        # It waits for the end of its backoff, but was suspended before.
        return (current, (Reason.QUEUED, "")) if job.seen.reason == Reason.SUSPENDED else None


def _set_pending_reason(seen: JobSeen, reason: str, message: str) -> SetPendingReason:
    """Return the command that writes a job's pending reason, and its revision at creation."""
    return SetPendingReason(
        uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
        reason=reason, message=message, revision=seen.revision,
        created=seen.created, generation=seen.generation,
    )  # fmt: skip
