"""Pods that a policy of the cluster forbids: their jobs are requeued, and their messages name the policy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.builders import an_object
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def host_folder(cluster: Cluster) -> str:
    """Create a dataset with a folder of the node. Returns its name."""
    name = cluster.unique_name("folder")
    cluster.create(an_object("Dataset", name, {"type": "hostPath", "hostPath": {"path": "/srv"}}))
    return name


@contextmanager
def enforcing(cluster: Cluster, level: str) -> Iterator[None]:
    """Let the namespace enforce this PodSecurity level."""
    cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE_LABEL}={level}")
    try:
        yield
    finally:
        cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE_LABEL}-")


@pytest.fixture
def _baseline(cluster: Cluster) -> Iterator[None]:
    with enforcing(cluster, "baseline"):
        yield


@pytest.fixture
def _restricted(cluster: Cluster) -> Iterator[None]:
    with enforcing(cluster, "restricted"):
        yield


def rejection(cluster: Cluster, name: str) -> str:
    """Wait until the job was requeued without a pod. Returns its message."""
    eventually(lambda: cluster.status(name)["requeued"] >= 1, f"{name} was requeued")
    assert cluster.pod(name) is None
    return str(cluster.status(name)["message"])


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
    assert "take the datasets of types git and hostPath from the group" in status["message"]
    assert cluster.pod(name) is None

    forbidden.patch_spec(datasets=[])
    cluster.wait_for_phase(forbidden.submit("behind", gpus=1), "Succeeded")
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")


@pytest.mark.usefixtures("_restricted")
@pytest.mark.parametrize("profile", ["baseline", "sudo"])
def test_in_a_namespace_that_enforces_restricted_the_message_names_the_setting_that_helps(
    cluster: Cluster, profile: str
) -> None:
    """An administrator gives the group the profile `restricted`, and its jobs run (spec.md, P10)."""
    group = GroupFixture(cluster, "profile", {"securityProfile": profile}).create()
    name = group.submit("job")
    message = rejection(cluster, name)
    assert 'violates PodSecurity "restricted:latest"' in message
    assert f"the pod has the security profile '{profile}'" in message
    assert "jobSubmission.securityProfile, or spec.securityProfile of the PhGroup" in message
    cluster.cancel(name)

    group.patch_spec(securityProfile="restricted")
    cluster.wait_for_phase(group.submit("next"), "Succeeded")


def test_a_job_whose_datasets_secret_belongs_to_somebody_else_is_requeued(cluster: Cluster) -> None:
    """That Secret is kept, and the job runs when an operator has removed it (spec.md, P8)."""
    dataset = cluster.unique_name("db")
    secret = f"phjob-dataset-{dataset}"
    cluster.kubectl("-n", NAMESPACE, "create", "secret", "generic", secret, "--from-literal=a=b")
    cluster.create(an_object("Dataset", dataset, {"type": "env", "variables": {"password": "x"}}))
    group = GroupFixture(cluster, "secret", {"datasets": [{"name": dataset}]}).create()
    name = group.submit("job")
    assert rejection(cluster, name) == (
        f"the Secret '{secret}', which dataset '{dataset}' needs, exists and is not PhJob's: "
        "an operator has to delete that Secret, or to rename the dataset"
    )
    found = cluster.kubectl("-n", NAMESPACE, "get", "secret", secret, "-o", "json")
    assert json.loads(found.stdout)["data"].keys() == {"a"}

    cluster.kubectl("-n", NAMESPACE, "delete", "secret", secret)
    cluster.wait_for_phase(name, "Succeeded")
    pod = cluster.pod(name)
    assert pod
    assert {"secretKeyRef": {"name": secret, "key": f"{dataset}_password".upper()}} in [
        variable.get("valueFrom") for variable in pod.object["spec"]["containers"][0]["env"]
    ]
