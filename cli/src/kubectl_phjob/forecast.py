"""When waiting jobs will be admitted: the scheduler's own queue, run forward in time.

Pure. Jobs that hold something end after a time that jobs of their group took lately, at their deadline
at the latest; whoever may go then is decided by `scheduler.queue`. That is played many times, each with
other times drawn from those, and what comes out are quantiles. As few recent jobs say little about those to
come, each play draws first whom of them it believes (a bootstrap): fewer jobs, wider quantiles. Jobs that
are submitted later, and notebooks that start later, nobody can know.
"""

import heapq
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b

from scheduler.queue import GroupQueue, Waiting
from shared.resources import Amounts

MOST_TRIALS, FEWEST_TRIALS = 200, 4
WORK = 20_000
"""Jobs admitted in all trials together, about: what an answer at once allows."""
FEW = 100
"""Recent jobs up to which it matters that they are few."""

_SHORTEST = timedelta(seconds=1)
_SOME_TIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Holder:
    """What holds a part of the quota."""

    uid: str
    user: str
    amounts: Amounts
    since: datetime
    latest: datetime | None = None
    """When its deadline ends it; None: it has none that is known."""
    ends: bool = True
    """Whether it ends by itself: a job does, a notebook does not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that waits."""

    waiting: Waiting
    not_before: datetime | None = None
    """When its backoff is over; None: it has none."""
    longest: timedelta | None = None
    """Its deadline; None: it has none that is known."""


@dataclass(frozen=True)
class Estimate:
    """When a job will be admitted, or why nobody can say."""

    p50: datetime | None = None
    """As likely before as after."""
    p90: datetime | None = None
    """In nine of ten cases by then. Without a p50: by then at the latest, by what is known of deadlines."""
    unknown: str = ""


class RunTimes:
    """How long jobs held their part of the quota lately, from admission to end."""

    def __init__(self, lately: Iterable[timedelta] = ()) -> None:
        self._sorted = sorted(max(time, _SHORTEST) for time in lately)

    def __len__(self) -> int:
        """How many are known."""
        return len(self._sorted)

    def resampled(self, trial: int) -> "RunTimes":
        """As many of these times, drawn anew; of many, all, for then it makes no difference."""
        size = len(self)
        if size > FEW:
            return self
        return RunTimes(self.at(_draw(trial, f"recent {number}")) for number in range(size))

    def at(self, share: float) -> timedelta:
        """The time that this share of the jobs did not take longer than; 0 <= share < 1."""
        return self._sorted[int(share * len(self._sorted))]

    def left(self, elapsed: timedelta, share: float) -> timedelta:
        """The same for what is left of a job that has run so long already.

        Those that took longer tell; one that outlives them all is taken to be half through.
        """
        first = bisect_right(self._sorted, elapsed)
        longer = len(self._sorted) - first
        if not longer:
            return max(elapsed, _SHORTEST)
        return self._sorted[first + int(share * longer)] - elapsed


@dataclass(frozen=True)
class Situation:
    """One group, as of now."""

    now: datetime
    user_quota: Amounts
    group_quota: Amounts
    holders: Collection[Holder]
    entries: Collection[Entry]
    run_times: RunTimes


