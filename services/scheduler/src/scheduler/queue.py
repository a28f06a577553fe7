"""One group's queue: the rule that decides which job goes next (contract.md, Queueing 1 and 2).

Each user has a FIFO; a heap holds the users' heads. A step costs O(log users), however many jobs
wait. Pure: no clock, no messages; jobs that may not go yet (backoff) are simply not in it.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scheduler.quota import Ledger, fits, shortages, why_impossible, why_waiting
from shared.phjob import Reason
from shared.resources import Amounts

Place = tuple[datetime, int, str]
"""A job's place in its group: creation time, revision at creation, name."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that may go as soon as there is room."""

    uid: str
    user: str
    """The label value of its user."""
    request: Amounts
    place: Place


@dataclass(slots=True)
class _User:
    """A user's FIFO; what has left `jobs` is skipped."""

    fifo: deque[Waiting] = field(default_factory=deque)
    """Those that came in their order, oldest first."""
    returned: list[tuple[Place, str]] = field(default_factory=list)
    """A heap of those that came when a later one was there: sent back, or told of anew after a restart."""
    parked: bool = False

    def put(self, job: Waiting) -> None:
        """Put the job at its place."""
        if not self.fifo or self.fifo[-1].place < job.place:
            self.fifo.append(job)
        else:
            heapq.heappush(self.returned, (job.place, job.uid))

    def head(self, jobs: Mapping[str, Waiting]) -> Waiting | None:
        """The first that is still one of `jobs`."""
        fifo, returned = self.fifo, self.returned
        while fifo and jobs.get(fifo[0].uid) is not fifo[0]:
            fifo.popleft()
        first = fifo[0] if fifo else None
        while returned:
            place, uid = returned[0]
            job = jobs.get(uid)
            if job is not None and job.place == place:
                return job if first is None or place < first.place else first
            heapq.heappop(returned)
        return first


class GroupQueue:
    """The jobs of one group that wait, and what the group's jobs and pods hold."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.user_quota: Amounts = {}
        self.group_quota: Amounts = {}
        self.jobs: dict[str, Waiting] = {}
        self._users: dict[str, _User] = {}
        self._heads: list[tuple[Place, str, str]] = []
        self.blocked: str | None = None
        """The job that the whole group waits behind."""
        self.newly_parked: list[str] = []
        """The heads that the last decision parked for want of user quota."""

    def add(self, job: Waiting) -> None:
        """Put the job at its place; one that is there already is replaced."""
        self.remove(job.uid)
        self.jobs[job.uid] = job
        user = self._users.get(job.user)
        if user is None:
            user = self._users[job.user] = _User()
        user.put(job)
        if user.head(self.jobs) is job:
            self._offer(user)

    def remove(self, uid: str) -> None:
        """Take the job out, if it is there."""
        job = self.jobs.get(uid)
        if job is None:
            return
        user = self._users[job.user]
        was_head = user.head(self.jobs) is job
        del self.jobs[uid]
        if user.head(self.jobs) is None:
            del self._users[job.user]
        elif was_head:
            self._offer(user)

    def set_quota(self, user_quota: Amounts, group_quota: Amounts) -> None:
        """Change the quotas: whoever was parked may go on."""
        self.user_quota, self.group_quota = user_quota, group_quota
        for user in self._users.values():
            if user.parked:
                self._offer(user)

    def hold(self, holder: str, user: str, amounts: Amounts) -> None:
        """Let a pod or an admitted job hold these amounts."""
        if self.ledger.held(holder) != (user, amounts):
            self.release(holder)
            self.ledger.hold(holder, user, amounts)

    def release(self, holder: str) -> None:
        """Let it hold nothing: its user, if parked, may go on."""
        name = self.ledger.release(holder)
        user = self._users.get(name) if name is not None else None
        if user and user.parked:
            self._offer(user)

    def decide(self) -> list[Waiting]:
        """Admit whoever may go now: they leave the queue, in order, and hold what they asked for."""
        admitted = []
        self.blocked = None
        self.newly_parked = []
        while self._heads:
            place, uid, name = self._heads[0]
            user = self._users.get(name)
            job = self.jobs.get(uid)
            # 1. Skip what was only true when it was offered.
            current = job is not None and job.place == place
            if user is None or job is None or user.parked or not current or user.head(self.jobs) is not job:
                heapq.heappop(self._heads)
                continue
            # 2. Too little user quota parks this user; the others go on.
            if not fits(self.ledger.used_by(name), job.request, self.user_quota):
                user.parked = True
                self.newly_parked.append(uid)
                heapq.heappop(self._heads)
                continue
            # 3. Too little group quota blocks everybody behind.
            if not fits(self.ledger.group, job.request, self.group_quota):
                self.blocked = uid
                break
            # 4. Else it goes.
            self.ledger.hold(uid, name, job.request)
            self.remove(uid)
            admitted.append(job)
        return admitted

    def head(self) -> str | None:
        """The job that goes next: the one that all wait behind, else the first of those that are parked."""
        if self.blocked in self.jobs:
            return self.blocked
        heads = (user.head(self.jobs) for user in self._users.values())
        return min((head.place, head.uid) for head in heads if head)[1] if self.jobs else None

    def why(self, uid: str) -> tuple[Reason, str]:
        """Why a waiting job waits, as reason and message (contract.md, Queueing 6)."""
        job = self.jobs[uid]
        user = self._users[job.user]
        if user.parked and user.head(self.jobs) is job:
            short = shortages(self.ledger.used_by(job.user), job.request, self.user_quota)
            return Reason.USER_QUOTA, why_waiting("user", short)
        if self.blocked == uid:
            short = shortages(self.ledger.group, job.request, self.group_quota)
            return Reason.GROUP_QUOTA, why_waiting("group", short)
        return Reason.QUEUED, ""

    def reasons(self) -> dict[Reason, int]:
        """How many of the jobs wait for what."""
        parked = sum(user.parked for user in self._users.values())
        blocked = 1 if self.blocked in self.jobs else 0
        return {
            Reason.USER_QUOTA: parked,
            Reason.GROUP_QUOTA: blocked,
            Reason.QUEUED: len(self.jobs) - parked - blocked,
        }

    def impossible(self, request: Amounts) -> str:
        """Why the request can never fit (contract.md, Queueing 4); empty if it can."""
        for scope, quota in (("user", self.user_quota), ("group", self.group_quota)):
            if not fits({}, request, quota):
                return why_impossible(scope, shortages({}, request, quota))
        return ""

    def _offer(self, user: _User) -> None:
        """Let the user's head be looked at by the next decision."""
        user.parked = False
        job = user.head(self.jobs)
        if job:
            heapq.heappush(self._heads, (job.place, job.uid, job.user))
