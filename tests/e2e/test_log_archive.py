"""The log archive with real containers: the log of a job outlives its pod."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.builders import an_image
from tests.support.cluster import NAMESPACE, Cluster, Object
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG_SECONDS = 180
ArchivedLog = Callable[[str], str]


@pytest.fixture
def group(real_cluster: Cluster) -> GroupFixture:
    """Create a group without quotas."""
    return GroupFixture(real_cluster, "archive").create()


@pytest.fixture
def archived_log(real_cluster: Cluster, archive: Path) -> ArchivedLog:
    """Return a function that reads the log at a job's `status.logURL`."""

    def read(name: str) -> str:
        status: Object = eventually(
            lambda: (now := real_cluster.status(name)).get("logURL") and now, f"{name} has a logURL"
        )
        path = Path(status["logURL"].removeprefix("file://"))
        assert path.is_relative_to(archive)
        return path.read_text()

    return read


def wait_for_output(cluster: Cluster, name: str, text: str) -> None:
    """Wait until the job's log contains this text."""
    eventually(
        lambda: text in cluster.kubectl("-n", NAMESPACE, "logs", name).stdout,
        f"the log of {name} contains {text}",
    )


def test_the_log_of_a_finished_job_is_archived_while_its_pod_exists(
    real_cluster: Cluster, group: GroupFixture, archived_log: ArchivedLog
) -> None:
    """This holds for a job that succeeded and for a job that failed."""
    for command, phase in (("echo well done", "Succeeded"), ("echo oh no; exit 3", "Failed")):
        name = group.submit(phase.lower(), command=command)
        real_cluster.wait_for_phase(name, phase, within=LONG_SECONDS)
        output = command.removeprefix("echo ").partition(";")[0]
        assert archived_log(name) == f"{output}\n"
        assert real_cluster.pod(name) is not None


def test_a_running_job_that_is_cancelled_keeps_its_log(
    real_cluster: Cluster, group: GroupFixture, archived_log: ArchivedLog
) -> None:
    """PrimeHub loses the log with the pod (spec.md, L14)."""
    name = group.submit("job", command="echo begun; sleep 3600")
    wait_for_output(real_cluster, name, "begun")
    real_cluster.cancel(name)
    real_cluster.wait_for_phase(name, "Cancelled")
    assert archived_log(name) == "begun\n"
    real_cluster.wait_for_pod_deletion(name)


def test_a_job_that_exceeds_its_deadline_keeps_its_log(
    real_cluster: Cluster, group: GroupFixture, archived_log: ArchivedLog
) -> None:
    """Its command, which would sleep for an hour, is killed."""
    name = group.submit("job", command="echo begun; sleep 3600", activeDeadlineSeconds=3)
    status = real_cluster.wait_for_phase(name, "Failed", within=LONG_SECONDS)
    assert status["reason"] == "OverActiveDeadline"
    assert archived_log(name) == "begun\n"
    real_cluster.wait_for_pod_deletion(name)


def test_the_archive_explains_why_a_cancelled_preparing_job_did_not_start(
    real_cluster: Cluster, group: GroupFixture, archived_log: ArchivedLog
) -> None:
    """Its image cannot be pulled, so there is no log. The archive has Kubernetes' message instead."""
    real_cluster.create(an_image(real_cluster.unique_name("nowhere"), url="nowhere.invalid/image:1"))
    group.grant(images=(real_cluster.unique_name("nowhere"),))
    name = group.submit("job", image=real_cluster.unique_name("nowhere"))
    real_cluster.wait_for_phase(name, "Preparing", within=LONG_SECONDS)

    def has_pull_error() -> bool:
        pod = real_cluster.pod(name)
        states = pod.object["status"].get("containerStatuses", []) if pod else []
        return any("Pull" in state["state"].get("waiting", {}).get("reason", "") for state in states)

    eventually(has_pull_error, "its image cannot be pulled", within=LONG_SECONDS)
    real_cluster.cancel(name)
    real_cluster.wait_for_phase(name, "Cancelled")
    log = archived_log(name)
    assert log.startswith(
        "phjob: the container has not started, so there is no log: its image cannot be pulled: "
    )
    assert "nowhere.invalid/image:1" in log
    real_cluster.wait_for_pod_deletion(name)
