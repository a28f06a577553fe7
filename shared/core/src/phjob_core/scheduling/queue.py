"""The queue of one group, and the rule that decides which job is next (spec.md, Q1, Q2). Pure.

A gated pod of the pool waits in it like a job (`gated_pods`). What is said of jobs here is true of both.

Each user has a FIFO. A heap has the heads of all users, so that a decision costs O(log users), whatever the
number of waiting jobs. Jobs in backoff are not in the queue.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from phjob_core.api import Reason
from phjob_core.quantities import Amounts
from phjob_core.scheduling.ledger import (
    Ledger,
    describe_infeasibility,
    describe_shortages,
    fits,
    shortages,
)

AHEAD_OF_JOBS, IN_ORDER = 0, 1
"""The ranks: before all jobs, and in the order of creation."""
QueueKey = tuple[int, datetime, int, str]
"""A position in a queue: rank, creation time, revision at creation, name."""

MAX_OUTDATED_ENTRIES = 64
"""The number of outdated entries that a list keeps in any case, beside one for each current entry.

Without a bound, a queue whose head is blocked would grow with each job that comes and goes behind it.
"""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job or a gated pod that is admitted as soon as it fits."""

    uid: str
    user: str
    """The label value of its user's name."""
    request: Amounts
    """Its charge if it is admitted."""
    key: QueueKey
    pending_catalog_check: bool = False
    """True while the catalog may be too old to judge the job.

    The job keeps its position, and the group waits behind it. Otherwise a later job could overtake it.
    """


@dataclass(slots=True)
class _UserQueue:
    """The jobs of one user, in order. Jobs that have left `GroupQueue.jobs` are skipped lazily."""

    fifo: deque[QueuedJob] = field(default_factory=deque)
    """The jobs that were added in order, oldest first."""
    reinserted: list[tuple[QueueKey, str]] = field(default_factory=list)
    """A heap of the jobs that were added after a later one: after a requeue, or after a restart."""
    size: int = 0
    """The number of jobs of the user that are in the queue."""
    blocked_by_user_quota: bool = False
    """True if the head did not fit the user quota.

    It stays so until a charge of the user is released, or a quota changes.
    """
    blocked_head: str = ""
    """The uid of the last head that did not fit the user quota."""

    def add(self, job: QueuedJob, jobs: Mapping[str, QueuedJob]) -> None:
        """Insert the job, which is one of `jobs`, at its position."""
        self.size += 1
        if not self.fifo or self.fifo[-1].key < job.key:
            self.fifo.append(job)
        else:
            heapq.heappush(self.reinserted, (job.key, job.uid))
        if len(self.fifo) + len(self.reinserted) > 2 * self.size + MAX_OUTDATED_ENTRIES:
            self._remove_outdated(jobs)

    def _remove_outdated(self, jobs: Mapping[str, QueuedJob]) -> None:
        self.fifo = deque(job for job in self.fifo if jobs.get(job.uid) is job)
        in_fifo = {job.uid for job in self.fifo}
        current = {
            (key, uid)
            for key, uid in self.reinserted
            if uid not in in_fifo and uid in jobs and jobs[uid].key == key
        }
        self.reinserted = sorted(current)

    def head(self, jobs: Mapping[str, QueuedJob]) -> QueuedJob | None:
        """Return the first job that is still one of `jobs`; None if there is none."""
        fifo, reinserted = self.fifo, self.reinserted
        while fifo and jobs.get(fifo[0].uid) is not fifo[0]:
            fifo.popleft()
        first = fifo[0] if fifo else None
        while reinserted:
            key, uid = reinserted[0]
            job = jobs.get(uid)
            if job is not None and job.key == key:
                return job if first is None or key < first.key else first
            heapq.heappop(reinserted)
        return first


