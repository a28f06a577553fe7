"""An archive that takes no logs: it delays a deletion a little, says so, and costs no job.

KWOK serves the logs; the archive is a folder that is put out of the way.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.builders import an_instance_type
from tests.support.hub import Hub, corner
from tests.support.measures import Measured
from tests.support.scene import FOREVER, Scene, settled
from tests.support.stacks import LocalStack, archiving_in
from tests.support.waiting import eventually

from dev.stack import Stack

PLAYED = "No container ran here"
"""In the log that KWOK serves."""


class Folder:
    """The archive's folder, which can be broken and mended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def break_it(self) -> None:
        """Put a file in its place, to which nobody can write logs."""
        self.path.rename(self.path.with_suffix(".away"))
        self.path.touch()

    def mend_it(self) -> None:
        """Put it back."""
        self.path.unlink()
        self.path.with_suffix(".away").rename(self.path)


@pytest.fixture(scope="module")
def archiving_stack(
    kwok_stack: Stack, local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Folder]]:
    """The stack whose pod-manager archives in a folder; afterwards it archives nothing again."""
    folder = Folder(tmp_path_factory.mktemp("archive") / "logs")
    settings = archiving_in(folder.path) + "jobSubmission: {preparingTimeoutSeconds: 3}\n"
    yield local_stack.whole(settings), folder
    kwok_stack.up()


@pytest.fixture
def hub(archiving_stack: tuple[Stack, Folder]) -> Iterator[Hub]:
    """This test's corner of that stack."""
    with corner(archiving_stack[0]) as hub:
        yield hub


@pytest.fixture
def broken(archiving_stack: tuple[Stack, Folder]) -> Iterator[Folder]:
    """The archive's folder, broken; whole again afterwards."""
    folder = archiving_stack[1]
    folder.break_it()
    yield folder
    if folder.path.is_file():
        folder.mend_it()


def archived(hub: Hub, name: str, attempt: int = 1) -> str:
    """What is at the job's logURL, once that is of this attempt."""
    end = f"attempt-{attempt}.log"
    url = eventually(lambda: (u := hub.status(name).get("logURL", "")).endswith(end) and u, f"it has {end}")
    return Path(str(url).removeprefix("file://")).read_text()


def test_each_attempt_of_a_job_has_a_log_of_its_own(hub: Hub) -> None:
    """contract.md, Lifecycle: before any pod of ours is deleted, also one that is sent back."""
    scene = Scene(hub, "phusers").make()
    (kind,) = hub.create(an_instance_type(hub.name("nowhere"), {"nodeSelector": {"no-node": "has-this"}}))
    scene.grants(instance_types=(kind,))
    name = scene.submit("job", instanceType=kind, requeueLimit=1)
    status = hub.reaches(name, "Failed")
    assert "the pod did not start within 3 s; no node can take it: " in status["message"]
    log = archived(hub, name, attempt=2)
    assert log.startswith("phjob: the container has not started, so there is no log: no node can take it: ")
    path = Path(status["logURL"].removeprefix("file://"))
    assert path.with_name("attempt-1.log").read_text() == log
    assert path.parts[-4:-1] == (f"escaped-phusers-2d{hub.id}", name, hub.job(name).uid)


def test_a_failing_archive_delays_a_deletion_and_no_more(
    hub: Hub, broken: Folder, measured: Measured
) -> None:
    """Half a minute; then the pod goes without, the next job comes, and the loss is told."""
    assert broken.path.is_file()
    scene = Scene(hub, "phusers", {"groupQuota": {"gpu": 1}}).make()
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    behind = scene.submit("behind", gpus=1, run_for=FOREVER)
    hub.cancel(name)
    status = hub.says(name, "Cancelled", "its log is not archived")
    assert status["message"].startswith("cancelled while it ran; its log is not archived: ")
    cancelled = datetime.now(UTC)
    assert hub.pod(name) is not None
    hub.pod_is_gone(name)
    measured(f"the pod was deleted {(datetime.now(UTC) - cancelled).total_seconds():.0f} s after the cancel")
    hub.reaches(behind, "Running")
    eventually(lambda: '"event": "log_lost"' in hub.log("pod-manager"), "the loss is logged")
    assert "logURL" not in hub.status(name)


def test_a_log_is_stored_when_the_archive_is_back(hub: Hub, broken: Folder) -> None:
    """The job has long ended; what was said of the archive is taken back."""
    scene = Scene(hub, "phusers").make()
    name = scene.submit("job")
    hub.reaches(name, "Succeeded")
    hub.says(name, "Completed", "exit code 0; its log is not archived: ")
    broken.mend_it()
    assert PLAYED in archived(hub, name)
    assert hub.status(name)["message"] == "exit code 0"


def test_a_pod_whose_time_is_over_gets_a_last_chance_to_leave_its_log(hub: Hub, broken: Folder) -> None:
    """However long the archive was away before."""
    scene = Scene(hub, "phusers").make()
    name = scene.submit("job")
    hub.says(name, "Completed", "its log is not archived")
    settled(hub)
    broken.mend_it()
    hub.change("PhJob", name, ttlSecondsAfterFinished=1)
    hub.pod_is_gone(name)
    assert PLAYED in archived(hub, name)
