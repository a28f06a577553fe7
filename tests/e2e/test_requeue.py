"""Jobs whose pod does not start within a start timeout of three seconds."""

from collections.abc import Iterator

import pytest
from tests.support import promises
from tests.support.builders import an_object, an_unschedulable_instance_type
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.waiting import eventually

from dev.stack import Stack

START_TIMEOUT = "the pod did not start within 3 s"


@pytest.fixture
def cluster(short_timeout_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on the stack with the short start timeout."""
    with cluster_on(short_timeout_stack) as cluster:
        yield cluster


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of one GPU."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()


def wait_for_requeues(cluster: Cluster, name: str, times: int) -> None:
    """Wait until the job was requeued this often."""
    eventually(
        lambda: cluster.status(name)["requeued"] >= times,
        f"{name} was requeued {times} times",
        diagnostics=lambda: cluster.status(name),
    )


def test_a_job_whose_pod_does_not_start_is_requeued_and_keeps_its_place(
    cluster: Cluster, group: GroupFixture
) -> None:
    """After its first requeue it is admitted again at once, before the job behind it, with a new pod."""
    name = group.submit("job", gpus=1, start="never")
    first = eventually(lambda: cluster.pod(name), "its pod exists")
    behind = group.submit("behind", gpus=1, run_for=FOREVER)
    wait_for_requeues(cluster, name, 1)
    eventually(lambda: (pod := cluster.pod(name)) and pod.uid != first.uid, "it has another pod")
    assert cluster.job(behind).phase == "Pending"
    events = cluster.history.complete_events()
    assert promises.admission_order(events, group.name) == [name]
    requeued = next(e for e in events if e.name == name and e.object.get("status", {}).get("requeued") == 1)
    assert (requeued.phase, requeued.object["status"]["reason"]) == ("Pending", "Requeued")
    assert requeued.object["status"]["message"] == START_TIMEOUT


def test_a_second_requeue_starts_a_backoff_in_which_the_job_blocks_nobody(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The job behind it uses the quota for half a minute. Then the job is admitted, in its place."""
    name = group.submit("job", gpus=1, start="never")
    cluster.wait_for_phase(name, "Preparing")
    behind, third = group.submit("behind", gpus=1), group.submit("third", gpus=1, run_for=FOREVER)
    wait_for_requeues(cluster, name, 2)
    cluster.wait_for_phase(behind, "Succeeded")
    cluster.wait_for_phase(third, "Running")
    status = cluster.status(name)
    assert (status["phase"], status["reason"], status["message"]) == ("Pending", "Requeued", START_TIMEOUT)

    fourth = group.submit("fourth", gpus=1)
    cluster.wait_for_reason(name, "GroupQuota", "gpu 1 of 1 used, needs 1")
    cluster.cancel(third)
    cluster.wait_for_phase(name, "Preparing")
    assert cluster.job(fourth).phase == "Pending"
    assert promises.admission_order(cluster.history.complete_events(), group.name) == [name, behind, third]
    assert not promises.quota_violations(
        cluster.history.complete_events(), group.name, group_quota={"gpu": 1}
    )


def test_a_job_without_requeues_fails_at_the_start_timeout(cluster: Cluster, group: GroupFixture) -> None:
    """Its requeueLimit is 0. Its quota is free afterwards."""
    name = group.submit("job", gpus=1, start="never", requeueLimit=0)
    status = cluster.wait_for_phase(name, "Failed")
    assert (status["reason"], status["requeued"]) == ("OverRequeueLimit", 0)
    eventually(lambda: cluster.status(name)["reclaimed"], "the job is reclaimed")
    assert START_TIMEOUT in status["message"]
    assert cluster.pod(name) is None
    cluster.wait_for_phase(group.submit("next", gpus=1), "Succeeded")


def test_a_job_fails_after_its_requeue_limit(cluster: Cluster, group: GroupFixture) -> None:
    """With a requeueLimit of 1, the second timeout fails it."""
    name = group.submit("job", start="never", requeueLimit=1)
    status = cluster.wait_for_phase(name, "Failed")
    assert (status["reason"], status["requeued"]) == ("OverRequeueLimit", 1)
    assert cluster.phases(name) == ["Pending", "Preparing", "Pending", "Preparing", "Failed"]


def test_the_message_of_an_unschedulable_job_has_the_schedulers_reason(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It is the message of Kubernetes' scheduler."""
    (instance_type,) = cluster.create(an_unschedulable_instance_type(cluster.unique_name("nowhere")))
    group.grant(instance_types=(instance_type,))
    name = group.submit("job", instanceType=instance_type, requeueLimit=0)
    status = cluster.wait_for_phase(name, "Failed")
    assert (
        f"{START_TIMEOUT}; no node can take it: Unschedulable: 0/1 nodes are available" in status["message"]
    )


def test_the_message_of_a_job_without_its_volume_has_the_schedulers_reason(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The message of Kubernetes' scheduler names the claim."""
    (dataset,) = cluster.create(
        an_object("Dataset", cluster.unique_name("data"), {"type": "pv", "volumeName": "nowhere"})
    )
    group.patch_spec(datasets=[{"name": dataset, "writable": False}])
    name = group.submit("job", requeueLimit=0)
    status = cluster.wait_for_phase(name, "Failed")
    unschedulable = "Unschedulable: 0/1 nodes are available: persistentvolumeclaim"
    assert f'{START_TIMEOUT}; a volume cannot be provided: {unschedulable} "' in status["message"]


def test_a_pod_that_its_node_rejects_causes_a_requeue(cluster: Cluster, group: GroupFixture) -> None:
    """Its command has not started. The job gets another pod, and its message has the node's reason."""
    name = group.submit("job", gpus=1, start="never")
    pod = cluster.wait_for_bound_pod(name)
    rejected = {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}
    cluster.api.merge_patch("Pod", name, {"status": rejected}, subresource="status")
    eventually(lambda: (new := cluster.pod(name)) and new.uid != pod.uid, "it has another pod")
    jobs = [event.object["status"] for event in cluster.history.complete_events() if event.kind == "PhJob"]
    requeued = next(status for status in jobs if status["requeued"])
    assert requeued["message"] == "OutOfcpu: Node didn't have enough resource: cpu"


def test_a_job_in_backoff_can_be_cancelled(cluster: Cluster, group: GroupFixture) -> None:
    """It is cancelled before the end of its backoff."""
    name = group.submit("job", start="never")
    wait_for_requeues(cluster, name, 2)
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
    eventually(lambda: cluster.status(name)["reclaimed"], "the job is reclaimed")


def test_a_running_job_is_never_requeued(cluster: Cluster, group: GroupFixture) -> None:
    """The timeout applies to its start only, however long it runs."""
    name = group.submit("job", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    late = group.submit("late", start="never", requeueLimit=0)
    cluster.wait_for_phase(late, "Failed")  # The start timeout has passed.
    wait_until_quiescent(cluster)
    assert cluster.phases(name) == ["Pending", "Preparing", "Running"]
