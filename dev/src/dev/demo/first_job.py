"""One job from `kubectl apply` to Succeeded, and its log: PrimeHub's own example, word for word."""

from dev.demo.hub import Hub
from dev.demo.journal import FINAL, phases, trail
from dev.demo.report import Report
from dev.options import NodeKind

JOB = "job-qm42d"
SECONDS = 60.0
# A job as quick as this one may be over before anybody has seen it Running.
WAYS = (["Pending", "Preparing", "Running", "Succeeded"], ["Pending", "Preparing", "Succeeded"])


def show(hub: Hub, report: Report, node: NodeKind) -> None:
    """Apply the catalog and the job, follow it to its end, print its log."""
    hub.screen.heading("A job, from kubectl to Succeeded")
    watch = hub.follow("-n", "hub", "get", "phj", "-w")
    hub.screen.say("An administrator's catalog: an image, an instance type, groups with users and quotas.")
    hub.run("apply", "-f", "k8s/examples/0*.yaml")
    hub.screen.say("A user's job: the example of PrimeHub's document on job submission, as it stands there.")
    hub.run("apply", "-f", "k8s/examples/11-job-qm42d.yaml")
    hub.wait(lambda: hub.journal.is_in(JOB, *FINAL), SECONDS, watch)
    watch.end()
    history = hub.journal.history(JOB)
    report.add(f"{JOB} went {trail(history)}", ok=phases(history) in WAYS)
    log = hub.run("-n", "hub", "logs", JOB)
    if node == "real":
        report.check(f"its log is what it printed, {log.strip()!r}", "start", log.strip())
