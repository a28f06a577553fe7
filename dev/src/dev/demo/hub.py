"""The cluster as the reader uses it: kubectl, each command shown as it is run, with its output.

Waiting is always for something that the journal says, and never without a limit.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dev.component import mark
from dev.demo import journal, pods
from dev.demo.follow import Follow
from dev.demo.journal import Journal
from dev.demo.pods import Pods
from dev.demo.screen import Screen
from dev.errors import DevError
from dev.kubectl import kubectl_path

ROOT = Path(__file__).parents[4]
COMMAND_SECONDS = 90.0
POLL_SECONDS = 0.1


class Hub:
    """One stack's cluster; commands run in the checkout's folder, so that they can be repeated there."""

    def __init__(self, state: Path, kubeconfig: Path, screen: Screen) -> None:
        """Start to keep the records of jobs and pods."""
        self.screen = screen
        self._state = state
        self._env = {"KUBECONFIG": str(kubeconfig)}
        self._kubectl = str(kubectl_path())
        self._followed = 0
        self.in_vain = False
        """Whether something was awaited that did not come in time."""
        self.journal = Journal(self.follow(*journal.WATCH))
        self.pods = Pods(self.follow(*pods.WATCH))

    def run(self, *args: str) -> str:
        """Run kubectl to its end; DevError if it fails."""
        self.screen.command(shlex.join(("kubectl", *args)))
        output = self._run(args)
        self.screen.output(output)
        return output

    def quietly(self, *args: str) -> str:
        """Run kubectl for what isn't part of the story."""
        return self._run(args)

    def follow(self, *args: str) -> Follow:
        """Run kubectl in the background."""
        self.screen.command(shlex.join(("kubectl", *args)) + " &")
        self._followed += 1
        output = self._state / f"kubectl-{self._followed}.log"
        return Follow([self._kubectl, *args], {**mark(self._state), **self._env}, output)

    def wait(self, done: Callable[[], bool], seconds: float, shown: Follow | None = None) -> None:
        """Wait until the journal says so, or it takes too long (`in_vain`).

        `shown`: a command whose lines are shown meanwhile, as they come.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.journal.read()
            ready = done()
            if shown:
                self._show(shown, linger=ready)
            if ready:
                return
            if time.monotonic() > deadline:
                self.in_vain = True
                return
            time.sleep(POLL_SECONDS)

    def _show(self, follow: Follow, *, linger: bool) -> None:
        """Show its new lines; `linger`: the journal is ahead, the last of them may be on the way."""
        if linger:
            time.sleep(2 * POLL_SECONDS)
        for line in follow.lines():
            self.screen.output(line)

    def _run(self, args: tuple[str, ...]) -> str:
        try:
            done = subprocess.run(
                [self._kubectl, *args],
                cwd=ROOT,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DevError(f"kubectl {shlex.join(args)}: no answer in {COMMAND_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise DevError(f"kubectl {shlex.join(args)}: {done.stdout.strip()}")
        return done.stdout
