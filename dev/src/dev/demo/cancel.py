"""The demo's step about cancel: a waiting job, and a running one, whose log outlives its pod."""

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dev.demo.demo_cluster import DemoCluster
from dev.demo.job_journal import format_phases
from dev.demo.report import Report

RUNNING, WAITING = "cancel-running", "cancel-waiting"
TIMEOUT_SECONDS = 60.0
PATCH = json.dumps({"spec": {"cancel": True}}, separators=(",", ":"))


def show(cluster: DemoCluster, report: Report) -> None:
    """Cancel the waiting job, then the running one."""
    cluster.screen.heading("Cancel")
    cluster.screen.paragraph("The group quota has room for one of these two jobs, so the other one waits.")
    watch = cluster.run_in_background(
        "-n", "hub", "get", "phj", "--field-selector", "spec.groupName=phusers", "-w"
    )
    cluster.run("create", "-f", "k8s/demo/cancel.yaml")
    cluster.wait(lambda: _one_runs_and_one_waits(cluster), TIMEOUT_SECONDS, watch)
    for job in (WAITING, RUNNING):
        cancel(job, cluster)
        cluster.wait(
            lambda job=job: cluster.jobs.is_in_phase(job, "Cancelled"),  # type: ignore[misc]
            TIMEOUT_SECONDS,
            watch,
        )
    watch.terminate()
    cluster.screen.paragraph(
        "A cancelled job keeps its PhJob object, and loses its pod. The pods below belong to other jobs."
    )
    cluster.run("-n", "hub", "wait", "--for=delete", f"pod/{RUNNING}", f"--timeout={TIMEOUT_SECONDS:.0f}s")
    pods = cluster.run("-n", "hub", "get", "pods")
    for job, phases in (
        (WAITING, "Pending -> Cancelled"),
        (RUNNING, "Pending -> Preparing -> Running -> Cancelled"),
    ):
        report.check(f"{job} went through {phases}", phases, format_phases(cluster.jobs.states_of(job)))
    report.add(f"the pod of {RUNNING} is deleted", ok=RUNNING not in pods)
    _show_log(cluster, report)


def _show_log(cluster: DemoCluster, report: Report) -> None:
    """Show the archived log of the job that ran."""
    cluster.screen.paragraph(
        "Before PhJob deleted the pod, it stored the log in the log archive (logArchive.url), here a folder:"
    )
    url = cluster.run("-n", "hub", "get", "phj", RUNNING, "-o", "jsonpath={.status.logURL}")
    path = Path(unquote(urlsplit(url).path))
    cluster.screen.command(f"cat {shlex.quote(str(path))}")
    log = path.read_text() if path.is_file() else ""
    cluster.screen.output(log)
    report.add(f"the log of {RUNNING} is kept after its pod is deleted", ok=bool(log))


def _one_runs_and_one_waits(cluster: DemoCluster) -> bool:
    waiting = cluster.jobs.latest(WAITING)
    return (
        cluster.jobs.is_in_phase(RUNNING, "Running")
        and waiting is not None
        and waiting.reason == "GroupQuota"
    )


def cancel(job: str, cluster: DemoCluster) -> None:
    """Cancel a job as a user does."""
    cluster.run("-n", "hub", "patch", "phj", job, "--type=merge", "-p", PATCH)
