"""`make simulate SEEDS=n FIRST=seed`: that many runs, on all processors; each that breaks a promise is told.

`python -m tests.simulation FIRST 1 --trace` shows all that happened in one run.
`python -m tests.simulation FIRST SEEDS --bugs` plants each bug, and tells the first seed that catches it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.bugs import BUGS
from tests.simulation.run import Outcome, simulate

SHOWN = 3
"""Violations of one run that are shown."""


def outcomes(seeds: range, bug: str = "") -> Iterator[Outcome]:
    """Each seed's, in order."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(partial(simulate, bug=bug), seeds, chunksize=20)


def caught(bug: str, seeds: range) -> Outcome | None:
    """The first run that catches the bug."""
    return next((outcome for seed in seeds if (outcome := simulate(seed, bug=bug)).violations), None)


def all_caught(bugs: Sequence[str], seeds: range) -> dict[str, Outcome | None]:
    """The same of each of these planted bugs, on all processors."""
    with ProcessPoolExecutor() as pool:
        return dict(zip(bugs, pool.map(caught, bugs, [seeds] * len(bugs)), strict=True))


def main() -> int:
    """Run what the arguments say; 1 if a promise was broken, or a bug not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("seeds", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--bugs", action="store_true")
    parser.add_argument("--bug", default="", choices=["", *BUGS])
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.bugs:
        return _bugs(seeds)
    began, bad, jobs = time.time(), 0, 0
    told = partial(simulate, bug=arguments.bug, told=True)
    runs = map(told, seeds) if arguments.trace else outcomes(seeds, arguments.bug)
    for outcome in runs:
        jobs += outcome.jobs
        if outcome.violations:
            bad += 1
            said = "; ".join(violation[:200] for violation in outcome.violations[:SHOWN])
            print(f"seed {outcome.seed}: {said}")
        if arguments.trace:
            print("\n".join(outcome.trace))
    print(f"{len(seeds)} runs, {jobs} jobs, {bad} with a broken promise, {time.time() - began:.0f} s")
    return 1 if bad else 0


def _bugs(seeds: range) -> int:
    found = all_caught(list(BUGS), seeds)
    for bug, outcome in found.items():
        where = (
            f"{outcome.seed - seeds.start + 1:5} seeds: {outcome.violations[0][:120]}"
            if outcome
            else "NOT CAUGHT"
        )
        print(f"{bug:55} {where}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
