"""Which new jobs are accepted, and which are rejected because too many wait already (spec.md, Q11). Pure.

Without the limits, one user could fill the memory of every service with pending jobs. A decision is final: an
accepted job is never rejected because of a limit, whatever happens to the limit or to other jobs.
"""

from collections import Counter
from typing import NamedTuple

from phjob_core.api import Reason
from phjob_core.messages import GroupSeen, JobSeen, Reject
from phjob_core.scheduling.accounting import TrackedJob
from phjob_core.scheduling.eligibility import Ineligible
from phjob_core.scheduling.rejections import Rejections

_REMEDY = "wait until some have started, or cancel some, then submit this job again"


class PendingLimits(NamedTuple):
    """The numbers of jobs that may be Pending; 0: any number."""

    per_group: int = 0
    per_user: int = 0
    """Of one user in one group."""

    def of(self, group: GroupSeen | None) -> "PendingLimits":
        """Return the limits of a group. Those of its PhGroup override these."""
        if group is None:
            return self
        per_group = self.per_group if group.max_pending is None else group.max_pending
        per_user = self.per_user if group.max_pending_per_user is None else group.max_pending_per_user
        return PendingLimits(per_group, per_user)


NO_LIMITS = PendingLimits()


class Acceptance:
    """The accepted jobs that wait, by number, and the rejections that are not observed yet."""

    def __init__(self, limits: PendingLimits) -> None:
        """`limits` apply to groups whose PhGroup has none."""
        self._limits = limits
        self._of_group: Counter[str] = Counter()
        """The number of accepted jobs that wait, by the name of their group."""
        self._of_user: Counter[tuple[str, str]] = Counter()
        """The same, by the names of their group and user."""
        self.rejections = Rejections()

    def accept(self, job: TrackedJob, group: GroupSeen | None, *, is_new: bool) -> bool:
        """Accept a waiting job, or reject it. Returns whether it is accepted.

        `group` is its PhGroup, if that exists. Only a new job can be over a limit.
        """
        if not job.was_accepted:
            known = self.rejections.get(job.seen.uid)
            if known and (known.reason, known.fence) == (Reason.TOO_MANY_PENDING, job.seen.fence):
                return False
            excess = self._excess(job.seen, self._limits.of(group)) if is_new else ""
            if excess:
                self.reject(job, Ineligible(Reason.TOO_MANY_PENDING, excess))
                return False
            job.was_accepted = True
        self._count(job, is_waiting=True)
        return True

    def reject(self, job: TrackedJob, verdict: Ineligible) -> None:
        """Reject a job."""
        self._count(job, is_waiting=False)
        known, seen = self.rejections.get(job.seen.uid), job.seen
        if known is None or (known.fence, known.message) != (seen.fence, verdict.message):
            reason, message = verdict.reason, verdict.message
            of_job = {"uid": seen.uid, "name": seen.name, "group": seen.group, "fence": seen.fence}
            self.rejections.add(Reject(**of_job, reason=reason, message=message))

    def on_admitted(self, job: TrackedJob) -> None:
        """Count a job no longer, because it does not wait any more."""
        self._count(job, is_waiting=False)

    def on_gone(self, job: TrackedJob) -> None:
        """Forget a job that has ended, or that is about to."""
        self.rejections.discard(job.seen.uid)
        self._count(job, is_waiting=False)

    def _count(self, job: TrackedJob, *, is_waiting: bool) -> None:
        """Count the job once while it waits."""
        if job.is_counted == is_waiting:
            return
        job.is_counted = is_waiting
        change, group, user = 1 if is_waiting else -1, job.seen.group, (job.seen.group, job.seen.user)
        self._of_group[group] += change
        self._of_user[user] += change
        # Without this, the counters would keep every name that a user invents.
        if not self._of_group[group]:
            del self._of_group[group]
        if not self._of_user[user]:
            del self._of_user[user]

    def _excess(self, job: JobSeen, limits: PendingLimits) -> str:
        """Return why the limits do not allow one more job, for the user; empty if they do."""
        pending = self._of_user[job.group, job.user]
        if limits.per_user and pending >= limits.per_user:
            return (
                f"user {job.user!r} has {pending} pending jobs in group {job.group!r}, "
                f"and maxPendingPerUser is {limits.per_user}: {_REMEDY}"
            )
        pending = self._of_group[job.group]
        if limits.per_group and pending >= limits.per_group:
            return (
                f"group {job.group!r} has {pending} pending jobs, "
                f"and maxPending is {limits.per_group}: {_REMEDY}"
            )
        return ""
