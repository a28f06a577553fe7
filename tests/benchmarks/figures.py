"""The figures of a run, calculated from its recorded events. Pure.

Times are nanoseconds since the epoch, as in the load client's output and the services' logs.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tests.benchmarks.cpu_usage import CpuUsage
from tests.support import promises
from tests.support.history import WatchEvent

NANOSECONDS_PER_MS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    """`scenario.name`, as in the bounds and in docs/performance.md."""
    value: float
    unit: str


@dataclass
class Result:
    """The figures of one scenario."""

    scenario: str
    figures: list[Figure]
    cpu: CpuUsage = field(default_factory=CpuUsage)


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that is not less than so many percent of the values (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def percentiles(name: str, milliseconds: Sequence[float]) -> list[Figure]:
    """Return p50, p90 and p99 of the times."""
    return [Figure(f"{name}.p{p}", percentile(milliseconds, p), "ms") for p in (50, 90, 99)]


def raw_limit(*rates: float) -> float:
    """Return the jobs per second if each job were one write of each of these rates, and nothing else."""
    return 1 / sum(1 / rate for rate in rates)


def ratio_to_raw(figure: Figure, raw: Mapping[str, float]) -> float | None:
    """Return the figure as a multiple of the API server's own; None if there is none to compare with."""
    if figure.unit == "jobs/s":
        return figure.value / raw["raw.limit"]
    if figure.unit == "ms":
        return figure.value / raw["raw.create-and-patch"]
    return None


def nanoseconds(moment: datetime) -> int:
    """Return a time in nanoseconds since the epoch, to the microsecond."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def first_observed(events: Iterable[WatchEvent], kind: str, phase: str = "") -> dict[str, int]:
    """Return when each job or pod was first observed in a phase, by name; without a phase, in any."""
    first: dict[str, int] = {}
    for event in events:
        if event.kind == kind and phase in ("", event.phase):
            first.setdefault(event.name, nanoseconds(event.observed_at))
    return first


def inversions(events: Sequence[WatchEvent], *, all_waited: bool = False) -> int:
    """Return how many jobs entered Preparing after a job of their group that is behind them.

    The API server sets a job's creation time before it stores the job. Of jobs that are submitted in
    parallel, one may be stored after another that has a later creation time. Its position is then before a
    job that may have been admitted already. Such jobs are left out, unless `all_waited`: no job was admitted
    before all were stored.
    """
    jobs = [event for event in events if event.kind == "PhJob"]
    excluded = set() if all_waited else stored_late(jobs)
    by_group = defaultdict[str, list[WatchEvent]](list)
    for event in jobs:
        if event.uid not in excluded:
            by_group[event.group].append(event)
    return sum(len(promises.order_violations(of_group, group)) for group, of_group in by_group.items())


def stored_late(jobs: Iterable[WatchEvent]) -> set[str]:
    """Return the uids of jobs that were stored after one of their group with a later creation second."""
    newest, seen, late = dict[str, str](), set[str](), set[str]()
    for job in jobs:
        if job.uid not in seen:
            seen.add(job.uid)
            created = job.object["metadata"]["creationTimestamp"]
            if created < newest.get(job.group, ""):
                late.add(job.uid)
            newest[job.group] = max(created, newest.get(job.group, ""))
    return late


def decisions(ends: Iterable[int], admissions: Iterable[int], room: int) -> list[float]:
    """Return the milliseconds from each pod's end to the admission that it made possible.

    The first `room` jobs were admitted because there was quota. Each later one needs the end of a pod.
    """
    later = sorted(admissions)[room:]
    return [
        (admitted - ended) / NANOSECONDS_PER_MS for ended, admitted in zip(sorted(ends), later, strict=False)
    ]


def hops(moments: Sequence[Mapping[str, int]]) -> list[list[float]]:
    """Return the milliseconds from each moment to the next, of every job that has all moments."""
    names = set(moments[0]).intersection(*moments[1:])
    return [
        [(after[name] - before[name]) / NANOSECONDS_PER_MS for name in names]
        for before, after in pairwise(moments)
    ]
