"""The two kinds of node: KWOK simulates a pod as its annotations ask for, and the real node runs containers.

The tests create the pods themselves. In a whole stack, pod-manager does.
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
from dev.paths import StackPaths
from dev.process import find_marked
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "node")
IN_NAMESPACE = "--namespace=hub"

PHJOB = {
    "apiVersion": "primehub.io/v1alpha1",
    "kind": "PhJob",
    "metadata": {"name": "owner", "namespace": "hub"},
    "spec": {"command": "true", "userName": "u", "groupName": "g", "image": "i", "instanceType": "t"},
}


@pytest.fixture(scope="module")
def kwok(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with two simulated nodes with GPUs, and with the PhJob that owns the pods."""
    state = tmp_path_factory.mktemp("kwok") / "a state"
    with Stack(state, node="kwok", nodes=2, capacity={"nvidia.com/gpu": "8"}, parts=PARTS) as stack:
        stack.kubectl("create", "--filename=-", given=json.dumps(PHJOB))
        yield stack


@pytest.fixture
def real_state(tmp_path: Path) -> Path:
    """A STATE whose path has a space, and is too long for a socket."""
    return tmp_path / "a state" / ("x" * 100)


def test_a_simulated_pod_follows_its_annotations(kwok: Stack) -> None:
    """A PhJob's pod waits, runs and ends as they ask for, with the complete status of a container."""
    name = create_pod(kwok, owned=True, start="1s", **{"run-for": "2s", "exit-code": "3"})
    state = terminated(kwok, name)

    assert status(kwok, name)["phase"] == "Failed"
    assert (state["exitCode"], state["reason"]) == (3, "Error")
    assert state["startedAt"] < state["finishedAt"]
    assert "KWOK" in log(kwok, name)


def test_a_simulated_pod_without_annotations_succeeds(kwok: Stack) -> None:
    """It runs for a moment."""
    name = create_pod(kwok, owned=True)
    state = terminated(kwok, name)

    assert (state["exitCode"], state["reason"]) == (0, "Completed")
    assert status(kwok, name)["phase"] == "Succeeded"


def test_some_simulated_pods_keep_their_phase_until_they_are_deleted(kwok: Stack) -> None:
    """A pod that must never start stays Pending on its node. A pod without a PhJob stays Running."""
    never, jupyter = create_pod(kwok, owned=True, start="never"), create_pod(kwok, owned=False)
    ended = create_pod(kwok, owned=True)
    terminated(kwok, ended)

    assert status(kwok, never)["phase"] == "Pending"
    assert status(kwok, jupyter)["phase"] == "Running"
    kwok.kubectl(IN_NAMESPACE, "delete", "pod", never, jupyter, "--timeout=30s")


def test_simulated_nodes_have_the_given_capacity(kwok: Stack) -> None:
    """They have it in addition to their default capacity."""
    nodes = json.loads(kwok.kubectl("get", "nodes", "--output=json"))["items"]

    assert [node["metadata"]["name"] for node in nodes] == ["kwok-0", "kwok-1"]
    assert all(node["status"]["allocatable"]["nvidia.com/gpu"] == "8" for node in nodes)


def test_containers_on_the_real_node_outlive_its_programs_and_are_removed_by_down(real_state: Path) -> None:
    """They run as the user jovyan, as in PrimeHub's images."""
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

    paths = StackPaths(real_state)
    assert not paths.node_data.exists()
    assert not paths.node_run.exists()
    assert not Path("/sys/class/net", bridge(paths)).exists()
    assert paths.id not in Path("/proc/self/mountinfo").read_text()
    assert container
    assert not list(Path("/sys/fs/cgroup").rglob(container))
    assert not [
        process for name, value in mark(real_state).items() for process in find_marked(f"{name}={value}")
    ]


def create_pod(stack: Stack, *, owned: bool, command: str = "true", **annotations: str) -> str:
    """Create a pod in the namespace. Returns its name."""
    name = f"pod-{uuid.uuid4().hex[:8]}"
    metadata: dict[str, Any] = {
        "name": name,
        "annotations": {f"dev.primehub.io/{key}": value for key, value in annotations.items()},
    }
    if owned:
        owner = {key: PHJOB[key] for key in ("apiVersion", "kind")} | {"name": "owner", "controller": True}
        uid = stack.kubectl(IN_NAMESPACE, "get", "phjob", "owner", "--output=jsonpath={.metadata.uid}")
        metadata["ownerReferences"] = [owner | {"uid": uid}]
    container = {"name": "main", "image": NOTEBOOK, "command": ["sh", "-c", command]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    stack.kubectl(IN_NAMESPACE, "create", "--filename=-", given=json.dumps(pod))
    return name


def status(stack: Stack, name: str) -> dict[str, Any]:
    """Return the pod's status."""
    return dict(json.loads(stack.kubectl(IN_NAMESPACE, "get", "pod", name, "--output=json"))["status"])


def terminated(stack: Stack, name: str) -> dict[str, Any]:
    """Wait until the pod's container has terminated. Returns that state."""
    return eventually(lambda: dict(container_state(stack, name).get("terminated", ())), f"{name} has ended")


def container_state(stack: Stack, name: str) -> dict[str, Any]:
    """Return the state of the pod's only container; empty if it has none yet."""
    containers = status(stack, name).get("containerStatuses", [{"state": {}}])
    return dict(containers[0]["state"])


def running_container(stack: Stack, name: str) -> str | None:
    """Return the id of the pod's container; None if it does not run."""
    if "running" not in container_state(stack, name):
        return None
    return str(status(stack, name)["containerStatuses"][0]["containerID"].removeprefix("containerd://"))


def log(stack: Stack, name: str) -> str:
    """Return the pod's log; empty while a restarted kubelet does not know the pod yet."""
    try:
        return stack.kubectl(IN_NAMESPACE, "logs", name)
    except DevError:
        return ""
