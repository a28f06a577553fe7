"""A background process of a session of its own: starting it, telling whether it still runs, ending it.

A pid alone may by now belong to someone else; a process is therefore known by its pid together
with the moment it started. What should run, and where that is written down, is `component`'s.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

# Kept until they end: the parent has to collect them, else they stay as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """One process, from its start to its end."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return not self.wait(0)

    def signal(self, number: signal.Signals) -> None:
        """Send it, unless the process has ended; never to another that got its pid."""
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if _start_of(self.pid) == self.started:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time.

        It has when its last thread has: /proc calls it a zombie as soon as its first thread is one, while
        the others may still hold its files and ports.
        """
        _collect(self.pid)
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            ended = _start_of(self.pid) != self.started or bool(poll.poll(max(seconds, 0) * 1000))
        finally:
            os.close(handle)
        _collect(self.pid)
        return ended


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
    """Start it in the background, in the folder of its log; its output is appended there."""
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
    return Process(child.pid, _start_of(child.pid) or "")


def process_of(pid: int) -> Process | None:
    """The process that has this pid now."""
    started = _start_of(pid)
    return Process(pid, started) if started else None


def marked(variable: str) -> list[Process]:
    """Every process with this `NAME=value` in the environment that it was started with."""
    found = []
    for entry in PROC.iterdir():
        # It may end at any moment, or belong to another user.
        with suppress(OSError, ValueError):
            process = process_of(int(entry.name))
            if process and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def end(processes: Iterable[Process], grace: float) -> None:
    """SIGTERM to all at once, SIGKILL to those that are still there after `grace` seconds."""
    chosen = list(processes)
    for process in chosen:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    kill([process for process in chosen if not process.wait(deadline - time.monotonic())])


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL, and wait for the end: the kernel needs a moment to free what it held."""
    for process in list(processes):
        process.signal(signal.SIGKILL)
        process.wait(10)


def _collect(pid: int) -> None:
    child = _children.get(pid)
    if child and child.poll() is not None:
        del _children[pid]


def _start_of(pid: int) -> str | None:
    """When it started, in clock ticks since the boot, and which boot; None if it is gone altogether."""
    fields = stat(pid)
    if fields is None:
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{fields[19]}@{boot}"


def stat(pid: int) -> list[str] | None:
    """Fields of proc(5)'s `stat` from the third on; None if there is no such process.

    The second may hold spaces and brackets.
    """
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
