"""A retry after an eviction, with a real kubelet: what it reports is the proof that the command has ended."""

import pytest
from tests.support import promises
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG_SECONDS = 180
RETRY = {"limit": 1, "on": ["Disruption"]}


@pytest.fixture
def group(real_cluster: Cluster) -> GroupFixture:
    """Create a group whose quota allows one job at a time."""
    return GroupFixture(real_cluster, "retried", {"groupQuota": {"cpu": "500m"}}).create()


def test_a_job_that_is_drained_runs_again_after_its_container_has_ended(
    real_cluster: Cluster, group: GroupFixture
) -> None:
    """The second run begins after the end of the first, by the node's own clock (spec.md, L17)."""
    cluster = real_cluster
    name = group.submit("job", command="echo run; sleep 300 & wait $!", retry=RETRY)
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    cluster.api.create_subresource("Pod", name, "eviction", eviction)
    eventually(
        lambda: cluster.status(name)["retried"] == 1,
        f"{name} is retried",
        within=LONG_SECONDS,
        diagnostics=lambda: cluster.status(name),
    )
    status = cluster.status(name)
    assert status["message"].startswith("retry 1 of 1 (Disruption): ")
    assert "EvictionByEvictionAPI" in status["message"]
    (first,) = status["attempts"]
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    running = cluster.status(name)
    assert running["startTime"] >= first["finishTime"]
    assert running["podUID"] != first["podUID"]
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
    assert not promises.single_pod_violations(cluster.history.complete_events())
