"""A pod that the cluster's policies refuse: the job goes back to its queue and says why."""

from collections.abc import Iterator

import pytest
from tests.support.builders import an_object
from tests.support.hub import NAMESPACE, Hub
from tests.support.scene import Scene
from tests.support.waiting import eventually

LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def folder(hub: Hub) -> Iterator[str]:
    """A dataset that is a folder of the node; its name."""
    name = hub.name("folder")
    hub.create(an_object("Dataset", name, {"type": "hostPath", "hostPath": {"path": "/srv"}}))
    yield name
    hub.kubectl("-n", NAMESPACE, "delete", "dataset", name)


@pytest.fixture
def _baseline(hub: Hub) -> Iterator[None]:
    """The namespace enforces PodSecurity `baseline`."""
    hub.kubectl("label", "namespace", NAMESPACE, f"{LEVEL}=baseline")
    yield
    hub.kubectl("label", "namespace", NAMESPACE, f"{LEVEL}-")


@pytest.mark.usefixtures("_baseline")
def test_a_pod_that_a_policy_forbids_sends_its_job_back_with_the_servers_words(hub: Hub, folder: str) -> None:
    """contract.md, Queueing 5: it counts as a requeue; the quota is free for the others meanwhile."""
    spec = {"groupQuota": {"gpu": 1}, "datasets": [{"name": folder}]}
    forbidden = Scene(hub, "forbidden", spec).make()
    name = forbidden.submit("job", gpus=1)
    eventually(lambda: hub.status(name)["requeued"] == 2, f"{name} was sent back twice")
    status = hub.status(name)
    assert (status["phase"], status["reason"]) == ("Pending", "Requeued")
    assert "violates PodSecurity" in status["message"]
    assert hub.pod(name) is None

    forbidden.change(datasets=[])
    hub.reaches(forbidden.submit("behind", gpus=1), "Succeeded")
    hub.cancel(name)
    hub.reaches(name, "Cancelled")
