import heapq
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.facts import START, at

from kubectl_phjob.forecast import Entry, Holder, RunTimes, Situation, forecast
from scheduler.queue import Waiting


def seconds(*times: float) -> RunTimes:
    return RunTimes(timedelta(seconds=time) for time in times)


def an_entry(number: int, gpus: int = 1, user: str = "bob", **more: Any) -> Entry:
    return Entry(Waiting(f"job-{number}", user, {"gpu": gpus}, (at(number), number, f"job-{number}")), **more)


def a_situation(
    *entries: Entry, holders: tuple[Holder, ...] = (), gpus: int = 1, times: RunTimes | None = None
) -> Situation:
    return Situation(START, {}, {"gpu": gpus}, holders, entries, times or RunTimes())


def test_jobs_of_one_length_follow_each_other() -> None:
    """Nothing is left to chance, so p50 and p90 are the same."""
    times = seconds(10)
    situation = a_situation(*(an_entry(n) for n in range(3)), times=times)
    found = forecast(situation, ["job-0", "job-1", "job-2"])
    assert [(found[f"job-{n}"].p50, found[f"job-{n}"].p90) for n in range(3)] == [
        (at(10 * n), at(10 * n)) for n in range(3)
    ]


def test_what_runs_already_is_as_far_as_it_is() -> None:
    """Of a job that runs for 8 s where jobs take 10, 2 are left."""
    holder = Holder("running", "lin", {"gpu": 1}, at(-8))
    found = forecast(a_situation(an_entry(1), holders=(holder,), times=seconds(10)), ["job-1"])
    assert found["job-1"].p50 == at(2)


def test_a_deadline_ends_what_would_run_longer() -> None:
    """Of what runs, and of what comes."""
    holder = Holder("running", "lin", {"gpu": 1}, START, latest=at(5))
    entries = (an_entry(1, longest=timedelta(seconds=3)), an_entry(2))
    found = forecast(a_situation(*entries, holders=(holder,), times=seconds(100)), ["job-1", "job-2"])
    assert (found["job-1"].p50, found["job-2"].p50) == (at(5), at(8))


def test_times_that_differ_spread_the_estimate() -> None:
    """Half of the jobs take 10 s, half 100."""
    times = seconds(*([10] * 5), *([100] * 5))
    found = forecast(a_situation(*(an_entry(n) for n in range(5)), times=times), ["job-4"])["job-4"]
    assert found.p50
    assert found.p90
    assert at(100) < found.p50 < found.p90 <= at(400)


def test_the_same_question_has_the_same_answer() -> None:
    """Nobody who asks twice shall wonder."""
    situation = a_situation(*(an_entry(n) for n in range(9)), times=seconds(3, 5, 8, 13, 21))
    assert forecast(situation, ["job-8"]) == forecast(situation, ["job-8"])


def test_a_user_who_is_parked_is_overtaken_as_in_the_real_queue() -> None:
    """It is the scheduler's own rule: Example 2 of the specification."""
    holder = Holder("a", "bob", {"gpu": 2}, START)
    entries = (an_entry(1, gpus=4, user="bob"), an_entry(2, gpus=2, user="lin"))
    situation = Situation(START, {"gpu": 4}, {"gpu": 4}, (holder,), entries, seconds(10))
    found = forecast(situation, ["job-1", "job-2"])
    assert found["job-2"].p50 == START
    assert found["job-1"].p50 == at(10)


def test_a_job_in_backoff_comes_in_when_that_is_over() -> None:
    """And blocks nobody before."""
    entries = (an_entry(1, gpus=1), an_entry(2))
    resting = Entry(entries[0].waiting, not_before=at(30))
    found = forecast(a_situation(resting, entries[1], times=seconds(10)), ["job-1", "job-2"])
    assert (found["job-1"].p50, found["job-2"].p50) == (at(30), START)


def test_what_notebooks_hold_nobody_can_foresee() -> None:
    """It is said so, instead of a number."""
    notebook = Holder("jupyter", "lin", {"gpu": 1}, START, ends=False)
    found = forecast(a_situation(an_entry(1), holders=(notebook,), times=seconds(10)), ["job-1"])["job-1"]
    assert (found.p50, found.p90) == (None, None)
    assert found.unknown == "notebooks hold what it needs, and nobody knows when they end"


def test_without_any_time_known_deadlines_give_a_latest() -> None:
    """Or nothing, where there is none."""
    holder = Holder("running", "lin", {"gpu": 1}, START, latest=at(60))
    found = forecast(a_situation(an_entry(1), holders=(holder,)), ["job-1"])["job-1"]
    assert (found.p50, found.p90) == (None, at(60))
    assert "nobody knows how long they run" in found.unknown
    for_ever = Holder("running", "lin", {"gpu": 1}, START)
    assert forecast(a_situation(an_entry(1), holders=(for_ever,)), ["job-1"])["job-1"].p90 is None


def test_a_job_for_which_there_is_room_starts_now() -> None:
    """Whatever is known of others."""
    found = forecast(a_situation(an_entry(1)), ["job-1"])["job-1"]
    assert (found.p50, found.p90, found.unknown) == (START, START, "")


@pytest.mark.parametrize(("elapsed", "left"), [(0, 10), (15, 15), (40, 40)])
def test_what_is_left_is_told_by_those_that_took_longer(elapsed: int, left: int) -> None:
    """One that outlives them all is taken to be half through."""
    assert seconds(10, 20, 30).left(timedelta(seconds=elapsed), 0.5 if elapsed == 15 else 0) == timedelta(
        seconds=left
    )


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    times=st.lists(st.integers(1, 100), min_size=1, max_size=10),
    gpus=st.integers(4, 8),
)
def test_under_a_group_quota_alone_nobody_starts_before_who_came_before(
    sizes: list[int], times: list[int], gpus: int
) -> None:
    """First in, first out, in every future that is played."""
    entries = [an_entry(n, size) for n, size in enumerate(sizes)]
    wanted = [entry.waiting.uid for entry in entries]
    found = forecast(a_situation(*entries, gpus=gpus, times=seconds(*times)), wanted)
    for quantile in ("p50", "p90"):
        starts = [getattr(found[uid], quantile) for uid in wanted]
        assert None not in starts
        assert starts == sorted(starts)


WORLDS = 100


def what_happens(times: list[float], at_once: int) -> list[float]:
    """When each job starts, in seconds, if they take these times and so many run at once, in order."""
    free = [0.0] * at_once
    starts = []
    for time in times:
        starts.append(heapq.heappop(free))
        heapq.heappush(free, starts[-1] + time)
    return starts


def test_half_start_by_p50_and_nine_of_ten_by_p90() -> None:
    """In a world in which jobs take what jobs took before, also where only twenty have ended."""
    choice = random.Random(1)  # noqa: S311 - the same worlds each time
    by_p50, by_p90 = [], []
    for _ in range(WORLDS):
        lately, times = ([choice.randint(1, 8) for _ in range(count)] for count in (20, 10))
        situation = a_situation(*(an_entry(n) for n in range(10)), gpus=2, times=seconds(*lately))
        last = forecast(situation, ["job-9"])["job-9"]
        start = at(what_happens([*times], at_once=2)[-1])
        assert last.p50
        assert last.p90
        by_p50.append(start <= last.p50)
        by_p90.append(start <= last.p90)
    assert 0.4 < sum(by_p50) / WORLDS < 0.65
    assert 0.85 < sum(by_p90) / WORLDS < 0.95
