"""The demo from its start to its end: it starts a stack of its own, runs the steps, and removes the stack.

No process stays, whether the demo ends by itself, by a failure or by Ctrl-C. Only a demo that failed leaves
its logs.
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
from dev.demo.demo_cluster import ROOT, DemoCluster
from dev.demo.report import Report
from dev.demo.screen import Screen
from dev.errors import DevError
from dev.kubectl import kubectl_path
from dev.options import NodeKind
from dev.progress import format_duration, print_line, show_progress
from dev.stack import Stack

NODES = {"real": "runs real containers", "kwok": "is simulated by KWOK, so no container runs"}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(node: NodeKind) -> None:
    """Run the demo on a stack of its own.

    Raises:
        DevError: a check failed, or a step could not be shown.

    """
    started = time.monotonic()
    screen = Screen()
    report = Report(screen)
    with _interruptible_once():
        state = Path(tempfile.mkdtemp(prefix="phjob-demo-"))
        try:
            with _stack(state, node) as stack:
                _show(stack, state, node, report, screen)
        except DevError as error:
            report.add(f"the demo ran to its end: {error}", ok=False)
        except (KeyboardInterrupt, SystemExit):  # rich raises SystemExit when stdout is closed.
            shutil.rmtree(state)
            print_line("The demo was interrupted. Its stack is removed.")
            raise SystemExit(128 + signal.SIGINT) from None
        report.summary()
        if not report.ok:
            raise DevError(f"the demo failed; its logs are in {state}")
        shutil.rmtree(state)
    duration = format_duration(time.monotonic() - started)
    screen.paragraph(f"All checks passed, and the stack is removed. The demo took {duration}.")


def _show(stack: Stack, state: Path, node: NodeKind, report: Report, screen: Screen) -> None:
    """Run all steps of the demo."""
    screen.heading("The stack is up")
    screen.paragraph(
        f"It has a Kubernetes control plane, a node that {NODES[node]}, RabbitMQ, and PhJob's services.\n"
        "To use its cluster from another shell, run:"
    )
    screen.command(f"export KUBECONFIG={shlex.quote(str(stack.kubeconfig))}")
    if shutil.which("kubectl") is None:
        screen.command(f'export PATH={shlex.quote(str(kubectl_path().parent))}:"$PATH"')
    screen.command(f"cd {shlex.quote(str(ROOT))}")
    screen.paragraph(
        "Two watches of the API server record every change of a job or pod. The checks of the demo use them:"
    )
    cluster = DemoCluster(state, stack.kubeconfig, screen)
    steps = [
        partial(first_job.show, cluster, report, node),
        partial(requeue.submit, cluster),
        partial(examples.prepare, cluster),
        *(partial(examples.show, example, cluster, report) for example in examples.EXAMPLES),
        partial(cancel.show, cluster, report),
        partial(requeue.show, cluster, report),
    ]
    for step in steps:
        step()
        if cluster.timed_out:
            report.add("the expected states were reached in time (the other steps are skipped)", ok=False)
            return


@contextmanager
def _stack(state: Path, node: NodeKind) -> Iterator[Stack]:
    """Start a stack, and remove it at the end of the context, whatever happens."""
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
            hint = "\nIf real containers cannot run here, use: make demo NODE=kwok" if node == "real" else ""
            raise DevError(f"{error}{hint}") from error
        yield stack
    finally:
        _ignore_signals()
        with show_progress("removing the stack of the demo"):
            stack.down()


@contextmanager
def _interruptible_once() -> Iterator[None]:
    """Turn the first stop signal into a KeyboardInterrupt, and ignore further ones.

    Without this, a second Ctrl-C would interrupt the removal of the stack.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup ignores SIGHUP. That must stay so.
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
