"""How each group stands: what its metrics say. Pure, and made only when somebody asks.

It reads what `admission` knows and changes nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from scheduler.admission import RESERVATION_LIMIT, Admission
from shared.labels import label_value
from shared.phjob import Phase, Reason
from shared.resources import Amounts

JOB, JUPYTER, RESERVED = "job", "jupyter", "reserved"
"""Who holds: a job's pod, any other pod, or a job that is admitted and whose pod is not seen yet."""


@dataclass
class Usage:
    """One group."""

    group: str
    phases: Counter[Phase] = field(default_factory=Counter)
    pending: Counter[Reason] = field(default_factory=Counter)
    """Jobs that wait, by why; of a user's or a group's jobs only the first is short of quota."""
    oldest: datetime | None = None
    """When the oldest of them was created."""
    head: datetime | None = None
    """When the job was created that the whole group waits behind."""
    admissible_since: datetime | None = None
    """Since when a job may go and is not seen to have gone."""
    preparing_since: datetime | None = None
    """When the job was admitted that is Preparing for longest."""
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """Who holds how much, by kind of holder."""
    user_quota: Amounts = field(default_factory=dict)
    group_quota: Amounts = field(default_factory=dict)


def usages(admission: Admission) -> list[Usage]:
    """Every group that has a quota, a job or a pod."""
    names = {label_value(name): name for name in admission.catalog.groups}
    names |= {label_value(job.seen.group): job.seen.group for job in admission.jobs.values()}
    by_label = {label: Usage(names.get(label, label)) for label in {*names, *admission.groups}}
    for label, queue in admission.groups.items():
        usage = by_label[label]
        usage.user_quota, usage.group_quota = queue.user_quota, queue.group_quota
        usage.pending = Counter(queue.reasons())
        blocked = admission.jobs.get(queue.blocked or "")
        usage.head = blocked.seen.created if blocked else None
        for holder, amounts in queue.ledger.holders():
            of_kind = usage.used.setdefault(_kind(admission, holder), {})
            for resource, amount in amounts.items():
                of_kind[resource] = of_kind.get(resource, 0) + amount
    for job in admission.jobs.values():
        label = label_value(job.seen.group)
        usage = by_label[label]
        usage.phases[job.seen.phase] += 1
        if job.seen.phase is Phase.PENDING and not job.reservation:
            usage.oldest = min(usage.oldest or job.seen.created, job.seen.created)
            if job.seen.requeue_after and job.seen.uid not in admission.groups[label].jobs:
                usage.pending[Reason.REQUEUED] += 1
        if job.seen.phase is Phase.PREPARING and job.seen.preparing_time:
            usage.preparing_since = min(
                usage.preparing_since or job.seen.preparing_time, job.seen.preparing_time
            )
    for limit, uid in admission.unseen():
        usage = by_label[label_value(admission.jobs[uid].seen.group)]
        since = limit - RESERVATION_LIMIT
        usage.admissible_since = min(usage.admissible_since or since, since)
    return list(by_label.values())


def _kind(admission: Admission, holder: str) -> str:
    if holder in admission.jobs:
        return RESERVED
    return JOB if holder in admission.job_of_pod else JUPYTER
