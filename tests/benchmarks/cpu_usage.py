"""The CPU time of each component of the stack, of the bench itself, and of everything else.

The times are the kernel's accounts of whole processes (proc(5)).
"""

import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev.process import PROC, read_stat

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
USER_TIME, SYSTEM_TIME = 11, 12
"""The positions of a process's times in the fields of `read_stat`."""
BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)
"""The columns of /proc/stat that count: user, nice, system, interrupts, and steal (other machines)."""
BENCH = "bench"
"""The name of the load client and the bench itself, together."""


@dataclass
class CpuUsage:
    """CPU seconds that were used over some time."""

    seconds: float = 0.0
    """The length of that time."""
    by_component: dict[str, float] = field(default_factory=dict)
    machine: float = 0.0
    """The CPU seconds of all programs on the machine."""
    cores: int = os.cpu_count() or 1

    def of(self, *components: str) -> float:
        """Return the CPU seconds of components, with all their replicas."""
        return sum(
            seconds
            for name, seconds in self.by_component.items()
            if name in components or name.rpartition("-")[0] in components
        )

    @property
    def ours(self) -> float:
        """The CPU seconds of the stack and the bench."""
        return sum(self.by_component.values())

    @property
    def elsewhere(self) -> float:
        """The share of all cores that other programs used: 0 on a quiet machine."""
        return max(0.0, self.machine - self.ours) / (self.seconds * self.cores) if self.seconds else 0.0


@contextmanager
def measured_cpu(pids: Mapping[str, int]) -> Iterator[CpuUsage]:
    """Measure the CPU time inside the context. The result is complete when the context ends.

    `pids`: the processes, by the names of their components.
    """
    usage = CpuUsage()
    began, before, machine = time.monotonic(), _by_component(pids), _of_machine()
    yield usage
    usage.seconds, usage.machine = time.monotonic() - began, _of_machine() - machine
    usage.by_component = {name: after - before[name] for name, after in _by_component(pids).items()}


def peak_memory_mib(pid: int) -> float:
    """Return the highest resident memory that a process has had, in MiB."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _by_component(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds of the bench and of each process since its start."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        BENCH: sum(usage.ru_utime + usage.ru_stime for usage in own),
        **{name: _of_process(pid) for name, pid in pids.items()},
    }


def _of_process(pid: int) -> float:
    fields = read_stat(pid)
    if fields is None:
        raise ProcessLookupError(f"process {pid} of the stack has ended")
    return (int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) / TICKS_PER_SECOND


def _of_machine() -> float:
    columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(columns[number]) for number in BUSY_COLUMNS) / TICKS_PER_SECOND
