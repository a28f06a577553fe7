"""The demo's step about requeues: a job whose pod cannot start returns to its queue, and holds no quota.

A requeue takes a while. Therefore the demo submits the job early, and shows it late.
"""

from textwrap import shorten

from dev.demo.cancel import cancel
from dev.demo.demo_cluster import DemoCluster
from dev.demo.job_journal import FINAL_PHASES, JobState, format_phases
from dev.demo.report import Report
from dev.progress import show_progress

JOB = "requeue-me"
PREPARING_TIMEOUT_SECONDS = 15
"""The stack's `jobSubmission.preparingTimeoutSeconds`. The other pods of the demo start much faster."""
REQUEUES = 2
"""The number of requeues before the job is shown. After the second one, it has a backoff of 30 s."""
REQUEUES_TIMEOUT_SECONDS = 150.0
CANCEL_TIMEOUT_SECONDS = 60.0
MESSAGE_WIDTH_CHARS = 70
COLUMNS = ("Resource version", "Phase", "Reason", "Requeued", "Message")


def submit(cluster: DemoCluster) -> None:
    """Submit the job."""
    cluster.screen.heading("A job that cannot start")
    cluster.screen.paragraph(
        "The container image of this job does not exist. In this demo, a pod may take "
        f"{PREPARING_TIMEOUT_SECONDS} s to start, instead of 180 s\n"
        "(jobSubmission.preparingTimeoutSeconds). The demo returns to this job after the examples."
    )
    cluster.run("create", "-f", "k8s/demo/requeue.yaml")


def show(cluster: DemoCluster, report: Report) -> None:
    """Show that the job was requeued, and cancel it."""
    cluster.screen.heading("Requeue")
    cluster.jobs.read()
    if not _is_requeued(cluster):
        with show_progress(f"waiting for the second requeue of {JOB}"):
            cluster.wait(lambda: _is_requeued(cluster), REQUEUES_TIMEOUT_SECONDS)
    cluster.screen.paragraph(f"Every change of {JOB} since its creation, as the API server recorded it:")
    states = cluster.jobs.states_of(JOB)
    rows = [
        (
            str(state.revision),
            state.phase,
            state.reason,
            str(state.requeued),
            shorten(state.message, MESSAGE_WIDTH_CHARS),
        )
        for state in states
    ]
    cluster.screen.table(COLUMNS, rows)
    cluster.run("-n", "hub", "get", "phj", JOB, "-o", "wide")
    _check_requeue(_until_first_requeue(states), report)
    cancel(JOB, cluster)
    cluster.wait(lambda: cluster.jobs.is_in_phase(JOB, *FINAL_PHASES), CANCEL_TIMEOUT_SECONDS)
    latest = cluster.jobs.latest(JOB)
    cluster.run("-n", "hub", "get", "phj", JOB, "-o", "wide")
    report.check(f"{JOB} became Cancelled", "Cancelled", latest and latest.phase)


def _check_requeue(states: list[JobState], report: Report) -> None:
    """Check the states up to the first requeue."""
    phases = "Pending -> Preparing -> Pending"
    report.check(f"{JOB} went through {phases}", phases, format_phases(states))
    last = states[-1]
    actual = f"requeued {last.requeued}, reason {last.reason}, {last.message.partition(';')[0]!r}"
    cause = f"the pod did not start within {PREPARING_TIMEOUT_SECONDS} s"
    report.check(f"the status of {JOB} then was: {actual}", f"requeued 1, reason Requeued, {cause!r}", actual)


def _is_requeued(cluster: DemoCluster) -> bool:
    """Return whether the job was requeued `REQUEUES` times, or has ended."""
    latest = cluster.jobs.latest(JOB)
    return latest is not None and (latest.requeued >= REQUEUES or latest.phase in FINAL_PHASES)


def _until_first_requeue(states: list[JobState]) -> list[JobState]:
    """Return the states up to the first requeue, inclusive."""
    first = next((index for index, state in enumerate(states) if state.requeued), len(states))
    return states[: first + 1]
