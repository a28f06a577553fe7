"""Who used the CPU: each component of the stack, the load client and the bench, and everything else.

Whole processes, by the kernel's own accounts (proc(5)); what a process did is not asked.
"""

import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev.process import PROC, stat

TICKS = os.sysconf("SC_CLK_TCK")
USER_TIME, SYSTEM_TIME = 11, 12
"""Of `stat`'s fields."""
BUSY = (0, 1, 2, 5, 6, 7)
"""Of the columns of /proc/stat: user, nice, system, interrupts, and what other machines took (steal)."""
BENCH = "bench"
"""The load client and the bench itself."""


@dataclass
class Usage:
    """CPU seconds used over some time."""

    seconds: float = 0.0
    by_component: dict[str, float] = field(default_factory=dict)
    machine: float = 0.0
    """By everything on the machine."""
    cores: int = os.cpu_count() or 1

    def of(self, *components: str) -> float:
        """CPU seconds of those components that there are, with all their replicas."""
        return sum(
            used
            for name, used in self.by_component.items()
            if name in components or name.rpartition("-")[0] in components
        )

    @property
    def ours(self) -> float:
        """CPU seconds of stack and bench."""
        return sum(self.by_component.values())

    @property
    def elsewhere(self) -> float:
        """The share of all cores that somebody else used: 0 on a quiet machine."""
        return max(0.0, self.machine - self.ours) / (self.seconds * self.cores) if self.seconds else 0.0


@contextmanager
def used(pids: Mapping[str, int]) -> Iterator[Usage]:
    """Measures inside; filled in at the end. Processes by the names of their components."""
    usage = Usage()
    began, before, machine = time.monotonic(), _used(pids), _machine()
    yield usage
    usage.seconds, usage.machine = time.monotonic() - began, _machine() - machine
    usage.by_component = {name: after - before[name] for name, after in _used(pids).items()}


def most_memory(pid: int) -> float:
    """MiB that the process held at most."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _used(pids: Mapping[str, int]) -> dict[str, float]:
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        BENCH: sum(usage.ru_utime + usage.ru_stime for usage in own),
        **{name: _of_process(pid) for name, pid in pids.items()},
    }


def _of_process(pid: int) -> float:
    fields = stat(pid)
    if fields is None:
        raise ProcessLookupError(f"process {pid} of the stack has ended")
    return (int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) / TICKS


def _machine() -> float:
    columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(columns[number]) for number in BUSY) / TICKS
