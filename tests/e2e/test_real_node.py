"""The same four services with a real kubelet and real containers: what a job's command sees and leaves."""

from collections.abc import Iterator

import pytest
from tests.support.builders import IMAGE, INSTANCE_TYPE, a_group, a_job, an_image, an_instance_type
from tests.support.hub import NAMESPACE, Hub, Object
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node


@pytest.fixture
def group(real_hub: Hub) -> Iterator[str]:
    """A group, with all that its jobs may use."""
    name, image, kind = real_hub.name("phusers"), real_hub.name(IMAGE), real_hub.name(INSTANCE_TYPE)
    group = a_group(name, images=[image], instanceTypes=[kind])
    real_hub.create(an_image(image), an_instance_type(kind), group)
    yield name
    for job in real_hub.in_phase(name, "Pending", "Preparing", "Running"):
        real_hub.cancel(job)


def submit(hub: Hub, group: str, command: str, **spec: object) -> str:
    """Create a job that runs this; its name."""
    uses = {"image": hub.name(IMAGE), "instanceType": hub.name(INSTANCE_TYPE)}
    manifest: Object = a_job(hub.name(f"job-{hub.next_number()}"), group=group, command=command)
    manifest["spec"] |= {**uses, **spec}
    (name,) = hub.create(manifest)
    return name


def logs(hub: Hub, name: str) -> str:
    """What `kubectl -n hub logs NAME` prints."""
    done = hub.kubectl("-n", NAMESPACE, "logs", name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_runs_with_its_environment_and_leaves_its_log(real_hub: Hub, group: str) -> None:
    """PRIMEHUB_USER and PRIMEHUB_GROUP are set; the working directory is /home/jovyan and can be written."""
    command = 'echo "I am $PRIMEHUB_USER of $PRIMEHUB_GROUP in $(pwd)"\necho kept > file && cat file\n'
    name = submit(real_hub, group, command, userName="jackpan")
    status = real_hub.reaches(name, "Succeeded", within=180)
    assert status["exitCode"] == 0
    assert status["startTime"] <= status["finishTime"]
    assert logs(real_hub, name) == f"I am jackpan of {group} in /home/jovyan\nkept\n"


def test_a_failing_command_tells_its_exit_code_and_its_last_words(real_hub: Hub, group: str) -> None:
    """The end of the log is in the job's message."""
    name = submit(real_hub, group, "echo no data found; exit 3")
    status = real_hub.reaches(name, "Failed", within=180)
    assert (status["exitCode"], status["reason"]) == (3, "Error")
    assert "exit code 3" in status["message"]
    assert "no data found" in status["message"]
    assert logs(real_hub, name) == "no data found\n"


def test_a_running_command_is_ended_by_a_cancel(real_hub: Hub, group: str) -> None:
    """Its pod is deleted."""
    name = submit(real_hub, group, "echo started; sleep 3600")
    real_hub.reaches(name, "Running", within=180)
    eventually(lambda: logs(real_hub, name) == "started\n", "the command has started")
    real_hub.cancel(name)
    real_hub.reaches(name, "Cancelled")
    real_hub.pod_is_gone(name)
