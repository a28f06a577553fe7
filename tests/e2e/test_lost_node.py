"""Jobs on a lost node: its kubelet is suspended, so that it no longer reports to Kubernetes.

Its containers keep running, as on a node whose network is cut.
"""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.nodes import ready_condition
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG_SECONDS = 180


@pytest.fixture
def cluster(real_cluster: Cluster) -> Iterator[Cluster]:
    """Yield the test's cluster.

    Afterwards, resume its kubelet, and wait until the node is Ready.
    """
    yield real_cluster
    real_cluster.service("kubelet").kill(signal.SIGCONT)
    eventually(
        lambda: ready_condition(real_cluster.api)[0] == "True", "the node is Ready again", within=LONG_SECONDS
    )


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group whose quota allows one job at a time."""
    return GroupFixture(cluster, "lost", {"groupQuota": {"cpu": "500m"}}).create()


def lose_node(
    cluster: Cluster, group: GroupFixture, command: str, report_measurement: MeasurementReporter
) -> tuple[str, str]:
    """Run a job, suspend its kubelet, and wait until the job has the reason NodeLost.

    Returns the names of the job, and of another one that waits behind it.
    """
    name = group.submit("job", command=command)
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    behind = group.submit("behind")
    cluster.service("kubelet").kill(signal.SIGSTOP)
    eventually(lambda: ready_condition(cluster.api)[0] == "Unknown", "the node is lost", within=LONG_SECONDS)
    status = cluster.wait_for_reason(name, "NodeLost")
    elapsed = datetime.now(UTC) - ready_condition(cluster.api)[1]
    report_measurement(f"NodeLost {elapsed.total_seconds():.1f} s after the node's Ready turned Unknown")
    assert status["phase"] == "Running"
    assert status["message"] == f"Node localhost which was running pod {name} is unresponsive"
    assert cluster.wait_for_event(name, "NodeLost")["message"] == status["message"]
    return name, behind


def test_a_job_on_a_lost_node_keeps_its_quota_and_continues_once_the_node_is_back(
    cluster: Cluster, group: GroupFixture, report_measurement: MeasurementReporter
) -> None:
    """Its command runs once, to its end (spec.md, L12)."""
    name, behind = lose_node(cluster, group, "echo begun; sleep 25; echo ended", report_measurement)
    assert (
        cluster.wait_for_reason(behind, "GroupQuota")["message"]
        == "group quota: cpu 500m of 500m used, needs 500m"
    )
    assert cluster.job(name).phase == "Running"
    cluster.service("kubelet").kill(signal.SIGCONT)
    status = cluster.wait_for_phase(name, "Succeeded", within=LONG_SECONDS)
    assert status["exitCode"] == 0
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Succeeded"]
    assert cluster.kubectl("-n", "hub", "logs", name).stdout == "begun\nended\n"
    cluster.wait_for_phase(behind, "Succeeded", within=LONG_SECONDS)


def test_the_cancel_of_a_job_on_a_lost_node_frees_its_quota(
    cluster: Cluster, group: GroupFixture, report_measurement: MeasurementReporter
) -> None:
    """Its pod is force-deleted, because no kubelet can report its end. The next job starts at once."""
    name, behind = lose_node(cluster, group, "sleep 3600", report_measurement)
    cancelled = datetime.now(UTC)
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
    cluster.wait_for_pod_deletion(name)
    cluster.wait_for_phase(behind, "Preparing")
    elapsed = datetime.now(UTC) - cancelled
    report_measurement(f"the next job admitted {elapsed.total_seconds():.1f} s after the cancel")
    cluster.service("kubelet").kill(signal.SIGCONT)
    cluster.wait_for_phase(behind, "Succeeded", within=LONG_SECONDS)


def test_the_deletion_of_a_job_on_a_lost_node_frees_its_quota(
    cluster: Cluster, group: GroupFixture, report_measurement: MeasurementReporter
) -> None:
    """Kubernetes alone would keep its pod until the node is back."""
    name, behind = lose_node(cluster, group, "sleep 3600", report_measurement)
    cluster.api.delete("PhJob", name)
    cluster.wait_for_pod_deletion(name)
    cluster.wait_for_phase(behind, "Preparing")
