"""Why a job waits, in one answer: one cause, its numbers, who is ahead, when it starts, what to do.

Pure. What is so comes from `look`, the numbers in the scheduler's own words from its queue. How an
answer is shown is the commands' part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kubectl_phjob import words
from kubectl_phjob.forecast import Estimate
from kubectl_phjob.look import Held, Look
from scheduler.quota import fits, shortages
from shared.labels import label_value
from shared.messages import JobSeen
from shared.phjob import Phase, Reason
from shared.resources import Amounts

UNUSUAL = timedelta(seconds=30)
"""A job that may go after so long either has got its room just now, or the services are not at work."""
AHEAD = 5
"""Jobs ahead that an answer names."""


class Cause(StrEnum):
    """The one thing that a job waits for, or how it is."""

    NEXT = "Next"
    GROUP_QUOTA = "GroupQuota"
    USER_QUOTA = "UserQuota"
    NOTEBOOKS = "Notebooks"
    BEHIND_HEAD = "BehindHead"
    BEHIND_OWN = "BehindOwn"
    BACKOFF = "Backoff"
    IMPOSSIBLE = "Impossible"
    NOT_ADMITTED = "NotAdmitted"
    CANCELLING = "Cancelling"
    STARTING = "Starting"
    NODE_LOST = "NodeLost"
    RUNNING = "Running"
    FINISHED = "Finished"


@dataclass(frozen=True)
class Answer:
    """All that is to be said about one job."""

    name: str
    user: str
    group: str
    phase: str
    reason: str
    cause: Cause
    why: str
    next_step: str
    since: datetime | None = None
    place: int | None = None
    """Its place among those that wait, from 1."""
    waiting: int = 0
    """How many wait in the group."""
    ahead: Sequence[str] = ()
    """Those that it waits behind, first first; of many, the first few."""
    ahead_in_all: int = 0
    """How many those are."""
    held: Sequence[Held] = ()
    """Who holds what it lacks."""
    lacks: Sequence[str] = ()
    """The resources of which there is too little."""
    estimate: Estimate | None = None


def why(look: Look, job: JobSeen, pod_says: str = "") -> Answer:
    """The answer for a job of the group. `pod_says`: why its pod has not started, if that is known."""
    if job.phase.final:
        return replace(_answer(job, Cause.FINISHED, _ended(job), _after_end(job)), since=job.finish_time)
    if job.phase is Phase.PENDING:
        return _pending(look, job)
    if job.reason == Reason.NODE_LOST:
        step = "wait until the node is back, or cancel the job: that frees its quota"
        return replace(_answer(job, Cause.NODE_LOST, job.message, step), since=job.start_time)
    if job.phase is Phase.PREPARING:
        said = pod_says or "its pod is being started"
        return replace(_answer(job, Cause.STARTING, said, _unstarted(pod_says)), since=job.preparing_time)
    longest = look.deadline(job)
    said = f"it runs on {job.node or 'a node'}" + (f", for {words.span(longest)} at most" if longest else "")
    step = f"kubectl phjob logs {job.name} --follow"
    return replace(_answer(job, Cause.RUNNING, said, step), since=job.start_time)


def _pending(look: Look, job: JobSeen) -> Answer:
    if job.cancel:
        return _answer(job, Cause.CANCELLING, "it is being cancelled", "nothing: it ends in a moment")
    if refusal := look.refused.get(job.uid):
        step = "correct that and submit it anew: this job fails in a moment"
        return _answer(job, Cause.IMPOSSIBLE, f"{refusal.reason}: {refusal.message}", step)
    return replace(
        _waiting(look, job),
        since=job.created,
        place=look.place(job),
        waiting=len(look.line),
        estimate=look.estimates([job.uid]).get(job.uid),
    )


def _waiting(look: Look, job: JobSeen) -> Answer:
    if rest := look.rests(job):
        times = "once" if job.requeued == 1 else f"{job.requeued} times"
        said = f"it was sent back {times} and rests until {rest:%H:%M:%S} UTC: {job.message}"
        step = "see to what kept its pod from starting; till then it blocks nobody and keeps its place"
        return _answer(job, Cause.BACKOFF, said, step)
    if job.uid in look.going:
        return _may_go(look, job)
    reason, numbers = look.queue.why(job.uid)
    if reason is Reason.QUEUED:
        return _behind(look, job)
    return _short(look, job, reason, numbers)


def _may_go(look: Look, job: JobSeen) -> Answer:
    waited = look.now - (job.requeue_after or job.created)
    if waited > UNUSUAL:
        step = "look again in a moment; if it still waits, ask an operator whether the services are at work"
        return _answer(
            job, Cause.NOT_ADMITTED, "the quotas have room for it, but it has not been admitted", step
        )
    return _answer(
        job, Cause.NEXT, "the quotas have room for it: it goes now", "nothing: it starts in a moment"
    )


def _short(look: Look, job: JobSeen, reason: Reason, numbers: str) -> Answer:
    """It decides itself: its user's or its group's quota has too little room for it."""
    queue, request = look.queue, look.request(job)
    of_user = reason is Reason.USER_QUOTA
    used = queue.ledger.used_by(label_value(job.user)) if of_user else queue.ledger.group
    quota = queue.user_quota if of_user else queue.group_quota
    lacks = tuple(short.resource for short in shortages(used, request, quota))
    held = tuple(
        held
        for held in look.held()
        if any(held.amounts.get(resource) for resource in lacks) and (not of_user or held.user == job.user)
    )
    notebooks = [h for h in held if h.notebook]
    if notebooks and fits(_without(used, notebooks), request, quota):
        names = words.listed([h.name for h in notebooks], AHEAD)
        step = f"stop a notebook ({names}), or use a smaller instance type"
        answer = _answer(job, Cause.NOTEBOOKS, f"{numbers}; notebooks hold it", step)
    elif of_user:
        step = f"wait for a job of {job.user} to end, or cancel one; the others do not wait for it"
        answer = _answer(job, Cause.USER_QUOTA, numbers, step)
    else:
        step = "wait for a job of the group to end; it is first in line, and the others wait behind it"
        answer = _answer(job, Cause.GROUP_QUOTA, numbers, step)
    return replace(answer, held=held, lacks=lacks)


def _behind(look: Look, job: JobSeen) -> Answer:
    """It waits for a job before it: of its own user, or of the group."""
    before = look.before(job)
    own = [other for other in before if other.user == job.user]
    if own and look.queue.why(own[0].uid)[0] is Reason.USER_QUOTA:
        head, ahead, cause = own[0], own, Cause.BEHIND_OWN
        of_whom, step = (
            ", of the same user",
            f"wait, or cancel {own[0].name}: a user's jobs go in their order",
        )
    elif look.queue.blocked in look.queue.jobs:
        head, ahead, cause = look.job(look.queue.blocked), before, Cause.BEHIND_HEAD
        of_whom, step = "", "wait: a group's jobs go in their order"
    else:
        return _answer(job, Cause.BEHIND_HEAD, "it waits in line", "wait: a group's jobs go in their order")
    _, numbers = look.queue.why(head.uid)
    answer = _answer(job, cause, f"it waits behind {head.name}{of_whom}: {numbers}", step)
    names = [f"{other.name} ({other.user}, {look.needs(other)})" for other in ahead[:AHEAD]]
    return replace(answer, ahead=names, ahead_in_all=len(ahead))


def _without(used: Amounts, holders: Sequence[Held]) -> Amounts:
    left = dict(used)
    for held in holders:
        for resource, amount in held.amounts.items():
            left[resource] = left.get(resource, 0) - amount
    return left


def _unstarted(pod_says: str) -> str:
    if not pod_says:
        return "wait: a pod takes a moment to start"
    if pod_says.startswith("no node"):
        return "wait for room on the nodes, or ask an operator: the cluster has less than the quotas promise"
    if "image" in pod_says.partition(":")[0]:
        return "see that the Image's url is right and its pull secret valid; an operator may correct it"
    return "see to that, or ask an operator; it is tried again when its time to start is over"


def _ended(job: JobSeen) -> str:
    return ": ".join(filter(None, (job.reason, job.message)))


def _after_end(job: JobSeen) -> str:
    if job.phase is Phase.SUCCEEDED:
        return f"kubectl phjob logs {job.name}"
    if job.reason in (Reason.INVALID_SPEC, Reason.OVER_QUOTA):
        return "correct that and submit it anew"
    return f"kubectl phjob logs {job.name}; then kubectl phjob retry {job.name}"


def _answer(job: JobSeen, cause: Cause, said: str, step: str) -> Answer:
    return Answer(job.name, job.user, job.group, job.phase, job.reason, cause, said, step)
