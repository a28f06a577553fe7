"""Pods that outlive their jobs, because somebody deletes the job without them (spec.md, L16)."""

import signal

import pytest
from tests.support.builders import a_notebook
from tests.support.cluster import Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """A group without quotas."""
    return GroupFixture(cluster).create()


def orphan(cluster: Cluster, name: str) -> None:
    """Delete a job as `kubectl delete --cascade=orphan` does, while pod-manager is stopped.

    Otherwise pod-manager could end the job, and with it the pod, before the garbage collector acts.
    """
    cluster.service("pod-manager").kill(signal.SIGSTOP)
    try:
        cluster.api.delete("PhJob", name, propagationPolicy="Orphan")
        eventually(lambda: cluster.api.get("PhJob", name) is None, f"job {name} is deleted")
        pod = cluster.api.get("Pod", name)
        assert pod
        assert "ownerReferences" not in pod["metadata"], "the garbage collector has removed the owner"
        assert "deletionTimestamp" not in pod["metadata"]
    finally:
        cluster.service("pod-manager").kill(signal.SIGCONT)


@pytest.mark.parametrize(("run_for", "phase"), [(FOREVER, "Running"), ("0s", "Succeeded")])
def test_a_pod_that_outlives_its_job_is_deleted(
    cluster: Cluster, group: GroupFixture, run_for: str, phase: str
) -> None:
    """Its command would run on without a deadline, and the pod would never be reclaimed."""
    name = group.submit("orphaned", run_for=run_for)
    cluster.wait_for_phase(name, phase)
    orphan(cluster, name)
    eventually(lambda: cluster.api.get("Pod", name) is None, f"the pod {name} is deleted")


def test_a_pod_that_outlives_its_job_while_pod_manager_is_down_is_deleted(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Only the pod's labels show then whose it was."""
    name = group.submit("orphaned", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    orphan_while_down = cluster.service("pod-manager")
    orphan_while_down.stop()
    cluster.api.delete("PhJob", name, propagationPolicy="Orphan")
    eventually(lambda: cluster.api.get("PhJob", name) is None, f"job {name} is deleted")
    orphan_while_down.start()
    eventually(lambda: cluster.api.get("Pod", name) is None, f"the pod {name} is deleted")


def test_a_new_job_of_the_name_of_an_orphan_runs(cluster: Cluster, group: GroupFixture) -> None:
    """Its pod needs the name, so it waits until the orphan is gone."""
    name = group.submit("again", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    orphan(cluster, name)
    assert group.submit("again") == name
    cluster.wait_for_phase(name, "Succeeded")


def test_a_pod_that_has_lost_its_owner_stays_the_pod_of_its_job(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Somebody has removed only its owner reference. The job ends as its pod does, and counts once."""
    name = group.submit("unowned", run_for="5s")
    cluster.wait_for_phase(name, "Running")
    cluster.api.merge_patch("Pod", name, {"metadata": {"ownerReferences": None}})
    wait_until_quiescent(cluster)
    pod = cluster.api.get("Pod", name)
    assert pod
    assert "deletionTimestamp" not in pod["metadata"]
    cluster.api.merge_patch("Pod", name, {"status": {"phase": "Succeeded"}}, subresource="status")
    assert cluster.wait_for_phase(name, "Succeeded")["reason"] == "Completed"


@pytest.mark.parametrize("case", ["a copy", "a notebook", "of another controller"])
def test_a_pod_that_is_no_jobs_is_left_alone(cluster: Cluster, group: GroupFixture, case: str) -> None:
    """A pod is an orphan only with all marks of its job: the uid, its own name, and no other owner."""
    name = cluster.unique_name(case.replace(" ", "-"))
    pod = a_notebook(name, group=group.name, user="bob")
    labels = pod["metadata"]["labels"]
    labels["primehub.io/phjob-uid"] = "no-such-uid"
    if case == "a copy":
        labels["primehub.io/phjob"] = "the-original"
    if case == "of another controller":
        labels["primehub.io/phjob"] = name
        node = cluster.api.list("Node")["items"][0]["metadata"]
        owner = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node["name"],
            "uid": node["uid"],
            "controller": True,
        }
        pod["metadata"]["ownerReferences"] = [owner]
    cluster.create(pod)
    wait_until_quiescent(cluster)
    found = cluster.api.get("Pod", name)
    assert found
    assert "deletionTimestamp" not in found["metadata"]
