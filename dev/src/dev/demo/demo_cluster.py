"""The cluster of the demo. Each kubectl command is shown with its output when it runs.

Every wait is for a state of the journals, and has a time limit.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dev.component import mark
from dev.demo import job_journal, pod_journal
from dev.demo.background_command import BackgroundCommand
from dev.demo.job_journal import JobJournal
from dev.demo.pod_journal import PodJournal
from dev.demo.screen import Screen
from dev.errors import DevError
from dev.kubectl import kubectl_path

ROOT = Path(__file__).parents[4]
COMMAND_TIMEOUT_SECONDS = 90.0
POLL_SECONDS = 0.1


class DemoCluster:
    """One stack's cluster. Commands run in the folder of the checkout, so that a reader can repeat them."""

    def __init__(self, state: Path, kubeconfig: Path, screen: Screen) -> None:
        """Start the journals of jobs and pods."""
        self.screen = screen
        self._state = state
        self._env = {"KUBECONFIG": str(kubeconfig)}
        self._kubectl = str(kubectl_path())
        self._background_commands = 0
        self.timed_out = False
        """True after a wait has reached its time limit."""
        self.jobs = JobJournal(self.run_in_background(*job_journal.WATCH))
        self.pods = PodJournal(self.run_in_background(*pod_journal.WATCH))

    def run(self, *args: str) -> str:
        """Run kubectl and show it. Returns its output.

        Raises:
            DevError: it failed.

        """
        self.screen.command(shlex.join(("kubectl", *args)))
        output = self._run(args)
        self.screen.output(output)
        return output

    def run_quietly(self, *args: str) -> str:
        """Run kubectl without showing it. Returns its output."""
        return self._run(args)

    def run_in_background(self, *args: str) -> BackgroundCommand:
        """Start kubectl in the background, and show its command."""
        self.screen.command(shlex.join(("kubectl", *args)) + " &")
        self._background_commands += 1
        output = self._state / f"kubectl-{self._background_commands}.log"
        return BackgroundCommand([self._kubectl, *args], {**mark(self._state), **self._env}, output)

    def wait(self, done: Callable[[], bool], seconds: float, shown: BackgroundCommand | None = None) -> None:
        """Wait until `done` returns true, or set `timed_out` after the time limit.

        `shown` is a command whose new lines are shown meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.jobs.read()
            is_done = done()
            if shown:
                self._show(shown, linger=is_done)
            if is_done:
                return
            if time.monotonic() > deadline:
                self.timed_out = True
                return
            time.sleep(POLL_SECONDS)

    def _show(self, command: BackgroundCommand, *, linger: bool) -> None:
        """Show the new lines of a command.

        With `linger`, wait a moment before: the journal may be ahead of the command's last lines.
        """
        if linger:
            time.sleep(2 * POLL_SECONDS)
        for line in command.new_lines():
            self.screen.output(line)

    def _run(self, args: tuple[str, ...]) -> str:
        command = f"kubectl {shlex.join(args)}"
        try:
            done = subprocess.run(
                [self._kubectl, *args],
                cwd=ROOT,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DevError(f"{command}: no answer within {COMMAND_TIMEOUT_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise DevError(f"{command}: {done.stdout.strip()}")
        return done.stdout
