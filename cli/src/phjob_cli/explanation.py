"""Explains why a job waits: one cause, its numbers, the jobs ahead, the estimated start, the next step.

Pure. The state comes from `snapshot`; the numbers are the scheduler's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from phjob_cli import formatting
from phjob_cli.forecast import Estimate
from phjob_cli.snapshot import Allocation, GroupSnapshot, WaitingNotebook
from phjob_core.api import Phase, Reason
from phjob_core.labels import label_value
from phjob_core.messages import JobSeen
from phjob_core.quantities import Amounts
from phjob_core.scheduling.ledger import fits, shortages

MAX_ADMISSION_TIME = timedelta(seconds=30)
"""Time within which working services admit a job that has room."""
MAX_NAMES = 5
"""Jobs or notebooks that an explanation names."""

_ADMITTED_IN_ORDER = "a group's jobs are admitted in order of creation"


class Cause(StrEnum):
    """The cause of a job's state: what it waits for, or how far it is."""

    NEXT = "Next"
    GROUP_QUOTA = "GroupQuota"
    USER_QUOTA = "UserQuota"
    NOTEBOOKS = "Notebooks"
    BEHIND_HEAD = "BehindHead"
    BEHIND_OWN_JOB = "BehindOwn"
    BACKOFF = "Backoff"
    IMPOSSIBLE = "Impossible"
    UNAVAILABLE = "Unavailable"
    NOT_ADMITTED = "NotAdmitted"
    SUSPENDED = "Suspended"
    CANCELLING = "Cancelling"
    STARTING = "Starting"
    NODE_LOST = "NodeLost"
    RUNNING = "Running"
    FINISHED = "Finished"


@dataclass(frozen=True)
class Explanation:
    """The state of one job with its cause and the next step."""

    name: str
    user: str
    group: str
    phase: str
    reason: str
    cause: Cause
    detail: str
    """The cause in numbers and names, as a sentence."""
    next_step: str
    since: datetime | None = None
    position: int | None = None
    """Position among the pending jobs, from 1; None if the job is not pending."""
    pending: int = 0
    """Number of pending jobs in the group."""
    ahead: Sequence[str] = ()
    """The first of the jobs that it waits behind, in order."""
    ahead_in_all: int = 0
    """Number of jobs that it waits behind."""
    allocations: Sequence[Allocation] = ()
    """Allocations of the resources that are short."""
    short_resources: Sequence[str] = ()
    """Resources of which the quota has too little left."""
    estimate: Estimate | None = None


def explain(snapshot: GroupSnapshot, job: JobSeen, pod_problem: str = "") -> Explanation:
    """Return the explanation of a job of the group.

    `pod_problem` is the cause why its pod has not started, if that is known.
    """
    if job.phase.final:
        explanation = _explanation(job, Cause.FINISHED, _outcome(job), _step_after_end(job))
        return replace(explanation, since=job.finish_time)
    if job.phase is Phase.PENDING:
        return _explain_pending(snapshot, job)
    if job.reason == Reason.NODE_LOST:
        step = "wait until the node is back, or cancel the job: that frees its quota"
        return replace(_explanation(job, Cause.NODE_LOST, job.message, step), since=job.start_time)
    if job.phase is Phase.PREPARING:
        detail, step = pod_problem or "its pod is starting", _step_for_pod(pod_problem)
        return replace(_explanation(job, Cause.STARTING, detail, step), since=job.preparing_time)
    deadline = snapshot.deadline(job)
    limit = f", for {formatting.duration(deadline)} at most" if deadline else ""
    detail, step = f"on {job.node or 'a node'}{limit}", f"kubectl phjob logs {job.name} --follow"
    return replace(_explanation(job, Cause.RUNNING, detail, step), since=job.start_time)


