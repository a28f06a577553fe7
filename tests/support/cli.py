"""`kubectl phjob` as a user runs it: in a process of its own."""

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
    """The controlling side of a terminal in which the program runs."""

    pid: int
    descriptor: int

    def read(self, until: bytes = b"\0") -> bytes:
        """Return the output up to the text `until`, or up to the end of the program."""
        seen = b""
        with suppress(OSError):  # Linux raises it when the program has ended.
            while until not in seen and (piece := os.read(self.descriptor, 65536)):
                seen += piece
        assert b"Traceback" not in seen
        return seen

    def press(self, key: bytes) -> None:
        """Send a key to the program."""
        os.write(self.descriptor, key)

    def end(self) -> int:
        """Wait for the end of the program. Returns its exit code."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


class Cli:
    """`kubectl phjob` with the kubeconfig and the environment of one user."""

    def __init__(self, kubeconfig: Path | str, **environment: str) -> None:
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PHJOB_NAMESPACE": "hub",
            **environment,
        }
        self.environment.pop("FORCE_COLOR", None)

    def __call__(self, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
        """Run a command to its end. A failure is a normal outcome, a traceback is not."""
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
        """Return the output of a command with `-o json`, which must succeed."""
        done = self(*args, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command, and return without waiting for its end."""
        return subprocess.Popen(
            self.command(*args),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_a_terminal(self, *args: str) -> "Terminal":
        """Start a command in a terminal of its own."""
        pid, descriptor = pty.fork()
        if pid == 0:
            environment = {**self.environment, "TERM": "xterm", "COLUMNS": "200"}
            os.execve(sys.executable, self.command(*args), environment)  # noqa: S606 - without a shell
        return Terminal(pid, descriptor)

    @staticmethod
    def command(*args: str) -> list[str]:
        """Return the command line of a command."""
        return [sys.executable, "-m", "phjob_cli", *args]
