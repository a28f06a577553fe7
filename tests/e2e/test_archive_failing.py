"""A log archive that fails: it delays the deletion of a pod for a while, is reported, and costs no job.

KWOK serves the logs. The archive is a folder that the test replaces by a file.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.builders import an_unschedulable_instance_type
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.measurements import MeasurementReporter
from tests.support.stacks import LocalStack, log_archive_settings
from tests.support.waiting import eventually

from dev.stack import Stack

KWOK_LOG = "No container ran here"
"""A part of the log that KWOK serves for every pod."""


class ArchiveFolder:
    """The folder of the log archive, which a test can break and repair."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def break_folder(self) -> None:
        """Replace the folder by a file, so that no log can be stored."""
        self.path.rename(self.path.with_suffix(".away"))
        self.path.touch()

    def repair_folder(self) -> None:
        """Restore the folder."""
        self.path.unlink()
        self.path.with_suffix(".away").rename(self.path)


@pytest.fixture(scope="module")
def archiving_stack(
    kwok_stack: Stack, local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, ArchiveFolder]]:
    """Start the stack with a log archive.

    Afterwards, the stack has the usual settings again.
    """
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive") / "logs")
    settings = log_archive_settings(folder.path) + "jobSubmission: {preparingTimeoutSeconds: 3}\n"
    yield local_stack.start(settings), folder
    kwok_stack.up()


@pytest.fixture
def cluster(archiving_stack: tuple[Stack, ArchiveFolder]) -> Iterator[Cluster]:
    """Yield the test's cluster on the stack with a log archive."""
    with cluster_on(archiving_stack[0]) as cluster:
        yield cluster


@pytest.fixture
def broken(archiving_stack: tuple[Stack, ArchiveFolder]) -> Iterator[ArchiveFolder]:
    """Break the folder, yield it, and repair it afterwards."""
    folder = archiving_stack[1]
    folder.break_folder()
    yield folder
    if folder.path.is_file():
        folder.repair_folder()


def archived_log(cluster: Cluster, name: str, attempt: int = 1) -> str:
    """Wait until the job's logURL is of this attempt. Returns the log."""
    end = f"attempt-{attempt}.log"
    url = eventually(
        lambda: (u := cluster.status(name).get("logURL", "")).endswith(end) and u,
        f"the logURL ends with {end}",
    )
    return Path(str(url).removeprefix("file://")).read_text()


def test_each_attempt_of_a_job_has_a_log_of_its_own(cluster: Cluster) -> None:
    """The log is stored before any job's pod is deleted, and also for a requeue (spec.md, L14)."""
    group = GroupFixture(cluster, "phusers").create()
    (instance_type,) = cluster.create(an_unschedulable_instance_type(cluster.unique_name("nowhere")))
    group.grant(instance_types=(instance_type,))
    name = group.submit("job", instanceType=instance_type, requeueLimit=1)
    status = cluster.wait_for_phase(name, "Failed")
    assert "the pod did not start within 3 s; no node can take it: " in status["message"]
    log = archived_log(cluster, name, attempt=2)
    assert log.startswith("phjob: the container has not started, so there is no log: no node can take it: ")
    path = Path(status["logURL"].removeprefix("file://"))
    assert path.with_name("attempt-1.log").read_text() == log
    assert path.parts[-4:-1] == (f"escaped-phusers-2d{cluster.test_id}", name, cluster.job(name).uid)


def test_a_failing_archive_only_delays_the_deletion_of_a_pod(
    cluster: Cluster, broken: ArchiveFolder, report_measurement: MeasurementReporter
) -> None:
    """After half a minute the pod is deleted without its log, the next job starts, and the loss is logged."""
    assert broken.path.is_file()
    group = GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    behind = group.submit("behind", gpus=1, run_for=FOREVER)
    cluster.cancel(name)
    status = cluster.wait_for_reason(name, "Cancelled", "its log is not archived")
    assert status["message"].startswith("cancelled while it ran; its log is not archived: ")
    cancelled = datetime.now(UTC)
    assert cluster.pod(name) is not None
    cluster.wait_for_pod_deletion(name)
    report_measurement(
        f"the pod was deleted {(datetime.now(UTC) - cancelled).total_seconds():.0f} s after the cancel"
    )
    cluster.wait_for_phase(behind, "Running")
    eventually(lambda: '"event": "log_lost"' in cluster.service_log("pod-manager"), "the loss is logged")
    assert "logURL" not in cluster.status(name)


def test_a_log_is_stored_once_the_archive_works_again(cluster: Cluster, broken: ArchiveFolder) -> None:
    """The warning about the archive is removed from the message of the finished job."""
    group = GroupFixture(cluster, "phusers").create()
    name = group.submit("job")
    cluster.wait_for_phase(name, "Succeeded")
    cluster.wait_for_reason(name, "Completed", "exit code 0; its log is not archived: ")
    broken.repair_folder()
    assert KWOK_LOG in archived_log(cluster, name)
    assert cluster.status(name)["message"] == "exit code 0"


def test_the_log_is_stored_before_a_pod_is_deleted_after_its_ttl(
    cluster: Cluster, broken: ArchiveFolder
) -> None:
    """However long the archive has failed before."""
    group = GroupFixture(cluster, "phusers").create()
    name = group.submit("job")
    cluster.wait_for_reason(name, "Completed", "its log is not archived")
    wait_until_quiescent(cluster)
    broken.repair_folder()
    cluster.patch_spec("PhJob", name, ttlSecondsAfterFinished=1)
    cluster.wait_for_pod_deletion(name)
    assert KWOK_LOG in archived_log(cluster, name)
