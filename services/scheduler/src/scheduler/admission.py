"""The scheduler's mind: facts in, orders out.

It keeps what the facts say about jobs, pods and the catalog, lets each group's `queue` decide, and
remembers what it admitted until that is seen to be true. Pure: `now` is an argument, orders are
returned. Only a complete snapshot makes it act (`start`); before, it just listens.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from scheduler.catalog import Catalog, Refusal
from scheduler.explanations import Explanations, Said
from scheduler.queue import GroupQueue, Place, Waiting
from shared.labels import label_value
from shared.messages import Admit, Explain, GroupSeen, JobSeen, Order, PodSeen, Refuse
from shared.phjob import EVERYONE, Phase, PodPhase, Reason
from shared.resources import Amounts, charge

RESERVATION_LIMIT = timedelta(seconds=60)
"""How long an admission may stay unseen before the session is doubted (design.md, The fence)."""


GHOST_LIMIT = timedelta(seconds=5)
"""How long the pod of a job that is gone may stay unseen before the session is doubted."""


def place(job: JobSeen) -> Place:
    """A job's place in its group (contract.md, Queueing 1)."""
    return job.created, job.revision, job.name


class Ghost(NamedTuple):
    """A job that is gone, of whose pod nothing is known yet: it may be there, or be about to."""

    until: datetime
    group: str
    """The group's label value."""
    admission: str


class Reservation(NamedTuple):
    """An admission that was ordered and not yet seen."""

    token: str
    fence: str


def _is_last(ended: PodSeen, phase: Phase) -> bool:
    """Whether no other pod can follow for the same admission.

    While its job is Preparing, a pod that is gone is made again if nobody lived to write what became of it.
    One that ran and ended by itself stays until that is written; one that was deleted, or whose command
    never started, does not.
    """
    ran = ended.start_time is not None or ended.phase is PodPhase.SUCCEEDED
    return phase is Phase.RUNNING or (ran and not ended.deleting)


@dataclass(slots=True)
class Job:
    """A job that waits or holds something."""

    seen: JobSeen
    limits: Amounts = field(default_factory=dict)
    reservation: Reservation | None = None
    met: str = ""
    """The admission of which a pod was seen."""
    ended: str = ""
    """The admission that is seen to be over: it holds nothing, though the job's phase says so later."""

    @property
    def admission(self) -> str:
        """The name (fence) of its latest admission."""
        return self.reservation.token if self.reservation else self.seen.fence

    @property
    def holds(self) -> bool:
        """Whether it is admitted, as far as is known."""
        return self.reservation is not None or self.seen.phase.admitted


