"""Exhaustive search of a model's states, for tests that prove a protocol.

It is for contributors who write or read a model in this folder. A model is a pure description: an initial
state, the steps that may follow a state, and the promise that a state breaks. The search visits every
reachable state, breadth first. The first broken promise that it finds therefore has the shortest
counterexample.

If a test passes, no reachable state breaks a promise. The model's docstring lists what it leaves out.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)

Step = tuple[str, State]
"""A label for the counterexample, and the state after the step."""


class Model(Protocol[State]):
    """A protocol and its environment."""

    @property
    def initial(self) -> State:
        """Return the state in which every run starts."""

    def steps(self, state: State) -> Iterable[Step[State]]:
        """Return every step that may happen next. A step may lead back to the same state."""

    def broken_promise(self, state: State) -> str:
        """Return the promise that the state breaks; empty if it breaks none."""


class TooManyStatesError(Exception):
    """The model has more states than its test allows, so that the search proves nothing."""


class Trace(NamedTuple):
    """The shortest path from the initial state to a state that should not be reachable."""

    problem: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        """Return the trace in a readable form, with one numbered step in each line."""
        lines = (f"  {number:2} {label}" for number, label in enumerate(self.steps, 1))
        return "\n".join([f"{self.problem}, in {len(self.steps)} steps:", *lines])


class Exploration(Generic[State]):
    """The states that a search has reached, each with the step that led to it."""

    def __init__(self, initial: State) -> None:
        self.origins: dict[State, tuple[State, str] | None] = {initial: None}
        self.counterexample: Trace | None = None

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self.origins)

    def trace(self, state: State, problem: str) -> Trace:
        """Return the shortest path to a state."""
        labels = []
        while origin := self.origins[state]:
            state, label = origin
            labels.append(label)
        return Trace(problem, tuple(reversed(labels)))


def explore(model: Model[State], max_states: int) -> Exploration[State]:
    """Visit every reachable state, or stop at the first one that breaks a promise.

    Raises:
        TooManyStatesError: there are more than `max_states`. An incomplete search proves nothing, so it must
            never pass.

    """
    found = Exploration(model.initial)
    waiting = deque([model.initial])
    while waiting:
        state = waiting.popleft()
        if problem := model.broken_promise(state):
            found.counterexample = found.trace(state, problem)
            return found
        for label, after in model.steps(state):
            if after not in found.origins:
                found.origins[after] = (state, label)
                waiting.append(after)
        if len(found) > max_states:
            raise TooManyStatesError(f"more than {max_states} states")
    return found


def find_stranded(
    found: Exploration[State],
    steps: Callable[[State], Iterable[Step[State]]],
    is_good: Callable[[State], bool],
) -> Trace | None:
    """Find the closest state from which the given steps reach no good state.

    `steps` returns only the steps that are certain to happen while the services run, so that no state depends
    on chance. Every state that it returns must be in the exploration. Returns the shortest path to the
    stranded state; None if there is none.
    """
    before: dict[State, list[State]] = defaultdict(list)
    for state in found.origins:
        for _, after in steps(state):
            before[after].append(state)
    reaching = {state for state in found.origins if is_good(state)}
    waiting = deque(reaching)
    while waiting:
        for state in before[waiting.popleft()]:
            if state not in reaching:
                reaching.add(state)
                waiting.append(state)
    # The exploration is in breadth-first order. The first state is therefore the closest to the initial one.
    stranded = next((state for state in found.origins if state not in reaching), None)
    return None if stranded is None else found.trace(stranded, "no good state can be reached")
