"""`kubectl phjob` as a user runs it: a process of its own, with a kubeconfig."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[str]


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

    @staticmethod
    def command(*args: str) -> list[str]:
        """Its words."""
        return [sys.executable, "-m", "kubectl_phjob", *args]
