"""Requeueing: a job whose pod can't start goes back to the queue instead of holding its quota for ever.

It takes a while to happen, so the job is submitted early and looked at late.
"""

from textwrap import shorten

from dev.demo.cancel import cancel
from dev.demo.hub import Hub
from dev.demo.journal import FINAL, Seen, trail
from dev.demo.report import Report
from dev.progress import working

JOB = "requeue-me"
PREPARING_TIMEOUT_SECONDS = 15
"""The stack's jobSubmission.preparingTimeoutSeconds: far more than any other pod here needs to start."""
TIMES = 2
"""How often it is requeued before it is shown: the second time it then stays in the queue for 30 s."""
SECONDS = 150.0
CANCEL_SECONDS = 60.0
MESSAGE_WIDTH = 70
COLUMNS = ("Revision", "Status", "Reason", "Requeued", "Message")


def submit(hub: Hub) -> None:
    """Create the job, and leave it alone."""
    hub.screen.heading("A job that can't start")
    hub.screen.say(
        "Its image doesn't exist. This demo's settings give every pod "
        f"{PREPARING_TIMEOUT_SECONDS} s to start, not the usual 180\n"
        "(jobSubmission.preparingTimeoutSeconds). It is looked at again after the examples."
    )
    hub.run("create", "-f", "k8s/demo/requeue.yaml")


def show(hub: Hub, report: Report) -> None:
    """Show that it was requeued, and cancel it."""
    hub.screen.heading("Requeue")
    hub.journal.read()
    if not _is_requeued(hub):
        with working(f"waiting until {JOB} is requeued for the second time"):
            hub.wait(lambda: _is_requeued(hub), SECONDS)
    hub.screen.say(f"What has become of {JOB} since, change by change, as the API server saw it:")
    history = hub.journal.history(JOB)
    rows = [
        (
            str(seen.revision),
            seen.phase,
            seen.reason,
            str(seen.requeued),
            shorten(seen.message, MESSAGE_WIDTH),
        )
        for seen in history
    ]
    hub.screen.table(COLUMNS, rows)
    hub.run("-n", "hub", "get", "phj", JOB, "-o", "wide")
    _check_requeue(_until_requeued(history), report)
    cancel(JOB, hub)
    hub.wait(lambda: hub.journal.is_in(JOB, *FINAL), CANCEL_SECONDS)
    last = hub.journal.last(JOB)
    hub.run("-n", "hub", "get", "phj", JOB, "-o", "wide")
    report.check(f"{JOB} is Cancelled in the end", "Cancelled", last and last.phase)


def _check_requeue(history: list[Seen], report: Report) -> None:
    """On what happened up to the first requeue."""
    way = "Pending -> Preparing -> Pending"
    report.check(f"{JOB} went {way}", way, trail(history))
    last = history[-1]
    said = f"requeued {last.requeued}, reason {last.reason}, {last.message.partition(';')[0]!r}"
    why = f"the pod did not start within {PREPARING_TIMEOUT_SECONDS} s"
    report.check(f"it then says: {said}", f"requeued 1, reason Requeued, {why!r}", said)


def _is_requeued(hub: Hub) -> bool:
    last = hub.journal.last(JOB)
    return last is not None and (last.requeued >= TIMES or last.phase in FINAL)


def _until_requeued(history: list[Seen]) -> list[Seen]:
    """Up to its first return to the queue."""
    first = next((place for place, seen in enumerate(history) if seen.requeued), len(history))
    return history[: first + 1]
