import heapq
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.facts import START, at

from phjob_cli.forecast import Holder, PendingJob, QueueState, RunTimes, forecast
from phjob_core.scheduling.queue import QueuedJob


def seconds(*times: float) -> RunTimes:
    return RunTimes(timedelta(seconds=time) for time in times)


def a_pending_job(number: int, gpus: int = 1, user: str = "bob", **fields: Any) -> PendingJob:
    name = f"job-{number}"
    return PendingJob(QueuedJob(name, user, {"gpu": gpus}, (1, at(number), number, name)), **fields)


def a_queue(
    *pending: PendingJob, holders: tuple[Holder, ...] = (), gpus: int = 1, times: RunTimes | None = None
) -> QueueState:
    return QueueState(START, {}, {"gpu": gpus}, holders, pending, times or RunTimes())


def test_jobs_with_equal_run_times_start_one_after_another() -> None:
    """There is no variance, so p50 and p90 are equal."""
    times = seconds(10)
    queue = a_queue(*(a_pending_job(n) for n in range(3)), times=times)
    found = forecast(queue, ["job-0", "job-1", "job-2"])
    assert [(found[f"job-{n}"].p50, found[f"job-{n}"].p90) for n in range(3)] == [
        (at(10 * n), at(10 * n)) for n in range(3)
    ]


def test_the_elapsed_time_of_a_running_job_counts() -> None:
    """Jobs take 10 s; one that has run for 8 s ends in 2 s."""
    holder = Holder("running", "lin", {"gpu": 1}, at(-8))
    found = forecast(a_queue(a_pending_job(1), holders=(holder,), times=seconds(10)), ["job-1"])
    assert found["job-1"].p50 == at(2)


def test_a_deadline_limits_a_run_time() -> None:
    """This applies to running and to pending jobs."""
    holder = Holder("running", "lin", {"gpu": 1}, START, latest_end=at(5))
    pending = (a_pending_job(1, deadline=timedelta(seconds=3)), a_pending_job(2))
    found = forecast(a_queue(*pending, holders=(holder,), times=seconds(100)), ["job-1", "job-2"])
    assert (found["job-1"].p50, found["job-2"].p50) == (at(5), at(8))


def test_different_run_times_spread_the_quantiles() -> None:
    """Half of the jobs take 10 s, half 100 s."""
    times = seconds(*([10] * 5), *([100] * 5))
    found = forecast(a_queue(*(a_pending_job(n) for n in range(5)), times=times), ["job-4"])["job-4"]
    assert found.p50
    assert found.p90
    assert at(100) < found.p50 < found.p90 <= at(400)


def test_an_estimate_is_reproducible() -> None:
    """Two commands for the same queue show the same times."""
    queue = a_queue(*(a_pending_job(n) for n in range(9)), times=seconds(3, 5, 8, 13, 21))
    assert forecast(queue, ["job-8"]) == forecast(queue, ["job-8"])


def test_a_job_short_of_user_quota_is_overtaken_by_other_users() -> None:
    """The scheduler's own queue decides (spec.md, Q2)."""
    holder = Holder("a", "bob", {"gpu": 2}, START)
    pending = (a_pending_job(1, gpus=4, user="bob"), a_pending_job(2, gpus=2, user="lin"))
    queue = QueueState(START, {"gpu": 4}, {"gpu": 4}, (holder,), pending, seconds(10))
    found = forecast(queue, ["job-1", "job-2"])
    assert found["job-2"].p50 == START
    assert found["job-1"].p50 == at(10)


def test_a_job_in_backoff_starts_after_its_backoff() -> None:
    """Until then it blocks no other job."""
    pending = (a_pending_job(1, gpus=1), a_pending_job(2))
    in_backoff = PendingJob(pending[0].job, backoff_until=at(30))
    found = forecast(a_queue(in_backoff, pending[1], times=seconds(10)), ["job-1", "job-2"])
    assert (found["job-1"].p50, found["job-2"].p50) == (at(30), START)


