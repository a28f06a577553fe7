"""docs/why.md: twelve situations on real containers, and what a user is told in each, word for word.

With PHJOB_WRITE_PAGES=1 in the environment the page is written from what was seen, instead of compared.
"""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
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

    def says(self, text: str) -> None:
        """Wait until `why` has this in its answer for train."""
        train = self.hub.name("train")
        eventually(lambda: text in self.cli("why", train).stdout, f"why says {text}", within=LONG)


def free_queue(case: Case) -> None:
    case.make()
    case.run("train")


def behind_a_head(case: Case) -> None:
    case.make()
    for number in range(3):
        case.hub.reaches(case.submit(f"old-{number}", seconds=5), "Succeeded", within=LONG)
    case.run("long", user="pan")
    head = case.submit("head", "large", user="lin")
    case.submit("second", user="pan")
    case.submit("third", user="lin")
    case.submit()
    case.hub.says(head, "GroupQuota")


def user_quota(case: Case) -> None:
    case.make(groupQuota={"cpu": "2"}, userQuota={"cpu": "500m"})
    case.run("mine", activeDeadlineSeconds=7200)
    case.run("other", user="lin")
    case.hub.says(case.submit(), "UserQuota")


def group_quota(case: Case) -> None:
    case.make()
    case.run("first", user="lin", activeDeadlineSeconds=7200)
    case.run("second", user="pan", activeDeadlineSeconds=3600)
    case.hub.says(case.submit(), "GroupQuota")


def held_by_jupyter(case: Case) -> None:
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


def backoff(case: Case) -> None:
    case.make()
    nowhere(case)
    case.submit(instanceType=case.hub.name("nowhere"))
    case.says("Backoff")


def impossible(case: Case) -> None:
    case.make()
    case.hub.reaches(case.submit(size="huge"), "Failed")


def unknown_names(case: Case) -> None:
    case.make()
    case.hub.reaches(case.submit(image="misspelt"), "Failed")


def quota_paused(case: Case) -> None:
    case.make()
    running = case.run("running", "large")
    case.hub.says(case.submit(), "GroupQuota")
    case.hub.change("PhGroup", case.group, groupQuota={"cpu": 0})
    case.hub.reaches(case.hub.name("train"), "Failed")
    assert case.hub.job(running).phase == "Running"


def unschedulable(case: Case) -> None:
    case.make()
    nowhere(case)
    case.submit(instanceType=case.hub.name("nowhere"))
    case.says("Unschedulable")


def nowhere(case: Case) -> None:
    """Grant an instance type that no node fits."""
    name = case.hub.name("nowhere")
    case.hub.create(an_instance_type(name, {"nodeSelector": {"accelerator": "none-such"}}))
    case.hub.change("PhGroup", case.group, instanceTypes=[*case.sizes.values(), name])


def image_pull(case: Case) -> None:
    case.make()
    broken = case.hub.name("broken")
    case.hub.create(an_image(broken, url="127.0.0.1:1/nothing:1"))
    case.hub.change("PhGroup", case.group, images=[case.image, broken])
    case.submit(image=broken)
    case.says("ImagePullBackOff")


def node_lost(case: Case) -> None:
    case.make()
    train = case.run("train")
    case.hub.service("kubelet").kill(signal.SIGSTOP)
    eventually(lambda: case.hub.status(train)["reason"] == "NodeLost", "the node is lost", within=LONG)


SITUATIONS: dict[str, Callable[[Case], None]] = {
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
    "Node lost": node_lost,
}


@pytest.fixture(scope="module")
def stack(real_node: RealNode) -> Stack:
    """Real containers, and little patience with pods that do not start."""
    return real_node.whole(SETTINGS)


@pytest.fixture
def case(stack: Stack) -> Iterator[Case]:
    """A corner of it; afterwards its kubelet runs."""
    with corner(stack) as hub:
        yield Case(hub)
        hub.service("kubelet").kill(signal.SIGCONT)
        eventually(lambda: ready(hub) == "True", "the node is Ready again", within=LONG)


def ready(hub: Hub) -> str:
    (node,) = hub.api.list("Node")["items"]
    return str(next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"))


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_page_says_what_the_system_says(case: Case, heading: str) -> None:
    """For each situation: get, why, explain."""
    SITUATIONS[heading](case)
    seen = block(case)
    page = PAGE.read_text()
    section = re.search(rf"(?<=\n## {heading}\n\n)(.*?)(?=\n## |\Z)", page, re.DOTALL)
    assert section, f"the page has no heading {heading}"
    prose = section[1].partition("\n```")[0].strip()
    wanted = f"{prose}\n\n{seen}\n"
    if WRITES:
        PAGE.write_text(page[: section.start()] + wanted + page[section.end() :])
    else:
        assert section[1].strip() == wanted.strip()


def block(case: Case) -> str:
    """The three commands, with what they answer."""
    hub, name = case.hub, case.hub.name("train")
    explained = hub.job(name).object
    manifest = {
        "apiVersion": explained["apiVersion"],
        "kind": "PhJob",
        "metadata": {"namespace": NAMESPACE},
        "spec": explained["spec"],
    }
    got = columns(hub, hub.kubectl("-n", NAMESPACE, "get", "phj", name, "-o", "wide").stdout)
    why = times_alike(alike(hub, case.cli("why", name)))
    explain = times_alike(alike(hub, case.cli("explain", "-f", "-", input=json.dumps(manifest))))
    return (
        f"```console\n$ kubectl -n hub get phj train -o wide\n{got}\n\n$ kubectl phjob why train\n{why}\n\n"
        f"$ kubectl phjob explain -f another.yaml\n{explain}\n```"
    )


def alike(hub: Hub, done: Done) -> str:
    """The answer, without what is of this run alone."""
    text = done.stdout + done.stderr
    text = text.replace(f"-{hub.id}", "").strip()
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
