"""One run of the benchmarks: its scenarios, the stack of each, and the files of its results."""

import json
import os
import platform
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.bounds import Verdict, read_bounds, verdicts
from tests.benchmarks.core import measure_core
from tests.benchmarks.figures import Result
from tests.benchmarks.history import measure_history
from tests.benchmarks.load import Load
from tests.benchmarks.memory import (
    measure_hostile_sizes,
    measure_pending_jobs,
    measure_running_jobs,
    measure_standing_pods,
)
from tests.benchmarks.raw_api import measure_raw
from tests.benchmarks.report import as_json, as_markdown, as_page, values_by_name
from tests.benchmarks.scenarios import (
    measure_burst,
    measure_contended,
    measure_latency,
    measure_lives,
    measure_scale_out,
)

from dev.progress import print_line
from dev.stack import PARTS, Part, down
from dev.tools import LOAD, tools

SCENARIOS = (
    "burst", "latency", "lives", "contended", "history", "scale-out",
    "pending-jobs", "running-jobs", "standing-pods", "hostile-sizes", "core",
)  # fmt: skip
WITHOUT_RAW = {"core", "pending-jobs", "running-jobs", "standing-pods", "hostile-sizes"}
"""The scenarios whose figures are not compared with those of the bare API server."""
WITHOUT_NODES: tuple[Part, ...] = ("control-plane", "rabbitmq", "services")
RESULTS = Path("docs/performance/results")


def run(scale: str, only: Sequence[str], folder: Path) -> list[Verdict]:
    """Measure scenarios, and write `results.json` and `results.md` into the folder.

    The folder also has the state of the stacks. A full run of all scenarios also writes a page in
    docs/performance/results. Returns a verdict for each bound.
    """
    tools(LOAD)
    results = list[Result]()
    for result in measure(Load.of(scale), only, folder / "stack"):
        print_line(
            "  ".join(
                f"{f.name.removeprefix(result.scenario + '.')} {f.value:.4g}" for f in result.figures[:8]
            )
        )
        results.append(result)
    bound_verdicts = verdicts(values_by_name(results), read_bounds())
    now = datetime.now(UTC)
    conditions = {
        "When": f"{now:%Y-%m-%d %H:%M} UTC",
        "Scale": scale,
        "Cores": str(os.cpu_count()),
        "Machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    markdown = as_markdown(conditions, results, bound_verdicts)
    (folder / "results.json").write_text(
        json.dumps(as_json(conditions, results, bound_verdicts), indent=2) + "\n"
    )
    (folder / "results.md").write_text(markdown)
    if scale == "full" and set(only) == set(SCENARIOS):
        date = f"{now:%Y-%m-%d}"
        (RESULTS / f"{date}.md").write_text(as_page(date, markdown))
    return bound_verdicts


def measure(load: Load, only: Sequence[str], state: Path) -> Iterator[Result]:
    """Yield the result of each scenario. A scenario gets a new stack, or shares one with small scenarios."""
    chosen = {*only}
    if chosen - WITHOUT_RAW:
        with new_stack(state, WITHOUT_NODES) as bench:
            # Without this, kube-scheduler would try to schedule each pod, and find no node.
            bench.stack.component("kube-scheduler").stop()
            raw = measure_raw(bench, load.raw)
            yield raw
            if "burst" in chosen:
                yield measure_burst(bench, load.burst, load.raw, values_by_name([raw])["raw.limit"])
    if chosen & {"latency", "lives"}:
        with new_stack(state) as bench:
            if "latency" in chosen:
                yield measure_latency(bench, load.latency)
            if "lives" in chosen:
                yield measure_lives(bench, load.lives)
    if "contended" in chosen:
        with new_stack(state) as bench:
            yield measure_contended(bench, load.contended)
    if "history" in chosen:
        with new_stack(state) as bench, new_stack(state.with_name(f"{state.name}-without")) as without:
            yield measure_history(without, bench, load.history)
    if "scale-out" in chosen:
        with new_stack(state) as bench:
            yield measure_scale_out(bench, load.scale_out)
    yield from _measure_memory(load, chosen, state)
    if "core" in chosen:
        yield measure_core(load.core)


def _measure_memory(load: Load, chosen: Collection[str], state: Path) -> Iterator[Result]:
    for name, measure_one, its_load in (
        ("pending-jobs", measure_pending_jobs, load.pending_jobs),
        ("running-jobs", measure_running_jobs, load.running_jobs),
        ("standing-pods", measure_standing_pods, load.standing_pods),
        ("hostile-sizes", measure_hostile_sizes, load.hostile_sizes),
    ):
        if name in chosen:
            with new_stack(state) as bench:
                yield measure_one(bench, its_load)


@contextmanager
def new_stack(state: Path, parts: Sequence[Part] = PARTS) -> Iterator[Bench]:
    """Start a new stack, and delete it at the end in any case."""
    down(state)
    bench = Bench(state, parts)
    try:
        bench.up()
        yield bench
    finally:
        down(state)
