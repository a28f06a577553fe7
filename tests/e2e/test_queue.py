"""The queue of a group on a running stack: quotas and their edits, notebooks, and pending reasons."""

import pytest
from tests.support import promises
from tests.support.cli import Cli
from tests.support.cluster import Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a group quota of 4 GPUs, and without a user quota."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 4}}).create()


def run_job(cluster: Cluster, group: GroupFixture, name: str, *, gpus: int, user: str = "bob") -> str:
    """Submit a job that runs forever, and wait until it runs. Returns its name."""
    job = group.submit(name, gpus=gpus, user=user, run_for=FOREVER)
    cluster.wait_for_phase(job, "Running")
    return job


def test_a_group_without_quotas_has_no_limit(cluster: Cluster) -> None:
    """Twenty jobs with four GPUs each run at the same time."""
    group = GroupFixture(cluster, "unlimited").create()
    names = cluster.kubectl_create(
        *(group.job_manifest(f"job-{n}", gpus=4, run_for=FOREVER) for n in range(20))
    )
    for name in names:
        cluster.wait_for_phase(name, "Running")
    assert promises.peak_usage(cluster.history.complete_events(), group.name, "gpu") == 80
    assert not promises.order_violations(cluster.history.complete_events(), group.name)


def test_a_resource_without_a_quota_has_no_limit(cluster: Cluster) -> None:
    """This group quota allows no GPU. It rejects only jobs with GPUs, and limits neither CPU nor memory."""
    group = GroupFixture(cluster, "cpu-only", {"groupQuota": {"gpu": 0}}).create()
    with_gpu = group.submit("with", gpus=1)
    cluster.wait_for_phase(group.submit("without"), "Succeeded")
    assert cluster.wait_for_phase(with_gpu, "Failed")["reason"] == "OverQuota"


def test_cpu_and_memory_are_counted_exactly(cluster: Cluster) -> None:
    """Two jobs of half a core use a quota of one core. 256M of memory are 256Mi."""
    group = GroupFixture(cluster, "small", {"groupQuota": {"cpu": "1", "memory": "1G"}}).create()
    names = [run_job(cluster, group, f"job-{n}", gpus=0) for n in range(2)]
    waiting = group.submit("waiting")
    cluster.wait_for_reason(waiting, "GroupQuota", "group quota: cpu 1 of 1 used, needs 500m")
    group.patch_spec(groupQuota={"cpu": "4", "memory": "512M"})
    cluster.wait_for_reason(waiting, "GroupQuota", "group quota: memory 512Mi of 512Mi used, needs 256Mi")
    cluster.cancel(names[0])
    cluster.wait_for_phase(waiting, "Succeeded")


