"""The two kinds of node: KWOK plays what a pod's annotations say, the real node runs its containers.

Pods are made by hand here, in the place of pod-manager.
"""

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import eventually

from dev.component import mark
from dev.containerd import bridge
from dev.errors import DevError
from dev.image import NOTEBOOK
from dev.process import marked
from dev.site import Site
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "node")
HUB = "--namespace=hub"

PHJOB = {
    "apiVersion": "primehub.io/v1alpha1",
    "kind": "PhJob",
    "metadata": {"name": "owner", "namespace": "hub"},
    "spec": {"command": "true", "userName": "u", "groupName": "g", "image": "i", "instanceType": "t"},
}


@pytest.fixture(scope="module")
def kwok(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two nodes that KWOK plays, with GPUs, and the PhJob that owns the pods."""
    state = tmp_path_factory.mktemp("kwok") / "a state"
    with Stack(state, node="kwok", nodes=2, capacity={"nvidia.com/gpu": "8"}, parts=PARTS) as stack:
        stack.kubectl("create", "--filename=-", given=json.dumps(PHJOB))
        yield stack


@pytest.fixture
def real_state(tmp_path: Path) -> Path:
    """A STATE whose path is too long for a socket, and has a space in it."""
    return tmp_path / "a state" / ("x" * 100)


def test_kwok_plays_what_the_annotations_say(kwok: Stack) -> None:
    """A PhJob's pod waits, runs and ends as its annotations say, with a container's whole status."""
    name = create_pod(kwok, owned=True, start="1s", **{"run-for": "2s", "exit-code": "3"})
    state = terminated(kwok, name)

    assert status(kwok, name)["phase"] == "Failed"
    assert (state["exitCode"], state["reason"]) == (3, "Error")
    assert state["startedAt"] < state["finishedAt"]
    assert "KWOK" in log(kwok, name)


def test_kwok_defaults(kwok: Stack) -> None:
    """Without annotations a PhJob's pod runs for a moment and succeeds."""
    name = create_pod(kwok, owned=True)
    state = terminated(kwok, name)

    assert (state["exitCode"], state["reason"]) == (0, "Completed")
    assert status(kwok, name)["phase"] == "Succeeded"


def test_kwok_pods_that_stay(kwok: Stack) -> None:
    """A pod that shall never start stays Pending on its node, one of no PhJob runs; both until deleted."""
    never, jupyter = create_pod(kwok, owned=True, start="never"), create_pod(kwok, owned=False)
    ended = create_pod(kwok, owned=True)
    terminated(kwok, ended)

    assert status(kwok, never)["phase"] == "Pending"
    assert status(kwok, jupyter)["phase"] == "Running"
    kwok.kubectl(HUB, "delete", "pod", never, jupyter, "--timeout=30s")


def test_kwok_capacity(kwok: Stack) -> None:
    """The nodes have what they were given, beside the defaults."""
    nodes = json.loads(kwok.kubectl("get", "nodes", "--output=json"))["items"]

    assert [node["metadata"]["name"] for node in nodes] == ["kwok-0", "kwok-1"]
    assert all(node["status"]["allocatable"]["nvidia.com/gpu"] == "8" for node in nodes)


def test_real_node(real_state: Path) -> None:
    """Containers run as jovyan and outlive the node's programs; `down` leaves nothing of them behind."""
    with Stack(real_state, node="real", parts=PARTS) as stack:
        short = create_pod(stack, owned=False, command="id -un; pwd; exit 3")
        endless = create_pod(stack, owned=False, command="echo started; sleep infinity")
        state = terminated(stack, short)
        assert (state["exitCode"], state["reason"]) == (3, "Error")
        assert log(stack, short) == "jovyan\n/home/jovyan\n"

        container = eventually(lambda: running_container(stack, endless), "the pod's container runs")
        for name in ("kubelet", "containerd"):
            stack.component(name).kill(signal.SIGKILL)
        stack.up()
        assert running_container(stack, endless) == container
        eventually(
            lambda: log(stack, endless) == "started\n", "the new kubelet serves the old container's log"
        )

    site = Site(real_state)
    assert not site.node_data.exists()
    assert not site.node_run.exists()
    assert not Path("/sys/class/net", bridge(site)).exists()
    assert site.id not in Path("/proc/self/mountinfo").read_text()
    assert container
    assert not list(Path("/sys/fs/cgroup").rglob(container))
    assert not [process for name, value in mark(real_state).items() for process in marked(f"{name}={value}")]


def create_pod(stack: Stack, *, owned: bool, command: str = "true", **annotations: str) -> str:
    """A pod in the namespace, on any node; returns its name."""
    name = f"pod-{uuid.uuid4().hex[:8]}"
    metadata: dict[str, Any] = {
        "name": name,
        "annotations": {f"dev.primehub.io/{key}": value for key, value in annotations.items()},
    }
    if owned:
        owner = {key: PHJOB[key] for key in ("apiVersion", "kind")} | {"name": "owner", "controller": True}
        uid = stack.kubectl(HUB, "get", "phjob", "owner", "--output=jsonpath={.metadata.uid}")
        metadata["ownerReferences"] = [owner | {"uid": uid}]
    container = {"name": "main", "image": NOTEBOOK, "command": ["sh", "-c", command]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    stack.kubectl(HUB, "create", "--filename=-", given=json.dumps(pod))
    return name


def status(stack: Stack, name: str) -> dict[str, Any]:
    """The pod's status."""
    return dict(json.loads(stack.kubectl(HUB, "get", "pod", name, "--output=json"))["status"])


def terminated(stack: Stack, name: str) -> dict[str, Any]:
    """How the pod's container ended."""
    return eventually(lambda: dict(container_state(stack, name).get("terminated", ())), f"{name} has ended")


def container_state(stack: Stack, name: str) -> dict[str, Any]:
    """Of the pod's only container; empty if it has none yet."""
    containers = status(stack, name).get("containerStatuses", [{"state": {}}])
    return dict(containers[0]["state"])


def running_container(stack: Stack, name: str) -> str | None:
    """The id of the pod's container, if it runs."""
    if "running" not in container_state(stack, name):
        return None
    return str(status(stack, name)["containerStatuses"][0]["containerID"].removeprefix("containerd://"))


def log(stack: Stack, name: str) -> str:
    """The pod's log; empty while a kubelet that has just started doesn't know the pod yet."""
    try:
        return stack.kubectl(HUB, "logs", name)
    except DevError:
        return ""
