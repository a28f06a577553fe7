"""The end of a running command in real containers: who receives SIGTERM, and what the log has."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import an_image
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

from dev.image import NOTEBOOK, NOTEBOOK_WITH_BASH
from dev.kubectl import kubectl_path

pytestmark = pytest.mark.real_node

PROGRAM = """
cat >train.sh <<'END'
trap 'echo "$1 got TERM"; sleep 2; echo "$1 saved a checkpoint"; exit 7' TERM
if [ "$1" = main ]; then sh train.sh worker & sh train.sh worker & fi
echo "$1 ready"
while :; do sleep 0.1; done
END
"""
"""A program that starts two workers, and needs 2 s after SIGTERM to save a checkpoint."""
SAVED = "main got TERM\nmain saved a checkpoint\n"


@pytest.fixture
def group(real_cluster: Cluster) -> GroupFixture:
    """Create a group without quotas."""
    return GroupFixture(real_cluster, "signals").create()


@pytest.fixture
def submit(real_cluster: Cluster, group: GroupFixture) -> Callable[..., str]:
    """Return a function that submits a job in an image. It returns the job's name."""
    for name, url in (("bash", NOTEBOOK_WITH_BASH), ("busybox", NOTEBOOK)):
        real_cluster.create(an_image(real_cluster.unique_name(name), url=url))
    group.grant(images=(real_cluster.unique_name("bash"), real_cluster.unique_name("busybox")))

    def submit(image: str, command: str, **spec: Any) -> str:
        return group.submit(
            "job", image=real_cluster.unique_name(image), command=f"{PROGRAM}{command}\n", **spec
        )

    return submit


def wait_for_output(cluster: Cluster, name: str, text: str, times: int = 1) -> None:
    """Wait until the job's log contains this text so many times."""
    eventually(
        lambda: cluster.kubectl("-n", NAMESPACE, "logs", name).stdout.count(text) >= times,
        f"the log of {name} contains {text!r} {times} times",
    )


@contextmanager
def followed_log(cluster: Cluster, name: str) -> Iterator[Callable[[], str]]:
    """Follow the log of a job. Yields a function that returns it at the end of the container."""
    kubectl = [str(kubectl_path()), f"--kubeconfig={cluster.stack.kubeconfig}"]
    command = [*kubectl, "-n", NAMESPACE, "logs", name, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield lambda: process.communicate(timeout=60)[0]


def archived_log(cluster: Cluster, name: str) -> str:
    """Return the text at the job's `status.logURL`."""
    return Path(cluster.status(name)["logURL"].removeprefix("file://")).read_text()


@pytest.mark.parametrize("image", ["bash", "busybox"])
@pytest.mark.parametrize(
    "line", ["sh train.sh main", "sh train.sh main | tee log\necho NEXT"], ids=["line", "pipe-and-lines"]
)
def test_a_cancelled_program_alone_receives_sigterm_and_saves(
    real_cluster: Cluster, submit: Callable[..., str], image: str, line: str
) -> None:
    """Its workers do not, and the next line does not run (spec.md, L9, P9).

    What it writes is in its log and in the archive (L14).
    """
    name = submit(image, line)
    wait_for_output(real_cluster, name, "worker ready", 2)
    wait_for_output(real_cluster, name, "main ready")
    with followed_log(real_cluster, name) as log:
        real_cluster.cancel(name)
        complete = log()
    ready, _, rest = complete.partition("main got TERM")
    assert sorted(ready.split("\n")) == ["", "main ready", "worker ready", "worker ready"]
    assert f"main got TERM{rest}" == SAVED
    assert real_cluster.wait_for_phase(name, "Cancelled")["reason"] == "Cancelled"
    real_cluster.wait_for_pod_deletion(name)
    eventually(lambda: archived_log(real_cluster, name) == complete, "the archived log is complete")


@pytest.mark.parametrize("image", ["bash", "busybox"])
def test_a_program_over_its_deadline_saves_as_well(
    real_cluster: Cluster, submit: Callable[..., str], image: str
) -> None:
    """The job has the reason of the deadline, whatever the program's exit code."""
    name = submit(image, "sh train.sh main\necho NEXT", activeDeadlineSeconds=5)
    wait_for_output(real_cluster, name, "main ready")
    with followed_log(real_cluster, name) as log:
        assert log().endswith(SAVED)
    assert real_cluster.wait_for_phase(name, "Failed")["reason"] == "OverActiveDeadline"


@pytest.mark.parametrize("image", ["bash", "busybox"])
def test_a_deleted_pod_has_the_exit_code_of_the_main_program(
    real_cluster: Cluster, submit: Callable[..., str], image: str
) -> None:
    """As after a drain. Without a handler, it is that of SIGTERM, and nothing waits for the grace period."""
    for line, code in (("sh train.sh main\necho NEXT", 7), ("echo main ready; sleep 600\necho NEXT", 143)):
        name = submit(image, line)
        wait_for_output(real_cluster, name, "main ready")
        real_cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
        status = real_cluster.wait_for_phase(name, "Failed")
        assert (status["reason"], status["exitCode"]) == ("PodDeleted", code)
        real_cluster.kubectl("-n", NAMESPACE, "delete", "phj", name)
        real_cluster.wait_for_pod_deletion(name)
