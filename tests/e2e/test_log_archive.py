"""The log archive with real containers: what a job has said is there when its pod is gone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.builders import an_image
from tests.support.hub import NAMESPACE, Hub, Object
from tests.support.scene import Scene
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LONG = 180
Archived = Callable[[str], str]


@pytest.fixture
def scene(real_hub: Hub) -> Scene:
    """A group without quotas."""
    return Scene(real_hub, "archive").make()


@pytest.fixture
def archived(real_hub: Hub, archive: Path) -> Archived:
    """What is at a job's `status.logURL`."""

    def read(name: str) -> str:
        status: Object = eventually(
            lambda: (now := real_hub.status(name)).get("logURL") and now, f"{name} has a logURL"
        )
        path = Path(status["logURL"].removeprefix("file://"))
        assert path.is_relative_to(archive)
        return path.read_text()

    return read


def says(hub: Hub, name: str, text: str) -> None:
    """Wait until the job's log has this text."""
    eventually(lambda: text in hub.kubectl("-n", NAMESPACE, "logs", name).stdout, f"{name} says {text}")


def test_the_log_of_a_job_that_ended_is_archived_while_its_pod_stands(
    real_hub: Hub, scene: Scene, archived: Archived
) -> None:
    """Of one that succeeded and of one that failed."""
    for command, phase in (("echo well done", "Succeeded"), ("echo oh no; exit 3", "Failed")):
        name = scene.submit(phase.lower(), command=command)
        real_hub.reaches(name, phase, within=LONG)
        said = command.removeprefix("echo ").partition(";")[0]
        assert archived(name) == f"{said}\n"
        assert real_hub.pod(name) is not None


def test_a_running_job_that_is_cancelled_keeps_its_log(
    real_hub: Hub, scene: Scene, archived: Archived
) -> None:
    """PrimeHub loses it with the pod (seed, FAQ)."""
    name = scene.submit("job", command="echo begun; sleep 3600")
    says(real_hub, name, "begun")
    real_hub.cancel(name)
    real_hub.reaches(name, "Cancelled")
    assert archived(name) == "begun\n"
    real_hub.pod_is_gone(name)


def test_a_job_over_its_deadline_is_killed_and_keeps_its_log(
    real_hub: Hub, scene: Scene, archived: Archived
) -> None:
    """A command that would sleep for an hour."""
    name = scene.submit("job", command="echo begun; sleep 3600", activeDeadlineSeconds=3)
    status = real_hub.reaches(name, "Failed", within=LONG)
    assert status["reason"] == "OverActiveDeadline"
    assert archived(name) == "begun\n"
    real_hub.pod_is_gone(name)


def test_a_preparing_job_that_is_cancelled_leaves_why_it_did_not_start(
    real_hub: Hub, scene: Scene, archived: Archived
) -> None:
    """Its image can't be pulled, so there is no log; the archive says so in Kubernetes' words."""
    real_hub.create(an_image(real_hub.name("nowhere"), url="nowhere.invalid/image:1"))
    scene.grants(images=(real_hub.name("nowhere"),))
    name = scene.submit("job", image=real_hub.name("nowhere"))
    real_hub.reaches(name, "Preparing", within=LONG)

    def waits() -> bool:
        pod = real_hub.pod(name)
        states = pod.object["status"].get("containerStatuses", []) if pod else []
        return any("Pull" in state["state"].get("waiting", {}).get("reason", "") for state in states)

    eventually(waits, "its image can't be pulled", within=LONG)
    real_hub.cancel(name)
    real_hub.reaches(name, "Cancelled")
    log = archived(name)
    assert log.startswith(
        "phjob: the container has not started, so there is no log: its image can't be had: "
    )
    assert "nowhere.invalid/image:1" in log
    real_hub.pod_is_gone(name)