class Admission:
    """One session's knowledge and decisions for the groups of one shard."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.catalog = Catalog()
        self.catalog_revision = 0
        self.group_names: dict[str, str] = {}
        """Of each label value of a PhGroup's, the group's name."""
        self.phases: dict[str, Counter[Phase]] = {}
        """How many jobs of each group are in which phase, by its label value."""
        self.touched: set[str] = set()
        """The label values of groups in which something has changed, until somebody takes note."""
        self.groups: dict[str, GroupQueue] = {}
        self.jobs: dict[str, Job] = {}
        self.doubtful: set[str] = set()
        """Jobs that look wrong, but may be newer than what is known of the catalog."""
        self.unexpected = 0
        """Jobs seen admitted that this session did not admit."""
        self.job_of_pod: dict[str, str] = {}
        """Of each live pod of a job, the job."""
        self._pods_of: dict[str, set[str]] = {}
        self._explanations = Explanations()
        self._backoff: list[tuple[datetime, str]] = []
        self._reserved: deque[tuple[datetime, str, str]] = deque()
        self._ghosts: dict[str, Ghost] = {}
        self._admissions = 0
        self._started = False

    # --- facts ---

    def start(self, now: datetime) -> list[Order]:
        """The snapshot is complete: decide everything."""
        self._started = True
        return [
            *(order for uid in list(self.jobs) for order in self._wait(uid, now)),
            *(order for group in list(self.groups) for order in self._decide(group, now)),
        ]

    def job_seen(self, seen: JobSeen, now: datetime) -> list[Order]:
        """A job is new or has changed."""
        group = label_value(seen.group)
        if seen.phase.final:
            return self.job_gone(seen.uid, seen.group, now, has_pod=bool(seen.pod))
        known = self.jobs.get(seen.uid)
        job = self.jobs.setdefault(seen.uid, Job(seen))
        self._count(group, known.seen.phase if known else None, seen.phase)
        was_admitted = job.seen is not seen and job.seen.phase.admitted
        job.seen = seen
        if seen.phase.admitted:
            self._came_true(job, was_admitted=was_admitted)
        elif job.reservation and seen.fence != job.reservation.fence:
            # Settled by another pod-manager, or admitted and sent back again: the order is spent.
            job.reservation = None
        self._account(job)
        return [*self._wait(seen.uid, now), *self._decide(group, now)]

    def job_gone(self, uid: str, group: str, now: datetime, *, has_pod: bool = True) -> list[Order]:
        """A job is finished or deleted: it waits no more, and holds only what its pods hold.

        Jobs and pods are told by two watches: if it was admitted and may have a pod of which nothing was
        seen yet (`has_pod`), it holds what it held until that is.
        """
        self.doubtful.discard(uid)
        job = self.jobs.pop(uid, None)
        if job is None:
            return []
        label = label_value(group)
        self._count(label, job.seen.phase, None)
        queue = self._group(label)
        queue.remove(uid)
        if has_pod and job.holds and job.met != job.admission:
            self._ghosts[uid] = Ghost(now + GHOST_LIMIT, label, job.admission)
        else:
            queue.release(uid)
        return self._decide(label, now)

    def pod_seen(self, seen: PodSeen, now: datetime) -> list[Order]:
        """A pod is new or has changed: its limits count until it is finished."""
        queue = self._group(seen.group)
        job = self.jobs.get(seen.job_uid)
        job_uid = seen.job_uid
        if job and job.seen.name != seen.name:
            job, job_uid = None, ""  # It only says that it is the job's.
        if job and seen.fence == job.admission:
            job.met = seen.fence
        if seen.phase.finished:
            queue.release(seen.uid)
            self._forget_pod(seen.uid)
            if job and _is_last(seen, job.seen.phase):
                job.ended = seen.fence
        else:
            queue.hold(seen.uid, seen.user, charge(seen.limits))
            if job_uid:
                self.job_of_pod[seen.uid] = job_uid
                self._pods_of.setdefault(job_uid, set()).add(seen.uid)
        ghost = self._ghosts.get(job_uid)
        if ghost and ghost.admission == seen.fence:
            del self._ghosts[job_uid]
            queue.release(job_uid)
        if job:
            self._account(job)
        return self._decide(seen.group, now)

    def pod_gone(self, uid: str, group: str, now: datetime) -> list[Order]:
        """A pod is no more."""
        self._group(group).release(uid)
        job = self._forget_pod(uid)
        if job:
            self._account(job)
        return self._decide(group, now)

    def group_seen(self, seen: GroupSeen, now: datetime) -> list[Order]:
        """A group is new or has changed: its quota, and who may use what."""
        self.catalog.put_group(seen)
        self.group_names[label_value(seen.group)] = seen.group
        return self._group_changed(seen.group, now)

    def group_gone(self, group: str, name: str, now: datetime) -> list[Order]:
        """A group is no more."""
        self.catalog.drop_group(group, name)
        return self._group_changed(group, now)

    def catalog_changed(self, now: datetime) -> list[Order]:
        """An instance type or an image is new, has changed or is gone: look at all jobs again."""
        return self._look_again(list(self.jobs), now)

    def catalog_listed(self, revision: int, now: datetime) -> list[Order]:
        """The catalog is known to be complete up to the revision."""
        self.catalog_revision = max(self.catalog_revision, revision)
        return self._look_again(list(self.doubtful), now)

    # --- time ---

    def due(self) -> datetime | None:
        """When `tick` has something to do."""
        times = [
            self._explanations.due(),
            self._backoff[0][0] if self._backoff else None,
            self._reserved[0][0] if self._reserved else None,
            next((ghost.until for ghost in self._ghosts.values()), None),
        ]
        return min((time for time in times if time), default=None)

    def tick(self, now: datetime) -> list[Order]:
        """Let those wait again whose backoff is over, and tell those that wait why."""
        orders: list[Order] = []
        while self._backoff and self._backoff[0][0] <= now:
            _, uid = heapq.heappop(self._backoff)
            if uid in self.jobs:
                orders += self._wait(uid, now)
                orders += self._decide(label_value(self.jobs[uid].seen.group), now)
        for uid, (reason, message) in self._explanations.tell(now, self._reads):
            job = self.jobs[uid].seen
            orders.append(
                Explain(
                    uid=uid, name=job.name, group=job.group, fence=job.fence,
                    reason=reason, message=message, revision=job.revision,
                )
            )  # fmt: skip
        return orders

    def overdue(self, now: datetime) -> list[str]:
        """The jobs of whose admission or pod nothing was seen for too long."""
        late = [uid for uid, ghost in self._ghosts.items() if ghost.until <= now]
        while self._reserved and self._reserved[0][0] <= now:
            entry = self._reserved.popleft()
            late += [uid for _, uid in self._unseen(entry)]
        return late

    def unseen(self) -> Iterator[tuple[datetime, str]]:
        """Each job whose admission was ordered and is not seen yet, and when that is too long ago."""
        for entry in self._reserved:
            yield from self._unseen(entry)

    def _unseen(self, entry: tuple[datetime, str, str]) -> Iterator[tuple[datetime, str]]:
        limit, uid, token = entry
        job = self.jobs.get(uid)
        if job and job.reservation and job.reservation.token == token:
            yield limit, uid

    # --- the parts ---

    def _group(self, label: str) -> GroupQueue:
        queue = self.groups.get(label)
        if queue is None:
            queue = self.groups[label] = GroupQueue()
        return queue

    def _count(self, label: str, before: Phase | None, after: Phase | None) -> None:
        """A job of the group has gone from one phase to another; None: it is not there."""
        phases = self.phases.setdefault(label, Counter())
        if before:
            phases[before] -= 1
        if after:
            phases[after] += 1

    def _came_true(self, job: Job, *, was_admitted: bool) -> None:
        """The job is seen Preparing or Running."""
        expected = job.reservation and job.reservation.token == job.seen.fence
        if self._started and not expected and not was_admitted:
            self.unexpected += 1
        job.reservation = None
        job.limits = job.seen.resources or job.limits

    def _account(self, job: Job) -> None:
        """Let the job hold its resources while it is admitted and its pod is not seen."""
        queue = self._group(label_value(job.seen.group))
        if job.holds and job.seen.uid not in self._pods_of and job.ended != job.admission:
            queue.remove(job.seen.uid)
            queue.hold(job.seen.uid, label_value(job.seen.user), charge(job.limits))
        else:
            queue.release(job.seen.uid)

    def _wait(self, uid: str, now: datetime) -> list[Order]:
        """Put a job that is Pending into its queue, or say why it can never run."""
        job = self.jobs[uid]
        seen = job.seen
        queue = self._group(label_value(seen.group))
        if not self._started or job.reservation:
            return []
        if seen.phase is not Phase.PENDING or seen.cancel:
            queue.remove(uid)
            return []
        if seen.requeue_after and seen.requeue_after > now:
            queue.remove(uid)
            heapq.heappush(self._backoff, (seen.requeue_after, uid))
            return []
        verdict = self.catalog.check(seen)
        if not isinstance(verdict, Refusal):
            problem = queue.impossible(charge(verdict))
            if not problem:
                self.doubtful.discard(uid)
                job.limits = verdict
                queue.add(Waiting(uid, label_value(seen.user), charge(verdict), place(seen)))
                if seen.reason in (Reason.USER_QUOTA, Reason.GROUP_QUOTA):
                    self._explanations.watch(uid, now)
                return []
            verdict = Refusal(Reason.OVER_QUOTA, f"instance type {seen.instance_type!r} {problem}")
        queue.remove(uid)
        if seen.revision > self.catalog_revision:
            self.doubtful.add(uid)
            return []
        self.doubtful.discard(uid)
        return [
            Refuse(
                uid=uid, name=seen.name, group=seen.group, fence=seen.fence,
                reason=verdict.reason, message=verdict.message,
            )
        ]  # fmt: skip

    def _decide(self, label: str, now: datetime) -> list[Order]:
        """Let the group's queue decide."""
        self.touched.add(label)
        if not self._started:
            return []
        queue = self._group(label)
        orders: list[Order] = []
        for waiting in queue.decide():
            job = self.jobs[waiting.uid]
            seen = job.seen
            self._admissions += 1
            job.reservation = Reservation(f"{self.session}#{self._admissions}", seen.fence)
            self._reserved.append((now + RESERVATION_LIMIT, seen.uid, job.reservation.token))
            orders.append(
                Admit(
                    uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence,
                    token=job.reservation.token, resources=dict(job.limits), revision=seen.revision,
                )
            )  # fmt: skip
        for uid in (*queue.newly_parked, queue.blocked):
            if uid:
                self._explanations.watch(uid, now)
        if not queue.jobs and not queue.ledger and not queue.group_quota and not queue.user_quota:
            del self.groups[label]
        return orders

    def _group_changed(self, group: str, now: datetime) -> list[Order]:
        seen = self.catalog.groups.get(group)
        label = label_value(group)
        self.touched.add(label)
        if seen:
            self._group(label).set_quota(seen.user_quota, seen.group_quota)
        else:
            self._group(label).set_quota({}, {})
        if group == EVERYONE:
            return self._look_again(list(self.jobs), now)
        return self._look_again([uid for uid, job in self.jobs.items() if job.seen.group == group], now)

    def _look_again(self, uids: list[str], now: datetime) -> list[Order]:
        """Judge jobs anew after the catalog changed."""
        if not self._started:
            return []
        orders: list[Order] = []
        for uid in uids:
            orders += self._wait(uid, now)
        for label in {label_value(self.jobs[uid].seen.group) for uid in uids}:
            orders += self._decide(label, now)
        return orders

    def _forget_pod(self, uid: str) -> Job | None:
        """Count a pod no longer; its job, if it was a live pod of one."""
        job_uid = self.job_of_pod.pop(uid, None)
        if job_uid is None:
            return None
        pods = self._pods_of[job_uid]
        pods.discard(uid)
        if not pods:
            del self._pods_of[job_uid]
        return self.jobs.get(job_uid)

    def _reads(self, uid: str) -> tuple[Said, Said] | None:
        """What a waiting job reads, and what it should read."""
        job = self.jobs.get(uid)
        if job is None:
            return None
        queue = self._group(label_value(job.seen.group))
        if uid not in queue.jobs:
            return None
        return (job.seen.reason, job.seen.message), queue.why(uid)
