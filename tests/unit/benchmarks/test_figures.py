"""What the benchmarks make of their records."""

from datetime import UTC, datetime

import pytest
from tests.benchmarks.figures import (
    MS,
    Figure,
    against_raw,
    decisions,
    first_seen,
    hops,
    inversions,
    percentile,
    raw_limit,
)
from tests.benchmarks.usage import Usage
from tests.support.history import Event

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def an_event(name: str, phase: str, revision: int, second: int = 0) -> Event:
    """A job of one group, stored at its first revision."""
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": f"2026-01-01T00:00:0{second}Z"}
    item = {"metadata": metadata, "spec": {"groupName": "group"}, "status": {"phase": phase}}
    return Event(revision, "PhJob", gone=False, object=item, seen=BEGAN.replace(microsecond=revision))


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    """Nearest rank: nothing is made up between two values."""
    assert percentile([4, 1, 3, 2], percent) == value


def test_the_raw_limit_is_that_of_three_writes_one_after_the_other() -> None:
    """1/(1/create + 1/patch + 1/pod create)."""
    assert raw_limit(300, 300, 300) == pytest.approx(100)
    assert raw_limit(1000, 500, 250) == pytest.approx(1000 / 7)


def test_rates_and_times_are_told_as_multiples_of_the_api_servers() -> None:
    """Anything else has no such multiple."""
    raw = {"raw.limit": 200.0, "raw.create-and-patch": 4.0}
    assert against_raw(Figure("burst.rate", 100, "jobs/s"), raw) == 0.5
    assert against_raw(Figure("latency.p50", 12, "ms"), raw) == 3
    assert against_raw(Figure("history.memory", 100, "MiB"), raw) is None


def test_a_phase_was_first_seen_once() -> None:
    """Later events of the same phase do not count."""
    events = [an_event("a", "Pending", 1), an_event("a", "Preparing", 2), an_event("a", "Preparing", 3)]
    began = round(BEGAN.timestamp() * 1e9)
    assert first_seen(events, "PhJob", "Preparing") == {"a": began + 2000}
    assert first_seen(events, "PhJob") == {"a": began + 1000}
    assert first_seen(events, "Pod") == {}


def test_a_job_that_overtakes_is_an_inversion() -> None:
    """By the order of creation in its group, whatever the names."""
    pending = [an_event("b", "Pending", 1), an_event("a", "Pending", 2)]
    assert inversions([*pending, an_event("b", "Preparing", 3), an_event("a", "Preparing", 4)]) == 0
    assert inversions([*pending, an_event("a", "Preparing", 3), an_event("b", "Preparing", 4)]) == 1


def test_a_job_that_came_too_late_for_its_place_was_not_overtaken() -> None:
    """Created in an earlier second, stored behind: unless the other one waited until it was there."""
    events = [
        an_event("b", "Pending", 1, second=1),
        an_event("a", "Pending", 2),
        an_event("b", "Preparing", 3, second=1),
        an_event("a", "Preparing", 4),
    ]
    assert inversions(events) == 0
    assert inversions(events, all_waited=True) == 1


def test_each_end_of_a_pod_lets_the_next_job_go() -> None:
    """The first ones found room."""
    ends, admissions = [10 * MS, 20 * MS], [0, 1 * MS, 13 * MS, 24 * MS]
    assert decisions(ends, admissions, room=2) == [3, 4]


def test_hops_are_of_the_jobs_that_passed_all_of_them() -> None:
    """One that was not seen somewhere counts nowhere."""
    moments = [{"a": 0, "b": 0}, {"a": 2 * MS, "b": MS}, {"a": 5 * MS}]
    assert hops(moments) == [[2], [3]]


def test_what_is_not_ours_was_used_elsewhere() -> None:
    """As a share of all cores; the kernel's accounts are a little apart from each other, never below none."""
    usage = Usage(seconds=10, by_component={"scheduler": 4, "scheduler-2": 1, "etcd": 5}, machine=15, cores=2)
    assert usage.elsewhere == pytest.approx(0.25)
    assert usage.of("scheduler") == 5
    usage.machine = 9
    assert usage.elsewhere == 0
