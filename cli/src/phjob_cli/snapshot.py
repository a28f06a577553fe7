"""The state of one group, computed from what the API server lists. Pure.

The objects go through the scheduler's own `SchedulingEngine`. The queue is therefore the scheduler's queue,
and the commands that the engine returns are those that the scheduler is about to send.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from phjob_cli import formatting
from phjob_cli.forecast import Estimate, Holder, PendingJob, QueueState, RunTimes, forecast
from phjob_core.api import Notebooks, Phase
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import (
    Admit,
    AdmitPod,
    GroupSeen,
    ImageSeen,
    InstanceTypeSeen,
    JobSeen,
    PodSeen,
    Reject,
)
from phjob_core.quantities import Amounts
from phjob_core.scheduling.eligibility import Ineligible, PodResources
from phjob_core.scheduling.engine import SchedulingEngine, queue_key
from phjob_core.scheduling.queue import IN_ORDER, GroupQueue, QueuedJob

MAX_RECENT_JOBS = 500
"""Number of jobs, the last to finish, whose run times count in an estimate."""

_LATEST_REVISION = 2**63
"""A revision above all others. Without it, a job newer than the catalog would wait for a newer catalog."""


@dataclass(frozen=True)
class Facts:
    """The objects that the API server lists for one group."""

    name: str
    """Name of the group, as its jobs give it."""
    group: GroupSeen | None
    """The group; None if it does not exist."""
    jobs: Sequence[JobSeen]
    pods: Sequence[PodSeen]
    groups: Sequence[GroupSeen] = ()
    instance_types: Sequence[InstanceTypeSeen] = ()
    images: Sequence[ImageSeen] = ()
    can_list_pods: bool = True
    """False if the user may not list pods. Notebooks are unknown then."""
    default_limits: Amounts = field(default_factory=dict)
    """Limits of a job for resources that its instance type does not name."""
    gpus: GpuResources = field(default_factory=GpuResources)
    """Resources that count as `gpu`, as the scheduler reports them."""
    notebooks: Notebooks = "first"
    """Where notebooks with a gate wait, as the scheduler reports it."""


@dataclass(frozen=True)
class Allocation:
    """A part of the quota that a job or a notebook holds."""

    uid: str
    name: str
    user: str
    amounts: Amounts
    since: datetime
    latest_end: datetime | None
    """End at the deadline; None if there is no known deadline."""
    is_notebook: bool


@dataclass(frozen=True)
class WaitingNotebook:
    """A notebook that waits for PhJob to remove its gate."""

    uid: str
    name: str
    user: str
    needs: str
    """The limited part of its request, as text."""
    created: datetime
    waits_for: str
    """What it waits for, in a few words."""


@dataclass
class GroupSnapshot:
    """The queue, the allocations and the pending jobs of one group at one moment."""

    facts: Facts
    now: datetime
    engine: SchedulingEngine = field(init=False)
    admissible: set[str] = field(default_factory=set)
    """Uids of pending jobs and notebooks that have room: the scheduler is about to admit them."""
    rejected: dict[str, Reject] = field(default_factory=dict)
    """Jobs that can never run, by uid: the scheduler is about to reject them."""

    def __post_init__(self) -> None:
        self.engine = engine = SchedulingEngine(
            "snapshot",
            default_limits=self.facts.default_limits,
            gpus=self.facts.gpus,
            notebooks=self.facts.notebooks,
        )
        engine.on_catalog_synced(_LATEST_REVISION, self.now)
        for instance_type in self.facts.instance_types:
            engine.catalog.instance_types[instance_type.name] = instance_type
        for image in self.facts.images:
            engine.catalog.images[image.name] = image
        for group in self.facts.groups:
            engine.on_group(group, self.now)
        for job in self.facts.jobs:
            if not job.phase.final:
                engine.on_job(job, self.now)
        for pod in self.facts.pods:
            engine.on_pod(pod, self.now)
        for command in engine.start(self.now):
            if isinstance(command, Admit | AdmitPod):
                self.admissible.add(command.uid)
        self.rejected = {command.uid: command for command in engine.acceptance.rejections}
        self.queue = engine.queues.get(label_value(self.facts.name)) or GroupQueue()
        named = {instance_type.gpu_resource for instance_type in self.facts.instance_types}
        named |= {job.gpu_resource for job in self.facts.jobs}
        self._displayed_gpus = GpuResources((*self.facts.gpus.own_patterns, *(named - {""})))
        self._user_names = {label_value(job.user): job.user for job in self.facts.jobs}
        members = self.facts.group.users if self.facts.group else ()
        self._user_names |= {label_value(name): name for name in members or ()}
        self.pending = sorted(self._pending_jobs(), key=queue_key)
        """The pending jobs in order, with those in backoff."""
        self._positions = {job.uid: position for position, job in enumerate(self.pending, start=1)}

    def _pending_jobs(self) -> Iterator[JobSeen]:
        for tracked in self.engine.jobs.values():
            job = tracked.seen
            is_unwanted = job.cancel or job.deleting or job.suspend
            is_pending = job.phase is Phase.PENDING and not is_unwanted
            if is_pending and job.uid not in self.rejected and job.uid not in self.engine.infeasible:
                yield job

    def waiting_notebooks(self) -> list[WaitingNotebook]:
        """Return the notebooks that wait for PhJob to remove their gate, in order."""
        found = []
        for pod in self.engine.gated_pods:
            seen, uid = pod.seen, pod.seen.uid
            if pod.problem:
                waits_for = pod.problem[1]
            elif uid in self.admissible:
                waits_for = "nothing: about to be admitted"
            else:
                waits_for = self.queue.pending_reason(uid)[1] or "those before it"
            needs = self._format_request(self.engine.accounting.charge_of_pod(seen))
            created = seen.created or self.now
            found.append(
                WaitingNotebook(uid, seen.name, self.user_name(seen.user), needs, created, waits_for)
            )
        return sorted(found, key=lambda notebook: (notebook.created, notebook.name))

    @property
    def group_problem(self) -> str:
        """Return why the group admits no job; empty if it can."""
        group = self.facts.group
        return group.invalid or self.engine.catalog.groups.refusal(group.group, group.name) if group else ""

    def position(self, job: JobSeen) -> int | None:
        """Return the position among the pending jobs, from 1; None if not pending."""
        return self._positions.get(job.uid)

    def before(self, job: JobSeen) -> list[JobSeen]:
        """Return the jobs in the queue before the job, in order."""
        ahead = self.pending[: self._positions[job.uid] - 1]
        return [other for other in ahead if other.uid in self.queue.jobs]

    def job(self, uid: str) -> JobSeen:
        """Return an unfinished job."""
        return self.engine.jobs[uid].seen

    def request(self, job: JobSeen) -> Amounts:
        """Return the job's present or future charge; nothing if it cannot run."""
        if job.resources and job.phase.admitted:
            return self.engine.accounting.charge_of(PodResources.admitted(job))
        resources = self.engine.catalog.check(job)
        return {} if isinstance(resources, Ineligible) else self.engine.accounting.charge_of(resources)

    def needs(self, job: JobSeen) -> str:
        """Return the limited part of the job's request, as text; all if no quota limits it."""
        return self._format_request(self.request(job))

    def _format_request(self, request: Amounts) -> str:
        return self.format_amounts(request, self._limited_resources() & {*request})

    def format_amounts(self, amounts: Amounts, only: Collection[str] = ()) -> str:
        """Return amounts as text, as `formatting.amounts`."""
        return formatting.amounts(amounts, only, self._displayed_gpus)

    def waits_for(self, job: JobSeen) -> str:
        """Return what a pending job waits for, in a few words."""
        if backoff_until := self.backoff_until(job):
            return f"backoff until {backoff_until:%H:%M:%S} UTC"
        if job.uid in self.admissible:
            return "nothing: about to be admitted"
        _, numbers = self.queue.pending_reason(job.uid)
        return numbers or "the jobs before it"

    def backoff_until(self, job: JobSeen) -> datetime | None:
        """Return the end of a pending job's backoff; None if it has none."""
        return job.requeue_after if job.requeue_after and job.requeue_after > self.now else None

    def deadline(self, job: JobSeen) -> timedelta | None:
        """Return the deadline of the job or of its group, up to the group's cap.

        The services' default and cap are not known here.
        """
        group, seconds = self.facts.group, job.active_deadline_seconds
        if seconds is None and group:
            seconds = group.default_active_deadline_seconds
        limits = (seconds, group.max_active_deadline_seconds if group else 0)
        return min((timedelta(seconds=limit) for limit in limits if limit), default=None)

    def user_name(self, label: str) -> str:
        """Return the user's name for the label value on a pod."""
        return self._user_names.get(label, label.removeprefix("escaped-"))

    def allocations(self) -> list[Allocation]:
        """Return all allocations, oldest first."""
        pods = {pod.uid: pod for pod in self.facts.pods}
        found = [
            self._allocation(holder, amounts, pods.get(holder))
            for holder, amounts in self.queue.ledger.charges()
        ]
        return sorted(found, key=lambda allocation: (allocation.since, allocation.name))

    def _allocation(self, holder: str, amounts: Amounts, pod: PodSeen | None) -> Allocation:
        """Return the allocation of a holder, which is a job or a pod."""
        tracked = self.engine.jobs.get(pod.job_uid if pod and pod.job_uid else holder)
        if tracked:
            job = tracked.seen
            since = job.preparing_time or (pod and pod.start_time) or self.now
            end = self._latest_end(job)
            return Allocation(holder, job.name, job.user, amounts, since, end, is_notebook=False)
        return Allocation(
            holder,
            pod.name if pod else holder,
            self.user_name(self._user_label(holder)),
            amounts,
            (pod and pod.start_time) or self.now,
            None,
            is_notebook=not (pod and pod.job_uid),
        )

    def _user_label(self, holder: str) -> str:
        user, _ = self.queue.ledger.charge_of(holder) or ("", {})
        return user

    def estimates(self, uids: Collection[str]) -> Mapping[str, Estimate]:
        """Return when these pending jobs will be admitted, by uid."""
        now = {uid: Estimate(self.now, self.now) for uid in uids if uid in self.admissible}
        later = [uid for uid in uids if uid in self._positions and uid not in now]
        return {**forecast(self._queue_state(), later), **now} if later else now

    def _latest_end(self, job: JobSeen) -> datetime | None:
        deadline = self.deadline(job)
        return (job.start_time or self.now) + deadline if deadline else None

    def _limited_resources(self) -> set[str]:
        """Return the resources that a quota limits."""
        return {*self.queue.user_quota, *self.queue.group_quota}

    def _queue_state(self) -> QueueState:
        """Return the input of a forecast: only the resources that a quota limits matter."""
        limited = self._limited_resources()

        def counted(amounts: Amounts) -> Amounts:
            return {name: amount for name, amount in amounts.items() if name in limited}

        holders = [
            Holder(
                allocation.uid, self._user_label(allocation.uid), counted(allocation.amounts),
                allocation.since, allocation.latest_end, not allocation.is_notebook,
            )
            for allocation in self.allocations()
        ]  # fmt: skip

        def queued(job: JobSeen) -> QueuedJob:
            known = self.queue.jobs.get(job.uid)
            user = known.user if known else label_value(job.user)
            request = known.request if known else self.request(job)
            # The same order as that of `queue_key`, in a form that is quick to compare.
            return QueuedJob(
                job.uid, user, counted(request), (IN_ORDER, self.now, self._positions[job.uid], "")
            )

        pending = [
            PendingJob(queued(job), self.backoff_until(job), self.deadline(job))
            for job in self.pending
            if job.uid not in self.admissible
        ]
        pending += [
            PendingJob(replace(entry, request=counted(entry.request)), is_job=False)
            for uid, entry in self.queue.jobs.items()
            if uid in self.engine.gated_pods
        ]
        return QueueState(
            self.now,
            self.queue.user_quota,
            self.queue.group_quota,
            holders,
            [entry for entry in pending if not self.queue.infeasibility(entry.job.request)],
            recent_run_times(self.facts.jobs),
        )


def recent_run_times(jobs: Sequence[JobSeen]) -> RunTimes:
    """Return the times for which the last finished jobs held their part of the quota."""
    finished = [
        (job.finish_time, job.finish_time - job.preparing_time)
        for job in jobs
        if job.phase in (Phase.SUCCEEDED, Phase.FAILED) and job.start_time
        if job.finish_time and job.preparing_time
    ]
    return RunTimes(time for _, time in sorted(finished)[-MAX_RECENT_JOBS:])
