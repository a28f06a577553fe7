"""docs/why.md: twelve situations on real containers, and the exact answers of the CLI.

With PHJOB_WRITE_PAGES=1, the answers are written into the page instead of compared with it.
"""

import json
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from tests.support.api import Api
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.cli import Cli, Done
from tests.support.cluster import NAMESPACE, Cluster, cluster_on
from tests.support.nodes import ready_condition
from tests.support.stacks import RealNode
from tests.support.waiting import eventually

from dev.stack import Stack

pytestmark = pytest.mark.real_node

PAGE = Path(__file__).parents[2] / "docs" / "why.md"
WRITES = bool(os.environ.get("PHJOB_WRITE_PAGES"))
SETTINGS = "jobSubmission: {preparingTimeoutSeconds: 20}\n"
LONG_SECONDS = 180

SPAN = re.compile(r"\b\d+ (?:d|h|min|s)(?: \d+ (?:h|min|s))?\b")
WITH_TIMES = ("Status", "Held by", "Starts", " ")
"""Beginnings of lines in which times differ from run to run."""


@dataclass
class Case:
    """A group named vision, and a job named train, which the page explains."""

    cluster: Cluster

    def __post_init__(self) -> None:
        self.cli = Cli(self.cluster.stack.kubeconfig)
        self.group = self.cluster.unique_name("vision")
        self.image = self.cluster.unique_name("notebook")
        self.sizes = {size: self.cluster.unique_name(size) for size in ("small", "large", "huge")}

    def create(self, **spec: Any) -> None:
        """Create the group, an image, and instance types of 0.5, 1 and 4 cores."""
        self.cluster.create(an_image(self.image))
        for size, cpu in (("small", 0.5), ("large", 1), ("huge", 4)):
            limits = {"limits.cpu": cpu, "limits.memory": "64M", "requests.cpu": 0.01}
            self.cluster.create(an_instance_type(self.sizes[size], limits))
        granted = {"images": [self.image], "instanceTypes": [*self.sizes.values()]}
        self.cluster.create(a_group(self.group, **{"groupQuota": {"cpu": "1"}, **granted, **spec}))

    def job_manifest(
        self, name: str = "train", size: str = "small", seconds: int = 3600, **fields: Any
    ) -> dict[str, Any]:
        """Return a job that sleeps."""
        spec = {"group": self.group, "image": self.image, "instanceType": self.sizes[size]}
        return a_job(self.cluster.unique_name(name), command=f"sleep {seconds}", **{**spec, **fields})

    def submit(self, name: str = "train", size: str = "small", **fields: Any) -> str:
        """Create a job that sleeps. Returns its name."""
        (created,) = self.cluster.create(self.job_manifest(name, size, **fields))
        return created

    def run(self, name: str, size: str = "small", **fields: Any) -> str:
        """Create a job that sleeps, and wait until it runs. Returns its name."""
        job = self.submit(name, size, **fields)
        self.cluster.wait_for_phase(job, "Running", within=LONG_SECONDS)
        return job

    def pod_has(self, name: str, reason: str) -> None:
        """Wait until the reason is anywhere in the pod's status."""

        def has_reason() -> bool:
            pod = self.cluster.pod(name)
            return pod is not None and f'"{reason}"' in json.dumps(pod.object["status"])

        eventually(has_reason, f"pod {name} has the reason {reason}", within=LONG_SECONDS)


def free_queue(case: Case) -> str:
    case.create()
    case.run("train")
    return "Running: "


def behind_a_head(case: Case) -> str:
    case.create()
    for number in range(3):
        case.cluster.wait_for_phase(case.submit(f"old-{number}", seconds=5), "Succeeded", within=LONG_SECONDS)
    case.run("long", user="pan")
    head = case.submit("head", "large", user="lin")
    case.submit("second", user="pan")
    case.submit("third", user="lin")
    case.submit()
    case.cluster.wait_for_reason(head, "GroupQuota")
    return "BehindHead: "


def user_quota(case: Case) -> str:
    case.create(groupQuota={"cpu": "2"}, userQuota={"cpu": "500m"})
    case.run("mine", activeDeadlineSeconds=7200)
    case.run("other", user="lin")
    case.cluster.wait_for_reason(case.submit(), "UserQuota")
    return "UserQuota: "


