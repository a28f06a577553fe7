"""A component of the stack: one background process, its log, its pid file, and when it is ready.

Which components there are, and with what command, is for the modules that are named after them.
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
from dev.process import Process, end, spawn

POLL_SECONDS = 0.1
TAIL_LINES = 20
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


def mark(state: Path) -> dict[str, str]:
    """In the environment of every process of this STATE, and of all that they start in turn."""
    return {"PHJOB_STATE": str(state)}


def write_private(path: Path, content: str) -> None:
    """Write a file that may hold secrets: for this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(content)


@dataclass(frozen=True)
class Spec:
    """What to run under one name."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    """Configuration files, written before each start."""
    ready_within: float = 60.0
    """Seconds; generous, for a busy machine."""

    def fingerprint(self) -> str:
        """Changes with anything that a running process would have to be restarted for."""
        parts = (list(self.argv), sorted(self.env.items()), sorted(map(str, self.files.items())))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class Record:
    """The process that runs, or ran, under a component's name in one STATE."""

    def __init__(self, state: Path, name: str) -> None:
        """Of the component of this name."""
        self.name = name
        self.log = state / f"{name}.log"
        self._pid_file = state / f"{name}.pid"
        self._file = state / "run" / f"{name}.json"

    @classmethod
    def all(cls, state: Path) -> list["Record"]:
        """Of everything that was started in this STATE and not ended since."""
        return [cls(state, file.stem) for file in sorted((state / "run").glob("*.json"))]

    def process(self) -> Process | None:
        """The process, if it still runs."""
        content = self._content()
        process = Process(int(content["pid"]), content["started"]) if content else None
        return process if process and process.alive() else None

    def fingerprint(self) -> str | None:
        """Of the spec that it was started with."""
        content = self._content()
        return content["fingerprint"] if content else None

    def write(self, process: Process, fingerprint: str) -> None:
        """Remember what was started."""
        self._file.parent.mkdir(exist_ok=True)
        content = {"pid": str(process.pid), "started": process.started, "fingerprint": fingerprint}
        self._file.write_text(json.dumps(content))
        self._pid_file.write_text(f"{process.pid}\n")

    def remove(self) -> None:
        """Forget a process that has ended."""
        self._file.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _content(self) -> dict[str, str] | None:
        return json.loads(self._file.read_text()) if self._file.exists() else None


class Component:
    """One component of one stack: started, killed, stopped and awaited on its own."""

    def __init__(self, state: Path, spec: Spec) -> None:
        """The component of this spec in this STATE."""
        self.spec = spec
        self._mark = mark(state)
        self._record = Record(state, spec.name)

    @property
    def name(self) -> str:
        """As in `STATE/<name>.log`."""
        return self.spec.name

    @property
    def log(self) -> Path:
        """The file that its output is appended to."""
        return self._record.log

    @property
    def pid(self) -> int | None:
        """None if it doesn't run."""
        process = self._record.process()
        return process.pid if process else None

    def is_current(self) -> bool:
        """Whether it runs, and with the command and configuration that it would be started with now."""
        return self.pid is not None and self._record.fingerprint() == self.spec.fingerprint()

    def start(self) -> None:
        """Start it, unless it runs; returns before it is ready."""
        if self.pid is not None:
            return
        for path, content in self.spec.files.items():
            write_private(path, content)
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        process = spawn(self.spec.argv, {**env, **self._mark, **self.spec.env}, self.log)
        self._record.write(process, self.spec.fingerprint())

    def wait_ready(self) -> None:
        """Return when it is ready; DevError with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + self.spec.ready_within
        while not self.spec.ready():
            if self.pid is None:
                raise DevError(f"{self.name} ended; {self._tail()}")
            if time.monotonic() > deadline:
                within = f"{self.spec.ready_within:.0f} s"
                raise DevError(f"{self.name} is not ready after {within}; {self._tail()}")
            time.sleep(POLL_SECONDS)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal; a SIGKILL is awaited."""
        if process := self._record.process():
            process.signal(number)
            if number == signal.SIGKILL:
                process.wait(10)

    def stop(self, grace: float = 10.0) -> None:
        """End it: SIGTERM, then SIGKILL after `grace` seconds."""
        if process := self._record.process():
            end([process], grace)
        self._record.remove()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return "\n".join([f"the end of {self.log}:", *lines])
