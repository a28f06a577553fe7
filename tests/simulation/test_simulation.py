"""The simulation itself: it repeats, it finds nothing in the code as it is, and it finds what is planted."""

import subprocess
import sys

import pytest
from tests.simulation.__main__ import all_caught
from tests.simulation.run import Outcome, simulate
from tests.support.measures import Measured

SEEDS = 2000
MOST_SEEDS = 2000
"""In which each planted bug must be caught."""

SOON = [
    "stale facts are believed",
    "an admission holds nothing until it is seen",
    "the pod is created before the admission is written",
    "sessions are not renamed on reconnect",
    "a group's orders are written side by side",
    "an unknown outcome is taken for a failure",
    "a pod that has started meanwhile is deleted",
    "a snapshot lacks what was told while it was listed",
    "a job that is gone is taken to have no pod",
    "no fence in the compare-and-swap",
    "gaps in the stream are ignored",
    "the fence does not wait for older writes",
    "any session's orders are obeyed",
    "redelivered orders are not settled",
]
"""Those that are caught soonest; `--bugs` looks for the others, too, which takes longer than a test may."""


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome | None]:
    """The first run that catches each planted bug: `python -m tests.simulation 1 2000 --bugs` shows them."""
    return all_caught(SOON, range(1, MOST_SEEDS + 1))


def test_a_seed_is_always_the_same_run() -> None:
    """Down to the millisecond and the last write; also in a process that orders its sets otherwise."""
    program = "from tests.simulation.run import simulate; print(*[simulate(n).history for n in range(20)])"
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1
    assert len(set(runs.pop().split())) == 20


@pytest.mark.timeout(1800)
def test_no_promise_is_broken(measured: Measured) -> None:
    """`make simulate` on more seeds is the same."""
    command = [sys.executable, "-m", "tests.simulation", "1", str(SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", SOON)
def test_a_planted_bug_is_caught(bug: str, found: dict[str, Outcome | None], measured: Measured) -> None:
    """By a broken promise, with a trace for a person; and it is the bug that is caught, not the seed."""
    outcome = found[bug]
    assert outcome
    assert outcome.trace
    assert not simulate(outcome.seed).violations
    measured(f"caught by seed {outcome.seed}: {outcome.violations[0]:.100}")
