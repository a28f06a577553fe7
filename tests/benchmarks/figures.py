"""What a run says, in numbers. Pure: records in, figures out; how they came about is `bench`'s.

Times are nanoseconds since the epoch, as the load client and the services' logs give them.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tests.benchmarks.usage import Usage
from tests.support import promises
from tests.support.history import Event

MS = 1_000_000
"""Nanoseconds."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    """`scenario.what`, as bounds and readers call it."""
    value: float
    unit: str


@dataclass
class Result:
    """What one scenario has measured."""

    scenario: str
    figures: list[Figure]
    usage: Usage = field(default_factory=Usage)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many percent are not greater than (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def percentiles(name: str, milliseconds: Sequence[float]) -> list[Figure]:
    """p50, p90 and p99."""
    return [Figure(f"{name}.p{p}", percentile(milliseconds, p), "ms") for p in (50, 90, 99)]


def raw_limit(create: float, patch: float, pod: float) -> float:
    """Jobs a second if nothing but these three writes were to be done, each at its own rate."""
    return 1 / (1 / create + 1 / patch + 1 / pod)


def against_raw(figure: Figure, raw: Mapping[str, float]) -> float | None:
    """The figure as a multiple of the API server's own; None where there is no such thing."""
    if figure.unit == "jobs/s":
        return figure.value / raw["raw.limit"]
    if figure.unit == "ms":
        return figure.value / raw["raw.create-and-patch"]
    return None


def nanoseconds(moment: datetime) -> int:
    """Since the epoch, to the microsecond."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def first_seen(events: Iterable[Event], kind: str, phase: str = "") -> dict[str, int]:
    """When each job or pod was first seen in the phase, or at all."""
    seen: dict[str, int] = {}
    for event in events:
        if event.kind == kind and phase in ("", event.phase):
            seen.setdefault(event.name, nanoseconds(event.seen))
    return seen


def inversions(events: Sequence[Event], *, all_waited: bool = False) -> int:
    """How many jobs entered Preparing after one of their group that goes behind them.

    The API server gives a job its creation time before it stores it. Of jobs that are submitted side by
    side, one may be stored after another that has a later time: then its place is before a job that is known
    already, and may have gone. Such late ones are left out, unless all jobs waited until all were known.
    """
    jobs = [event for event in events if event.kind == "PhJob"]
    late = set() if all_waited else late_ones(jobs)
    judged = defaultdict[str, list[Event]](list)
    for event in jobs:
        if event.uid not in late:
            judged[event.group].append(event)
    return sum(len(promises.out_of_order(of_group, group)) for group, of_group in judged.items())


def late_ones(jobs: Iterable[Event]) -> set[str]:
    """The uids of jobs that were stored after one of their group that was created in a later second."""
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
    """Milliseconds from each pod's end to the admission that it made room for.

    The first `room` jobs found room; after them, each end lets one more go.
    """
    later = sorted(admissions)[room:]
    return [(admitted - ended) / MS for ended, admitted in zip(sorted(ends), later, strict=False)]


def hops(moments: Sequence[Mapping[str, int]]) -> list[list[float]]:
    """Milliseconds between each two of the moments, of every job that has them all."""
    names = set(moments[0]).intersection(*moments[1:])
    return [[(after[name] - before[name]) / MS for name in names] for before, after in pairwise(moments)]
