"""`python -m dev demo` as a user runs it: it shows everything, and leaves nothing, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from dev.process import find_marked

DEMO_TIMEOUT_SECONDS = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder for the demo's stack. Its path has a space."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    """Start the demo."""
    return subprocess.Popen(
        [sys.executable, "-m", "dev", "demo", "--node=kwok"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def leftovers(folder: Path) -> list[object]:
    """Return the processes that the demo has started, and its files."""
    return [*find_marked(f"TMPDIR={folder}"), *folder.iterdir()]


def test_all_checks_of_the_demo_pass_and_it_leaves_nothing(folder: Path) -> None:
    """No process and no file is left."""
    with start(folder) as demo:
        output, _ = demo.communicate(timeout=DEMO_TIMEOUT_SECONDS)
    assert demo.returncode == 0, output
    assert "NOT ok" not in output
    for check in (
        "ok  job-qm42d went through Pending -> Preparing",
        "ok  Example 1: A Preparing, B Pending, C Pending",
        "ok  Example 1: the jobs became Preparing in the order A, B, C",
        "ok  Example 2: A Preparing, B Pending, C Preparing",
        "ok  Example 2: the jobs became Preparing in the order A, C, B",
        "ok  cancel-running went through Pending -> Preparing -> Running -> Cancelled",
        "ok  the log of cancel-running is kept after its pod is deleted",
        "ok  requeue-me went through Pending -> Preparing -> Pending",
    ):
        assert check in output
    assert not leftovers(folder)


def test_an_interrupted_demo_leaves_nothing(folder: Path) -> None:
    """Not even if Ctrl-C is pressed several times."""
    with start(folder) as demo:
        eventually(lambda: list(folder.glob("*/rabbitmq.pid")), "the demo has begun to start its stack")
        for _ in range(3):
            demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=DEMO_TIMEOUT_SECONDS)
    assert demo.returncode == 128 + signal.SIGINT, output
    assert not leftovers(folder)


def test_a_demo_that_fails_reports_it_and_keeps_its_logs(folder: Path) -> None:
    """Its processes are stopped nevertheless."""
    with start(folder) as demo:
        eventually(lambda: list(folder.glob("*/rabbitmq.pid")), "the demo has begun to start its stack")
        for process in find_marked(f"TMPDIR={folder}"):
            if process.pid != demo.pid:
                process.signal(signal.SIGKILL)
        output, _ = demo.communicate(timeout=DEMO_TIMEOUT_SECONDS)
    assert demo.returncode == 1, output
    assert "NOT ok" in output
    assert list(folder.glob("phjob-demo-*/rabbitmq.log"))
    assert not find_marked(f"TMPDIR={folder}")
