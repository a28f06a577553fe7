"""A node that is lost: its kubelet is stopped, so that Kubernetes hears nothing of it any more.

Its containers go on meanwhile, as on a node whose network is cut.
"""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.support.hub import Hub
from tests.support.measures import Measured
from tests.support.scene import Scene
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG = 180


@pytest.fixture
def hub(real_hub: Hub) -> Iterator[Hub]:
    """A corner whose kubelet runs again afterwards, and whose node is Ready again."""
    yield real_hub
    real_hub.service("kubelet").kill(signal.SIGCONT)
    eventually(lambda: ready(real_hub)[0] == "True", "the node is Ready again", within=LONG)


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for one job at a time."""
    return Scene(hub, "lost", {"groupQuota": {"cpu": "500m"}}).make()


def ready(hub: Hub) -> tuple[str, datetime]:
    """The node's condition Ready, and since when it is so."""
    (node,) = hub.api.list("Node")["items"]
    condition = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    return condition["status"], datetime.fromisoformat(condition["lastTransitionTime"])


def lose_the_node(hub: Hub, name: str, measured: Measured) -> None:
    """Stop the kubelet, and wait until the job on it says so."""
    hub.service("kubelet").kill(signal.SIGSTOP)
    eventually(lambda: ready(hub)[0] == "Unknown", "the node is lost", within=LONG)
    status = hub.says(name, "NodeLost")
    took = datetime.now(UTC) - ready(hub)[1]
    measured(f"NodeLost {took.total_seconds():.1f} s after the node's Ready turned Unknown")
    assert status["phase"] == "Running"
    assert status["message"] == f"Node localhost which was running pod {name} is unresponsive"
    assert hub.has_event(name, "NodeLost")["message"] == status["message"]


def test_a_job_on_a_lost_node_keeps_its_quota_and_goes_on_when_the_node_is_back(
    hub: Hub, scene: Scene, measured: Measured
) -> None:
    """contract.md, Lifecycle: Lost node. Its command runs to its end, once."""
    name = scene.submit("job", command="echo begun; sleep 25; echo ended")
    hub.reaches(name, "Running", within=LONG)
    behind = scene.submit("behind")
    lose_the_node(hub, name, measured)
    assert hub.says(behind, "GroupQuota")["message"] == "group quota: cpu 500m of 500m used, needs 500m"
    assert hub.job(name).phase == "Running"
    hub.service("kubelet").kill(signal.SIGCONT)
    status = hub.reaches(name, "Succeeded", within=LONG)
    assert status["exitCode"] == 0
    assert hub.phases(name) == ["Pending", "Preparing", "Running", "Succeeded"]
    assert hub.kubectl("-n", "hub", "logs", name).stdout == "begun\nended\n"
    hub.reaches(behind, "Succeeded", within=LONG)


def test_a_job_on_a_lost_node_can_be_cancelled_which_frees_its_quota(
    hub: Hub, scene: Scene, measured: Measured
) -> None:
    """Its pod is deleted by force: nobody could say that it has ended. The next job goes at once."""
    name = scene.submit("job", command="sleep 3600")
    hub.reaches(name, "Running", within=LONG)
    behind = scene.submit("behind")
    lose_the_node(hub, name, measured)
    cancelled = datetime.now(UTC)
    hub.cancel(name)
    hub.reaches(name, "Cancelled")
    hub.pod_is_gone(name)
    hub.reaches(behind, "Preparing")
    took = datetime.now(UTC) - cancelled
    measured(f"the next job admitted {took.total_seconds():.1f} s after the cancel")
    hub.service("kubelet").kill(signal.SIGCONT)
    hub.reaches(behind, "Succeeded", within=LONG)


def test_a_job_that_is_deleted_on_a_lost_node_frees_its_quota(
    hub: Hub, scene: Scene, measured: Measured
) -> None:
    """Kubernetes itself would keep its pod until the node is back."""
    name = scene.submit("job", command="sleep 3600")
    hub.reaches(name, "Running", within=LONG)
    behind = scene.submit("behind")
    lose_the_node(hub, name, measured)
    hub.api.delete("PhJob", name)
    hub.pod_is_gone(name)
    hub.reaches(behind, "Preparing")
