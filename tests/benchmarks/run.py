"""One run: which scenarios, each on which stack, and where its results go."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import scenarios
from tests.benchmarks.bench import Bench
from tests.benchmarks.bounds import Verdict, bounds, verdicts
from tests.benchmarks.core import core
from tests.benchmarks.figures import Result
from tests.benchmarks.load import Load
from tests.benchmarks.report import as_json, as_markdown, by_name, filled

from dev.progress import say
from dev.stack import PARTS, Part, down
from dev.tools import LOAD, tools

SCENARIOS = ("burst", "latency", "lives", "contended", "history", "scale-out", "core")
WITHOUT_NODES: tuple[Part, ...] = ("control-plane", "rabbitmq", "services")
PAGE = Path("docs/performance.md")


def run(scale: str, only: Sequence[str], folder: Path) -> list[Verdict]:
    """Measure, and write `results.json` and `results.md` into the folder; the stacks live there, too.

    A full run of all scenarios also fills in docs/performance.md.
    """
    tools(LOAD)
    results = list[Result]()
    for result in measure(Load.of(scale), only, folder / "stack"):
        say(
            "  ".join(
                f"{f.name.removeprefix(result.scenario + '.')} {f.value:.4g}" for f in result.figures[:8]
            )
        )
        results.append(result)
    judged = verdicts(by_name(results), bounds())
    conditions = {
        "When": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Scale": scale,
        "Cores": str(os.cpu_count()),
        "Machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    markdown = as_markdown(conditions, results, judged)
    (folder / "results.json").write_text(json.dumps(as_json(conditions, results, judged), indent=2) + "\n")
    (folder / "results.md").write_text(markdown)
    if scale == "full" and set(only) == set(SCENARIOS):
        PAGE.write_text(filled(PAGE.read_text(), markdown))
    return judged


def measure(load: Load, only: Sequence[str], state: Path) -> Iterator[Result]:
    """Each scenario's result; those that need a stack get a new one, or share it with small ones."""
    chosen = {*only}
    if chosen != {"core"}:
        with stack(state, WITHOUT_NODES) as bench:
            # Else kube-scheduler would try each pod, and find no node.
            bench.stack.component("kube-scheduler").stop()
            raw = scenarios.raw(bench, load.raw)
            yield raw
            if "burst" in chosen:
                yield scenarios.burst(bench, load.burst, load.raw, by_name([raw])["raw.limit"])
    if chosen & {"latency", "lives"}:
        with stack(state) as bench:
            if "latency" in chosen:
                yield scenarios.latency(bench, load.latency)
            if "lives" in chosen:
                yield scenarios.lives(bench, load.lives)
    if "contended" in chosen:
        with stack(state) as bench:
            yield scenarios.contended(bench, load.contended)
    if "history" in chosen:
        with stack(state) as bench, stack(state.with_name(f"{state.name}-without")) as without:
            yield scenarios.history(without, bench, load.history)
    if "scale-out" in chosen:
        with stack(state) as bench:
            yield scenarios.scale_out(bench, load.scale_out)
    if "core" in chosen:
        yield core(load.core)


@contextmanager
def stack(state: Path, parts: Sequence[Part] = PARTS) -> Iterator[Bench]:
    """A new stack, up inside and gone after, whatever happens."""
    down(state)
    bench = Bench(state, parts)
    try:
        bench.up()
        yield bench
    finally:
        down(state)
