"""Background processes, each in a session of its own: their start, their state and their end.

The kernel reuses pids, so a process is identified by its pid and its start time. `component` stores both.
"""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

# The children of this process by pid. A child that has ended stays a zombie until it is collected.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """One process, from its start to its end."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Return whether the process still runs. A zombie does not."""
        return not self.wait(0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended.

        Another process with its pid never gets it.
        """
        with _pidfd(self.pid) as handle, suppress(ProcessLookupError):
            if handle is not None and _start_time(self.pid) == self.started:
                signal.pidfd_send_signal(handle, number)

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended. Returns whether it has within that time.

        A process has ended with its last thread. /proc shows it as a zombie as soon as its first thread has
        ended, but other threads may still hold its files and ports.
        """
        _collect(self.pid)
        with _pidfd(self.pid) as handle:
            if handle is None or _start_time(self.pid) != self.started:
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            ended = bool(poll.poll(max(seconds, 0) * 1000))
        _collect(self.pid)
        return ended


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
    """Start a command in the background, in the folder of its log.

    Its output is appended to the log.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    return Process(child.pid, _start_time(child.pid) or "")


def find_process(pid: int) -> Process | None:
    """Return the process that has this pid now; None if there is none."""
    started = _start_time(pid)
    return Process(pid, started) if started else None


def find_marked(variable: str) -> list[Process]:
    """Return every process that was started with this `NAME=value` in its environment."""
    found = []
    for entry in PROC.iterdir():
        # The process may end at any moment, or belong to another user.
        with suppress(OSError, ValueError):
            process = find_process(int(entry.name))
            if process and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def terminate(processes: Iterable[Process], grace: float) -> None:
    """End the processes by SIGTERM, or by SIGKILL after `grace` seconds."""
    chosen = list(processes)
    for process in chosen:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    kill([process for process in chosen if not process.wait(deadline - time.monotonic())])


def kill(processes: Iterable[Process]) -> None:
    """End the processes by SIGKILL, and wait until they have ended.

    Without the wait, their files and ports could still be in use.
    """
    for process in list(processes):
        process.signal(signal.SIGKILL)
        process.wait(10)


@contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Open a file descriptor of a process; None if no process has this pid.

    After a reboot, or in a new container, the pid may be the id of a thread. Depending on its version, Linux
    then answers EINVAL or ENOENT.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            raise
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _collect(pid: int) -> None:
    """Collect the exit status of a child that has ended."""
    child = _children.get(pid)
    if child and child.poll() is not None:
        del _children[pid]


def _start_time(pid: int) -> str | None:
    """Return the start time of a process; None if there is no process.

    It is the clock ticks since the boot, and the id of the boot.
    """
    fields = read_stat(pid)
    if fields is None:
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{fields[19]}@{boot}"


def read_stat(pid: int) -> list[str] | None:
    """Return the fields of a process's `stat`, proc(5), from the third on.

    The second field may contain spaces and brackets. Returns None if there is no process.
    """
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
