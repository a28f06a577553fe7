"""The checks of admissions, rejections, requeues and quotas against the cluster at that time (`replay`).

A service learns of a change late, and a command may be written long after its decision. A step therefore
violates a rule only if no state of the last minute allows it.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.loop import seconds
from tests.simulation.replay import (
    FINAL_PHASES,
    MAX_REACTION_SECONDS,
    JobHistory,
    Replay,
    Usage,
    charge_of,
    parse,
)
from tests.simulation.scenario import NOTEBOOKS, QUOTAS, RECREATE, SERVICE_CLOCKS, Scenario
from tests.simulation.store import Change, Store, job_of
from tests.support.promises import is_gated

MAX_SKEW_SECONDS = 1.5
"""The maximum difference of two times, because of clocks and of timestamps in whole seconds."""
MAX_REJECTION_AGE_SECONDS = 60.0
"""The maximum age at which an infeasible job is rejected (spec.md, Q4)."""
BACKOFF_SECONDS = (0.0, 0.0, 30.0, 60.0, 120.0, 240.0)
"""The backoff after the nth requeue (spec.md, Q5). The last one also applies after later requeues."""
POD_DISK = "10Gi"
"""The limit of ephemeral storage of a job whose instance type has none (spec.md, P4)."""
REJECTION_REASONS = ("InvalidSpec", "OverQuota", "TooManyPending")


@dataclass(frozen=True)
class Rejected:
    """What is rejected at any time of a run."""

    pods: Container[str]
    """The names of the pods whose creation failed."""
    jobs: Container[str]
    """The uids of the jobs that the scheduler rejected. `_rejection_violations` checks each."""

    @classmethod
    def of(cls, store: Store) -> "Rejected":
        """Return all rejections in the history."""
        jobs = (change.object for change in store.changes if change.plural == "phjobs")
        uids = {job["metadata"]["uid"] for job in jobs if job["status"].get("reason") in REJECTION_REASONS}
        return cls(store.rejected_pods, uids)


def violations(replay: Replay, change: Change, scenario: Scenario, rejected: Rejected) -> Iterator[str]:
    """Return each rule that an admission, a rejection or a requeue violates.

    `replay` is the cluster right before the change.
    """
    if change.plural != "phjobs" or change.gone or change.before is None:
        return
    job = replay.jobs[change.object["metadata"]["uid"]]
    before, now = change.before["status"], change.object["status"]
    if (before["phase"], now["phase"]) == ("Pending", "Preparing"):
        yield from _admission_violations(replay, job, change, scenario)
        yield from _order_violations(replay, job, change, scenario, rejected.jobs)
    if (
        before["phase"] not in FINAL_PHASES
        and now["phase"] == "Failed"
        and now["reason"] in REJECTION_REASONS
    ):
        yield from _rejection_violations(replay, job, change)
    if now.get("requeued", 0) > before.get("requeued", 0):
        yield from _requeue_violations(replay, job, change, scenario)
        if before["phase"] == "Pending" and _name(change) not in rejected.pods:
            yield f"{_name(change)} was requeued, but the creation of its pod was not rejected"
    if now["phase"] == "Failed" and now["reason"] == "OverRequeueLimit":
        limit = job.spec.get("requeueLimit")
        if limit is None or len(job.requeues) < limit:
            yield f"{_name(change)} failed after {len(job.requeues)} requeues, but its limit is {limit}"


def _admission_violations(
    replay: Replay, job: JobHistory, change: Change, scenario: Scenario
) -> Iterator[str]:
    status, name = change.object["status"], _name(change)
    given = {resource: parse(resource, amount) for resource, amount in status["resources"].items()}
    disk = {"ephemeral-storage": parse("ephemeral-storage", POD_DISK)}
    expected = [disk | limits for limits in job.limits]
    if given not in expected:
        limits = ", ".join(map(str, expected))
        yield f"{name} was admitted with {given}, but its instance type has {limits}"
    if not job.was_feasible:
        yield f"{name} was admitted, but was never feasible"
    pod = replay.pods.get(status.get("podUID", ""))
    pod_limits = pod["spec"]["containers"][0]["resources"]["limits"] if pod else {}
    if pod and {resource: parse(resource, amount) for resource, amount in pod_limits.items()} != given:
        yield f"{name} was admitted with {given}, but its pod has {pod_limits}"
    # A deletion during the admission is in time: the pod keeps its gate (spec.md, Q7).
    deleted = change.object["metadata"].get("deletionTimestamp")
    if deleted and change.at > seconds(deleted) + MAX_REACTION_SECONDS:
        yield f"{name} was admitted {change.at - seconds(deleted):.0f} s after its deletion was requested"
    if job.suspended_since is not None and change.at > job.suspended_since + MAX_REACTION_SECONDS:
        yield f"{name} was admitted {change.at - job.suspended_since:.0f} s after it was suspended"
    elif job.suspended_since == 0:
        yield f"{name} was admitted, but has been suspended since its creation"
    after = change.object["status"].get("requeueAfter")
    if (
        after
        and SERVICE_CLOCKS not in scenario.third_parties
        and change.at < seconds(after) - MAX_SKEW_SECONDS
    ):
        yield f"{name} was admitted {seconds(after) - change.at:.1f} s before the end of its backoff"
    limit = job.spec.get("requeueLimit")
    if limit is not None and len(job.requeues) > limit:
        yield f"{name} was admitted after {len(job.requeues)} requeues, but its limit is {limit}"


def _order_violations(
    replay: Replay, job: JobHistory, change: Change, scenario: Scenario, rejected_jobs: Container[str]
) -> Iterator[str]:
    """Return the earlier jobs that were admissible and still wait (spec.md, Q2).

    A job that is rejected waits for nothing, but for the write of its rejection.

    The facts about a group's jobs arrive in sequence. When this job was decided, the scheduler therefore knew
    of the earlier ones. It may have learned of quotas and pods a little later.
    """
    if job.waiting_since is None:
        return
    candidate_since = job.waiting_since[0]
    if after := job.status.get("requeueAfter"):
        candidate_since = max(candidate_since, seconds(after) - MAX_SKEW_SECONDS)
    for other in replay.jobs.values():
        since = _earlier_job_since(other, job, scenario)
        if since is None or since > candidate_since or other.uid in rejected_jobs:
            continue
        if _may_have_lacked_user_quota(replay, other, job, candidate_since):
            continue
        yield f"{_name(change)} entered Preparing before {other.latest['metadata']['name']}, which is older"


def _earlier_job_since(other: JobHistory, job: JobHistory, scenario: Scenario) -> float | None:
    """Return since when every service knew that the other job precedes this one.

    Returns None if it is not.
    """
    if other.spec["groupName"] != job.spec["groupName"] or other.queue_key >= job.queue_key:
        return None
    if other.waiting_since is None or job.waiting_since is None or not other.is_waiting:
        return None
    if other.queue_key[0] == job.queue_key[0] and not (other.is_key_certain and job.is_key_certain):
        return None  # design/consistency.md, Known limits.
    since, revision = other.waiting_since
    if other.since_catalog_change or job.since_catalog_change:
        since += MAX_REACTION_SECONDS
    elif revision >= job.waiting_since[1]:
        return None
    if backoff_end := other.status.get("requeueAfter"):
        if SERVICE_CLOCKS in scenario.third_parties:
            return None
        since = max(since, seconds(backoff_end) + MAX_SKEW_SECONDS)
    return since


def _may_have_lacked_user_quota(replay: Replay, other: JobHistory, job: JobHistory, since: float) -> bool:
    """Return whether the earlier job's user may have lacked quota at the decision.

    If the first job of a user lacks user quota, all jobs of the user wait.
    """
    user, group = other.spec["userName"], other.spec["groupName"]
    window = replay.usages_since(group, since - MAX_REACTION_SECONDS)
    if user == job.spec["userName"] or not any(usage.user_quota for usage in window):
        return False
    ahead = [
        older for older in replay.jobs.values() if older.queue_key <= other.queue_key and older.is_waiting
    ]
    requests = [  # The instance type may have been edited between the decision and the write.
        charge_of(limits)
        for older in ahead
        if (older.spec["userName"], older.spec["groupName"]) == (user, group)
        for limits in older.limits
    ]
    # The admission of a waiting notebook of the user may be decided, and not be written yet.
    reserved = replay.waiting_notebooks_charge(user, group)
    # Reservations are written a little after the quota that decided about them, which may have changed since.
    lacks = any(
        usage.used_by(user, name) + reserved.get(name, 0) + request.get(name, 0) > limit
        for usage in window
        for quota in window
        for name, limit in quota.user_quota.items()
        for request in requests
    )
    return lacks or _may_have_reserved_in_vain(replay, other, since)


def _may_have_reserved_in_vain(replay: Replay, other: JobHistory, since: float) -> bool:
    """Return whether another job of the user may have had a reservation in vain.

    The store does not show such a reservation, so it is inferred from what became of the user's jobs.
    """
    for job in replay.jobs.values():
        is_same_user = (job.spec["groupName"], job.spec["userName"]) == (
            other.spec["groupName"],
            other.spec["userName"],
        )
        ended_waiting = not job.admissions and (job.gone or not job.is_waiting)
        was_requeued = any(requeue.at >= since - MAX_REACTION_SECONDS for requeue in job.requeues)
        # A third party deleted its pod before the admissions were written that were decided together with it.
        had_deleted_pod = any(_had_deleted_pod(replay, admission) for admission in job.admissions)
        if is_same_user and job.uid != other.uid and (ended_waiting or was_requeued or had_deleted_pod):
            return True
    return False


def _had_deleted_pod(replay: Replay, admission: Change) -> bool:
    """Return whether the pod was deleted before or right after its admission was written."""
    deletion = replay.deletions.get(admission.object["status"].get("podUID", ""))
    return deletion is not None and deletion.at <= admission.at + MAX_REACTION_SECONDS


def _rejection_violations(replay: Replay, job: JobHistory, change: Change) -> Iterator[str]:
    name, status = _name(change), change.object["status"]
    if status["reason"] == "TooManyPending":
        if not job.was_over_limit and _has_certain_place(replay, job):
            yield f"{name} was rejected ({status['message']}), but was within the limit at its creation"
    elif not job.was_infeasible:
        yield f"{name} was rejected ({status['reason']}: {status['message']}), but was always feasible"
    age = change.at - job.created.at
    if age > MAX_REJECTION_AGE_SECONDS + MAX_REACTION_SECONDS:
        yield f"{name} was rejected {age:.0f} s after its creation"
    if job.admissions:
        yield f"{name} was rejected, although it was admitted before"


def _has_certain_place(replay: Replay, job: JobHistory) -> bool:
    """Return whether every session of the scheduler knows which jobs of its second precede this one."""
    of_second = (other for other in replay.jobs.values() if other.queue_key[0] == job.queue_key[0])
    return all(other.is_key_certain for other in of_second)  # design/consistency.md, Known limits.


def _requeue_violations(replay: Replay, job: JobHistory, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return a wrong count of requeues, and a backoff that is too short.

    `outcomes` checks whether the requeue is too early, by the pod's deletion.
    """
    counted = change.object["status"]["requeued"]
    if counted != len(job.requeues) + 1:
        yield f"{_name(change)} counts {counted} requeues, but this is number {len(job.requeues) + 1}"
    after = change.object["status"].get("requeueAfter")
    expected = BACKOFF_SECONDS[min(counted, len(BACKOFF_SECONDS) - 1)]
    if expected and SERVICE_CLOCKS not in scenario.third_parties:
        # The decision follows the pod's deletion, however late it is written.
        deletion = replay.deletions.get(job.status.get("podUID", ""))
        decided = deletion.at if deletion else change.at - MAX_REACTION_SECONDS
        backoff = seconds(after) - decided if after else 0.0
        if backoff < expected - MAX_SKEW_SECONDS:
            difference = f"{backoff:.0f} s instead of {expected:.0f} s"
            yield f"the backoff of {_name(change)} after requeue {counted} is {difference}"


