"""The state of each group for metrics: its jobs, usage and quotas. Pure.

It is computed from the engine when Prometheus reads the metrics, and changes nothing.

The computation runs in a thread of its own, while the engine goes on. Therefore it iterates over copies only:
`list` and `dict` copy a dictionary in one step, between two steps of the engine. An object of a copy may have
changed or be gone from another one.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from phjob_core.api import Phase, Reason
from phjob_core.groups import UNKNOWN_GROUP
from phjob_core.labels import label_value
from phjob_core.scheduling.accounting import TrackedJob
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.gated_pods import GatedPod
from phjob_core.scheduling.queue import GroupQueue

JOB, JUPYTER, RESERVED = "job", "jupyter", "reserved"
"""The kinds of holders: a job's pod, a notebook, and a job that is charged itself.

They are values of a metric's label, and must not change.
"""


@dataclass
class Usage:
    """The state of one group."""

    group: str
    """Its name; `UNKNOWN_GROUP` for all groups without a PhGroup together."""
    phases: Counter[Phase] = field(default_factory=Counter)
    """The number of unfinished jobs by phase."""
    pending: Counter[Reason] = field(default_factory=Counter)
    """The number of waiting jobs by reason.

    Of the jobs that wait for quota, only the first of the user or of the group counts as such.
    """
    waiting_pods: Counter[Reason] = field(default_factory=Counter)
    """The number of gated pods that wait, such as notebooks, by reason."""
    oldest: datetime | None = None
    """The creation time of the oldest waiting job that is not suspended."""
    head: datetime | None = None
    """The creation time of the job that blocks the group."""
    admissible_since: datetime | None = None
    """The time of the oldest admission that was decided and is not observed."""
    preparing_since: datetime | None = None
    """The time of the oldest admission of a job that is Preparing."""
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """The usage by kind of holder."""
    user_quota: dict[str, int] = field(default_factory=dict)
    group_quota: dict[str, int] = field(default_factory=dict)


def usages(engine: SchedulingEngine) -> list[Usage]:
    """Return the state of every group that has a PhGroup, and of all others together if they use anything."""
    names = {label_value(name): name for name in list(engine.catalog.groups)}
    by_name = {name: Usage(name) for name in names.values()}

    def usage_of(label: str) -> Usage:
        name = names.get(label, UNKNOWN_GROUP)
        return by_name.setdefault(name, Usage(name))

    for label, queue in dict(engine.queues).items():
        _add_queue(engine, queue, usage_of(label))
    for job in list(engine.jobs.values()):
        _add_job(engine, job, usage_of(label_value(job.seen.group)))
    for pod in engine.gated_pods:
        _add_gated_pod(engine, pod, usage_of(pod.seen.group))
    for admission in engine.outstanding:
        usage = usage_of(admission.label)
        usage.admissible_since = min(usage.admissible_since or admission.decided, admission.decided)
    return list(by_name.values())


def _add_queue(engine: SchedulingEngine, queue: GroupQueue, usage: Usage) -> None:
    """Add the quotas, the usage and the blocked jobs of a group."""
    usage.user_quota |= queue.user_quota
    usage.group_quota |= queue.group_quota
    usage.pending.update(queue.count_by_reason())
    blocking = engine.jobs.get(queue.blocking_job or "")
    if blocking:
        usage.head = min(usage.head or blocking.seen.created, blocking.seen.created)
    for holder, amounts in queue.ledger.charges():
        of_kind = usage.used.setdefault(_kind_of(engine, holder), {})
        for resource, amount in amounts.items():
            of_kind[resource] = of_kind.get(resource, 0) + amount


def _add_job(engine: SchedulingEngine, job: TrackedJob, usage: Usage) -> None:
    """Add the phase and the times of a job, and its reason if it waits outside the queue."""
    seen = job.seen
    usage.phases[seen.phase] += 1
    if seen.phase is Phase.PENDING and not job.reservation:
        if seen.suspend:
            usage.pending[Reason.SUSPENDED] += 1
            return
        usage.oldest = min(usage.oldest or seen.created, seen.created)
        queue = engine.queues.get(label_value(seen.group))
        if ineligible := engine.infeasible.get(seen.uid):
            usage.pending[ineligible.reason] += 1
        elif seen.requeue_after and (queue is None or seen.uid not in queue.jobs):
            usage.pending[Reason.RETRIED if seen.reason == Reason.RETRIED else Reason.REQUEUED] += 1
    if seen.phase is Phase.PREPARING and seen.preparing_time:
        usage.preparing_since = min(usage.preparing_since or seen.preparing_time, seen.preparing_time)


def _add_gated_pod(engine: SchedulingEngine, pod: GatedPod, usage: Usage) -> None:
    """Add the reason of a pod that waits. In the queue, it was counted as a job."""
    if pod.reservation:
        return
    if pod.problem:
        usage.waiting_pods[Reason(pod.problem[0])] += 1
        return
    queue = engine.queues.get(pod.seen.group)
    reason = queue.reason_of(pod.seen.uid) if queue else None
    if reason:
        usage.waiting_pods[reason] += 1
        usage.pending[reason] -= 1


def _kind_of(engine: SchedulingEngine, holder: str) -> str:
    """Return the kind of a holder."""
    pod = engine.accounting.get_pod(holder)
    if pod is None:
        return RESERVED
    return JOB if pod.job_uid else JUPYTER
