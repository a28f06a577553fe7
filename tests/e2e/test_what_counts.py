"""What counts against a quota: GPUs of every make, and what the cluster adds to a pod."""

import json
from collections.abc import Iterator

import pytest
from tests.support.builders import a_notebook, an_image, an_instance_type
from tests.support.cli import Cli
from tests.support.cluster import Cluster
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

SHARED = "nvidia.com/gpu.shared"
OTHER = "example.com/accelerator"


def used(cluster: Cluster, group: GroupFixture) -> dict[str, str]:
    """Return the usage in the status of the group."""
    found = cluster.api.get("PhGroup", group.name)
    assert found
    usage: dict[str, str] = found["status"].get("used", {})
    return usage


@pytest.mark.parametrize("resource", [SHARED, OTHER])
def test_gpus_of_any_name_count_as_gpu_everywhere(
    cluster: Cluster, local_stack: LocalStack, resource: str
) -> None:
    """The second job waits, the image is that for GPUs, and status, metric and command line agree."""
    image, kind = cluster.unique_name("both"), cluster.unique_name("gpus")
    cluster.create(
        an_image(image, urlForGpu="primehub.dev/base-notebook:gpu"),
        an_instance_type(kind, {"limits.gpu": 2, "gpuResourceName": resource}),
    )
    spec = {"groupQuota": {"gpu": 3}, "images": [image], "instanceTypes": [kind]}
    group = GroupFixture(cluster, "gpus", spec).create()
    notebook = a_notebook(cluster.unique_name("jupyter"), group=group.name, user="lin", **{SHARED: "1"})
    cluster.create(notebook)
    eventually(lambda: used(cluster, group).get("gpu") == "1", "the notebook's GPU counts")
    first = group.submit("first", image=image, instanceType=kind)
    status = cluster.wait_for_phase(first, "Preparing")
    assert (status["resources"][resource], status["gpuResource"]) == ("2", resource)
    second = group.submit("second", image=image, instanceType=kind)
    cluster.wait_for_reason(second, "GroupQuota", "group quota: gpu 3 of 3 used, needs 2")
    pod = cluster.pod(first)
    assert pod
    assert pod.object["spec"]["containers"][0]["image"] == "primehub.dev/base-notebook:gpu"
    eventually(lambda: used(cluster, group).get("gpu") == "3", "the status has all GPUs")
    (counted,) = (
        value
        for labels, value in samples(local_stack.state, "watcher", "phjob_pod_usage").items()
        if {group.name, "gpu"} == set(labels)
    )
    assert counted == 3
    cli = Cli(cluster.stack.kubeconfig, PHJOB_USER="bob")
    assert "gpu 3 of 3 used, needs 2" in cli("why", second).stdout
    queue = json.loads(cli("queue", group.name, "-o", "json").stdout)
    assert queue["used"]["gpu"] == "3"
    too_large = cluster.unique_name("five")
    cluster.create(an_instance_type(too_large, {"limits.gpu": 5, "gpuResourceName": resource}))
    group.grant(instance_types=(too_large,))
    rejected = group.submit("third", image=image, instanceType=too_large)
    cluster.wait_for_reason(rejected, "OverQuota", "needs gpu 5, but the group quota is 3")


@pytest.fixture
def runtime_class(cluster: Cluster) -> Iterator[str]:
    """Create a RuntimeClass with overhead. Yields its name."""
    name = cluster.unique_name("sandbox")
    manifest = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name},
        "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
    }
    assert cluster.kubectl("create", "-f", "-", input=json.dumps(manifest)).returncode == 0
    yield name
    cluster.kubectl("delete", "runtimeclass", name)


def test_the_overhead_of_a_runtime_class_counts_and_no_quota_is_exceeded(
    cluster: Cluster, runtime_class: str
) -> None:
    """The quota has room for three jobs, but for two with their overhead (spec.md, Q13)."""
    kind = cluster.unique_name("sandboxed")
    cluster.create(an_instance_type(kind, {"limits.cpu": 1, "runtimeClassName": runtime_class}))
    spec = {"groupQuota": {"cpu": 3}, "instanceTypes": [kind]}
    group = GroupFixture(cluster, "sandbox", spec).create()
    first = group.submit("first", instanceType=kind, run_for=FOREVER)
    status = cluster.wait_for_phase(first, "Running")
    assert (status["overhead"], status["requeued"]) == ({"cpu": "250m", "memory": "120Mi"}, 0)
    pod = cluster.pod(first)
    assert pod
    assert pod.object["spec"]["runtimeClassName"] == runtime_class
    second = group.submit("second", instanceType=kind, run_for=FOREVER)
    status = cluster.wait_for_phase(second, "Running")
    assert cluster.phases(second) == ["Pending", "Preparing", "Running"]
    assert status["overhead"] == {"cpu": "250m", "memory": "120Mi"}
    third = group.submit("third", instanceType=kind)
    cluster.wait_for_reason(third, "GroupQuota", "group quota: cpu 2500m of 3 used, needs 1250m")
    eventually(lambda: used(cluster, group).get("cpu") == "2500m", "the status has the overhead")
    pods = [event for event in cluster.history.events() if event.kind == "Pod" and event.name == second]
    assert len({event.object["metadata"]["uid"] for event in pods}) == 1