def group_quota(case: Case) -> str:
    case.create()
    case.run("first", user="lin", activeDeadlineSeconds=7200)
    case.run("second", user="pan", activeDeadlineSeconds=3600)
    case.cluster.wait_for_reason(case.submit(), "GroupQuota")
    return "GroupQuota: "


def held_by_jupyter(case: Case) -> str:
    case.create()
    pod = a_notebook(case.cluster.unique_name("jupyter-lin"), group=case.group, user="lin", cpu="750m")
    pod["spec"]["containers"][0] |= {"command": ["sleep", "3600"]}
    pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "10m"}
    case.cluster.create(pod)
    eventually(
        lambda: (pod_event := case.cluster.pod(pod["metadata"]["name"])) and pod_event.phase == "Running",
        "the notebook runs",
        within=LONG_SECONDS,
    )
    case.cluster.wait_for_reason(case.submit(), "GroupQuota")
    return "Notebooks: "


def backoff(case: Case) -> str:
    case.create()
    nowhere(case)
    train = case.submit(instanceType=case.cluster.unique_name("nowhere"))
    eventually(lambda: "requeueAfter" in case.cluster.status(train), "it is in backoff", within=LONG_SECONDS)
    return "Backoff: "


def impossible(case: Case) -> str:
    case.create()
    case.cluster.wait_for_phase(case.submit(size="huge"), "Failed")
    return "Finished: OverQuota: "


def unknown_names(case: Case) -> str:
    case.create()
    case.cluster.wait_for_phase(case.submit(image="misspelt"), "Failed")
    return "Finished: InvalidSpec: "


def quota_paused(case: Case) -> str:
    case.create()
    running = case.run("running", "large")
    case.cluster.wait_for_reason(case.submit(), "GroupQuota")
    case.cluster.patch_spec("PhGroup", case.group, groupQuota={"cpu": 0})
    case.cluster.wait_for_reason(case.cluster.unique_name("train"), "OverQuota")
    assert case.cluster.job(running).phase == "Running"
    return "Unavailable: "


def unschedulable(case: Case) -> str:
    case.create()
    nowhere(case)
    train = case.submit(instanceType=case.cluster.unique_name("nowhere"))
    case.pod_has(train, "Unschedulable")
    return "Starting: no node can take it: "


def nowhere(case: Case) -> None:
    """Grant an instance type whose jobs fit on no node."""
    name = case.cluster.unique_name("nowhere")
    case.cluster.create(an_instance_type(name, {"nodeSelector": {"accelerator": "none-such"}}))
    case.cluster.patch_spec("PhGroup", case.group, instanceTypes=[*case.sizes.values(), name])


def image_pull(case: Case) -> str:
    case.create()
    broken = case.cluster.unique_name("broken")
    case.cluster.create(an_image(broken, url="127.0.0.1:1/nothing:1"))
    case.cluster.patch_spec("PhGroup", case.group, images=[case.image, broken])
    case.pod_has(case.submit(image=broken), "ImagePullBackOff")
    return "Starting: its image cannot be pulled: ImagePullBackOff: "


def node_lost(case: Case) -> str:
    case.create()
    train = case.run("train")
    case.cluster.service("kubelet").kill(signal.SIGSTOP)
    eventually(
        lambda: case.cluster.status(train)["reason"] == "NodeLost", "the node is lost", within=LONG_SECONDS
    )
    return "NodeLost: "


LOST = "Node lost"
SITUATIONS: dict[str, Callable[[Case], str]] = {
    "First in a free queue": free_queue,
    "Behind a head": behind_a_head,
    "User quota": user_quota,
    "Group quota": group_quota,
    "Held by Jupyter": held_by_jupyter,
    "Backoff": backoff,
    "Impossible": impossible,
    "Unknown names": unknown_names,
    "Quota paused to 0": quota_paused,
    "Pod unschedulable": unschedulable,
    "Image pull": image_pull,
    LOST: node_lost,
}
"""Each creates its situation. Returns the beginning of the cause that `why` must show."""


@pytest.fixture(scope="module")
def stack(real_node: RealNode) -> Stack:
    """Bring up a stack with real containers and a short start timeout."""
    return real_node.start(SETTINGS)


