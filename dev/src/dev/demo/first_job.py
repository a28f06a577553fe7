"""The demo's first step: one job from `kubectl apply` to Succeeded, and its log."""

from dev.demo.demo_cluster import DemoCluster
from dev.demo.job_journal import FINAL_PHASES, format_phases, phases_of
from dev.demo.report import Report
from dev.options import NodeKind

JOB = "job-qm42d"
TIMEOUT_SECONDS = 60.0
# A job this short may end before it is observed as Running.
EXPECTED_PHASES = (["Pending", "Preparing", "Running", "Succeeded"], ["Pending", "Preparing", "Succeeded"])


def show(cluster: DemoCluster, report: Report, node: NodeKind) -> None:
    """Create the catalog and the job, follow the job to its end, and show its log."""
    cluster.screen.heading("One job, from submission to log")
    watch = cluster.run_in_background("-n", "hub", "get", "phj", "-w")
    cluster.screen.paragraph(
        "An administrator creates the catalog: an image, an instance type, and groups with users and quotas."
    )
    cluster.run("apply", "-f", "k8s/examples/0*.yaml")
    cluster.screen.paragraph(
        "A user submits a job. It is the example of PrimeHub's document on job submission, unchanged."
    )
    cluster.run("apply", "-f", "k8s/examples/11-job-qm42d.yaml")
    cluster.wait(lambda: cluster.jobs.is_in_phase(JOB, *FINAL_PHASES), TIMEOUT_SECONDS, watch)
    watch.terminate()
    states = cluster.jobs.states_of(JOB)
    report.add(f"{JOB} went through {format_phases(states)}", ok=phases_of(states) in EXPECTED_PHASES)
    log = cluster.run("-n", "hub", "logs", JOB)
    if node == "real":
        report.check(f"the log of {JOB} is its output, {log.strip()!r}", "start", log.strip())