def test_the_disk_of_jobs_counts_against_a_quota(cluster: Cluster) -> None:
    """Each has 10 GiB by default, which the pod gets and `kubectl phjob` counts, too (spec.md, P4)."""
    group = GroupFixture(cluster, "disk", {"groupQuota": {"ephemeral-storage": "15Gi"}}).create()
    running = group.submit("running", run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    pod = cluster.pod(running)
    assert pod
    assert pod.object["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "10Gi"
    waiting = group.submit("waiting")
    shortage = "group quota: ephemeral-storage 10Gi of 15Gi used, needs 10Gi"
    cluster.wait_for_reason(waiting, "GroupQuota", shortage)
    assert shortage in Cli(cluster.stack.kubeconfig)("why", waiting).stdout
    cluster.cancel(running)
    cluster.wait_for_phase(waiting, "Succeeded")


def test_a_raised_quota_admits_pending_jobs(cluster: Cluster, group: GroupFixture) -> None:
    """No other job has to end first."""
    run_job(cluster, group, "first", gpus=4)
    second, third = group.submit("second", gpus=4), group.submit("third", gpus=4)
    cluster.wait_for_reason(second, "GroupQuota", "gpu 4 of 4 used, needs 4")
    group.patch_spec(groupQuota={"gpu": 8})
    cluster.wait_for_phase(second, "Succeeded")
    cluster.wait_for_phase(third, "Succeeded")
    assert not promises.quota_violations(
        cluster.history.complete_events(), group.name, group_quota={"gpu": 8}
    )
    assert not promises.order_violations(cluster.history.complete_events(), group.name)


def test_the_removal_of_a_user_quota_admits_the_jobs_that_it_blocked(
    cluster: Cluster, group: GroupFixture
) -> None:
    """An edit of the group also affects users whose jobs the queue skips."""
    group.patch_spec(userQuota={"gpu": 2})
    run_job(cluster, group, "first", gpus=2)
    blocked = group.submit("blocked", gpus=2)
    cluster.wait_for_reason(blocked, "UserQuota", "gpu 2 of 2 used, needs 2")
    group.patch_spec(userQuota=None)
    cluster.wait_for_phase(blocked, "Succeeded")


def test_a_lowered_quota_stops_no_job_and_fails_none(cluster: Cluster, group: GroupFixture) -> None:
    """A job that becomes infeasible waits until it is feasible again, and blocks no other (spec.md, Q4)."""
    first = run_job(cluster, group, "first", gpus=2)
    large, small = group.submit("large", gpus=4), group.submit("small", gpus=2)
    cluster.wait_for_reason(large, "GroupQuota", "gpu 2 of 4 used, needs 4")
    group.patch_spec(groupQuota={"gpu": 3})
    cluster.wait_for_reason(large, "OverQuota", "needs gpu 4, but the group quota is 3")
    cluster.wait_for_reason(small, "GroupQuota", "group quota: gpu 2 of 3 used, needs 2")
    cluster.cancel(first)
    cluster.wait_for_phase(small, "Succeeded")
    assert cluster.job(large).phase == "Pending"
    group.patch_spec(groupQuota={"gpu": 4})
    cluster.wait_for_phase(large, "Succeeded")


@pytest.mark.parametrize("kind", ["PhGroup", "InstanceType", "Image"])
def test_an_object_of_the_catalog_can_be_deleted_and_created_again(
    cluster: Cluster, group: GroupFixture, kind: str
) -> None:
    """`kubectl replace --force` does so. A pending job names the missing object, and does not fail."""
    first = run_job(cluster, group, "first", gpus=4)
    waiting = group.submit("waiting", gpus=2)
    cluster.wait_for_reason(waiting, "GroupQuota", "gpu 4 of 4 used, needs 2")
    spec = cluster.job(waiting).object["spec"]
    name = {"PhGroup": group.name, "InstanceType": spec["instanceType"], "Image": spec["image"]}[kind]
    found = cluster.api.get(kind, name)
    assert found
    cluster.api.delete(kind, name)
    cluster.wait_for_reason(waiting, "InvalidSpec", "does not exist")
    cluster.create({**found, "metadata": {"name": name}})
    cluster.cancel(first)
    cluster.wait_for_phase(waiting, "Succeeded")


def test_a_quota_below_the_usage_admits_no_job_until_enough_jobs_have_ended(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The usage exceeds the quota because of the edit, and not because of an admission."""
    first, second = run_job(cluster, group, "first", gpus=2), run_job(cluster, group, "second", gpus=2)
    group.patch_spec(groupQuota={"gpu": 2})
    waiting = group.submit("waiting", gpus=1, run_for=FOREVER)
    cluster.wait_for_reason(waiting, "GroupQuota", "group quota: gpu 4 of 2 used, needs 1")
    cluster.cancel(first)
    cluster.wait_for_pod_deletion(first)
    wait_until_quiescent(cluster)
    assert cluster.job(waiting).phase == "Pending"
    cluster.cancel(second)
    cluster.wait_for_phase(waiting, "Running")


def test_a_notebook_counts_against_the_group_quota(cluster: Cluster, group: GroupFixture) -> None:
    """It blocks a job until it is deleted."""
    notebook = group.start_notebook("jupyter", gpus=3, user="pan")
    eventually(lambda: cluster.pod(notebook), "the notebook exists")
    job = group.submit("job", gpus=2)
    cluster.wait_for_reason(job, "GroupQuota", "group quota: gpu 3 of 4 used, needs 2")
    cluster.api.delete("Pod", notebook)
    cluster.wait_for_phase(job, "Succeeded")
    assert not promises.quota_violations(
        cluster.history.complete_events(), group.name, group_quota={"gpu": 4}
    )


def test_a_notebook_counts_for_its_user_even_if_the_name_has_special_characters(
    cluster: Cluster, group: GroupFixture
) -> None:
    """JupyterHub escapes names in labels, and PhJob has to escape them in the same way."""
    group.patch_spec(userQuota={"gpu": 2})
    user = "Päivi.O'Brien@example.com"
    notebook = group.start_notebook("jupyter", gpus=1, user=user)
    eventually(lambda: cluster.pod(notebook), "the notebook exists")
    job, other = group.submit("job", gpus=2, user=user), group.submit("other", gpus=2, user="lin")
    cluster.wait_for_reason(job, "UserQuota", "user quota: gpu 1 of 2 used, needs 2")
    cluster.wait_for_phase(other, "Succeeded")
    cluster.api.delete("Pod", notebook)
    cluster.wait_for_phase(job, "Succeeded")


def test_a_finished_notebook_does_not_count(cluster: Cluster, group: GroupFixture) -> None:
    """Its pod still exists."""
    notebook = group.start_notebook("jupyter", gpus=4)
    eventually(lambda: cluster.pod(notebook), "the notebook exists")
    job = group.submit("job", gpus=1)
    cluster.wait_for_reason(job, "GroupQuota")
    cluster.api.merge_patch("Pod", notebook, {"status": {"phase": "Succeeded"}}, subresource="status")
    cluster.wait_for_phase(job, "Succeeded")


def test_the_pod_of_a_finished_job_does_not_count(cluster: Cluster, group: GroupFixture) -> None:
    """It may be kept for days, because of its log. The next job does not wait for its deletion."""
    first = group.submit("first", gpus=4)
    second = group.submit("second", gpus=4)
    cluster.wait_for_phase(second, "Succeeded")
    assert cluster.pod(first) is not None


def test_a_job_that_fits_does_not_overtake_the_head(cluster: Cluster, group: GroupFixture) -> None:
    """Only the head gets a reason with numbers. The jobs behind it are Queued."""
    first = run_job(cluster, group, "first", gpus=2)
    head, behind = group.submit("head", gpus=4, user="pan"), group.submit("behind", gpus=1, user="lin")
    cluster.wait_for_reason(head, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    wait_until_quiescent(cluster)
    assert cluster.job(behind).phase == "Pending"
    assert cluster.status(behind)["reason"] == "Queued"
    cluster.cancel(first)
    cluster.wait_for_phase(behind, "Succeeded")
    assert promises.admission_order(cluster.history.complete_events(), group.name) == [first, head, behind]


def test_a_job_that_exceeds_both_quotas_waits_for_the_user_quota(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It blocks no other user (spec.md, Q2, Q2b)."""
    group.patch_spec(userQuota={"gpu": 2})
    run_job(cluster, group, "bobs", gpus=2, user="bob")
    run_job(cluster, group, "pans", gpus=1, user="pan")
    both = group.submit("both", gpus=2, user="bob")
    cluster.wait_for_reason(both, "UserQuota", "user quota: gpu 2 of 2 used, needs 2")
    cluster.wait_for_phase(group.submit("lins", gpus=1, user="lin"), "Succeeded")


def test_a_user_at_the_user_quota_keeps_the_order_of_jobs(cluster: Cluster, group: GroupFixture) -> None:
    """A small job does not overtake a large job of the same user."""
    group.patch_spec(userQuota={"gpu": 2})
    first = run_job(cluster, group, "first", gpus=1, user="bob")
    large, small = group.submit("large", gpus=2), group.submit("small", gpus=1)
    cluster.wait_for_reason(large, "UserQuota", "user quota: gpu 1 of 2 used, needs 2")
    wait_until_quiescent(cluster)
    assert cluster.job(small).phase == "Pending"
    cluster.cancel(first)
    cluster.wait_for_phase(small, "Succeeded")
    assert not promises.order_violations(cluster.history.complete_events(), group.name)


def test_the_pending_reason_follows_the_usage(cluster: Cluster, group: GroupFixture) -> None:
    """Its numbers are updated after each change."""
    first, second = run_job(cluster, group, "first", gpus=2), run_job(cluster, group, "second", gpus=2)
    waiting = group.submit("waiting", gpus=4)
    cluster.wait_for_reason(waiting, "GroupQuota", "group quota: gpu 4 of 4 used, needs 4")
    cluster.cancel(first)
    cluster.wait_for_reason(waiting, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    cluster.cancel(second)
    assert cluster.wait_for_phase(waiting, "Succeeded")["message"] == "exit code 0"


def test_groups_do_not_affect_each_other(cluster: Cluster, group: GroupFixture) -> None:
    """The same user has a separate quota in each group."""
    run_job(cluster, group, "first", gpus=4, user="bob")
    waiting = group.submit("waiting", gpus=4, user="bob")
    other = GroupFixture(cluster, "other", {"userQuota": {"gpu": 4}, "groupQuota": {"gpu": 4}}).create()
    cluster.wait_for_phase(other.submit("elsewhere", gpus=4, user="bob"), "Succeeded")
    assert cluster.job(waiting).phase == "Pending"
