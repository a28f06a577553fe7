"""A process in a memory group is killed when it is over the limit, and the group counts it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.memory_groups import (
    MemoryGroup,
    can_limit_memory,
    peak_memory_bytes,
    reset_peak_memory,
    resident_memory_bytes,
)

from dev import leftovers
from dev.paths import StackPaths

MIB = 1024**2
LIMIT_BYTES = 64 * MIB
USE = "x = bytearray({mib} * 1024**2); del x; print('used', flush=True); input()"
"""A program that uses so much memory, frees it, and waits."""


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MemoryGroup]:
    """A group of a stack that has nothing else. Only root can make one."""
    if not can_limit_memory():
        pytest.skip("memory limits need Linux and root")
    paths = StackPaths(tmp_path)
    yield MemoryGroup(paths, "eater", LIMIT_BYTES)
    leftovers.remove(paths)
    prefix = leftovers.memory_group_prefix(paths)
    assert not [*leftovers.CGROUPS.glob(f"{prefix}*"), *leftovers.CGROUPS.glob(f"*/{prefix}*")]


def start(group: MemoryGroup, mib: int) -> "subprocess.Popen[str]":
    """Start a program in the group that uses so much memory."""
    command = group.command([sys.executable, "-c", USE.format(mib=mib)])
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_process_over_the_limit_is_killed(group: MemoryGroup) -> None:
    """Without this, a service that needs too much memory would pass the tests."""
    with start(group, 2 * LIMIT_BYTES // MIB) as process:
        assert process.wait() == -signal.SIGKILL
    assert group.count_kills() == 1


def test_a_process_below_the_limit_runs_and_its_peak_is_known(group: MemoryGroup) -> None:
    """The peak counts memory that is free again, until it is reset."""
    mib = LIMIT_BYTES // MIB // 2
    with start(group, mib) as process:
        assert process.stdout
        assert process.stdout.readline() == "used\n"
        assert mib * MIB < peak_memory_bytes(process.pid) < LIMIT_BYTES
        reset_peak_memory(process.pid)
        assert peak_memory_bytes(process.pid) < mib * MIB
        assert resident_memory_bytes(process.pid) <= peak_memory_bytes(process.pid)
        process.communicate("\n")
        assert process.returncode == 0
    assert group.count_kills() == 0
