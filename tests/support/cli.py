"""`kubectl phjob` as a user runs it: a process of its own, with a kubeconfig."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Terminal:
    """The other side of a terminal in which the program runs."""

    pid: int
    descriptor: int

    def read(self, until: bytes = b"\0") -> bytes:
        """What it writes until that is in it, or it ends."""
        seen = b""
        with suppress(OSError):  # Linux says so when the other side is gone.
            while until not in seen and (piece := os.read(self.descriptor, 65536)):
                seen += piece
        assert b"Traceback" not in seen
        return seen

    def press(self, key: bytes) -> None:
        """Let a key be pressed."""
        os.write(self.descriptor, key)

    def end(self) -> int:
        """Wait until it has ended; its exit code."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


class Cli:
    """The program, for one user of one cluster."""

    def __init__(self, kubeconfig: Path | str, **environment: str) -> None:
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PHJOB_NAMESPACE": "hub",
            **environment,
        }
        self.environment.pop("FORCE_COLOR", None)

    def __call__(self, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
        """Run it to its end; a failure is an answer like any other, a traceback never is."""
        done = subprocess.run(
            self.command(*args),
            input=input,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    def json(self, *args: str) -> Any:
        """What it answers to a program; it must answer."""
        done = self(*args, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Run it beside the test."""
        return subprocess.Popen(
            self.command(*args),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_a_terminal(self, *args: str) -> "Terminal":
        """Run it in a terminal of its own."""
        pid, other_side = pty.fork()
        if pid == 0:
            environment = {**self.environment, "TERM": "xterm", "COLUMNS": "200"}
            os.execve(sys.executable, self.command(*args), environment)  # noqa: S606 - no shell is wanted
        return Terminal(pid, other_side)

    @staticmethod
    def command(*args: str) -> list[str]:
        """Its words."""
        return [sys.executable, "-m", "kubectl_phjob", *args]
