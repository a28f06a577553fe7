"""What a container says at its end is for the readers of its job, not for the broker (spec.md, E7)."""

import json
from collections.abc import Iterator

import pytest
from tests.support.broker import ManagementApi
from tests.support.cluster import SERVICES, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.stacks import LocalStack

SPY = "spy-of-a-test"
SECRET = "connect: password=hunter2"
LAST_LINES = f"Traceback (most recent call last):\n{SECRET}"


@pytest.fixture
def spied_broker(local_stack: LocalStack) -> Iterator[ManagementApi]:
    """A queue gets a copy of every message from one service to another."""
    management = local_stack.management()
    management.copy_messages_to(SPY)
    yield management
    management.delete_queue(SPY)


def test_the_last_lines_of_a_log_reach_the_job_and_not_the_broker(
    cluster: Cluster, spied_broker: ManagementApi
) -> None:
    """The kubelet puts them into the pod's status. No log of a service and no Event has them, either."""
    group = GroupFixture(cluster, "private").create()
    name = group.submit("job", run_for=FOREVER, command=f"echo {SECRET}; exit 1")
    cluster.wait_for_phase(name, "Running")
    terminated = {"exitCode": 1, "reason": "Error", "message": LAST_LINES}
    terminated |= {"startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}
    pod = cluster.pod(name)
    assert pod
    container = {**pod.object["status"]["containerStatuses"][0], "state": {"terminated": terminated}}
    status = {"phase": "Failed", "containerStatuses": [container]}
    cluster.api.merge_patch("Pod", name, {"status": status}, subresource="status")

    assert cluster.wait_for_phase(name, "Failed")["message"] == f"exit code 1 (Error): {LAST_LINES}"
    wait_until_quiescent(cluster)
    messages = spied_broker.take(SPY)
    bodies = [message["payload"] for message in messages]
    assert any('"phase":"Failed"' in body and f'"name":"{name}"' in body for body in bodies)
    assert not [body for body in bodies if "hunter2" in body]
    assert "hunter2" not in json.dumps(cluster.events(name))
    for service in SERVICES:
        assert "hunter2" not in cluster.service_log(service), service
