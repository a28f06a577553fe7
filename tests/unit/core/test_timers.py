import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.facts import at
from tests.fakes.held import collections

from phjob_core.timers import MAX_OUTDATED_ENTRIES, Timers


def test_the_earliest_is_due_first() -> None:
    """The order in which they were set does not matter."""
    timers = Timers()
    for second in (3, 1, 2):
        timers.set(str(second), at(second))
    assert timers.due() == at(1)
    assert list(timers.take(at(2))) == ["1", "2"]
    assert len(timers) == 1


def test_a_timer_that_is_set_again_is_due_at_its_new_time_only() -> None:
    """An edited deadline takes effect at once."""
    timers = Timers()
    timers.set("job", at(1))
    timers.set("job", at(5))
    assert list(timers.take(at(4))) == []
    timers.set("job", at(2))
    assert timers.due() == at(2)
    assert list(timers.take(at(9))) == ["job"]


def test_a_removed_timer_is_never_due() -> None:
    """Its job may be gone."""
    timers = Timers()
    timers.set("job", at(1))
    timers.set("job", None)
    assert timers.due() is None


@pytest.mark.parametrize("keys", [1, 100])
def test_timers_that_are_set_again_and_again_take_no_more_memory(keys: int) -> None:
    """A user may edit a deadline ten thousand times a minute, and it may be days ahead."""
    timers = Timers()

    def set_often() -> None:
        for second in range(20 * MAX_OUTDATED_ENTRIES):
            timers.set(str(second % keys), at(10**6 + second))

    set_often()
    tracemalloc.start()
    try:
        set_often()
        set_often()
        assert tracemalloc.get_traced_memory()[0] < 300 * (2 * keys + MAX_OUTDATED_ENTRIES)
    finally:
        tracemalloc.stop()
    for key in range(keys):
        timers.set(str(key), None)
    assert timers.due() is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 9)))))
def test_the_timers_are_those_of_a_plain_table(changes: list[tuple[str, int | None]]) -> None:
    """The heap only makes it faster."""
    timers, table = Timers(), dict[str, int]()
    for key, second in changes:
        timers.set(key, None if second is None else at(second))
        table.pop(key, None)
        if second is not None:
            table[key] = second
    assert sorted(timers.take(at(5))) == sorted(key for key, second in table.items() if second <= 5)
    assert len(timers) == sum(second > 5 for second in table.values())


def test_a_removed_timer_takes_no_memory() -> None:
    """It may be set for a day that is far away, and users may submit and delete jobs all the time."""
    timers = Timers()
    timers.set("kept", at(5))
    for number in range(1000):
        timers.set(f"job-{number}", at(10**6 + number))
        timers.set("kept", at(number))
        timers.set(f"job-{number}", None)
    assert collections(timers)["._heap"] <= MAX_OUTDATED_ENTRIES + 2
    assert list(timers.take(at(10**9))) == ["kept"]
