"""Planted bugs that the product's own status conceals.

Only a comparison with what the pods did, and with what the catalog contained, reveals them.
"""

import dataclasses
import heapq
from typing import Any

from tests.simulation.planting import Bug, combine, replace

from phjob_core import planner, retry, steps
from phjob_core.api import Phase, Reason
from phjob_core.labels import label_value
from phjob_core.lifecycle import Event, requeue
from phjob_core.messages import Admit
from phjob_core.scheduling import eligibility, engine, ledger, queue
from phjob_janitor import deadlines
from phjob_pod_manager import status_patches

_CHECK = eligibility.Catalog.check


def _reject_some(self: eligibility.Catalog, job: Any) -> Any:
    if sum(job.uid.encode()) % 4 == 0:
        return eligibility.Ineligible(Reason.INVALID_SPEC, "by mistake")
    return _CHECK(self, job)


_DECIDE = engine.SchedulingEngine._decide


def _give_little(self: engine.SchedulingEngine, label: str, now: Any) -> Any:
    little = {"cpu": 1}
    return [
        command.model_copy(update={"resources": little}) if isinstance(command, Admit) else command
        for command in _DECIDE(self, label, now)
    ]


_APPLY_POD_STATE = planner._apply_pod_state


def _always_succeed(now: Any, pod: Any) -> Any:
    step = _APPLY_POD_STATE(now, pod)
    return steps.ApplyEvent(Event.POD_SUCCEEDED) if step and step.event is Event.POD_FAILED else step


def _always_fail(now: Any, pod: Any) -> Any:
    step = _APPLY_POD_STATE(now, pod)
    return steps.ApplyEvent(Event.POD_FAILED, "so") if step and step.event is Event.POD_SUCCEEDED else step


_AFTER = deadlines._after


def _after_two_seconds(moment: Any, seconds: int) -> Any:
    return _AFTER(moment, min(seconds, 2))


def _requeue_without_backoff(requeued: int, limit: int | None, now: Any) -> Any:
    outcome = requeue(requeued, limit, now)
    return type(outcome)(outcome.phase, outcome.reason, outcome.requeued, None)


def _requeue_without_limit(requeued: int, limit: int | None, now: Any) -> Any:
    return requeue(requeued, None if requeued < 12 else limit, now)


_APPLY_EVENT = status_patches.apply_event


def _without_exit_code(*args: Any, **options: Any) -> Any:
    return [op for op in _APPLY_EVENT(*args, **options) if op["path"] != "/status/exitCode"]


def _decide_for_each_user(self: queue.GroupQueue) -> Any:
    """Let a job that lacks group quota block only its user, not the whole group."""
    admitted = []
    self.blocking_job, self.newly_blocked_by_user_quota = None, []
    while self.heads:
        key, uid, name = self.heads[0]
        user, job = self._users.get(name), self.jobs.get(uid)
        heapq.heappop(self.heads)
        current = job is not None and job.key == key
        if (
            user is None
            or job is None
            or user.blocked_by_user_quota
            or not current
            or user.head(self.jobs) is not job
        ):
            continue
        fits_user = ledger.fits(self.ledger.used_by(name), job.request, self.user_quota)
        if not (fits_user and ledger.fits(self.ledger.group_usage, job.request, self.group_quota)):
            user.blocked_by_user_quota = True
            self.newly_blocked_by_user_quota.append(uid)
            continue
        self.ledger.charge(uid, name, job.request)
        self.remove(uid)
        admitted.append(job)
    return admitted


_DECIDE_GROUP = queue.GroupQueue.decide
_RELEASE = queue.GroupQueue.release


def _release_and_wake_all(self: queue.GroupQueue, holder: str) -> None:
    _RELEASE(self, holder)
    for user in list(self._users.values()):
        if user.blocked_by_user_quota:
            self._push_head(user)


def _decide_with_user_quotas(self: queue.GroupQueue) -> Any:
    return _decide_for_each_user(self) if self.user_quota else _DECIDE_GROUP(self)


def _release_with_user_quotas(self: queue.GroupQueue, holder: str) -> None:
    (_release_and_wake_all if self.user_quota else _RELEASE)(self, holder)


_ON_JOB = engine.SchedulingEngine.on_job


def _on_job_without_suspension(self: engine.SchedulingEngine, seen: Any, now: Any) -> Any:
    return _ON_JOB(self, seen.model_copy(update={"suspend": False}), now)


_ENQUEUE = engine.SchedulingEngine._enqueue_or_reject


def _enqueue_suspended_jobs(self: engine.SchedulingEngine, uid: str, now: Any) -> None:
    """Let a suspended job keep its group waiting, as one does that awaits a catalog check."""
    _ENQUEUE(self, uid, now)
    seen, label = self.jobs[uid].seen, label_value(self.jobs[uid].seen.group)
    if seen.suspend and seen.phase is Phase.PENDING and not self.jobs[uid].reservation:
        user, key = label_value(seen.user), engine.queue_key(seen)
        self._queue(label).add(queue.QueuedJob(uid, user, {}, key, pending_catalog_check=True))


def _permit_without_limit(job: Any, cause: Any) -> bool:
    return job.retried < 12 and cause in job.retry_on and not job.cancel and not job.deleting


def _permit_any_cause(job: Any, _: Any) -> bool:
    return job.retried < job.retry_limit and not job.cancel and not job.deleting


_RUNNING_STEP = planner._running


def _retry_vanished_pod(now: Any) -> Any:
    """Retry a job whose pod is gone, although nobody has seen the end of its command."""
    step = _RUNNING_STEP(now)
    if not isinstance(step, steps.ApplyEvent) or step.event is not Event.POD_VANISHED:
        return step
    cause = retry.RetryCause.DISRUPTION
    return dataclasses.replace(step, retry=cause) if retry.is_permitted(now.job, cause) else step


GROSS_BUGS: dict[str, Bug] = {
    "a retry ignores its limit": replace(planner, "is_permitted", _permit_without_limit),
    "a retry ignores its causes": replace(planner, "is_permitted", _permit_any_cause),
    "a retry does not wait for the end of the pod": replace(planner, "_running", _retry_vanished_pod),
    "a suspended job is admitted": replace(engine.SchedulingEngine, "on_job", _on_job_without_suspension),
    "a suspended job blocks its group": replace(
        engine.SchedulingEngine, "_enqueue_or_reject", _enqueue_suspended_jobs
    ),
    "a quarter of all feasible jobs is rejected": replace(eligibility.Catalog, "check", _reject_some),
    "every admission gives and charges almost nothing": replace(
        engine.SchedulingEngine, "_decide", _give_little
    ),
    "a job whose command failed becomes Succeeded": replace(planner, "_apply_pod_state", _always_succeed),
    "a job whose command succeeded becomes Failed": replace(planner, "_apply_pod_state", _always_fail),
    "every deadline is at most two seconds": replace(deadlines, "_after", _after_two_seconds),
    "a requeue has no backoff": replace(status_patches, "requeue", _requeue_without_backoff),
    "requeueLimit is ignored": replace(status_patches, "requeue", _requeue_without_limit),
    "no exit code is written": replace(status_patches, "apply_event", _without_exit_code),
    "lack of group quota blocks only one user": combine(
        replace(queue.GroupQueue, "decide", _decide_for_each_user),
        replace(queue.GroupQueue, "release", _release_and_wake_all),
    ),
    "the same, only in groups with user quotas": combine(
        replace(queue.GroupQueue, "decide", _decide_with_user_quotas),
        replace(queue.GroupQueue, "release", _release_with_user_quotas),
    ),
}
