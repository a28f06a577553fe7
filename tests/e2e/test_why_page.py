"""docs/why.md: twelve situations on real containers, and what a user is told in each, word for word.

With PHJOB_WRITE_PAGES=1 in the environment the page is written from what was seen, instead of compared.
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
from tests.support.hub import NAMESPACE, Hub, corner
from tests.support.stacks import RealNode
from tests.support.waiting import eventually

from dev.stack import Stack

pytestmark = pytest.mark.real_node

PAGE = Path(__file__).parents[2] / "docs" / "why.md"
WRITES = bool(os.environ.get("PHJOB_WRITE_PAGES"))
SETTINGS = "jobSubmission: {preparingTimeoutSeconds: 20}\n"
LONG = 180

SPAN = re.compile(r"\b\d+ (?:d|h|min|s)(?: \d+ (?:h|min|s))?\b")
WITH_TIMES = ("Status", "Held by", "Starts", " ")
"""How lines begin in which times differ from run to run."""


@dataclass
class Case:
    """A group named vision, and a job named train that is asked about."""

    hub: Hub

    def __post_init__(self) -> None:
        self.cli = Cli(self.hub.stack.kubeconfig)
        self.group = self.hub.name("vision")
        self.image = self.hub.name("notebook")
        self.sizes = {size: self.hub.name(size) for size in ("small", "large", "huge")}

    def make(self, **spec: Any) -> None:
        """Create the catalog: half a core, a whole one, four."""
        self.hub.create(an_image(self.image))
        for size, cpu in (("small", 0.5), ("large", 1), ("huge", 4)):
            limits = {"limits.cpu": cpu, "limits.memory": "64M", "requests.cpu": 0.01}
            self.hub.create(an_instance_type(self.sizes[size], limits))
        granted = {"images": [self.image], "instanceTypes": [*self.sizes.values()]}
        self.hub.create(a_group(self.group, **{"groupQuota": {"cpu": "1"}, **granted, **spec}))

    def job(
        self, name: str = "train", size: str = "small", seconds: int = 3600, **fields: Any
    ) -> dict[str, Any]:
        """A job that sleeps."""
        spec = {"group": self.group, "image": self.image, "instanceType": self.sizes[size]}
        return a_job(self.hub.name(name), command=f"sleep {seconds}", **{**spec, **fields})

    def submit(self, name: str = "train", size: str = "small", **fields: Any) -> str:
        """Create such a job."""
        (created,) = self.hub.create(self.job(name, size, **fields))
        return created

    def run(self, name: str, size: str = "small", **fields: Any) -> str:
        """Create one, and wait until it runs."""
        job = self.submit(name, size, **fields)
        self.hub.reaches(job, "Running", within=LONG)
        return job

    def pod_says(self, name: str, reason: str) -> None:
        """Wait until the pod's status has the reason somewhere."""

        def says() -> bool:
            pod = self.hub.pod(name)
            return pod is not None and f'"{reason}"' in json.dumps(pod.object["status"])

        eventually(says, f"pod {name} says {reason}", within=LONG)


def free_queue(case: Case) -> str:
    case.make()
    case.run("train")
    return "Running: "


def behind_a_head(case: Case) -> str:
    case.make()
    for number in range(3):
        case.hub.reaches(case.submit(f"old-{number}", seconds=5), "Succeeded", within=LONG)
    case.run("long", user="pan")
    head = case.submit("head", "large", user="lin")
    case.submit("second", user="pan")
    case.submit("third", user="lin")
    case.submit()
    case.hub.says(head, "GroupQuota")
    return "BehindHead: "


def user_quota(case: Case) -> str:
    case.make(groupQuota={"cpu": "2"}, userQuota={"cpu": "500m"})
    case.run("mine", activeDeadlineSeconds=7200)
    case.run("other", user="lin")
    case.hub.says(case.submit(), "UserQuota")
    return "UserQuota: "


def group_quota(case: Case) -> str:
    case.make()
    case.run("first", user="lin", activeDeadlineSeconds=7200)
    case.run("second", user="pan", activeDeadlineSeconds=3600)
    case.hub.says(case.submit(), "GroupQuota")
    return "GroupQuota: "


def held_by_jupyter(case: Case) -> str:
    case.make()
    pod = a_notebook(case.hub.name("jupyter-lin"), group=case.group, user="lin", cpu="750m")
    pod["spec"]["containers"][0] |= {"command": ["sleep", "3600"]}
    pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "10m"}
    case.hub.create(pod)
    eventually(
        lambda: (seen := case.hub.pod(pod["metadata"]["name"])) and seen.phase == "Running",
        "the notebook runs",
        within=LONG,
    )
    case.hub.says(case.submit(), "GroupQuota")
    return "Notebooks: "


def backoff(case: Case) -> str:
    case.make()
    nowhere(case)
    train = case.submit(instanceType=case.hub.name("nowhere"))
    eventually(lambda: "requeueAfter" in case.hub.status(train), "it rests", within=LONG)
    return "Backoff: "


def impossible(case: Case) -> str:
    case.make()
    case.hub.reaches(case.submit(size="huge"), "Failed")
    return "Finished: OverQuota: "


def unknown_names(case: Case) -> str:
    case.make()
    case.hub.reaches(case.submit(image="misspelt"), "Failed")
    return "Finished: InvalidSpec: "


def quota_paused(case: Case) -> str:
    case.make()
    running = case.run("running", "large")
    case.hub.says(case.submit(), "GroupQuota")
    case.hub.change("PhGroup", case.group, groupQuota={"cpu": 0})
    case.hub.reaches(case.hub.name("train"), "Failed")
    assert case.hub.job(running).phase == "Running"
    return "Finished: OverQuota: "


