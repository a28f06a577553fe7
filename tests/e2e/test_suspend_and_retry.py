"""Suspended jobs, and jobs whose user permits to run their command again, on the whole stack."""

from typing import Any

import pytest
from tests.support import promises
from tests.support.cluster import Cluster
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.kstatus import kstatus
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of one GPU."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()


def evict(cluster: Cluster, name: str) -> None:
    """Evict the job's pod, as a drain does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    cluster.api.create_subresource("Pod", name, "eviction", eviction)


def wait_for_retry(cluster: Cluster, name: str, number: int) -> dict[str, Any]:
    """Wait until the job was retried that often. Returns its status then."""
    return eventually(
        lambda: (status := cluster.status(name))["retried"] >= number and dict(status),
        f"{name} was retried {number} times",
        diagnostics=lambda: cluster.status(name),
    )


def test_a_suspended_job_waits_for_its_user_and_for_nobody_else(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It keeps its place, and its condition is that of the moment (spec.md, Q12, A16)."""
    suspended = group.submit("suspended", gpus=1, suspend=True)
    behind = group.submit("behind", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(behind, "Running")
    status = cluster.wait_for_reason(suspended, "Suspended")
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions == {"Suspended": "True", "Reconciling": "True"}
    third = group.submit("third", gpus=1)
    cluster.patch_spec("PhJob", suspended, suspend=False)
    cluster.wait_for_reason(suspended, "GroupQuota")
    cluster.cancel(behind)
    cluster.wait_for_phase(suspended, "Succeeded")
    cluster.wait_for_phase(third, "Succeeded")
    order = promises.admission_order(cluster.history.complete_events(), group.name)
    assert order == [behind, suspended, third]
    done = cluster.kubectl(
        "-n", "hub", "wait", "--for=condition=Complete", "--timeout=5s", f"phj/{suspended}"
    )
    assert done.returncode == 0, done.stderr
    assert kstatus(cluster.job(suspended).object) == "Current"


def test_a_drained_job_runs_again_in_another_pod_if_its_user_permits_it(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The next pod exists only after the first one has ended (spec.md, L17, L18)."""
    name = group.submit("job", gpus=1, run_for=FOREVER, retry={"limit": 2, "on": ["Disruption"]})
    cluster.wait_for_phase(name, "Running")
    first = cluster.pod(name)
    assert first
    evict(cluster, name)
    status = wait_for_retry(cluster, name, 1)
    assert status["message"].startswith("retry 1 of 2 (Disruption): its pod was deleted while it ran:")
    (attempt,) = status["attempts"]
    assert (attempt["podUID"], attempt["reason"]) == (first.uid, "PodDeleted")
    assert attempt["exitCode"] != 0
    cluster.wait_for_phase(name, "Running")
    second = cluster.pod(name)
    assert second
    assert second.uid != first.uid
    cluster.cancel(name)
    cluster.wait_for_phase(name, "Cancelled")
    events = cluster.history.complete_events()
    assert not promises.single_pod_violations(events)
    assert not promises.state_diagram_violations(events)


def test_a_command_that_fails_runs_as_often_as_its_user_permits(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Then the job has failed, for its last attempt's reason. It blocks nobody in its backoff."""
    name = group.submit("job", gpus=1, exit_code=3, retry={"limit": 1, "on": ["Failure"]})
    status = wait_for_retry(cluster, name, 1)
    assert (status["phase"], status["reason"]) == ("Pending", "Retried")
    assert status["message"] == "retry 1 of 1 (Failure): exit code 3 (Error)"
    assert "startTime" not in status
    other = group.submit("other", gpus=1)
    cluster.wait_for_phase(other, "Succeeded")
    failed = cluster.wait_for_phase(name, "Failed")
    assert (failed["retried"], failed["exitCode"], len(failed["attempts"])) == (1, 3, 2)
    assert {condition["type"] for condition in failed["conditions"]} == {"Failed", "Stalled"}


def test_a_job_whose_pod_somebody_deletes_is_not_retried(cluster: Cluster, group: GroupFixture) -> None:
    """They wanted that, whatever the job's user permits for other ends (spec.md, L17)."""
    every_cause = ["Disruption", "NodeLost", "Failure"]
    name = group.submit("job", gpus=1, run_for=FOREVER, retry={"limit": 5, "on": every_cause})
    cluster.wait_for_phase(name, "Running")
    assert cluster.kubectl("-n", "hub", "delete", "pod", name, "--wait=false").returncode == 0
    status = cluster.wait_for_phase(name, "Failed")
    assert (status["reason"], status["retried"]) == ("PodDeleted", 0)
