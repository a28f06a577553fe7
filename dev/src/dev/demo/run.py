"""The demo from its beginning to its end: a stack of its own, all that is shown, and nothing left.

However it ends, by itself, by a failure or by Ctrl-C: no process stays. The logs stay only of a
demo that failed.
"""

import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import yaml

from dev.demo import cancel, examples, first_job, requeue
from dev.demo.hub import ROOT, Hub
from dev.demo.report import Report
from dev.demo.screen import Screen
from dev.errors import DevError
from dev.kubectl import kubectl_path
from dev.options import NodeKind
from dev.progress import say, spell, working
from dev.stack import Stack

NODES = {"real": "that runs real containers", "kwok": "whose pods KWOK plays: no container runs"}
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(node: NodeKind) -> None:
    """Show what PhJob does, on a stack of its own; DevError unless all was as it should be."""
    started = time.monotonic()
    screen = Screen()
    report = Report(screen)
    with _interruptible_once():
        state = Path(tempfile.mkdtemp(prefix="phjob-demo-"))
        try:
            with _stack(state, node) as stack:
                _show(stack, state, node, report, screen)
        except DevError as error:
            report.add(f"everything could be shown: {error}", ok=False)
        except (KeyboardInterrupt, SystemExit):  # The latter is rich's, when nobody reads stdout any more.
            shutil.rmtree(state)
            say("the demo was interrupted; nothing of it runs any more")
            raise SystemExit(128 + signal.SIGINT) from None
        report.summary()
        if not report.ok:
            raise DevError(f"the demo failed; its logs are in {state}")
        shutil.rmtree(state)
    took = spell(time.monotonic() - started)
    screen.say(f"All was as it should be, and nothing of the demo runs any more. It took {took}.")


def _show(stack: Stack, state: Path, node: NodeKind, report: Report, screen: Screen) -> None:
    """Everything, in the order in which it is told."""
    screen.heading("PhJob is up")
    screen.say(f"Its four services, RabbitMQ, and a Kubernetes {NODES[node]}. To look on from another shell:")
    screen.command(f"export KUBECONFIG={shlex.quote(str(stack.kubeconfig))}")
    if shutil.which("kubectl") is None:
        screen.command(f'export PATH={shlex.quote(str(kubectl_path().parent))}:"$PATH"')
    screen.command(f"cd {shlex.quote(str(ROOT))}")
    screen.say(
        "What is checked below is checked on the API server's own record of each change of a job or pod:"
    )
    hub = Hub(state, stack.kubeconfig, screen)
    steps = [
        partial(first_job.show, hub, report, node),
        partial(requeue.submit, hub),
        partial(examples.prepare, hub),
        *(partial(examples.show, example, hub, report) for example in examples.EXAMPLES),
        partial(cancel.show, hub, report),
        partial(requeue.show, hub, report),
    ]
    for step in steps:
        step()
        if hub.in_vain:
            report.add("what was awaited came in time; the rest is left out", ok=False)
            return


@contextmanager
def _stack(state: Path, node: NodeKind) -> Iterator[Stack]:
    """A stack that is up inside, and down after, whatever happens."""
    settings = state / "settings.yaml"
    content = {
        "jobSubmission": {"preparingTimeoutSeconds": requeue.PREPARING_TIMEOUT_SECONDS},
        "logArchive": {"url": (state / "archive").as_uri()},
    }
    settings.write_text(yaml.safe_dump(content))
    stack = Stack(state, node=node, settings=settings)
    try:
        try:
            stack.up()
        except DevError as error:
            hint = "\nWhere no real containers can run: make demo NODE=kwok" if node == "real" else ""
            raise DevError(f"{error}{hint}") from error
        yield stack
    finally:
        _ignore_signals()
        with working("ending the demo's stack"):
            stack.down()


@contextmanager
def _interruptible_once() -> Iterator[None]:
    """Let any wish to stop be a KeyboardInterrupt, and let no second one disturb the cleaning up."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # As under nohup.
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
