"""Every scenario of the benchmarks works. With so few jobs, the figures mean nothing."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.benchmarks.__main__ import main
from tests.benchmarks.bench import Bench
from tests.benchmarks.core import measure_core
from tests.benchmarks.figures import Result
from tests.benchmarks.history import measure_history
from tests.benchmarks.load import Load
from tests.benchmarks.raw_api import measure_raw
from tests.benchmarks.report import values_by_name
from tests.benchmarks.scenarios import (
    HOPS,
    measure_burst,
    measure_contended,
    measure_latency,
    measure_lives,
    measure_scale_out,
)
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.process import find_marked
from dev.stack import Stack

LOAD = Load.of("tiny")


@pytest.fixture
def bench(local_stack: LocalStack, kwok_stack: Stack) -> Iterator[Bench]:
    """The stack of other tests. Afterwards it has its usual services again."""
    bench = Bench(local_stack.state)
    bench.up()
    yield bench
    for kind in ("PhJob", "PhGroup", "Pod"):
        bench.api.delete_all(kind)
    kwok_stack.up()


def checked_figures(result: Result) -> dict[str, float]:
    """Check that no job was overtaken. Returns the values of the figures by name."""
    figures = values_by_name([result])
    overtaken = {name: count for name, count in figures.items() if name.endswith(".inversions") and count}
    assert not overtaken, f"{result.scenario}: jobs must enter Preparing in order"
    return figures


def test_every_scenario_runs_and_has_the_figures_that_do_not_depend_on_speed(bench: Bench) -> None:
    """They are the order of admissions, and the number of writes."""
    lives = checked_figures(measure_lives(bench, LOAD.lives))
    assert lives["lives.writes.pod"] == 2, "a job must take two writes of its pod: the pod, and its gate"
    assert 2 <= lives["lives.writes.status"] <= 3, "a short job may end before it is observed Running"
    latency = checked_figures(measure_latency(bench, LOAD.latency))
    hops = sum(latency[f"latency.{hop}.p50"] for hop in HOPS)
    assert hops > 0

    checked_figures(measure_contended(bench, LOAD.contended))
    checked_figures(measure_scale_out(bench, LOAD.scale_out))
    bench.up()
    history = checked_figures(measure_history(bench, bench, LOAD.history))
    assert min(history["history.ready"], history["history.lives-ratio"], history["history.latency-ratio"]) > 0

    raw = values_by_name([measure_raw(bench, LOAD.raw)])
    assert raw["raw.limit"] > 0
    burst = checked_figures(measure_burst(bench, LOAD.burst, LOAD.raw, raw["raw.limit"]))
    assert burst["burst.of-raw"] == pytest.approx(
        2 * burst["burst.rate"] / (raw["raw.limit"] + burst["burst.limit-after"])
    )


def test_the_core_is_measured_without_a_stack() -> None:
    """Each number of users is measured with each number of waiting jobs."""
    figures = values_by_name([measure_core(LOAD.core)])
    expected = {f"core.queue.{p}-pending.{u}-users" for p in LOAD.core.pending for u in LOAD.core.users}
    assert expected < figures.keys()


def test_the_command_measures_only_the_given_scenarios_and_leaves_nothing_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It uses stacks of its own, and reports every bound."""
    assert main(["--scale=tiny", "--only", "burst", "core", f"--folder={tmp_path}"]) in (0, 1)
    results = json.loads((tmp_path / "results.json").read_text())
    assert {"raw.limit", "burst.rate", "core.rate"} < results["figures"].keys()
    assert "latency.p50" not in results["figures"]
    assert {"figure": "burst.inversions", "value": 0, "bound": "at most 0", "passed": True} in results[
        "bounds"
    ]
    assert "pass  burst.inversions 0, at most 0" in capsys.readouterr().out
    assert not list((tmp_path / "stack").glob("*.pid"))
    shutil.rmtree(tmp_path / "stack")


def test_a_second_ctrl_c_does_not_keep_the_stack_from_being_deleted(tmp_path: Path) -> None:
    """A wrapper such as uv forwards the signal that the terminal has sent already."""
    command = [sys.executable, "-m", "tests.benchmarks", "--scale=tiny", "--only=burst"]
    state = tmp_path / "stack"
    with subprocess.Popen([*command, f"--folder={tmp_path}"], stderr=subprocess.PIPE, text=True) as bench:
        eventually((state / "kube-apiserver.pid").exists, "the stack is starting")
        bench.send_signal(signal.SIGINT)
        bench.send_signal(signal.SIGINT)
        _, stderr = bench.communicate()
    assert bench.returncode == 130, stderr
    assert "nothing is left running" in stderr
    assert not find_marked(f"PHJOB_STATE={state}")
