"""Tests of `dev.process`."""

import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dev.process import Process, find_process, kill, spawn


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Process]:
    """A process that would run for a minute."""
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path / "child.log")
    yield process
    kill([process])


def test_a_running_process_is_alive_until_its_end(child: Process) -> None:
    assert child.is_alive()

    child.signal(signal.SIGKILL)

    assert child.wait(10)
    assert not child.is_alive()


def test_a_later_process_with_the_same_pid_is_not_the_process(child: Process) -> None:
    """It is not signalled, either."""
    earlier = replace(child, started="1@another-boot")

    earlier.signal(signal.SIGKILL)

    assert not earlier.is_alive()
    assert child.is_alive()


def test_a_thread_with_the_pid_is_not_the_process() -> None:
    """In a new container the pids begin at 1 again, and threads have ids of the same row."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        tid = thread.native_id
        assert tid is not None
        earlier = Process(tid, "1@another-boot")

        earlier.signal(signal.SIGTERM)

        assert not earlier.is_alive()
    finally:
        release.set()
        thread.join()


def test_no_process_has_a_pid_beyond_the_largest() -> None:
    assert find_process(2**22 + 1) is None
    assert not Process(2**22 + 1, "1@boot").is_alive()
