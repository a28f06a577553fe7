"""Examples 1 and 2 of PrimeHub's document on job submission: who is admitted, who waits, who is next.

The jobs hold what they got for a bounded time and end by themselves. So what counts is not how
things are when they are looked at, but how they were before the first of the jobs ended.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dev.demo.hub import Hub
from dev.demo.journal import FINAL, Seen, trail
from dev.demo.report import Report

DECIDED_SECONDS = 60.0
DONE_SECONDS = 120.0
GPU = "nvidia.com/gpu"
NODE_GPUS = "8"
QUOTA_GPUS = 4
QUOTA_COLUMNS = "GROUP:.metadata.name,USER-QUOTA:.spec.userQuota,GROUP-QUOTA:.spec.groupQuota"


@dataclass(frozen=True)
class Example:
    """One example of the document, and what must come of it."""

    number: int
    results: Mapping[str, str]
    """Of each job, by its letter: the document's column Result."""
    blocked_by: str
    """Why B waits, as status.reason says it."""
    order: str
    """In which the jobs become Preparing, to the end."""
    point: str

    @property
    def group(self) -> str:
        """The jobs' group."""
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
        "B is short of the group's quota, and C is blocked by B: first in, first out.",
    ),
    Example(
        2,
        {"A": "Preparing", "B": "Pending", "C": "Preparing"},
        "UserQuota",
        "A, C, B",
        "B is short of its user's quota, which blocks nobody else: C is scheduled.",
    ),
)


def prepare(hub: Hub) -> None:
    """Give the node GPUs to count, and create the groups."""
    hub.screen.heading("GPUs for the examples")
    hub.screen.say(
        "No real GPU is needed: quotas count what jobs ask for. So that their pods find a node, it is said\n"
        f"to have {NODE_GPUS}: an extended resource, which Kubernetes just counts; no device is behind it."
    )
    amount = {GPU: NODE_GPUS}
    patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}}, separators=(",", ":"))
    for node in hub.quietly("get", "nodes", "-o", "name").split():
        hub.run("patch", node, "--subresource=status", "--type=merge", "-p", patch)
    hub.run("create", "-f", "k8s/demo/gpu.yaml")


def show(example: Example, hub: Hub, report: Report) -> None:
    """Submit the three jobs at once, show who is admitted, and then in which order the others follow."""
    hub.screen.heading(f"Example {example.number}")
    hub.screen.say(example.point)
    watch = hub.follow("-n", "hub", "get", "phj", "--field-selector", f"spec.groupName={example.group}", "-w")
    hub.run("-n", "hub", "get", "phg", example.group, "-o", f"custom-columns={QUOTA_COLUMNS}")
    _await_new_second()
    hub.run("create", "-f", f"k8s/demo/example-{example.number}.yaml")
    hub.wait(lambda: _is_decided(example, hub), DECIDED_SECONDS, watch)
    _show_results(example, hub, report)
    hub.screen.say("The jobs that got their GPUs run out now, and the waiting ones follow.")
    hub.wait(lambda: _is_over(example, hub), DONE_SECONDS, watch)
    watch.end()
    _show_order(example, hub, report)


def _show_results(example: Example, hub: Hub, report: Report) -> None:
    """The document's table, expected beside real, and what B says of itself."""
    gpus = _gpus(hub)
    rows, real = [], {}
    for letter, job in example.jobs.items():
        before = _before_any_ended(example, hub, job)
        if not before:
            continue
        admitted = any(seen.phase == "Preparing" for seen in before)
        real[letter] = "Preparing" if admitted else before[-1].phase
        asked = str(gpus[before[0].instance_type])
        rows.append((letter, asked, before[0].user, example.results[letter], real[letter], trail(before)))
    hub.screen.table(("Job", "Gpu Request", "User", "Expected", "Real", "As the API server saw it"), rows)
    expected = _spell(example.results)
    report.check(f"Example {example.number}: {expected}", expected, _spell(real))
    why = _why_blocked(example, hub)
    said = why.message if why else ""
    report.check(
        f"Example {example.number}: B waits for {example.blocked_by} ({said})",
        example.blocked_by,
        why and why.reason,
    )


def _show_order(example: Example, hub: Hub, report: Report) -> None:
    """In which order the jobs became Preparing, and whether all went well."""
    journal, jobs = hub.journal, example.jobs
    entries = [(letter, seen) for letter, job in jobs.items() if (seen := journal.entered(job, "Preparing"))]
    entries.sort(key=lambda entry: entry[1].revision)
    rows = [(letter, seen.created, seen.preparing_time, str(seen.revision)) for letter, seen in entries]
    hub.screen.table(("Job", "Created", "Preparing since", "In revision"), rows)
    prefix = f"Example {example.number}: "
    order = ", ".join(letter for letter, _ in entries)
    report.check(f"{prefix}they became Preparing in the order {example.order}", example.order, order)
    succeeded = all(journal.is_in(job, "Succeeded") for job in jobs.values())
    report.add(f"{prefix}all Succeeded", ok=succeeded)
    peak = hub.pods.peak(jobs.values())
    report.check(f"{prefix}their pods held {QUOTA_GPUS} GPUs at most", QUOTA_GPUS, peak)


def _is_decided(example: Example, hub: Hub) -> bool:
    """Whether every job is where it belongs and B knows why it waits, or it is too late for that."""
    jobs = example.jobs
    if any(hub.journal.is_in(job, *FINAL) for job in jobs.values()):
        return True
    admitted = [jobs[letter] for letter, result in example.results.items() if result == "Preparing"]
    running = all(hub.journal.entered(job, "Running") for job in admitted)
    return running and _why_blocked(example, hub) is not None


def _is_over(example: Example, hub: Hub) -> bool:
    """Whether all of its jobs have ended."""
    return all(hub.journal.is_in(job, *FINAL) for job in example.jobs.values())


def _why_blocked(example: Example, hub: Hub) -> Seen | None:
    """B, once it was told why it waits."""
    history = hub.journal.history(example.jobs["B"])
    return next((seen for seen in history if seen.phase == "Pending" and seen.message), None)


def _before_any_ended(example: Example, hub: Hub, job: str) -> list[Seen]:
    """The job's history until the first of their pods ended: from then on there is room for others."""
    end = hub.pods.first_end(example.jobs.values())
    return [seen for seen in hub.journal.history(job) if end is None or seen.revision < end]


def _await_new_second() -> None:
    """So that all three get the same creationTimestamp: their order is then harder to keep."""
    time.sleep(1 - time.time() % 1)


def _gpus(hub: Hub) -> dict[str, int]:
    """Of each instance type."""
    items = json.loads(hub.quietly("-n", "hub", "get", "instancetypes", "-o", "json"))["items"]
    return {item["metadata"]["name"]: int(item["spec"].get(f"limits.{GPU}", 0)) for item in items}


def _spell(states: Mapping[str, str]) -> str:
    return ", ".join(f"{letter} {state}" for letter, state in states.items())
