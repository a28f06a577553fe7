"""The benchmarks work: every scenario, with a few jobs. What they measure here means nothing."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.benchmarks import scenarios
from tests.benchmarks.__main__ import main
from tests.benchmarks.bench import Bench
from tests.benchmarks.core import core
from tests.benchmarks.figures import Result
from tests.benchmarks.load import Load
from tests.benchmarks.report import by_name
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.process import marked
from dev.stack import Stack

LOAD = Load.of("tiny")


@pytest.fixture
def bench(local_stack: LocalStack, kwok_stack: Stack) -> Iterator[Bench]:
    """The stack that other tests use, too; afterwards it has the usual services again."""
    bench = Bench(local_stack.state)
    bench.up()
    yield bench
    for kind in ("PhJob", "PhGroup", "Pod"):
        bench.api.delete_all(kind)
    kwok_stack.up()


def keeps_its_promises(result: Result) -> dict[str, float]:
    """Its figures, of which those that are no matter of time are as they must be."""
    figures = by_name([result])
    assert not {name: wrong for name, wrong in figures.items() if name.endswith(".inversions") and wrong}
    return figures


def test_every_scenario_runs_and_keeps_what_is_no_matter_of_time(bench: Bench) -> None:
    """Order, and the number of writes."""
    lives = keeps_its_promises(scenarios.lives(bench, LOAD.lives))
    assert lives["lives.writes.pod"] == 1
    assert 2 <= lives["lives.writes.status"] <= 3, "a job that is too quick is never seen Running"
    latency = keeps_its_promises(scenarios.latency(bench, LOAD.latency))
    hops = sum(latency[f"latency.{hop}.p50"] for hop in scenarios.HOPS)
    assert hops > 0

    keeps_its_promises(scenarios.contended(bench, LOAD.contended))
    keeps_its_promises(scenarios.scale_out(bench, LOAD.scale_out))
    bench.up()
    history = keeps_its_promises(scenarios.history(bench, bench, LOAD.history))
    assert min(history["history.ready"], history["history.lives-ratio"], history["history.latency-ratio"]) > 0

    raw = by_name([scenarios.raw(bench, LOAD.raw)])
    assert raw["raw.limit"] > 0
    burst = keeps_its_promises(scenarios.burst(bench, LOAD.burst, LOAD.raw, raw["raw.limit"]))
    assert burst["burst.of-raw"] == pytest.approx(
        2 * burst["burst.rate"] / (raw["raw.limit"] + burst["burst.limit-after"])
    )


def test_the_core_is_measured_without_a_stack() -> None:
    """Each number of users with each number of waiting jobs."""
    figures = by_name([core(LOAD.core)])
    expected = {f"core.queue.{p}-pending.{u}-users" for p in LOAD.core.pending for u in LOAD.core.users}
    assert expected < figures.keys()


def test_the_command_measures_what_it_is_asked_for_and_leaves_nothing_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stacks of its own; bounds are told, kept or not."""
    assert main(["--scale=tiny", "--only", "burst", "core", f"--folder={tmp_path}"]) in (0, 1)
    told = json.loads((tmp_path / "results.json").read_text())
    assert {"raw.limit", "burst.rate", "core.rate"} < told["figures"].keys()
    assert "latency.p50" not in told["figures"]
    assert {"figure": "burst.inversions", "value": 0, "bound": "at most 0", "passed": True} in told["bounds"]
    assert "pass  burst.inversions 0, at most 0" in capsys.readouterr().out
    assert not list((tmp_path / "stack").glob("*.pid"))
    shutil.rmtree(tmp_path / "stack")


def test_ctrl_c_leaves_nothing_running_even_if_it_comes_twice(tmp_path: Path) -> None:
    """As it does where a wrapper passes it on."""
    command = [sys.executable, "-m", "tests.benchmarks", "--scale=tiny", "--only=burst"]
    state = tmp_path / "stack"
    with subprocess.Popen([*command, f"--folder={tmp_path}"], stderr=subprocess.PIPE, text=True) as bench:
        eventually((state / "kube-apiserver.pid").exists, "the stack is being brought up")
        bench.send_signal(signal.SIGINT)
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate()
    assert bench.returncode == 130, said
    assert "nothing is left running" in said
    assert not marked(f"PHJOB_STATE={state}")