def forecast(situation: Situation, wanted: Collection[str]) -> Mapping[str, Estimate]:
    """An estimate for each of the jobs with these uids, which wait."""
    size = len(situation.entries)
    trials = min(MOST_TRIALS, max(FEWEST_TRIALS, WORK // max(size, 1))) if len(situation.run_times) else 1
    starts: dict[str, list[datetime]] = {uid: [] for uid in wanted}
    for trial in range(trials):
        for uid, start in _play(situation, wanted, trial).items():
            starts[uid].append(start)
    found = {uid: _estimate(situation, sorted(times), trials) for uid, times in starts.items()}
    missing = [uid for uid, estimate in found.items() if not estimate.p50]
    if missing:
        # If every job came to an end, would it start then?
        ends = _play(replace(situation, run_times=RunTimes([_SOME_TIME])), missing, 0)
        for uid in missing:
            found[uid] = replace(found[uid], unknown=_why_unknown(situation, starts=uid in ends))
    return found


def _estimate(situation: Situation, starts: list[datetime], trials: int) -> Estimate:
    p50, p90 = _quantile(starts, trials, 50), _quantile(starts, trials, 90)
    if len(situation.run_times) or p90 == situation.now:
        return Estimate(p50, p90)
    return Estimate(None, p90)  # By deadlines alone: it is the latest, and no more.


def _why_unknown(situation: Situation, *, starts: bool) -> str:
    if starts:
        return "no job of this group has ended lately, so nobody knows how long they run"
    if any(not holder.ends for holder in situation.holders):
        return "notebooks hold what it needs, and nobody knows when they end"
    return "what it needs does not become free by itself"


def _quantile(starts: list[datetime], trials: int, percent: int) -> datetime | None:
    """The quantile over all trials; one in which the job never started counts as after all others."""
    place = -(-trials * percent // 100) - 1
    return starts[place] if place < len(starts) else None


def _play(situation: Situation, wanted: Collection[str], trial: int) -> dict[str, datetime]:
    """Run the queue forward once; when each of the wanted jobs is admitted, if it ever is."""
    play = _Play(situation, trial)
    missing, starts = set(wanted), dict[str, datetime]()
    while True:
        for uid in play.decide():
            if uid in missing:
                starts[uid] = play.now
                missing.discard(uid)
        if not missing or not play.go_on():
            return starts


class _Play:
    """One possible future of the group."""

    def __init__(self, situation: Situation, trial: int) -> None:
        self.now = situation.now
        self._run_times = situation.run_times.resampled(trial)
        self._trial = trial
        self._queue = GroupQueue()
        self._queue.set_quota(situation.user_quota, situation.group_quota)
        self._waiting = {entry.waiting.uid: entry for entry in situation.entries}
        self._happens: list[tuple[datetime, str]] = []
        """What comes, with its time: the end of what holds something, or of a backoff."""
        for holder in situation.holders:
            self._queue.hold(holder.uid, holder.user, holder.amounts)
            self._plan(holder.uid, self._end_of(holder))
        for uid, entry in self._waiting.items():
            if entry.not_before and entry.not_before > self.now:
                self._plan(uid, entry.not_before)
            else:
                self._queue.add(entry.waiting)

    def decide(self) -> list[str]:
        """Admit who may go; their uids."""
        admitted = [job.uid for job in self._queue.decide()]
        for uid in admitted:
            time = self._time_of(self._waiting.pop(uid))
            self._plan(uid, self.now + time if time else None)
        return admitted

    def go_on(self) -> bool:
        """Go to the next time at which something happens; whether there is one."""
        if not self._happens:
            return False
        self.now = self._happens[0][0]
        while self._happens and self._happens[0][0] == self.now:
            _, uid = heapq.heappop(self._happens)
            if uid in self._waiting:
                self._queue.add(self._waiting[uid].waiting)
            else:
                self._queue.release(uid)
        return True

    def _plan(self, uid: str, at: datetime | None) -> None:
        if at:
            heapq.heappush(self._happens, (at, uid))

    def _end_of(self, holder: Holder) -> datetime | None:
        if not holder.ends or not len(self._run_times):
            return holder.latest
        elapsed = self.now - holder.since
        end = self.now + self._run_times.left(elapsed, _draw(self._trial, holder.uid))
        return max(min(end, holder.latest), self.now) if holder.latest else end

    def _time_of(self, entry: Entry) -> timedelta | None:
        if not len(self._run_times):
            return entry.longest
        time = self._run_times.at(_draw(self._trial, entry.waiting.uid))
        return min(time, entry.longest) if entry.longest else time


def _draw(trial: int, uid: str) -> float:
    """A number from 0 to below 1 that looks random, and is the same whenever one asks."""
    return int.from_bytes(blake2b(f"{trial} {uid}".encode(), digest_size=4).digest()) / 2**32
