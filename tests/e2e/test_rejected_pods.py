"""Pods that a policy of the cluster forbids: their jobs are requeued, and their messages name the policy."""

from collections.abc import Iterator

import pytest
from tests.support.builders import an_object
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def host_folder(cluster: Cluster) -> Iterator[str]:
    """Create a dataset with a folder of the node. Yields its name."""
    name = cluster.unique_name("folder")
    cluster.create(an_object("Dataset", name, {"type": "hostPath", "hostPath": {"path": "/srv"}}))
    yield name
    cluster.kubectl("-n", NAMESPACE, "delete", "dataset", name)


@pytest.fixture
def _baseline(cluster: Cluster) -> Iterator[None]:
    """Let the namespace enforce the PodSecurity level `baseline`."""
    cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE_LABEL}=baseline")
    yield
    cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE_LABEL}-")


@pytest.mark.usefixtures("_baseline")
def test_a_job_whose_pod_a_policy_forbids_is_requeued_with_the_api_servers_message(
    cluster: Cluster, host_folder: str
) -> None:
    """It counts as a requeue, and other jobs can use the quota meanwhile (spec.md, Q5)."""
    spec = {"groupQuota": {"gpu": 1}, "datasets": [{"name": host_folder}]}
    forbidden = GroupFixture(cluster, "forbidden", spec).create()
    name = forbidden.submit("job", gpus=1)
    eventually(lambda: cluster.status(name)["requeued"] == 2, f"{name} was requeued twice")
    status = cluster.status(name)
    assert (status["phase"], status["reason"]) == ("Pending", "Requeued")
    assert "violates PodSecurity" in status["message"]
    assert cluster.pod(name) is None

    forbidden.patch_spec(datasets=[])
    cluster.wait_for_phase(forbidden.submit("behind", gpus=1), "Succeeded")
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
