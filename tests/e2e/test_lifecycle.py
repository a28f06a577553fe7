"""The end of a job: by itself, by a cancel, by a timeout or by a third party; and the end of its pod."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of one GPU."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()


def assert_quota_is_free(cluster: Cluster, group: GroupFixture) -> None:
    """Run another job that needs the group's only GPU."""
    cluster.wait_for_phase(group.submit("next", gpus=1), "Succeeded")


def wait_until_reclaimed(cluster: Cluster, name: str) -> None:
    """Wait until the pod is deleted, and the job's status shows it."""
    cluster.wait_for_pod_deletion(name)
    eventually(lambda: cluster.status(name)["reclaimed"], f"{name} is reclaimed")


def test_the_status_of_a_succeeded_job_has_its_times_node_and_exit_code(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Its times are those of the container. Its pod stays for the log."""
    name = group.submit("job", gpus=1, run_for="3s")
    cluster.wait_for_phase(name, "Running")
    status = cluster.wait_for_phase(name, "Succeeded")
    assert (status["reason"], status["message"], status["exitCode"]) == ("Completed", "exit code 0", 0)
    assert (status["podName"], status["nodeName"]) == (name, "kwok-0")
    assert status["resources"] == {
        "cpu": "500m", "memory": "256Mi", "nvidia.com/gpu": "1", "ephemeral-storage": "10Gi"
    }  # fmt: skip
    pod = cluster.pod(name)
    assert pod
    ended = pod.object["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (status["startTime"], status["finishTime"]) == (ended["startedAt"], ended["finishedAt"])
    assert status["preparingTime"] <= status["startTime"]
    assert (status["requeued"], status["reclaimed"]) == (0, False)
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Succeeded"]


def test_a_job_costs_four_writes_and_one_pod(cluster: Cluster, group: GroupFixture) -> None:
    """The user's creation and three patches of its status, if nothing fails."""
    name = group.submit("job", run_for="3s")
    cluster.wait_for_phase(name, "Succeeded")
    wait_until_quiescent(cluster)
    revisions = [
        event for event in cluster.history.complete_events() if (event.kind, event.name) == ("PhJob", name)
    ]
    assert [event.phase for event in revisions] == ["Pending", "Preparing", "Running", "Succeeded"]
    pod = cluster.pod(name)
    assert pod
    assert "managedFields" not in pod.object["metadata"], "the API server tracks no fields of a started pod"


def test_a_failing_command_fails_the_job_with_its_exit_code(cluster: Cluster, group: GroupFixture) -> None:
    """The message has the exit code and the container's reason."""
    name = group.submit("job", gpus=1, exit_code=3)
    status = cluster.wait_for_phase(name, "Failed")
    assert (status["reason"], status["exitCode"]) == ("Error", 3)
    assert status["message"].startswith("exit code 3 (Error)")
    assert status["reclaimed"] is False
    assert_quota_is_free(cluster, group)


def test_a_pending_job_can_be_cancelled(cluster: Cluster, group: GroupFixture) -> None:
    """It never gets a pod, and the job behind it starts."""
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    name, behind = group.submit("job", gpus=1), group.submit("behind")
    cluster.wait_for_reason(name, "GroupQuota")
    cluster.cancel(name)
    status = cluster.wait_for_phase(name, "Cancelled")
    assert (status["reason"], status["reclaimed"]) == ("Cancelled", True)
    assert "finishTime" in status
    cluster.wait_for_phase(behind, "Succeeded")
    assert cluster.phases(name) == ["Pending", "Cancelled"]
    assert cluster.pod(name) is None


def test_a_preparing_job_can_be_cancelled(cluster: Cluster, group: GroupFixture) -> None:
    """Its pod has not started, and is deleted."""
    name = group.submit("job", gpus=1, start="never")
    cluster.wait_for_phase(name, "Preparing")
    eventually(lambda: cluster.pod(name), "its pod exists")
    cluster.cancel(name)
    assert cluster.wait_for_phase(name, "Cancelled")["reason"] == "Cancelled"
    wait_until_reclaimed(cluster, name)
    assert cluster.phases(name) == ["Pending", "Preparing", "Cancelled"]
    assert_quota_is_free(cluster, group)


def test_a_running_job_can_be_cancelled(cluster: Cluster, group: GroupFixture) -> None:
    """Its pod is deleted."""
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    cluster.cancel(name)
    status = cluster.wait_for_phase(name, "Cancelled")
    assert "startTime" in status
    assert "finishTime" in status
    wait_until_reclaimed(cluster, name)
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Cancelled"]
    assert_quota_is_free(cluster, group)


def test_a_job_that_is_created_cancelled_never_runs(cluster: Cluster, group: GroupFixture) -> None:
    """The cancel is requested before the scheduler has the job."""
    name = group.submit("job", cancel=True)
    cluster.wait_for_phase(name, "Cancelled")
    assert cluster.phases(name) == ["Pending", "Cancelled"]


def test_the_cancel_of_a_finished_job_changes_nothing(cluster: Cluster, group: GroupFixture) -> None:
    """It keeps its phase and its pod."""
    name = group.submit("job")
    before = cluster.wait_for_phase(name, "Succeeded")
    cluster.cancel(name)
    wait_until_quiescent(cluster)
    assert cluster.status(name) == before
    assert cluster.pod(name) is not None


def test_a_job_that_runs_too_long_is_stopped(cluster: Cluster, group: GroupFixture) -> None:
    """It fails after activeDeadlineSeconds, and its pod is deleted."""
    name = group.submit("job", gpus=1, run_for=FOREVER, activeDeadlineSeconds=1)
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "OverActiveDeadline"
    assert status["message"] == "it ran longer than its deadline of 1 s"
    wait_until_reclaimed(cluster, name)
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Failed"]
    assert_quota_is_free(cluster, group)


def test_a_deadline_can_be_set_while_the_job_runs(cluster: Cluster, group: GroupFixture) -> None:
    """It takes effect at once."""
    name = group.submit("job", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    cluster.patch_spec("PhJob", name, activeDeadlineSeconds=1)
    assert cluster.wait_for_phase(name, "Failed")["reason"] == "OverActiveDeadline"


def test_the_groups_deadline_counts_for_a_job_without_one(cluster: Cluster, group: GroupFixture) -> None:
    """A job's own deadline overrides it, even a longer one."""
    group.patch_spec(jobDefaultActiveDeadlineSeconds=1)
    own = group.submit("own", run_for=FOREVER, activeDeadlineSeconds=3600)
    name = group.submit("job", run_for=FOREVER)
    assert cluster.wait_for_phase(name, "Failed")["reason"] == "OverActiveDeadline"
    wait_until_quiescent(cluster)
    assert cluster.job(own).phase == "Running"


def test_a_finished_jobs_pod_is_reclaimed_after_its_ttl(cluster: Cluster, group: GroupFixture) -> None:
    """The record keeps its status."""
    name = group.submit("job", ttlSecondsAfterFinished=1)
    cluster.wait_for_phase(name, "Succeeded")
    wait_until_reclaimed(cluster, name)
    status = cluster.status(name)
    assert (status["phase"], status["exitCode"], status["message"]) == ("Succeeded", 0, "exit code 0")


def test_a_ttl_can_be_set_after_the_job_has_finished(cluster: Cluster, group: GroupFixture) -> None:
    """It applies to a failed job, too."""
    name = group.submit("job", exit_code=1)
    cluster.wait_for_phase(name, "Failed")
    cluster.patch_spec("PhJob", name, ttlSecondsAfterFinished=1)
    wait_until_reclaimed(cluster, name)


def test_a_pod_deleted_while_it_runs_fails_the_job(cluster: Cluster, group: GroupFixture) -> None:
    """PhJob never runs its command a second time."""
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    cluster.api.delete("Pod", name)
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "PodDeleted"
    eventually(lambda: cluster.status(name)["reclaimed"], "the job is reclaimed")
    assert_quota_is_free(cluster, group)
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Failed"]


def test_a_pod_deleted_before_its_container_starts_counts_as_a_requeue(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The job gets a new pod at once, and its status counts the requeue."""
    name = group.submit("job", gpus=1, start="never")
    first = cluster.wait_for_bound_pod(name)
    cluster.api.delete("Pod", name)
    eventually(
        lambda: cluster.phases(name) == ["Pending", "Preparing", "Pending", "Preparing"],
        "the job is Preparing again",
        diagnostics=lambda: cluster.phases(name),
    )
    assert cluster.status(name)["requeued"] == 1
    assert cluster.wait_for_bound_pod(name).uid != first.uid


def test_a_finished_job_whose_pod_a_user_deletes_is_reclaimed(cluster: Cluster, group: GroupFixture) -> None:
    """The job keeps its phase."""
    name = group.submit("job")
    cluster.wait_for_phase(name, "Succeeded")
    cluster.api.delete("Pod", name)
    wait_until_reclaimed(cluster, name)
    assert cluster.job(name).phase == "Succeeded"


def test_an_eviction_of_a_running_pod_fails_the_job(cluster: Cluster, group: GroupFixture) -> None:
    """An eviction, as by `kubectl drain`, is a deletion by a third party."""
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    cluster.api.create_subresource("Pod", name, "eviction", eviction)
    assert cluster.wait_for_phase(name, "Failed")["reason"] == "PodDeleted"
    assert_quota_is_free(cluster, group)


def test_a_pod_that_the_kubelet_evicts_fails_the_job_with_the_kubelets_reason(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The kubelet evicts pods if its node is low on memory, or if they exceed their disk limit."""
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    cluster.api.merge_patch(
        "Pod", name, {"status": {**evicted, "containerStatuses": []}}, subresource="status"
    )
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == "Evicted: The node was low on resource: memory"
    assert_quota_is_free(cluster, group)


def test_a_job_too_short_to_be_observed_running_has_both_times(cluster: Cluster, group: GroupFixture) -> None:
    """It goes from Preparing to Succeeded, and its times are those of the container."""
    name = group.submit("job", gpus=1, start="never")
    eventually(
        lambda: (pod := cluster.pod(name)) and pod.object["spec"].get("nodeName"), "its pod has a node"
    )
    ran = {"exitCode": 0, "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}
    container = {"name": "main", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
    ended = {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ran}}]}
    cluster.api.merge_patch("Pod", name, {"status": ended}, subresource="status")
    status = cluster.wait_for_phase(name, "Succeeded")
    assert (status["startTime"], status["finishTime"]) == (ran["startedAt"], ran["finishedAt"])
    assert cluster.phases(name) == ["Pending", "Preparing", "Succeeded"]


def test_a_deadline_that_is_extended_at_the_last_moment_holds(cluster: Cluster, group: GroupFixture) -> None:
    """The janitor has sent its command already. Pod-manager does not execute it against the newer spec."""
    name = group.submit("job", run_for=FOREVER, activeDeadlineSeconds=3)
    cluster.wait_for_phase(name, "Running")
    cluster.service("pod-manager").kill(signal.SIGSTOP)
    try:
        eventually(
            lambda: '"command": "TimeOut"' in cluster.service_log("janitor"),
            "the janitor has sent its command",
        )
        cluster.patch_spec("PhJob", name, activeDeadlineSeconds=3600)
    finally:
        cluster.service("pod-manager").kill(signal.SIGCONT)
    wait_until_quiescent(cluster)
    assert cluster.job(name).phase == "Running"
    cluster.patch_spec("PhJob", name, activeDeadlineSeconds=1)
    assert cluster.wait_for_phase(name, "Failed")["reason"] == "OverActiveDeadline"


def test_a_cancel_that_races_with_the_end_gives_one_final_phase(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The first of the two decides, and a final phase never changes."""
    names = [group.submit(f"job-{n}", run_for="2s") for n in range(20)]
    for name in names:
        cluster.wait_for_phase(name, "Running", "Succeeded")
    for name in names:
        cluster.cancel(name)
    ends = [cluster.wait_for_phase(name, "Succeeded", "Cancelled") for name in names]
    wait_until_quiescent(cluster)
    assert [cluster.status(name)["phase"] for name in names] == [end["phase"] for end in ends]


@pytest.mark.parametrize("phase", ["Pending", "Preparing", "Running", "Succeeded"])
def test_a_job_can_be_deleted_in_every_phase(cluster: Cluster, group: GroupFixture, phase: str) -> None:
    """Its pod is deleted with it, and its quota is free."""
    if phase == "Pending":
        cluster.wait_for_phase(group.submit("first", gpus=1, run_for=FOREVER), "Running")
    start = "never" if phase == "Preparing" else None
    name = group.submit("job", gpus=1, start=start, run_for="1s" if phase == "Succeeded" else FOREVER)
    cluster.wait_for_phase(name, phase)
    cluster.api.delete("PhJob", name)
    eventually(lambda: cluster.history.current("PhJob", name) is None, "the job is gone")
    cluster.wait_for_pod_deletion(name)
    if phase == "Pending":
        cluster.cancel(cluster.unique_name("first"))
    assert_quota_is_free(cluster, group)


@contextmanager
def held_job(cluster: Cluster, group: GroupFixture, **fields: Any) -> Iterator[str]:
    """Submit a job that another program's finalizer keeps until the end of the context. Yields its name."""
    manifest = group.job_manifest("held", **fields)
    manifest["metadata"]["finalizers"] = ["example.com/hold"]
    (name,) = cluster.create(manifest)
    try:
        yield name
    finally:
        cluster.api.merge_patch("PhJob", name, {"metadata": {"finalizers": None}})
    eventually(lambda: cluster.history.current("PhJob", name) is None, "the job is gone")


def test_a_pending_job_that_a_finalizer_keeps_is_never_admitted_and_frees_its_place(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It is Cancelled when its deletion is requested, so that nobody waits behind it (spec.md, Q7, L13)."""
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    with held_job(cluster, group, gpus=1) as name:
        behind = group.submit("behind")
        cluster.wait_for_reason(name, "GroupQuota")
        cluster.api.delete("PhJob", name)
        status = cluster.wait_for_phase(name, "Cancelled")
        assert status["message"].endswith("it is being deleted")
        cluster.wait_for_phase(behind, "Succeeded")
        cluster.cancel(running)
        assert_quota_is_free(cluster, group)
        assert cluster.phases(name) == ["Pending", "Cancelled"]
        assert cluster.pod(name) is None


def test_a_foreground_deletion_of_a_preparing_job_is_no_requeue(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The garbage collector deletes its pod first, here before pod-manager notices it (spec.md, L13)."""
    with held_job(cluster, group, gpus=1, start="never") as name:
        cluster.wait_for_bound_pod(name)
        cluster.service("pod-manager").kill(signal.SIGSTOP)
        try:
            deletion = ("delete", "phj", name, "--cascade=foreground", "--wait=false")
            assert cluster.kubectl("-n", NAMESPACE, *deletion).returncode == 0
            cluster.wait_for_pod_deletion(name)
        finally:
            cluster.service("pod-manager").kill(signal.SIGCONT)
        status = cluster.wait_for_phase(name, "Cancelled")
        assert status["requeued"] == 0
        assert status["message"].endswith("it is being deleted")
        assert cluster.phases(name) == ["Pending", "Preparing", "Cancelled"]
        assert_quota_is_free(cluster, group)


def test_a_job_fails_if_the_name_of_its_pod_is_taken(cluster: Cluster, group: GroupFixture) -> None:
    """PhJob does not touch the other pod of that name."""
    (stranger,) = cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": cluster.unique_name("job")},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        }
    )
    name = group.submit("job", gpus=1)
    assert name == stranger
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "PodCreationFailed"
    eventually(lambda: cluster.status(name)["reclaimed"], "the job is reclaimed")
    assert status["message"] == f"the name of pod '{name}' is taken by another"
    assert cluster.wait_for_event(name, "PodCreationFailed")["message"] == status["message"]
    assert cluster.api.get("Pod", stranger)
    assert_quota_is_free(cluster, group)