def unschedulable(case: Case) -> str:
    case.make()
    nowhere(case)
    train = case.submit(instanceType=case.hub.name("nowhere"))
    case.pod_says(train, "Unschedulable")
    return "Starting: no node can take it: "


def nowhere(case: Case) -> None:
    """Grant an instance type that no node fits."""
    name = case.hub.name("nowhere")
    case.hub.create(an_instance_type(name, {"nodeSelector": {"accelerator": "none-such"}}))
    case.hub.change("PhGroup", case.group, instanceTypes=[*case.sizes.values(), name])


def image_pull(case: Case) -> str:
    case.make()
    broken = case.hub.name("broken")
    case.hub.create(an_image(broken, url="127.0.0.1:1/nothing:1"))
    case.hub.change("PhGroup", case.group, images=[case.image, broken])
    case.pod_says(case.submit(image=broken), "ImagePullBackOff")
    return "Starting: its image can't be had: ImagePullBackOff: "


def node_lost(case: Case) -> str:
    case.make()
    train = case.run("train")
    case.hub.service("kubelet").kill(signal.SIGSTOP)
    eventually(lambda: case.hub.status(train)["reason"] == "NodeLost", "the node is lost", within=LONG)
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
"""Each makes its situation, and returns how the cause begins that `why` must give."""


@pytest.fixture(scope="module")
def stack(real_node: RealNode) -> Stack:
    """Real containers, and little patience with pods that do not start."""
    return real_node.whole(SETTINGS)


@pytest.fixture(scope="module")
def told(stack: Stack) -> dict[str, Future[str]]:
    """What is answered in each situation: in all at the same time, and then with the node lost."""
    try:
        with ThreadPoolExecutor(len(SITUATIONS)) as threads:
            others = [heading for heading in SITUATIONS if heading != LOST]
            together = Barrier(len(others))
            answers = {heading: threads.submit(answer, stack, heading, together) for heading in others}
            wait(answers.values())
            return {**answers, LOST: threads.submit(answer, stack, LOST, Barrier(1))}
    finally:
        stack.component("kubelet").kill(signal.SIGCONT)
        eventually(lambda: is_ready(stack), "the node is Ready again", within=LONG)


def answer(stack: Stack, heading: str, together: Barrier) -> str:
    """Make the situation, in a corner of its own, and ask.

    No situation is made before all corners record: each holds all jobs against the promises, from their
    beginning.
    """
    with corner(stack) as hub:
        together.wait(LONG)
        case = Case(hub)
        cause = SITUATIONS[heading](case)
        try:
            return eventually(lambda: block(case, cause), f"why says {cause}", within=LONG)
        except BaseException as error:
            for title, text in hub.report():
                error.add_note(f"--- {title}\n{text}")
            raise


def is_ready(stack: Stack) -> bool:
    """Whether its only node is."""
    (node,) = Api(stack.kubeconfig, NAMESPACE).list("Node")["items"]
    return any((c["type"], c["status"]) == ("Ready", "True") for c in node["status"]["conditions"])


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_page_says_what_the_system_says(told: dict[str, Future[str]], heading: str) -> None:
    """For each situation: get, why, explain."""
    seen = told[heading].result()
    page = PAGE.read_text()
    section = re.search(rf"(?<=\n## {heading}\n\n)(.*?)(?=\n## |\Z)", page, re.DOTALL)
    assert section, f"the page has no heading {heading}"
    prose = section[1].partition("\n```")[0].strip()
    wanted = f"{prose}\n\n{seen}\n"
    if WRITES:
        PAGE.write_text(page[: section.start()] + wanted + page[section.end() :])
    else:
        assert section[1].strip() == wanted.strip()


def block(case: Case, cause: str) -> str | None:
    """The three commands, with what they answer; None if that is not its situation all the while."""
    hub, name = case.hub, case.hub.name("train")
    before = hub.job(name)
    manifest = {
        "apiVersion": before.object["apiVersion"],
        "kind": "PhJob",
        "metadata": {"namespace": NAMESPACE},
        "spec": before.object["spec"],
    }
    why = times_alike(alike(hub, case.cli("why", name)))
    if f"Cause:       {cause}" not in why:
        return None
    got = columns(hub, hub.kubectl("-n", NAMESPACE, "get", "phj", name, "-o", "wide").stdout)
    explain = times_alike(alike(hub, case.cli("explain", "-f", "-", input=json.dumps(manifest))))
    if hub.api.get("PhJob", name) != before.object:
        return None
    return (
        f"```console\n$ kubectl -n hub get phj train -o wide\n{got}\n\n$ kubectl phjob why train\n{why}\n\n"
        f"$ kubectl phjob explain -f another.yaml\n{explain}\n```"
    )


def alike(hub: Hub, done: Done) -> str:
    """The answer, without what is of this run alone."""
    text = done.stdout + done.stderr
    text = text.replace(f"-{hub.id}", "").strip()
    text = re.sub(r"sent back \d+ times", "sent back 2 times", text)
    return re.sub(r"\d\d:\d\d:\d\d", "12:00:00", text)


def columns(hub: Hub, text: str) -> str:
    """A table with the widths that it has with shorter names, its age made alike."""
    header, *rows = text.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    cells = [
        [
            line[start:end].strip().replace(f"-{hub.id}", "")
            for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]
        for line in (header, *rows)
    ]
    for row in cells[1:]:
        row[cells[0].index("AGE")] = "2m"
    widths = [max(len(row[n]) for row in cells) for n in range(len(starts))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def times_alike(text: str) -> str:
    """Every time that depends on when one asks."""
    return "\n".join(
        SPAN.sub("2 min", line) if line.startswith(WITH_TIMES) else line for line in text.splitlines()
    )