@pytest.fixture(scope="module")
def answers(stack: Stack) -> dict[str, Future[str]]:
    """Return the answers in each situation. The lost node comes last, on its own."""
    try:
        with ThreadPoolExecutor(len(SITUATIONS)) as threads:
            others = [heading for heading in SITUATIONS if heading != LOST]
            together = Barrier(len(others))
            found = {heading: threads.submit(answer, stack, heading, together) for heading in others}
            wait(found.values())
            return {**found, LOST: threads.submit(answer, stack, LOST, Barrier(1))}
    finally:
        stack.component("kubelet").kill(signal.SIGCONT)
        api = Api(stack.kubeconfig, NAMESPACE)
        eventually(lambda: ready_condition(api)[0] == "True", "the node is Ready again", within=LONG_SECONDS)


def answer(stack: Stack, heading: str, together: Barrier) -> str:
    """Create the situation for a test of its own, and run the commands.

    No situation is created before all tests record: each checks all jobs from their creation on.
    """
    with cluster_on(stack) as cluster:
        together.wait(LONG_SECONDS)
        case = Case(cluster)
        cause = SITUATIONS[heading](case)
        try:
            return eventually(lambda: block(case, cause), f"why shows {cause}", within=LONG_SECONDS)
        except BaseException as error:
            for title, text in cluster.failure_report():
                error.add_note(f"--- {title}\n{text}")
            raise


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_page_has_the_answers_of_the_system(answers: dict[str, Future[str]], heading: str) -> None:
    """Each situation has the output of get, why and explain."""
    output = answers[heading].result()
    page = PAGE.read_text()
    section = re.search(rf"(?<=\n## {heading}\n\n)(.*?)(?=\n## |\Z)", page, re.DOTALL)
    assert section, f"the page has no heading {heading}"
    prose = section[1].partition("\n```")[0].strip()
    wanted = f"{prose}\n\n{output}\n"
    if WRITES:
        PAGE.write_text(page[: section.start()] + wanted + page[section.end() :])
    else:
        assert section[1].strip() == wanted.strip()


def block(case: Case, cause: str) -> str | None:
    """Return the three commands with their output.

    Returns None if the job has changed meanwhile, or has another cause.
    """
    cluster, name = case.cluster, case.cluster.unique_name("train")
    before = cluster.job(name)
    manifest = {
        "apiVersion": before.object["apiVersion"],
        "kind": "PhJob",
        "metadata": {"namespace": NAMESPACE},
        "spec": before.object["spec"],
    }
    why = normalize_times(normalize(cluster, case.cli("why", name)))
    if f"Cause:       {cause}" not in why:
        return None
    got = columns(cluster, cluster.kubectl("-n", NAMESPACE, "get", "phj", name, "-o", "wide").stdout)
    explain = normalize_times(normalize(cluster, case.cli("explain", "-f", "-", input=json.dumps(manifest))))
    if cluster.api.get("PhJob", name) != before.object:
        return None
    return (
        f"```console\n$ kubectl -n hub get phj train -o wide\n{got}\n\n$ kubectl phjob why train\n{why}\n\n"
        f"$ kubectl phjob explain -f another.yaml\n{explain}\n```"
    )


def normalize(cluster: Cluster, done: Done) -> str:
    """Return the output without the parts that differ from run to run."""
    text = done.stdout + done.stderr
    text = text.replace(f"-{cluster.test_id}", "").strip()
    text = re.sub(r"requeued \d+ times", "requeued 2 times", text)
    return re.sub(r"\d\d:\d\d:\d\d", "12:00:00", text)


def columns(cluster: Cluster, text: str) -> str:
    """Return the table with the shorter names of the page, and with a fixed age."""
    header, *rows = text.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    cells = [
        [
            line[start:end].strip().replace(f"-{cluster.test_id}", "")
            for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]
        for line in (header, *rows)
    ]
    for row in cells[1:]:
        row[cells[0].index("AGE")] = "2m"
    widths = [max(len(row[n]) for row in cells) for n in range(len(starts))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def normalize_times(text: str) -> str:
    """Replace the durations that depend on the time of the command."""
    return "\n".join(
        SPAN.sub("2 min", line) if line.startswith(WITH_TIMES) else line for line in text.splitlines()
    )