def quota_violations(replay: Replay, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return each quota of a group or a user that an admission exceeds.

    `replay` is the cluster right after the change.
    """
    has_changing_quotas = bool({NOTEBOOKS, QUOTAS, RECREATE} & scenario.third_parties)
    if has_changing_quotas and not _is_admission(change):
        return
    for group, usages in replay.usages.items():
        now = usages[-1]
        if now.revision != change.revision:
            continue
        window = replay.usages_since(group, now.at - MAX_REACTION_SECONDS) if has_changing_quotas else [now]
        for name in {*now.group_quota}:
            limit = max(usage.group_quota.get(name, 0) for usage in window)
            used = sum(of_user.get(name, 0) for of_user in now.admitted.values())
            used += min(sum(of_user.get(name, 0) for of_user in usage.others.values()) for usage in window)
            if used > limit:
                yield f"{group} used {name} {used} of {limit} after r{now.revision}"
        for user in now.admitted:
            yield from _user_quota_violations(group, user, window)


def _user_quota_violations(group: str, user: str, window: Sequence[Usage]) -> Iterator[str]:
    now = window[-1]
    for name in {*now.user_quota}:
        limit = max(usage.user_quota.get(name, 0) for usage in window)
        used = now.admitted[user].get(name, 0)
        used += min(usage.others.get(user, {}).get(name, 0) for usage in window)
        if used > limit:
            yield f"{user} of {group} used {name} {used} of {limit} after r{now.revision}"


def _is_admission(change: Change) -> bool:
    if change.plural not in ("phjobs", "pods") or change.before is None or change.gone:
        return False
    if change.plural == "pods":
        is_notebook = not job_of(change.object)
        return is_notebook and is_gated(change.before) and not is_gated(change.object)
    phases = change.before["status"]["phase"], change.object["status"]["phase"]
    return phases == ("Pending", "Preparing")


def _name(change: Change) -> str:
    return str(change.object["metadata"]["name"])
