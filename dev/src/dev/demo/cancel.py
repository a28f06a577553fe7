"""Cancelling: a job that waits, and one that runs, whose pod is then gone, and whose log is kept."""

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dev.demo.hub import Hub
from dev.demo.journal import trail
from dev.demo.report import Report

RUNNING, WAITING = "cancel-running", "cancel-waiting"
SECONDS = 60.0
PATCH = json.dumps({"spec": {"cancel": True}}, separators=(",", ":"))


def show(hub: Hub, report: Report) -> None:
    """Cancel the waiting job, then the running one."""
    hub.screen.heading("Cancel")
    hub.screen.say("Two jobs, and room for one of them: the other waits.")
    watch = hub.follow("-n", "hub", "get", "phj", "--field-selector", "spec.groupName=phusers", "-w")
    hub.run("create", "-f", "k8s/demo/cancel.yaml")
    hub.wait(lambda: _one_runs_one_waits(hub), SECONDS, watch)
    for job in (WAITING, RUNNING):
        cancel(job, hub)
        hub.wait(lambda job=job: hub.journal.is_in(job, "Cancelled"), SECONDS, watch)  # type: ignore[misc]
    watch.end()
    hub.screen.say(
        "A cancelled job leaves its record, and no pod; those that are still there belong to other jobs."
    )
    hub.run("-n", "hub", "wait", "--for=delete", f"pod/{RUNNING}", f"--timeout={SECONDS:.0f}s")
    pods = hub.run("-n", "hub", "get", "pods")
    for job, way in (
        (WAITING, "Pending -> Cancelled"),
        (RUNNING, "Pending -> Preparing -> Running -> Cancelled"),
    ):
        report.check(f"{job} went {way}", way, trail(hub.journal.history(job)))
    report.add(f"the pod of {RUNNING} is gone", ok=RUNNING not in pods)
    _show_log(hub, report)


def _show_log(hub: Hub, report: Report) -> None:
    """The log of the job that ran, from the archive."""
    hub.screen.say("Its log was put into the log archive before (logArchive.url), here a folder:")
    url = hub.run("-n", "hub", "get", "phj", RUNNING, "-o", "jsonpath={.status.logURL}")
    path = Path(unquote(urlsplit(url).path))
    hub.screen.command(f"cat {shlex.quote(str(path))}")
    log = path.read_text() if path.is_file() else ""
    hub.screen.output(log)
    report.add(f"the log of {RUNNING} is kept though its pod is gone", ok=bool(log))


def _one_runs_one_waits(hub: Hub) -> bool:
    waiting = hub.journal.last(WAITING)
    return hub.journal.is_in(RUNNING, "Running") and waiting is not None and waiting.reason == "GroupQuota"


def cancel(job: str, hub: Hub) -> None:
    """As a user does it."""
    hub.run("-n", "hub", "patch", "phj", job, "--type=merge", "-p", PATCH)
