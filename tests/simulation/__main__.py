"""`make simulate SEEDS=n FIRST=seed`: run n seeds on all processors, and print each broken promise.

`python -m tests.simulation FIRST 1 --trace` prints everything that happened in one run.
`python -m tests.simulation FIRST SEEDS --bugs` plants each bug, and prints the first seed that catches it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.bugs import BUGS, WORLD_OF_BUG
from tests.simulation.run import WORLDS, RunResult, simulate

MAX_SHOWN_VIOLATIONS = 3
"""The number of violations that are printed of one run."""


def results(seeds: range, bug: str = "", world: str = "") -> Iterator[RunResult]:
    """Run the seeds on all processors. Yields their results in the order of the seeds."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(partial(simulate, bug=bug, world=world), seeds, chunksize=20)


def first_catch(bug: str, seeds: range) -> RunResult | None:
    """Return the first run that catches the bug, in the world of the bug."""
    runs = (simulate(seed, bug=bug, world=WORLD_OF_BUG.get(bug, "")) for seed in seeds)
    return next((result for result in runs if result.violations), None)


def first_catches(bugs: Sequence[str], seeds: range) -> dict[str, RunResult | None]:
    """Return the first run that catches each bug. The bugs run on all processors."""
    with ProcessPoolExecutor() as pool:
        return dict(zip(bugs, pool.map(first_catch, bugs, [seeds] * len(bugs)), strict=True))


def main() -> int:
    """Run the command. Returns 1 if a promise was broken, or a bug was not caught."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description="Run the real services on a simulated cluster that breaks in many ways.",
    )
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("seeds", type=int, help="the number of seeds")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--bugs", action="store_true", help="print the first seed that catches each bug")
    parser.add_argument("--bug", default="", choices=["", *BUGS], metavar="BUG", help="plant this bug")
    parser.add_argument("--world", default="", choices=[*WORLDS], help="the faults that may occur")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.bugs:
        return _print_catches(seeds)
    began, bad, jobs = time.time(), 0, 0
    world = arguments.world
    traced = partial(simulate, bug=arguments.bug, with_logs=True, world=world)
    runs = map(traced, seeds) if arguments.trace else results(seeds, arguments.bug, world)
    for result in runs:
        jobs += result.jobs
        if result.violations:
            bad += 1
            shown = "; ".join(violation[:200] for violation in result.violations[:MAX_SHOWN_VIOLATIONS])
            print(f"seed {result.seed}: {shown}")
        if arguments.trace:
            print("\n".join(result.trace))
    print(f"{len(seeds)} runs, {jobs} jobs, {bad} with a broken promise, {time.time() - began:.0f} s")
    return 1 if bad else 0


def _print_catches(seeds: range) -> int:
    """Print which seed catches each bug. Returns 1 if a bug was not caught."""
    catches = first_catches(list(BUGS), seeds)
    for bug, result in catches.items():
        outcome = (
            f"{result.seed - seeds.start + 1:5} seeds: {result.violations[0][:120]}"
            if result
            else "NOT CAUGHT"
        )
        print(f"{bug:65} {outcome}")
    return 0 if all(catches.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
