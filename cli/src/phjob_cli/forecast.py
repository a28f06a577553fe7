"""Estimates when pending jobs will be admitted, by simulating the scheduler's own queue. Pure.

A simulation follows these rules:

- A job that holds quota ends after the run time of a recent job of its group, or at its deadline.
- `phjob_core.scheduling.queue` decides which job is admitted next.
- Notebooks do not end. Jobs and notebooks that are created later are not foreseen.

The queue is simulated many times, and the result is the quantiles of the starts. Each simulation first
resamples the recent jobs (bootstrap), so that few recent jobs give wide quantiles.
"""

import heapq
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b

from phjob_core.quantities import Amounts
from phjob_core.scheduling.queue import GroupQueue, QueuedJob

MAX_TRIALS, MIN_TRIALS = 200, 4
MAX_ADMISSIONS = 20_000
"""Approximate limit of the admissions in all trials together, so that a command answers at once."""
MAX_RESAMPLED_TIMES = 100
"""Number of recent run times above which resampling makes no difference."""

_MIN_RUN_TIME = timedelta(seconds=1)
_ASSUMED_RUN_TIME = timedelta(hours=1)
"""Run time for the question whether a job starts at all; any value gives the same answer."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A job or a notebook that holds a part of the quota."""

    uid: str
    user: str
    amounts: Amounts
    since: datetime
    latest_end: datetime | None = None
    """End at its deadline; None if it has no known deadline."""
    is_job: bool = True
    """False for a notebook, which does not end by itself."""


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job in the queue or in backoff, or a notebook in the queue."""

    job: QueuedJob
    backoff_until: datetime | None = None
    """End of its backoff; None if it has none."""
    deadline: timedelta | None = None
    """Its deadline; None if it has none that is known."""
    is_job: bool = True
    """False for a notebook, which does not end by itself."""


@dataclass(frozen=True)
class Estimate:
    """When a job will be admitted, or why that is unknown."""

    p50: datetime | None = None
    """Median of the start."""
    p90: datetime | None = None
    """Start in 90 % of the cases. Without a median: the latest start, from deadlines alone."""
    unknown: str = ""
    """Reason why there is no median."""


class RunTimes:
    """Times for which recent jobs held their part of the quota, from admission to end."""

    def __init__(self, recent: Iterable[timedelta] = ()) -> None:
        self._sorted = sorted(max(time, _MIN_RUN_TIME) for time in recent)

    def __len__(self) -> int:
        """Return the number of run times."""
        return len(self._sorted)

    def bootstrap_sample(self, trial: int) -> "RunTimes":
        """Return as many run times, drawn with replacement; all of them if there are many."""
        size = len(self)
        if size > MAX_RESAMPLED_TIMES:
            return self
        return RunTimes(self.quantile(_uniform(trial, f"recent {number}")) for number in range(size))

    def quantile(self, share: float) -> timedelta:
        """Return the time that this share of the jobs did not exceed; 0 <= share < 1."""
        return self._sorted[int(share * len(self._sorted))]

    def remaining(self, elapsed: timedelta, share: float) -> timedelta:
        """Return the quantile of the remaining time of a job that has run for `elapsed`.

        Only run times above `elapsed` count. If there are none, the job is assumed to be half done.
        """
        first = bisect_right(self._sorted, elapsed)
        longer = len(self._sorted) - first
        if not longer:
            return max(elapsed, _MIN_RUN_TIME)
        return self._sorted[first + int(share * longer)] - elapsed


@dataclass(frozen=True)
class QueueState:
    """Quotas, holders and pending jobs of one group at one moment."""

    now: datetime
    user_quota: Amounts
    group_quota: Amounts
    holders: Collection[Holder]
    pending: Collection[PendingJob]
    run_times: RunTimes


def forecast(state: QueueState, uids: Collection[str]) -> Mapping[str, Estimate]:
    """Return an estimate for each of these pending jobs, by uid."""
    size = len(state.pending)
    trials = min(MAX_TRIALS, max(MIN_TRIALS, MAX_ADMISSIONS // max(size, 1))) if len(state.run_times) else 1
    starts: dict[str, list[datetime]] = {uid: [] for uid in uids}
    for trial in range(trials):
        for uid, start in _simulate_once(state, uids, trial).items():
            starts[uid].append(start)
    found = {uid: _estimate(state, sorted(times), trials) for uid, times in starts.items()}
    missing = [uid for uid, estimate in found.items() if not estimate.p50]
    if missing:
        # Would the job start if every other job came to an end?
        started = _simulate_once(replace(state, run_times=RunTimes([_ASSUMED_RUN_TIME])), missing, 0)
        for uid in missing:
            found[uid] = replace(found[uid], unknown=_why_unknown(state, starts=uid in started))
    return found


def _estimate(state: QueueState, starts: list[datetime], trials: int) -> Estimate:
    p50, p90 = _quantile(starts, trials, 50), _quantile(starts, trials, 90)
    if len(state.run_times) or p90 == state.now:
        return Estimate(p50, p90)
    return Estimate(None, p90)  # Without run times only deadlines end jobs, so this is the latest start.


def _why_unknown(state: QueueState, *, starts: bool) -> str:
    if starts:
        return "no job of this group has finished recently, so there are no run times to estimate from"
    kinds = (*(holder.is_job for holder in state.holders), *(entry.is_job for entry in state.pending))
    if not all(kinds):
        return "notebooks hold what the job needs, and have no known end"
    return "what the job needs does not become free by itself"


def _quantile(starts: list[datetime], trials: int, percent: int) -> datetime | None:
    """Return the quantile over all trials.

    A trial without a start counts as later than all others.
    """
    index = -(-trials * percent // 100) - 1
    return starts[index] if index < len(starts) else None


def _simulate_once(state: QueueState, uids: Collection[str], trial: int) -> dict[str, datetime]:
    """Simulate the queue once. Returns when these jobs are admitted, if ever."""
    simulation = _Simulation(state, trial)
    missing, starts = set(uids), dict[str, datetime]()
    while True:
        for uid in simulation.decide():
            if uid in missing:
                starts[uid] = simulation.now
                missing.discard(uid)
        if not missing or not simulation.advance():
            return starts


class _Simulation:
    """One possible future of the group."""

    def __init__(self, state: QueueState, trial: int) -> None:
        self.now = state.now
        self._run_times = state.run_times.bootstrap_sample(trial)
        self._trial = trial
        self._queue = GroupQueue()
        self._queue.set_quota(state.user_quota, state.group_quota)
        self._pending = {pending.job.uid: pending for pending in state.pending}
        self._events: list[tuple[datetime, str]] = []
        """A heap of times with uids: the end of a holder, or of a pending job's backoff."""
        for holder in state.holders:
            self._queue.charge(holder.uid, holder.user, holder.amounts)
            self._schedule(holder.uid, self._end_of(holder))
        for uid, pending in self._pending.items():
            if pending.backoff_until and pending.backoff_until > self.now:
                self._schedule(uid, pending.backoff_until)
            else:
                self._queue.add(pending.job)

    def decide(self) -> list[str]:
        """Admit the jobs that have room now. Returns their uids."""
        admitted = [job.uid for job in self._queue.decide()]
        for uid in admitted:
            time = self._run_time_of(self._pending.pop(uid))
            self._schedule(uid, self.now + time if time else None)
        return admitted

    def advance(self) -> bool:
        """Apply the events of the next moment that has any. Returns False without one."""
        if not self._events:
            return False
        self.now = self._events[0][0]
        while self._events and self._events[0][0] == self.now:
            _, uid = heapq.heappop(self._events)
            if uid in self._pending:
                self._queue.add(self._pending[uid].job)
            else:
                self._queue.release(uid)
        return True

    def _schedule(self, uid: str, at: datetime | None) -> None:
        if at:
            heapq.heappush(self._events, (at, uid))

    def _end_of(self, holder: Holder) -> datetime | None:
        if not holder.is_job or not len(self._run_times):
            return holder.latest_end
        elapsed = self.now - holder.since
        end = self.now + self._run_times.remaining(elapsed, _uniform(self._trial, holder.uid))
        return max(min(end, holder.latest_end), self.now) if holder.latest_end else end

    def _run_time_of(self, pending: PendingJob) -> timedelta | None:
        if not pending.is_job:
            return None
        if not len(self._run_times):
            return pending.deadline
        time = self._run_times.quantile(_uniform(self._trial, pending.job.uid))
        return min(time, pending.deadline) if pending.deadline else time


def _uniform(trial: int, key: str) -> float:
    """Return a pseudo-random number from 0 to below 1.

    It is always the same for the same arguments. Repeated commands therefore give the same estimate.
    """
    return int.from_bytes(blake2b(f"{trial} {key}".encode(), digest_size=4).digest()) / 2**32
