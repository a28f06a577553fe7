"""The state of each group for metrics: its jobs, usage and quotas. Pure.

It is computed from the engine when Prometheus reads the metrics, and changes nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from phjob_core.api import Phase, Reason
from phjob_core.labels import label_value
from phjob_core.quantities import Amounts
from phjob_core.scheduling.engine import RESERVATION_TIMEOUT, SchedulingEngine

JOB, JUPYTER, RESERVED = "job", "jupyter", "reserved"
"""The kinds of holders: a job's pod, a notebook, and a job that is charged itself.

They are values of a metric's label, and must not change.
"""


@dataclass
class Usage:
    """The state of one group."""

    group: str
    """Its name; of a group without a name that is known, the label value."""
    phases: Counter[Phase] = field(default_factory=Counter)
    """The number of unfinished jobs by phase."""
    pending: Counter[Reason] = field(default_factory=Counter)
    """The number of waiting jobs by reason.

    Of the jobs that wait for quota, only the first of the user or of the group counts as such.
    """
    oldest: datetime | None = None
    """The creation time of the oldest waiting job."""
    head: datetime | None = None
    """The creation time of the job that blocks the group."""
    admissible_since: datetime | None = None
    """The time of the oldest admission that was decided and is not observed."""
    preparing_since: datetime | None = None
    """The time of the oldest admission of a job that is Preparing."""
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """The usage by kind of holder."""
    user_quota: Amounts = field(default_factory=dict)
    group_quota: Amounts = field(default_factory=dict)


def usages(engine: SchedulingEngine) -> list[Usage]:
    """Return the state of every group that has a PhGroup, a job or a pod."""
    names = {label_value(name): name for name in engine.catalog.groups}
    names |= {label_value(job.seen.group): job.seen.group for job in engine.jobs.values()}
    by_label = {label: Usage(names.get(label, label)) for label in {*names, *engine.queues}}
    for label, usage in by_label.items():
        _add_queue(engine, label, usage)
    _add_jobs(engine, by_label)
    for timeout, uid in engine.unobserved_admissions():
        usage = by_label[label_value(engine.jobs[uid].seen.group)]
        since = timeout - RESERVATION_TIMEOUT
        usage.admissible_since = min(usage.admissible_since or since, since)
    return list(by_label.values())


def _add_queue(engine: SchedulingEngine, label: str, usage: Usage) -> None:
    """Add the quotas, the usage and the blocked jobs of a group."""
    queue = engine.queues.get(label)
    if queue is None:
        return
    usage.user_quota, usage.group_quota = queue.user_quota, queue.group_quota
    usage.pending = Counter(queue.count_by_reason())
    blocking = engine.jobs.get(queue.blocking_job or "")
    usage.head = blocking.seen.created if blocking else None
    for holder, amounts in queue.ledger.charges():
        of_kind = usage.used.setdefault(_kind_of(engine, holder), {})
        for resource, amount in amounts.items():
            of_kind[resource] = of_kind.get(resource, 0) + amount


def _add_jobs(engine: SchedulingEngine, by_label: dict[str, Usage]) -> None:
    """Add the phases and times of all jobs, and the jobs that wait outside the queue."""
    for job in engine.jobs.values():
        seen, label = job.seen, label_value(job.seen.group)
        usage = by_label[label]
        usage.phases[seen.phase] += 1
        if seen.phase is Phase.PENDING and not job.reservation:
            usage.oldest = min(usage.oldest or seen.created, seen.created)
            queued = engine.queues[label].jobs if label in engine.queues else {}
            if ineligible := engine.infeasible.get(seen.uid):
                usage.pending[ineligible.reason] += 1
            elif seen.requeue_after and seen.uid not in queued:
                usage.pending[Reason.REQUEUED] += 1
        if seen.phase is Phase.PREPARING and seen.preparing_time:
            usage.preparing_since = min(usage.preparing_since or seen.preparing_time, seen.preparing_time)


def _kind_of(engine: SchedulingEngine, holder: str) -> str:
    """Return the kind of a holder."""
    pod = engine.accounting.get_pod(holder)
    if pod is None:
        return RESERVED
    return JOB if pod.job_uid else JUPYTER
