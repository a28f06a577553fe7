"""What a user's command finds when it starts, and how it ends: in real containers."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hub import NAMESPACE, Hub
from tests.support.scene import Scene
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
FOLDER = Path("/tmp/phjob-example")  # noqa: S108 - the examples' own folder of the node

pytestmark = pytest.mark.real_node


@pytest.fixture
def volumes(real_hub: Hub) -> Iterator[str]:
    """The example with volumes and datasets, applied; the log of its job."""
    for folder in ("host-folder", "git-sync/ds3/ds3", "project-vision", "project-speech", "dataset-pictures"):
        (FOLDER / folder).mkdir(parents=True)
        (FOLDER / folder).chmod(0o777)
    (FOLDER / "git-sync/ds3/ds3/README").write_text("from git\n")
    catalog = [argument for path in sorted(EXAMPLES.glob("0[12]-*.yaml")) for argument in ("-f", str(path))]
    example = ["-f", str(EXAMPLES / "volumes")]
    real_hub.everything = True
    done = real_hub.kubectl("apply", *catalog, *example)
    assert done.returncode == 0, done.stderr
    real_hub.reaches("job-folders", "Succeeded")
    yield real_hub.kubectl("-n", NAMESPACE, "logs", "job-folders").stdout
    real_hub.kubectl("-n", NAMESPACE, "delete", "phj", "job-folders")
    real_hub.pod_is_gone("job-folders")  # A claim stays as long as a pod mounts it.
    real_hub.kubectl("delete", "--ignore-not-found", *catalog, *example)
    shutil.rmtree(FOLDER)


def test_the_folders_are_those_of_the_seed(volumes: str) -> None:
    """Seed, Folder Structure; contract.md, The pod: links, rights, and variables under both spellings."""
    lines = volumes.splitlines()
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
    assert volumes.count("Read-only file system") == 2
    assert "was writable" not in volumes


@pytest.fixture
def scene(real_hub: Hub) -> Scene:
    """A group without quotas."""
    return Scene(real_hub, "real").make()


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
    real_hub: Hub, scene: Scene, command: str, phase: str, reason: str, code: int
) -> None:
    """contract.md, Lifecycle: the container's reason and exit code."""
    status = real_hub.reaches(scene.submit("job", command=command), "Succeeded", "Failed")
    assert (status["phase"], status["reason"], status["exitCode"]) == (phase, reason, code)
    assert status["startTime"] <= status["finishTime"]


def test_a_cancelled_command_is_told_so_and_may_clean_up(real_hub: Hub, scene: Scene) -> None:
    """SIGTERM reaches it; what it then writes into the group's volume or its log is there."""
    script = "trap 'echo got TERM; exit 0' TERM; echo ready; while :; do sleep 1; done"
    name = scene.submit("job", command=script)
    logs = ["-n", NAMESPACE, "logs", name]
    eventually(lambda: "ready" in real_hub.kubectl(*logs).stdout, "the command is ready")
    kubectl = [str(kubectl_path()), f"--kubeconfig={real_hub.stack.kubeconfig}", *logs, "--follow"]
    with subprocess.Popen(kubectl, stdout=subprocess.PIPE, text=True) as following:
        real_hub.cancel(name)
        assert "got TERM" in following.communicate(timeout=60)[0]
    assert real_hub.reaches(name, "Cancelled")["reason"] == "Cancelled"


def test_a_command_of_256_kib_with_every_kind_of_character_is_run_unharmed(
    real_hub: Hub, scene: Scene
) -> None:
    """The CRD's bound; one argument of a process holds half of that."""
    text = "".join(f"line {n}: 'single' \"double\" $HOME $(not run) $$ \\ é 漢 🎉\n" for n in range(4000))[
        :200_000
    ]
    command = f"cat > text <<'END-OF-TEXT'\n{text}\nEND-OF-TEXT\nwc -c < text; tail -n 2 text\n"
    name = scene.submit("job", command=command)
    real_hub.reaches(name, "Succeeded")
    size, *tail = real_hub.kubectl("-n", NAMESPACE, "logs", name).stdout.splitlines()
    assert int(size) == len(text.encode()) + 1
    assert tail == text.splitlines()[-2:]