def test_a_job_that_waits_for_a_notebook_has_no_estimate() -> None:
    """The estimate names the reason instead of a time."""
    notebook = Holder("jupyter", "lin", {"gpu": 1}, START, is_job=False)
    found = forecast(a_queue(a_pending_job(1), holders=(notebook,), times=seconds(10)), ["job-1"])["job-1"]
    assert (found.p50, found.p90) == (None, None)
    assert found.unknown == "notebooks hold what the job needs, and have no known end"


def test_without_run_times_deadlines_give_the_latest_start() -> None:
    """Without deadlines there is no time at all."""
    holder = Holder("running", "lin", {"gpu": 1}, START, latest_end=at(60))
    found = forecast(a_queue(a_pending_job(1), holders=(holder,)), ["job-1"])["job-1"]
    assert (found.p50, found.p90) == (None, at(60))
    assert "no job of this group has finished recently" in found.unknown
    endless = Holder("running", "lin", {"gpu": 1}, START)
    assert forecast(a_queue(a_pending_job(1), holders=(endless,)), ["job-1"])["job-1"].p90 is None


def test_a_job_with_room_starts_now() -> None:
    """No run times are needed for that."""
    found = forecast(a_queue(a_pending_job(1)), ["job-1"])["job-1"]
    assert (found.p50, found.p90, found.unknown) == (START, START, "")


@pytest.mark.parametrize(
    ("elapsed", "share", "remaining"), [(0, 0, 10), (15, 0.5, 15), (40, 0, 40)]
)  # fmt: skip
def test_the_remaining_time_comes_from_jobs_that_took_longer(
    elapsed: int, share: float, remaining: int
) -> None:
    """A job that has run longer than all of them is assumed to be half done."""
    found = seconds(10, 20, 30).remaining(timedelta(seconds=elapsed), share)
    assert found == timedelta(seconds=remaining)


@pytest.mark.usefixtures("without_coverage")
@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    times=st.lists(st.integers(1, 100), min_size=1, max_size=10),
    gpus=st.integers(4, 8),
)
def test_under_a_group_quota_alone_jobs_start_in_order(sizes: list[int], times: list[int], gpus: int) -> None:
    """The queue is first in, first out in every simulation."""
    pending = [a_pending_job(n, size) for n, size in enumerate(sizes)]
    wanted = [entry.job.uid for entry in pending]
    found = forecast(a_queue(*pending, gpus=gpus, times=seconds(*times)), wanted)
    for quantile in ("p50", "p90"):
        starts = [getattr(found[uid], quantile) for uid in wanted]
        assert None not in starts
        assert starts == sorted(starts)


TRIALS = 100


def actual_starts(times: list[float], parallel: int) -> list[float]:
    """Return when each job starts, in seconds, if they run in order and `parallel` of them at once."""
    free = [0.0] * parallel
    starts = []
    for time in times:
        starts.append(heapq.heappop(free))
        heapq.heappush(free, starts[-1] + time)
    return starts


@pytest.mark.usefixtures("without_coverage")
def test_half_of_the_jobs_start_by_p50_and_90_percent_by_p90() -> None:
    """This holds if jobs take as long as recent jobs did, also if only 20 jobs have finished."""
    choice = random.Random(1)  # noqa: S311 - the same times in each run
    by_p50, by_p90 = [], []
    for _ in range(TRIALS):
        recent, times = ([choice.randint(1, 8) for _ in range(count)] for count in (20, 10))
        queue = a_queue(*(a_pending_job(n) for n in range(10)), gpus=2, times=seconds(*recent))
        last = forecast(queue, ["job-9"])["job-9"]
        start = at(actual_starts([*times], parallel=2)[-1])
        assert last.p50
        assert last.p90
        by_p50.append(start <= last.p50)
        by_p90.append(start <= last.p90)
    assert 0.4 < sum(by_p50) / TRIALS < 0.65
    assert 0.85 < sum(by_p90) / TRIALS < 0.95