def _explain_pending(snapshot: GroupSnapshot, job: JobSeen) -> Explanation:
    if job.cancel or job.deleting:
        step = "nothing to do: the job ends in a moment"
        return _explanation(job, Cause.CANCELLING, "the job is being cancelled", step)
    if job.suspend:
        detail = "spec.suspend is true: the job keeps its place and blocks no other job"
        step = f"kubectl phjob resume {job.name}"
        return replace(_explanation(job, Cause.SUSPENDED, detail, step), since=job.created)
    if rejection := snapshot.rejected.get(job.uid):
        step = "correct the job and submit it again: this one fails in a moment"
        return _explanation(job, Cause.IMPOSSIBLE, f"{rejection.reason}: {rejection.message}", step)
    if obstacle := snapshot.engine.infeasible.get(job.uid):
        detail = f"{obstacle.reason}: {obstacle.message}; the job waits until this is corrected"
        step = "ask an administrator to correct it, or cancel the job"
        return replace(_explanation(job, Cause.UNAVAILABLE, detail, step), since=job.created)
    return replace(
        _explain_waiting(snapshot, job),
        since=job.created,
        position=snapshot.position(job),
        pending=len(snapshot.pending),
        estimate=snapshot.estimates([job.uid]).get(job.uid),
    )


def _explain_waiting(snapshot: GroupSnapshot, job: JobSeen) -> Explanation:
    backoff_until = snapshot.backoff_until(job)
    if backoff_until and job.reason == Reason.RETRIED:
        detail = f"in backoff until {backoff_until:%H:%M:%S} UTC: {job.message}"
        step = "nothing to do: its command runs again; meanwhile the job keeps its place and blocks nobody"
        return _explanation(job, Cause.BACKOFF, detail, step)
    if backoff_until:
        times = "once" if job.requeued == 1 else f"{job.requeued} times"
        detail = f"requeued {times}, in backoff until {backoff_until:%H:%M:%S} UTC: {job.message}"
        step = "fix what kept the pod from starting; meanwhile the job keeps its place and blocks nobody"
        return _explanation(job, Cause.BACKOFF, detail, step)
    if job.uid in snapshot.admissible:
        return _explain_admissible(snapshot, job)
    reason, numbers = snapshot.queue.pending_reason(job.uid)
    if reason is Reason.QUEUED:
        return _explain_behind(snapshot, job)
    return _explain_shortage(snapshot, job, reason, numbers)


def _explain_admissible(snapshot: GroupSnapshot, job: JobSeen) -> Explanation:
    waited = snapshot.now - (job.requeue_after or job.created)
    if waited > MAX_ADMISSION_TIME:
        detail = "the quotas have room for the job, but it has not been admitted"
        step = "try again in a moment; if the job still waits, ask an operator whether the services work"
        return _explanation(job, Cause.NOT_ADMITTED, detail, step)
    step = "nothing to do: the job starts in a moment"
    return _explanation(job, Cause.NEXT, "the quotas have room for the job", step)


def _explain_shortage(snapshot: GroupSnapshot, job: JobSeen, reason: Reason, numbers: str) -> Explanation:
    """Explain a head for which its user's or its group's quota has too little room."""
    queue, request = snapshot.queue, snapshot.request(job)
    is_user_quota = reason is Reason.USER_QUOTA
    used = queue.ledger.used_by(label_value(job.user)) if is_user_quota else queue.ledger.group_usage
    quota = queue.user_quota if is_user_quota else queue.group_quota
    short_resources = tuple(shortage.resource for shortage in shortages(used, request, quota))
    allocations = tuple(
        allocation
        for allocation in snapshot.allocations()
        if any(allocation.amounts.get(resource) for resource in short_resources)
        and (not is_user_quota or allocation.user == job.user)
    )
    notebooks = [allocation for allocation in allocations if allocation.is_notebook]
    if notebooks and fits(_without(used, notebooks), request, quota):
        names = formatting.names([notebook.name for notebook in notebooks], MAX_NAMES)
        step = f"stop a notebook ({names}), or use a smaller instance type"
        explanation = _explanation(job, Cause.NOTEBOOKS, f"{numbers}; notebooks hold the quota", step)
    elif is_user_quota:
        step = f"wait until a job of {job.user} ends, or cancel one; the jobs of other users are not blocked"
        explanation = _explanation(job, Cause.USER_QUOTA, numbers, step)
    else:
        step = "wait until a job of the group ends; this one is first, and the others wait behind it"
        explanation = _explanation(job, Cause.GROUP_QUOTA, numbers, step)
    return replace(explanation, allocations=allocations, short_resources=short_resources)


