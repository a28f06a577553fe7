"""The search of the models' states: it is exhaustive, finds the shortest path, and never passes early."""

from collections.abc import Iterator

import pytest
from tests.model.explore import Step, TooManyStatesError, Trace, explore, find_stranded


class Counter:
    """A number that increases by one or two, or changes from five to a dead end."""

    initial = 0

    def __init__(self, forbidden: int = -1) -> None:
        self.forbidden = forbidden

    def steps(self, state: int) -> Iterator[Step[int]]:
        if 0 <= state < 10:
            yield "one", state + 1
            yield "two", state + 2
        if state == 5:
            yield "dead end", -5

    def broken_promise(self, state: int) -> str:
        return "forbidden" if state == self.forbidden else ""


def test_every_state_is_visited() -> None:
    """A promise that is broken in an unvisited state would seem to be kept."""
    assert {*explore(Counter(), max_states=100).origins} == {-5, *range(12)}


def test_the_counterexample_is_the_shortest() -> None:
    """A reader has to follow it."""
    found = explore(Counter(forbidden=5), max_states=100)
    assert found.counterexample == Trace("forbidden", ("one", "two", "two"))
    assert str(found.counterexample).splitlines() == [
        "forbidden, in 3 steps:",
        "   1 one",
        "   2 two",
        "   3 two",
    ]


def test_an_incomplete_search_never_passes() -> None:
    """It proves nothing about the states that it did not visit."""
    with pytest.raises(TooManyStatesError):
        explore(Counter(), max_states=12)


def test_a_stranded_state_is_found() -> None:
    """From it, no step leads to a good state. If that state is good itself, none is stranded."""
    model = Counter()
    found = explore(model, max_states=100)
    stranded = find_stranded(found, model.steps, lambda state: state > 9)
    assert stranded == Trace("no good state can be reached", ("one", "two", "two", "dead end"))
    assert find_stranded(found, model.steps, lambda state: state > 9 or state < 0) is None
