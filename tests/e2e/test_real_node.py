"""The services with a real kubelet and real containers: the environment, the log and the end of a command."""

from collections.abc import Iterator

import pytest
from tests.support.builders import IMAGE, INSTANCE_TYPE, a_group, a_job, an_image, an_instance_type
from tests.support.cluster import NAMESPACE, Cluster, Object
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node


@pytest.fixture
def group(real_cluster: Cluster) -> Iterator[str]:
    """Create a group, an image and an instance type.

    Yields the group's name, and cancels its jobs.
    """
    name, image = real_cluster.unique_name("phusers"), real_cluster.unique_name(IMAGE)
    instance_type = real_cluster.unique_name(INSTANCE_TYPE)
    group = a_group(name, images=[image], instanceTypes=[instance_type])
    real_cluster.create(an_image(image), an_instance_type(instance_type), group)
    yield name
    for job in real_cluster.jobs_in_phase(name, "Pending", "Preparing", "Running"):
        real_cluster.cancel(job)


def submit(cluster: Cluster, group: str, command: str, **spec: object) -> str:
    """Create a job that runs the command. Returns its name."""
    defaults = {"image": cluster.unique_name(IMAGE), "instanceType": cluster.unique_name(INSTANCE_TYPE)}
    manifest: Object = a_job(
        cluster.unique_name(f"job-{cluster.next_number()}"), group=group, command=command
    )
    manifest["spec"] |= {**defaults, **spec}
    (name,) = cluster.create(manifest)
    return name


def logs(cluster: Cluster, name: str) -> str:
    """Return the output of `kubectl -n hub logs NAME`."""
    done = cluster.kubectl("-n", NAMESPACE, "logs", name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_has_its_environment_and_a_log(real_cluster: Cluster, group: str) -> None:
    """PRIMEHUB_USER and PRIMEHUB_GROUP are set, and the working directory /home/jovyan is writable."""
    command = 'echo "I am $PRIMEHUB_USER of $PRIMEHUB_GROUP in $(pwd)"\necho kept > file && cat file\n'
    name = submit(real_cluster, group, command, userName="jackpan")
    status = real_cluster.wait_for_phase(name, "Succeeded", within=180)
    assert status["exitCode"] == 0
    assert status["startTime"] <= status["finishTime"]
    assert logs(real_cluster, name) == f"I am jackpan of {group} in /home/jovyan\nkept\n"


def test_the_message_of_a_failed_command_has_its_exit_code_and_the_end_of_its_log(
    real_cluster: Cluster, group: str
) -> None:
    """A user need not read the log first."""
    name = submit(real_cluster, group, "echo no data found; exit 3")
    status = real_cluster.wait_for_phase(name, "Failed", within=180)
    assert (status["exitCode"], status["reason"]) == (3, "Error")
    assert "exit code 3" in status["message"]
    assert "no data found" in status["message"]
    assert logs(real_cluster, name) == "no data found\n"


def test_a_cancel_ends_a_running_command(real_cluster: Cluster, group: str) -> None:
    """Its pod is deleted."""
    name = submit(real_cluster, group, "echo started; sleep 3600")
    real_cluster.wait_for_phase(name, "Running", within=180)
    eventually(lambda: logs(real_cluster, name) == "started\n", "the command has started")
    real_cluster.cancel(name)
    real_cluster.wait_for_phase(name, "Cancelled")
    real_cluster.wait_for_pod_deletion(name)
