"""A user's command in real containers: its folders and variables, and its end."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
FOLDER = Path("/tmp/phjob-example")  # noqa: S108 - the folder of the node that the examples mount

pytestmark = pytest.mark.real_node


@pytest.fixture
def volumes_log(real_cluster: Cluster) -> Iterator[str]:
    """Apply the example with volumes and datasets. Yields the log of its job."""
    for folder in ("host-folder", "git-sync/ds3/ds3", "project-vision", "project-speech", "dataset-pictures"):
        (FOLDER / folder).mkdir(parents=True)
        (FOLDER / folder).chmod(0o777)
    (FOLDER / "git-sync/ds3/ds3/README").write_text("from git\n")
    (FOLDER / "project-vision/.primehub").mkdir()
    (FOLDER / "project-vision/.primehub/profile").write_text("echo of another member of the group\n")
    catalog = [argument for path in sorted(EXAMPLES.glob("0[12]-*.yaml")) for argument in ("-f", str(path))]
    example = ["-f", str(EXAMPLES / "volumes")]
    real_cluster.reports_all_objects = True
    done = real_cluster.kubectl("apply", *catalog, *example)
    assert done.returncode == 0, done.stderr
    real_cluster.wait_for_phase("job-folders", "Succeeded")
    yield real_cluster.kubectl("-n", NAMESPACE, "logs", "job-folders").stdout
    real_cluster.kubectl("-n", NAMESPACE, "delete", "phj", "job-folders")
    real_cluster.wait_for_pod_deletion("job-folders")  # A claim exists as long as a pod mounts it.
    real_cluster.kubectl("delete", "--ignore-not-found", *catalog, *example)
    shutil.rmtree(FOLDER)


def test_the_folders_are_those_of_the_specification(volumes_log: str) -> None:
    """Links, access rights and variables in both spellings are as in spec.md, P6, P7 and P8.

    The profile of the group, which each of its members can write, is not sourced (P9).
    """
    lines = volumes_log.splitlines()
    for link in ("datasets", "vision", "speech"):
        assert f"/home/jovyan/{link}" in lines
    for dataset in ("ds1", "ds2", "ds3"):
        assert f"/datasets/{dataset}" in lines
        assert f"/home/jovyan/datasets/{dataset}" in lines
    for group in ("vision", "speech"):
        assert f"/project/{group}" in lines
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    assert variables["PRIMEHUB_USER"] == "bob"
    assert variables["PRIMEHUB_GROUP"] == "vision"
    assert variables["MY-DB_USER"] == variables["MY_DB_USER"] == "reader"
    assert variables["MY_DB_PORT"] == "3306"
    assert (FOLDER / "project-vision/result").read_text() == "written by job-folders\n"
    assert (FOLDER / "dataset-pictures/result").read_text() == "written by job-folders\n"
    assert not (FOLDER / "host-folder/result").exists()
    assert volumes_log.count("Read-only file system") == 2
    assert "was writable" not in volumes_log
    assert "of another member" not in volumes_log


@pytest.fixture
def group(real_cluster: Cluster) -> GroupFixture:
    """Create a group without quotas."""
    return GroupFixture(real_cluster, "real").create()


@pytest.mark.parametrize(
    ("command", "phase", "reason", "code"),
    [
        ("exit 0", "Succeeded", "Completed", 0),
        ("exit 1", "Failed", "Error", 1),
        ("exit 143", "Failed", "Error", 143),
        ("kill -KILL $$", "Failed", "Error", 137),
        ("tail /dev/zero", "Failed", "OOMKilled", 137),
    ],
    ids=["0", "1", "143", "killed", "out-of-memory"],
)
def test_a_command_ends_in_the_right_phase_with_its_own_exit_code(
    real_cluster: Cluster, group: GroupFixture, command: str, phase: str, reason: str, code: int
) -> None:
    """The job has the container's reason and exit code (spec.md, L4)."""
    status = real_cluster.wait_for_phase(group.submit("job", command=command), "Succeeded", "Failed")
    assert (status["phase"], status["reason"], status["exitCode"]) == (phase, reason, code)
    assert status["startTime"] <= status["finishTime"]


def test_a_cancelled_command_receives_sigterm_and_can_clean_up(
    real_cluster: Cluster, group: GroupFixture
) -> None:
    """Its log has what it writes after the signal."""
    script = "trap 'echo got TERM; exit 0' TERM; echo ready; while :; do sleep 1; done"
    name = group.submit("job", command=script)
    logs = ["-n", NAMESPACE, "logs", name]
    eventually(lambda: "ready" in real_cluster.kubectl(*logs).stdout, "the command is ready")
    kubectl = [str(kubectl_path()), f"--kubeconfig={real_cluster.stack.kubeconfig}", *logs, "--follow"]
    with subprocess.Popen(kubectl, stdout=subprocess.PIPE, text=True) as following:
        real_cluster.cancel(name)
        assert "got TERM" in following.communicate(timeout=60)[0]
    assert real_cluster.wait_for_phase(name, "Cancelled")["reason"] == "Cancelled"


def test_a_command_of_256_kib_with_any_characters_runs_unchanged(
    real_cluster: Cluster, group: GroupFixture
) -> None:
    """That is the CRD's bound. A single argument of a process can hold only half of it."""
    text = "".join(f"line {n}: 'single' \"double\" $HOME $(not run) $$ \\ é 漢 🎉\n" for n in range(4000))[
        :200_000
    ]
    command = f"cat > text <<'END-OF-TEXT'\n{text}\nEND-OF-TEXT\nwc -c < text; tail -n 2 text\n"
    name = group.submit("job", command=command)
    real_cluster.wait_for_phase(name, "Succeeded")
    size, *tail = real_cluster.kubectl("-n", NAMESPACE, "logs", name).stdout.splitlines()
    assert int(size) == len(text.encode()) + 1
    assert tail == text.splitlines()[-2:]
