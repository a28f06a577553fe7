"""Memory limits of processes: a cgroup for each of them, as Kubernetes makes one for each container.

A process that needs more than its limit is killed, as the container would be. `dev.leftovers` removes the
groups of a stack when the stack goes down.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev.leftovers import CGROUPS, memory_group_prefix
from dev.paths import StackPaths
from dev.process import PROC

_ENTER = 'echo $$ >"$0" && exec "$@"'
"""The shell command that enters the group in $0 and becomes the program, so that all its memory counts."""
_RESET_PEAK = "5"
"""What resets a process's peak, written to its `clear_refs` (proc(5))."""


@dataclass(frozen=True)
class _Version:
    """The files of one version of cgroups."""

    tree: Path
    limit: str
    swap: str
    swap_is_total: bool
    """True if the limit of swap counts memory and swap together."""
    events: str
    """The file with the number of processes that were killed."""


_V1 = _Version(
    tree=CGROUPS / "memory",
    limit="memory.limit_in_bytes",
    swap="memory.memsw.limit_in_bytes",
    swap_is_total=True,
    events="memory.oom_control",
)
_V2 = _Version(
    tree=CGROUPS, limit="memory.max", swap="memory.swap.max", swap_is_total=False, events="memory.events"
)


class MemoryGroup:
    """The cgroup of one process of a stack."""

    def __init__(self, paths: StackPaths, name: str, limit_bytes: int) -> None:
        """Create the group. Only root can do so, where `dev.options.default_node` is `real`."""
        self.limit_bytes = limit_bytes
        self._version = _V1 if _V1.tree.is_dir() else _V2
        self._folder = self._version.tree / f"{memory_group_prefix(paths)}{name}"
        if self._version is _V2:
            (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        self._folder.mkdir(exist_ok=True)
        (self._folder / self._version.limit).write_text(str(limit_bytes))
        with suppress(FileNotFoundError):  # A kernel without swap does not have the file.
            swap = limit_bytes if self._version.swap_is_total else 0
            (self._folder / self._version.swap).write_text(str(swap))

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs a program in the group."""
        return ["/bin/sh", "-c", _ENTER, str(self._folder / "cgroup.procs"), *argv]

    def count_kills(self) -> int:
        """Return how many processes were killed because the group was over its limit."""
        lines = (self._folder / self._version.events).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def peak_memory_bytes(pid: int) -> int:
    """Return the highest resident memory that a process has had since its start or `reset_peak_memory`.

    A cgroup's own peak includes the pages of files that the process has written, such as its log. The kernel
    drops them before it kills a process, and in a container the runtime writes the log.
    """
    return _memory_field(pid, "VmHWM")


def resident_memory_bytes(pid: int) -> int:
    """Return the resident memory of a process now."""
    return _memory_field(pid, "VmRSS")


def reset_peak_memory(pid: int) -> None:
    """Let the peak of a process begin at its present memory."""
    (PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)


def can_limit_memory() -> bool:
    """Return whether this process can create groups."""
    return os.geteuid() == 0 and any(os.access(tree, os.W_OK) for tree in (_V1.tree, _V2.tree))


def _memory_field(pid: int, name: str) -> int:
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
