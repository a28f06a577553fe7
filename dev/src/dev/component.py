"""A component of the stack: one background process, with its log, its pid file and its readiness check.

The modules that are named after a component have its command.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.errors import DevError
from dev.process import Process, spawn, terminate

POLL_SECONDS = 0.1
TAIL_LINES = 20
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


def mark(state: Path) -> dict[str, str]:
    """Return the variable that marks every process of this STATE and its children."""
    return {"PHJOB_STATE": str(state)}


def write_private(path: Path, content: str) -> None:
    """Write a file that may contain secrets, so that only this user can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(content)


@dataclass(frozen=True)
class Spec:
    """The specification of a component: its command, environment, files and readiness check."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    """Configuration files, written before each start."""
    ready_within: float = 60.0
    """The time that it may take to become ready, in seconds. A busy machine is slow."""

    def fingerprint(self) -> str:
        """Return a hash that changes with everything that requires a restart."""
        parts = (list(self.argv), sorted(self.env.items()), sorted(map(str, self.files.items())))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class ProcessRecord:
    """The files that name the process of one component in one STATE."""

    def __init__(self, state: Path, name: str) -> None:
        self.name = name
        self.log = state / f"{name}.log"
        self._pid_file = state / f"{name}.pid"
        self._file = state / "run" / f"{name}.json"

    @classmethod
    def all(cls, state: Path) -> list["ProcessRecord"]:
        """Return those of all components that were started in this STATE and not stopped."""
        return [cls(state, file.stem) for file in sorted((state / "run").glob("*.json"))]

    def process(self) -> Process | None:
        """Return the process if it still runs, otherwise None."""
        content = self._content()
        process = Process(int(content["pid"]), content["started"]) if content else None
        return process if process and process.is_alive() else None

    def fingerprint(self) -> str | None:
        """Return the fingerprint of the spec that the process was started with."""
        content = self._content()
        return content["fingerprint"] if content else None

    def write(self, process: Process, fingerprint: str) -> None:
        """Write the files of a process that was started."""
        self._file.parent.mkdir(exist_ok=True)
        content = {"pid": str(process.pid), "started": process.started, "fingerprint": fingerprint}
        self._file.write_text(json.dumps(content))
        self._pid_file.write_text(f"{process.pid}\n")

    def remove(self) -> None:
        """Delete the files of a process that has ended."""
        self._file.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _content(self) -> dict[str, str] | None:
        return json.loads(self._file.read_text()) if self._file.exists() else None


class Component:
    """One component of one stack."""

    def __init__(self, state: Path, spec: Spec) -> None:
        self.spec = spec
        self._mark = mark(state)
        self._record = ProcessRecord(state, spec.name)

    @property
    def name(self) -> str:
        """The name of the component, as in `STATE/<name>.log`."""
        return self.spec.name

    @property
    def log(self) -> Path:
        """The file to which the output of the process is appended."""
        return self._record.log

    @property
    def pid(self) -> int | None:
        """The pid of the process; None if it does not run."""
        process = self._record.process()
        return process.pid if process else None

    def is_current(self) -> bool:
        """Return whether the process runs with the current command and configuration."""
        return self.pid is not None and self._record.fingerprint() == self.spec.fingerprint()

    def start(self) -> None:
        """Start the process, unless it runs. Returns before it is ready."""
        if self.pid is not None:
            return
        for path, content in self.spec.files.items():
            write_private(path, content)
        env = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        process = spawn(self.spec.argv, {**env, **self._mark, **self.spec.env}, self.log)
        self._record.write(process, self.spec.fingerprint())

    def wait_ready(self) -> None:
        """Wait until the component is ready.

        Raises:
            DevError: it ended, or was not ready in time. The message has the end of its log.

        """
        deadline = time.monotonic() + self.spec.ready_within
        while not self.spec.ready():
            if self.pid is None:
                raise DevError(f"{self.name} ended; {self._tail()}")
            if time.monotonic() > deadline:
                within = f"{self.spec.ready_within:.0f} s"
                raise DevError(f"{self.name} is not ready after {within}; {self._tail()}")
            time.sleep(POLL_SECONDS)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal. After SIGKILL, wait until the process has ended."""
        if process := self._record.process():
            process.signal(number)
            if number == signal.SIGKILL:
                process.wait(10)

    def stop(self, grace: float = 10.0) -> None:
        """End the process by SIGTERM, or by SIGKILL after `grace` seconds."""
        if process := self._record.process():
            terminate([process], grace)
        self._record.remove()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return "\n".join([f"the end of {self.log}:", *lines])
