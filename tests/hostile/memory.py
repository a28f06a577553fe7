"""The memory table of the results page, for `make hostile`. The benchmarks measure it.

The exit code is 1 if a service needs more than its bound.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.load import Load
from tests.benchmarks.run import run
from tests.hostile.results_page import MemoryRow, write
from tests.support.cluster import SERVICES

SCENARIOS = {
    "pending-jobs": "pending",
    "running-jobs": "running",
    "standing-pods": "finished, with pods",
}
"""The scenarios of the benchmarks, and the kind of jobs that each of them has."""
SCALE = "full"


def main(page: Path, folder: Path) -> int:
    """Measure, and write the rows to the page. Returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = run(SCALE, [*SCENARIOS], folder)
    figures = json.loads((folder / "results.json").read_text())["figures"]
    load = Load.of(SCALE)
    for scenario, kind in SCENARIOS.items():
        write(
            page, memory_row(figures, scenario, kind, getattr(load, scenario.replace("-", "_")).jobs).lines()
        )
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        sys.stderr.write(f"{verdict.figure} is {verdict.value:g}, {verdict.bound.describe()}\n")
    return 1 if failed else 0


def memory_row(figures: dict[str, float], scenario: str, kind: str, jobs: int) -> MemoryRow:
    """Return the row of a scenario."""
    return MemoryRow(
        kind,
        jobs,
        {name: figures[f"{scenario}.per-job.{name}"] for name in SERVICES},
        {name: figures[f"{scenario}.memory.{name}"] for name in SERVICES},
    )


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