def _explain_behind(snapshot: GroupSnapshot, job: JobSeen) -> Explanation:
    """Explain a job that waits for a job before it: of its own user, or of the group."""
    before = snapshot.before(job)
    if notebook := _blocking_notebook(snapshot, job):
        numbers = snapshot.queue.pending_reason(notebook.uid)[1]
        detail = f"it waits behind the notebook {notebook.name} of {notebook.user}: {numbers}"
        step = "wait until the notebook has started, or ask its user to stop it"
        return _explanation(job, Cause.BEHIND_HEAD, detail, step)
    own = [other for other in before if other.user == job.user]
    if own and snapshot.queue.pending_reason(own[0].uid)[0] is Reason.USER_QUOTA:
        head, ahead, cause = own[0], own, Cause.BEHIND_OWN_JOB
        owner = ", of the same user"
        step = f"wait, or cancel {own[0].name}: a user's jobs are admitted in order of creation"
    elif snapshot.queue.blocking_job in snapshot.engine.jobs:
        head, ahead, cause = snapshot.job(snapshot.queue.blocking_job), before, Cause.BEHIND_HEAD
        owner, step = "", f"wait: {_ADMITTED_IN_ORDER}"
    else:
        return _explanation(
            job, Cause.BEHIND_HEAD, "it waits behind other jobs", f"wait: {_ADMITTED_IN_ORDER}"
        )
    _, numbers = snapshot.queue.pending_reason(head.uid)
    explanation = _explanation(job, cause, f"it waits behind {head.name}{owner}: {numbers}", step)
    names = [f"{other.name} ({other.user}, {snapshot.needs(other)})" for other in ahead[:MAX_NAMES]]
    return replace(explanation, ahead=names, ahead_in_all=len(ahead))


def _blocking_notebook(snapshot: GroupSnapshot, job: JobSeen) -> WaitingNotebook | None:
    """Return the notebook that keeps the job's user or its whole group waiting; None if none does."""
    for notebook in snapshot.waiting_notebooks():
        reason = snapshot.queue.reason_of(notebook.uid)
        is_of_user = notebook.user == job.user
        if reason is Reason.GROUP_QUOTA or (reason is Reason.USER_QUOTA and is_of_user):
            return notebook
    return None


def _without(used: Amounts, allocations: Sequence[Allocation]) -> Amounts:
    """Return the usage as if these allocations were free."""
    left = dict(used)
    for allocation in allocations:
        for resource, amount in allocation.amounts.items():
            left[resource] = left.get(resource, 0) - amount
    return left


def _step_for_pod(problem: str) -> str:
    """Return the next step for a pod that has not started."""
    if not problem:
        return "wait: a pod takes a moment to start"
    if problem.startswith("no node"):
        return "wait until a node has room, or ask an operator: the quotas allow more than the cluster has"
    if "image" in problem.partition(":")[0]:
        return "check the Image's url and its pull secret, or ask an operator to correct them"
    return "fix the problem or ask an operator; the job is requeued when its start timeout expires"


def _outcome(job: JobSeen) -> str:
    return ": ".join(filter(None, (job.reason, job.message)))


def _step_after_end(job: JobSeen) -> str:
    if job.phase is Phase.SUCCEEDED:
        return f"kubectl phjob logs {job.name}"
    if job.reason in (Reason.INVALID_SPEC, Reason.OVER_QUOTA):
        return "correct the job and submit it again"
    if job.reason == Reason.TOO_MANY_PENDING:
        return f"when fewer jobs wait: kubectl phjob retry {job.name}"
    return f"kubectl phjob logs {job.name}; then kubectl phjob retry {job.name}"


def _explanation(job: JobSeen, cause: Cause, detail: str, next_step: str) -> Explanation:
    return Explanation(job.name, job.user, job.group, job.phase, job.reason, cause, detail, next_step)
