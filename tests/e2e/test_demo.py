"""`python -m dev demo`, as a person runs it: it shows everything, and leaves nothing, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from dev.process import marked

SECONDS = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo puts its stack: a path with a space."""
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


def left_in(folder: Path) -> list[object]:
    """Processes that the demo started, and files."""
    return [*marked(f"TMPDIR={folder}"), *folder.iterdir()]


def test_the_demo_shows_that_all_is_as_it_should_be_and_leaves_nothing(folder: Path) -> None:
    with start(folder) as demo:
        shown, _ = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 0, shown
    assert "NOT ok" not in shown
    for check in (
        "ok  job-qm42d went Pending -> Preparing",
        "ok  Example 1: A Preparing, B Pending, C Pending",
        "ok  Example 1: they became Preparing in the order A, B, C",
        "ok  Example 2: A Preparing, B Pending, C Preparing",
        "ok  Example 2: they became Preparing in the order A, C, B",
        "ok  cancel-running went Pending -> Preparing -> Running -> Cancelled",
        "ok  the log of cancel-running is kept though its pod is gone",
        "ok  requeue-me went Pending -> Preparing -> Pending",
    ):
        assert check in shown
    assert not left_in(folder)


def test_an_interrupted_demo_leaves_nothing(folder: Path) -> None:
    """Not even if the wish to stop is repeated."""
    with start(folder) as demo:
        eventually(lambda: list(folder.glob("*/rabbitmq.pid")), "the demo's stack begins to start")
        for _ in range(3):
            demo.send_signal(signal.SIGINT)
        shown, _ = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 128 + signal.SIGINT, shown
    assert not left_in(folder)


def test_a_demo_that_fails_says_so_and_keeps_its_logs(folder: Path) -> None:
    with start(folder) as demo:
        eventually(lambda: list(folder.glob("*/rabbitmq.pid")), "the demo's stack begins to start")
        for process in marked(f"TMPDIR={folder}"):
            if process.pid != demo.pid:
                process.signal(signal.SIGKILL)
        shown, _ = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 1, shown
    assert "NOT ok" in shown
    assert list(folder.glob("phjob-demo-*/rabbitmq.log"))
    assert not marked(f"TMPDIR={folder}")