class GroupQueue:
    """The waiting jobs of one group, and the ledger of its pool."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.user_quota: Amounts = {}
        self.group_quota: Amounts = {}
        self.jobs: dict[str, QueuedJob] = {}
        """All jobs of the queue, by uid."""
        self._users: dict[str, _UserQueue] = {}
        self.heads: list[tuple[QueueKey, str, str]] = []
        """A heap of the heads of all users that are not blocked. Some entries may be outdated."""
        self.blocking_job: str | None = None
        """The job that the whole group waits behind, since the last decision."""
        self.newly_blocked_by_user_quota: list[str] = []
        """The heads that the last decision found to exceed their user quota."""

    def add(self, job: QueuedJob) -> None:
        """Insert the job at its position. It replaces the job with the same uid."""
        self.remove(job.uid)
        self.jobs[job.uid] = job
        user = self._users.get(job.user)
        if user is None:
            user = self._users[job.user] = _UserQueue()
        user.add(job, self.jobs)
        if user.head(self.jobs) is job:
            self._push_head(user)

    def remove(self, uid: str) -> None:
        """Remove the job, if it is in the queue."""
        job = self.jobs.get(uid)
        if job is None:
            return
        user = self._users[job.user]
        was_head = user.head(self.jobs) is job
        del self.jobs[uid]
        user.size -= 1
        if user.head(self.jobs) is None:
            del self._users[job.user]
        elif was_head:
            self._push_head(user)

    def set_quota(self, user_quota: Amounts, group_quota: Amounts) -> None:
        """Change the quotas. The next decision considers all blocked users again."""
        self.user_quota, self.group_quota = user_quota, group_quota
        for user in self._users.values():
            if user.blocked_by_user_quota:
                self._push_head(user)

    def charge(self, holder: str, user: str, amounts: Amounts) -> None:
        """Set the charge of a pod or of an admitted job."""
        if self.ledger.charge_of(holder) != (user, amounts):
            self.release(holder)
            self.ledger.charge(holder, user, amounts)

    def release(self, holder: str) -> None:
        """Remove the holder's charge. The next decision considers its user again."""
        name = self.ledger.release(holder)
        user = self._users.get(name) if name is not None else None
        if user and user.blocked_by_user_quota:
            self._push_head(user)

    def decide(self) -> list[QueuedJob]:
        """Admit every job that may be admitted now. Returns them in order.

        They leave the queue, and the ledger has their charges.
        """
        admitted = []
        self.blocking_job = None
        self.newly_blocked_by_user_quota = []
        while self.heads:
            key, uid, name = self.heads[0]
            user = self._users.get(name)
            job = self.jobs.get(uid)
            # 1. Skip an entry that is outdated, or whose user is blocked.
            if user is None or job is None or user.blocked_by_user_quota:
                heapq.heappop(self.heads)
                continue
            if job.key != key or user.head(self.jobs) is not job:
                heapq.heappop(self.heads)
                continue
            # 2. If the catalog may be too old for this job, wait: a later job would overtake it.
            if job.pending_catalog_check:
                self.blocking_job = uid
                break
            # 3. Too little user quota blocks this user. The others go on.
            if not fits(self.ledger.used_by(name), job.request, self.user_quota):
                user.blocked_by_user_quota, user.blocked_head = True, uid
                self.newly_blocked_by_user_quota.append(uid)
                heapq.heappop(self.heads)
                continue
            # 4. Too little group quota blocks all jobs behind this one.
            if not fits(self.ledger.group_usage, job.request, self.group_quota):
                self.blocking_job = uid
                break
            # 5. Otherwise, admit the job.
            self.ledger.charge(uid, name, job.request)
            self.remove(uid)
            admitted.append(job)
        return admitted

    def head(self) -> str | None:
        """Return the uid of the head: the job that blocks the group, otherwise the first one."""
        if self.blocking_job in self.jobs:
            return self.blocking_job
        heads = (user.head(self.jobs) for user in self._users.values())
        return min((head.key, head.uid) for head in heads if head)[1] if self.jobs else None

    def count_ahead(self, uid: str) -> int:
        """Return how many jobs of the queue are ahead of this one."""
        key = self.jobs[uid].key
        return sum(job.key < key for job in self.jobs.values())

    def pending_reason(self, uid: str) -> tuple[Reason, str]:
        """Return why a job of the queue waits, as reason and message (spec.md, Q6)."""
        job = self.jobs[uid]
        user = self._users[job.user]
        if user.blocked_by_user_quota and user.head(self.jobs) is job:
            short = shortages(self.ledger.used_by(job.user), job.request, self.user_quota)
            return Reason.USER_QUOTA, describe_shortages("user", short)
        if self.blocking_job == uid and not job.pending_catalog_check:
            short = shortages(self.ledger.group_usage, job.request, self.group_quota)
            return Reason.GROUP_QUOTA, describe_shortages("group", short)
        return Reason.QUEUED, ""

    def reason_of(self, uid: str) -> Reason | None:
        """Return why a job waits; None if it is not in the queue.

        It changes nothing, so that metrics can be read in another thread.
        """
        job = self.jobs.get(uid)
        user = self._users.get(job.user) if job else None
        if job is None or user is None:
            return None
        if user.blocked_by_user_quota and user.blocked_head == uid:
            return Reason.USER_QUOTA
        return Reason.GROUP_QUOTA if self.blocking_job == uid else Reason.QUEUED

    def count_by_reason(self) -> dict[Reason, int]:
        """Return the number of jobs of the queue for each reason to wait."""
        # A copy, because metrics are read in another thread.
        blocked_users = sum(user.blocked_by_user_quota for user in list(self._users.values()))
        blocking_jobs = 1 if self.blocking_job in self.jobs else 0
        return {
            Reason.USER_QUOTA: blocked_users,
            Reason.GROUP_QUOTA: blocking_jobs,
            Reason.QUEUED: len(self.jobs) - blocked_users - blocking_jobs,
        }

    def infeasibility(self, request: Amounts) -> str:
        """Return why the request can never fit (spec.md, Q4); empty if it can."""
        for scope, quota in (("user", self.user_quota), ("group", self.group_quota)):
            if not fits({}, request, quota):
                return describe_infeasibility(scope, shortages({}, request, quota))
        return ""

    def _push_head(self, user: _UserQueue) -> None:
        """Let the next decision consider the user's head."""
        user.blocked_by_user_quota = False
        job = user.head(self.jobs)
        if job:
            heapq.heappush(self.heads, (job.key, job.uid, job.user))
            if len(self.heads) > 2 * len(self._users) + MAX_OUTDATED_ENTRIES:
                self._remove_outdated_heads()

    def _remove_outdated_heads(self) -> None:
        heads = [user.head(self.jobs) for user in self._users.values() if not user.blocked_by_user_quota]
        self.heads = sorted((head.key, head.uid, head.user) for head in heads if head)
