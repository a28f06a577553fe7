"""The figures that the benchmarks compute from their records."""

from datetime import UTC, datetime

import pytest
from tests.benchmarks.cpu_usage import CpuUsage
from tests.benchmarks.figures import (
    NANOSECONDS_PER_MS,
    Figure,
    decisions,
    first_observed,
    hops,
    inversions,
    percentile,
    ratio_to_raw,
    raw_limit,
)
from tests.support.history import WatchEvent

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def an_event(name: str, phase: str, revision: int, second: int = 0) -> WatchEvent:
    """Return an event of a job, which was observed `revision` microseconds after BEGAN."""
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": f"2026-01-01T00:00:0{second}Z"}
    item = {"metadata": metadata, "spec": {"groupName": "group"}, "status": {"phase": phase}}
    return WatchEvent(
        revision, "PhJob", gone=False, object=item, observed_at=BEGAN.replace(microsecond=revision)
    )


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    """It is the nearest rank, without interpolation between two values."""
    assert percentile([4, 1, 3, 2], percent) == value


def test_the_raw_limit_is_the_rate_of_all_writes_of_a_job_in_sequence() -> None:
    """The limit is 1/(1/create + 1/patch + 1/pod create)."""
    assert raw_limit(300, 300, 300) == pytest.approx(100)
    assert raw_limit(1000, 500, 250) == pytest.approx(1000 / 7)


def test_rates_and_times_are_multiples_of_those_of_the_api_server() -> None:
    """A figure with another unit has no such multiple."""
    raw = {"raw.limit": 200.0, "raw.create-and-patch": 4.0}
    assert ratio_to_raw(Figure("burst.rate", 100, "jobs/s"), raw) == 0.5
    assert ratio_to_raw(Figure("latency.p50", 12, "ms"), raw) == 3
    assert ratio_to_raw(Figure("history.memory", 100, "MiB"), raw) is None


def test_a_phase_is_observed_first_once() -> None:
    """Later events of the same phase do not count."""
    events = [an_event("a", "Pending", 1), an_event("a", "Preparing", 2), an_event("a", "Preparing", 3)]
    began = round(BEGAN.timestamp() * 1e9)
    assert first_observed(events, "PhJob", "Preparing") == {"a": began + 2000}
    assert first_observed(events, "PhJob") == {"a": began + 1000}
    assert first_observed(events, "Pod") == {}


def test_a_job_that_overtakes_another_is_an_inversion() -> None:
    """The order is that of creation in the group, and names do not matter."""
    pending = [an_event("b", "Pending", 1), an_event("a", "Pending", 2)]
    assert inversions([*pending, an_event("b", "Preparing", 3), an_event("a", "Preparing", 4)]) == 0
    assert inversions([*pending, an_event("a", "Preparing", 3), an_event("b", "Preparing", 4)]) == 1


def test_a_job_that_is_stored_after_a_later_one_is_not_overtaken() -> None:
    """The later job may have been admitted before the earlier one was stored, unless all jobs had to wait."""
    events = [
        an_event("b", "Pending", 1, second=1),
        an_event("a", "Pending", 2),
        an_event("b", "Preparing", 3, second=1),
        an_event("a", "Preparing", 4),
    ]
    assert inversions(events) == 0
    assert inversions(events, all_waited=True) == 1


def test_a_decision_takes_from_the_end_of_a_pod_to_the_admission_of_the_next_job() -> None:
    """The first jobs find room, so no decision belongs to them."""
    ends, admissions = (
        [10 * NANOSECONDS_PER_MS, 20 * NANOSECONDS_PER_MS],
        [0, 1 * NANOSECONDS_PER_MS, 13 * NANOSECONDS_PER_MS, 24 * NANOSECONDS_PER_MS],
    )
    assert decisions(ends, admissions, room=2) == [3, 4]


def test_hops_are_those_of_the_jobs_that_were_observed_at_all_points() -> None:
    """A job that was not observed at one point counts for no hop."""
    moments = [
        {"a": 0, "b": 0},
        {"a": 2 * NANOSECONDS_PER_MS, "b": NANOSECONDS_PER_MS},
        {"a": 5 * NANOSECONDS_PER_MS},
    ]
    assert hops(moments) == [[2], [3]]


def test_cpu_time_that_no_component_used_was_used_elsewhere() -> None:
    """It is a share of all cores. The kernel's counters differ a little, but the share is never negative."""
    usage = CpuUsage(
        seconds=10, by_component={"scheduler": 4, "scheduler-2": 1, "etcd": 5}, machine=15, cores=2
    )
    assert usage.elsewhere == pytest.approx(0.25)
    assert usage.of("scheduler") == 5
    usage.machine = 9
    assert usage.elsewhere == 0
