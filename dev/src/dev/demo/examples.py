"""The demo's step about the queue: Examples 1 and 2 of PrimeHub's document (spec.md, Q2a and Q2b).

The jobs run for a limited time and then end by themselves. Therefore the checks use the states before the end
of the first job, not the states at the time of the check.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dev.demo.demo_cluster import DemoCluster
from dev.demo.job_journal import FINAL_PHASES, JobState, format_phases
from dev.demo.report import Report

DECISION_TIMEOUT_SECONDS = 60.0
END_TIMEOUT_SECONDS = 120.0
GPU = "nvidia.com/gpu"
NODE_GPUS = "8"
QUOTA_GPUS = 4
QUOTA_COLUMNS = "GROUP:.metadata.name,USER-QUOTA:.spec.userQuota,GROUP-QUOTA:.spec.groupQuota"


@dataclass(frozen=True)
class Example:
    """One example of the document, and its expected results."""

    number: int
    results: Mapping[str, str]
    """The phase of each job, by its letter: the column Result of the document."""
    blocked_by: str
    """The `status.reason` with which B waits."""
    order: str
    """The order in which the jobs become Preparing."""
    explanation: str

    @property
    def group(self) -> str:
        """The group of the jobs."""
        return f"phusers-example-{self.number}"

    @property
    def jobs(self) -> dict[str, str]:
        """The name of each job, by its letter."""
        return {letter: f"example-{self.number}-{letter.lower()}" for letter in self.results}


EXAMPLES = (
    Example(
        1,
        {"A": "Preparing", "B": "Pending", "C": "Pending"},
        "GroupQuota",
        "A, B, C",
        "A uses 2 of the group's 4 GPUs. B needs 4, so it waits. C needs 2, and waits behind B: first in, "
        "first out.",
    ),
    Example(
        2,
        {"A": "Preparing", "B": "Pending", "C": "Preparing"},
        "UserQuota",
        "A, C, B",
        "A uses 2 of bob's 4 GPUs. B, also of bob, needs 4, so it waits. That blocks only bob: C of lin is "
        "admitted.",
    ),
)


def prepare(cluster: DemoCluster) -> None:
    """Add GPUs to the nodes, and create the groups."""
    cluster.screen.heading("GPUs for the examples")
    cluster.screen.paragraph(
        "The examples need no real GPU, because quotas count what jobs request. So that Kubernetes finds a\n"
        f"node for the pods, the demo adds {NODE_GPUS} GPUs to the status of the node. Kubernetes only\n"
        "counts them."
    )
    amount = {GPU: NODE_GPUS}
    patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}}, separators=(",", ":"))
    for node in cluster.run_quietly("get", "nodes", "-o", "name").split():
        cluster.run("patch", node, "--subresource=status", "--type=merge", "-p", patch)
    cluster.run("create", "-f", "k8s/demo/gpu.yaml")


def show(example: Example, cluster: DemoCluster, report: Report) -> None:
    """Submit the three jobs at once, and show which are admitted, and when."""
    cluster.screen.heading(f"Example {example.number}")
    cluster.screen.paragraph(example.explanation)
    watch = cluster.run_in_background(
        "-n", "hub", "get", "phj", "--field-selector", f"spec.groupName={example.group}", "-w"
    )
    cluster.run("-n", "hub", "get", "phg", example.group, "-o", f"custom-columns={QUOTA_COLUMNS}")
    _wait_for_new_second()
    cluster.run("create", "-f", f"k8s/demo/example-{example.number}.yaml")
    cluster.wait(lambda: _is_decided(example, cluster), DECISION_TIMEOUT_SECONDS, watch)
    _show_results(example, cluster, report)
    cluster.screen.paragraph("The admitted jobs now end, and PhJob admits the jobs that wait.")
    cluster.wait(lambda: _is_over(example, cluster), END_TIMEOUT_SECONDS, watch)
    watch.terminate()
    _show_order(example, cluster, report)


def _show_results(example: Example, cluster: DemoCluster, report: Report) -> None:
    """Show the expected and the actual result of each job, and the reason of B."""
    gpus = _gpus_of_instance_types(cluster)
    rows, actual = [], {}
    for letter, job in example.jobs.items():
        states = _states_before_first_end(example, cluster, job)
        if not states:
            continue
        is_admitted = any(state.phase == "Preparing" for state in states)
        actual[letter] = "Preparing" if is_admitted else states[-1].phase
        needed = str(gpus[states[0].instance_type])
        user, expected = states[0].user, example.results[letter]
        rows.append((letter, needed, user, expected, actual[letter], format_phases(states)))
    cluster.screen.table(("Job", "GPUs", "User", "Expected", "Actual", "Phases so far"), rows)
    expected_results = _format_results(example.results)
    report.check(f"Example {example.number}: {expected_results}", expected_results, _format_results(actual))
    blocked = _blocked_state(example, cluster)
    message = blocked.message if blocked else ""
    report.check(
        f"Example {example.number}: B waits with the reason {example.blocked_by} ({message})",
        example.blocked_by,
        blocked and blocked.reason,
    )


def _show_order(example: Example, cluster: DemoCluster, report: Report) -> None:
    """Show the order in which the jobs became Preparing, and check how they ended."""
    journal, jobs = cluster.jobs, example.jobs
    entries = [
        (letter, state) for letter, job in jobs.items() if (state := journal.first_in_phase(job, "Preparing"))
    ]
    entries.sort(key=lambda entry: entry[1].revision)
    rows = [(letter, state.created, state.preparing_time, str(state.revision)) for letter, state in entries]
    cluster.screen.table(("Job", "Created", "Preparing since", "Resource version"), rows)
    prefix = f"Example {example.number}: "
    order = ", ".join(letter for letter, _ in entries)
    report.check(f"{prefix}the jobs became Preparing in the order {example.order}", example.order, order)
    succeeded = all(journal.is_in_phase(job, "Succeeded") for job in jobs.values())
    report.add(f"{prefix}all jobs became Succeeded", ok=succeeded)
    peak = cluster.pods.peak_gpus(jobs.values())
    report.check(f"{prefix}their pods used up to {QUOTA_GPUS} GPUs at a time, and no more", QUOTA_GPUS, peak)


def _is_decided(example: Example, cluster: DemoCluster) -> bool:
    """Return whether the results can be shown, or a job has already ended.

    They can be shown when the admitted jobs run and B has its reason.
    """
    jobs = example.jobs
    if any(cluster.jobs.is_in_phase(job, *FINAL_PHASES) for job in jobs.values()):
        return True
    admitted = [jobs[letter] for letter, result in example.results.items() if result == "Preparing"]
    are_running = all(cluster.jobs.first_in_phase(job, "Running") for job in admitted)
    return are_running and _blocked_state(example, cluster) is not None


def _is_over(example: Example, cluster: DemoCluster) -> bool:
    """Return whether all jobs of the example have ended."""
    return all(cluster.jobs.is_in_phase(job, *FINAL_PHASES) for job in example.jobs.values())


def _blocked_state(example: Example, cluster: DemoCluster) -> JobState | None:
    """Return the first state of B with a message that says why it waits.

    Returns None if there is none yet.
    """
    states = cluster.jobs.states_of(example.jobs["B"])
    return next((state for state in states if state.phase == "Pending" and state.message), None)


def _states_before_first_end(example: Example, cluster: DemoCluster, job: str) -> list[JobState]:
    """Return the states of the job before the first pod of the example ended.

    That end makes room for other jobs.
    """
    end = cluster.pods.first_end(example.jobs.values())
    return [state for state in cluster.jobs.states_of(job) if end is None or state.revision < end]


def _wait_for_new_second() -> None:
    """Wait for the start of a second, so that all jobs get the same creationTimestamp.

    Their order is then the hardest to keep.
    """
    time.sleep(1 - time.time() % 1)


def _gpus_of_instance_types(cluster: DemoCluster) -> dict[str, int]:
    """Return the number of GPUs of each instance type."""
    items = json.loads(cluster.run_quietly("-n", "hub", "get", "instancetypes", "-o", "json"))["items"]
    return {item["metadata"]["name"]: int(item["spec"].get(f"limits.{GPU}", 0)) for item in items}


def _format_results(phases: Mapping[str, str]) -> str:
    return ", ".join(f"{letter} {phase}" for letter, phase in phases.items())
