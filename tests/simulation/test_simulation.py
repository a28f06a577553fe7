"""The simulation itself: it repeats, it finds nothing in the code as it is, and it finds what is planted."""

import subprocess
import sys

import pytest
from tests.simulation.__main__ import caught
from tests.simulation.bugs import BUGS
from tests.simulation.run import simulate
from tests.support.measures import Measured

SEEDS = 2000
MOST_SEEDS = 2000
"""In which each planted bug must be caught."""
SELDOM = {
    "any session's orders are obeyed",
    "redelivered orders are not settled",
    "acknowledged before the effect",
    "a pod that was not seen is taken for none",
    "an expired watch lists again and goes on",
    "any pod's end counts for the latest admission",
}
"""Bugs that take many seeds: `python -m tests.simulation 1 2000 --bugs` looks for them."""


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
@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug not in SELDOM])
def test_a_planted_bug_is_caught(bug: str, measured: Measured) -> None:
    """By a broken promise, with a trace for a person."""
    found = caught(bug, range(1, MOST_SEEDS + 1))
    assert found
    assert found.trace
    measured(f"caught by seed {found.seed}: {found.violations[0]:.100}")


def test_a_run_without_the_bug_is_clean_where_the_bug_was_caught() -> None:
    """What is caught is the bug, and not the seed."""
    bug = "sessions are not renamed on reconnect"
    found = caught(bug, range(1, MOST_SEEDS + 1))
    assert found
    assert not simulate(found.seed).violations
