"""A retry with a real kubelet: what it reports is the proof that the command has ended."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import promises
from tests.support.cluster import Cluster, Object, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.nodes import ready_condition
from tests.support.stacks import RealNode, log_archive_settings
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG_SECONDS = 180
SETTINGS = "jobSubmission: {nodeLostGraceSeconds: 5}\n"
COMMAND = "echo run; sleep 300 & wait $!"


@pytest.fixture
def cluster(real_node: RealNode, archive: Path) -> Iterator[Cluster]:
    """Yield the cluster, which gives up a lost node after a few seconds."""
    with cluster_on(real_node.start(log_archive_settings(archive) + SETTINGS)) as cluster:
        yield cluster
        cluster.service("kubelet").kill(signal.SIGCONT)
        cluster.kubectl("uncordon", "localhost")
        eventually(
            lambda: ready_condition(cluster.api)[0] == "True", "the node is Ready", within=LONG_SECONDS
        )


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group whose quota allows one job at a time."""
    return GroupFixture(cluster, "retried", {"groupQuota": {"cpu": "500m"}}).create()


def test_a_job_that_is_drained_runs_again_after_its_container_has_ended(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It waits for the node, and runs there again (spec.md, L17)."""
    name = run_once(cluster, group, "Disruption")
    drain = ("drain", "localhost", "--delete-emptydir-data", "--force", "--timeout=120s")
    done = cluster.kubectl(*drain, f"--pod-selector=primehub.io/phjob={name}")
    assert done.returncode == 0, done.stderr
    status = wait_for_retry(cluster, name, "Disruption")
    assert "EvictionByEvictionAPI" in status["message"]
    cluster.wait_for_phase(name, "Preparing")
    cluster.kubectl("uncordon", "localhost")
    assert_second_run_is_alone(cluster, name)


def test_a_job_whose_node_was_lost_runs_again_after_the_node_has_ended_it(
    cluster: Cluster, group: GroupFixture
) -> None:
    """While the node is silent, the command may still run there, so nothing else starts (spec.md, L17)."""
    name = run_once(cluster, group, "NodeLost")
    first_pod = cluster.status(name)["podUID"]
    cluster.service("kubelet").kill(signal.SIGSTOP)
    cluster.wait_for_reason(name, "NodeLost")
    eventually(lambda: is_being_deleted(cluster, name), "its pod is to be deleted", within=LONG_SECONDS)
    assert cluster.status(name)["podUID"] == first_pod
    assert cluster.job(name).phase == "Running"
    cluster.service("kubelet").kill(signal.SIGCONT)
    wait_for_retry(cluster, name, "NodeLost")
    assert_second_run_is_alone(cluster, name)


def is_being_deleted(cluster: Cluster, name: str) -> bool:
    """Return whether the deletion of the pod is requested, but the pod still exists."""
    pod = cluster.pod(name)
    return pod is not None and "deletionTimestamp" in pod.object["metadata"]


def run_once(cluster: Cluster, group: GroupFixture, cause: str) -> str:
    """Run a job that may be retried once for this cause. Returns its name."""
    name = group.submit("job", command=COMMAND, retry={"limit": 1, "on": [cause]})
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    return name


def wait_for_retry(cluster: Cluster, name: str, cause: str) -> Object:
    """Wait until the job is retried for this cause. Returns its status."""
    eventually(
        lambda: cluster.status(name)["retried"] == 1,
        f"{name} is retried",
        within=LONG_SECONDS,
        diagnostics=lambda: cluster.status(name),
    )
    status = cluster.status(name)
    assert status["message"].startswith(f"retry 1 of 1 ({cause}): ")
    return status


def assert_second_run_is_alone(cluster: Cluster, name: str) -> None:
    """Assert that the second run begins after the end of the first, by the node's own clock."""
    (first,) = cluster.status(name)["attempts"]
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    running = cluster.status(name)
    assert running["startTime"] >= first["finishTime"]
    assert running["podUID"] != first["podUID"]
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
    assert not promises.single_pod_violations(cluster.history.complete_events())
