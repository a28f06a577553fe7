"""What a user does with nothing but kubectl, and what he sees."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hub import NAMESPACE, Hub
from tests.support.scene import FOREVER, Scene, settled
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
SUCCEEDED = "--for=jsonpath={.status.phase}=Succeeded"


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for one GPU at a time."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 1}}).make()


@pytest.fixture
def examples(hub: Hub) -> Iterator[list[str]]:
    """The jobs of k8s/examples, applied; gone afterwards."""
    hub.everything = True
    done = hub.kubectl("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    applied = [line.split()[0] for line in done.stdout.splitlines()]
    jobs = [name.partition("/")[2] for name in applied if name.startswith("phjob.")]
    yield jobs
    hub.kubectl("delete", "-f", str(EXAMPLES))
    for name in jobs:  # Another test may want these names.
        hub.api.delete("Pod", name)
        hub.pod_is_gone(name)


def test_the_examples_run_as_they_are(hub: Hub, examples: list[str]) -> None:
    """`kubectl apply -f k8s/examples/`, and every job in it succeeds; `kubectl wait` tells when."""
    assert "job-qm42d" in examples
    jobs = [f"phj/{name}" for name in examples]
    done = hub.kubectl("-n", NAMESPACE, "wait", SUCCEEDED, "--timeout=90s", *jobs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"phjob.primehub.io/{name} condition met" for name in examples]


def test_applying_the_examples_again_changes_no_job(hub: Hub, examples: list[str]) -> None:
    """A folder may be applied at any time, also when its jobs are done."""
    before = [hub.reaches(name, "Succeeded") for name in examples]
    done = hub.kubectl("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    settled(hub)
    assert [hub.status(name) for name in examples] == before


def test_get_w_shows_every_phase_of_a_job(hub: Hub, scene: Scene, tmp_path: Path) -> None:
    """Pending, Preparing, Running, Succeeded; it waits behind a notebook until somebody watches."""
    notebook = scene.notebook("jupyter", gpus=1)
    eventually(lambda: hub.pod(notebook), "the notebook's pod is there")
    name = scene.submit("job", gpus=1, run_for="3s")
    hub.says(name, "GroupQuota")

    shown = tmp_path / "shown"
    command = [str(kubectl_path()), f"--kubeconfig={hub.stack.kubeconfig}", "-n", NAMESPACE]
    command += ["get", "phj", name, "--watch", "--no-headers", "--output-watch-events=false"]
    with shown.open("w") as out, subprocess.Popen(command, stdout=out) as watching:
        try:
            eventually(lambda: "Pending" in shown.read_text(), "kubectl watches")
            hub.api.delete("Pod", notebook)
            eventually(
                lambda: "Succeeded" in shown.read_text(), "kubectl shows the end", instead=shown.read_text
            )
        finally:
            watching.terminate()
    phases = [line.split()[3] for line in shown.read_text().splitlines()]
    assert list(dict.fromkeys(phases)) == ["Pending", "Preparing", "Running", "Succeeded"]


def test_get_shows_user_group_status_and_reason(hub: Hub, scene: Scene) -> None:
    """The columns of a plain `kubectl get phj`."""
    name = scene.submit("job", user="lin")
    hub.reaches(name, "Succeeded")
    head, line = hub.kubectl("-n", NAMESPACE, "get", "phj", name).stdout.splitlines()
    assert head.split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    assert line.split()[:5] == [name, "lin", scene.group, "Succeeded", "Completed"]


def test_wait_tells_when_a_job_has_succeeded(hub: Hub, scene: Scene) -> None:
    """`kubectl wait --for=jsonpath='{.status.phase}'=Succeeded phj/NAME`, from the creation on."""
    name = scene.submit("job")
    done = hub.kubectl("-n", NAMESPACE, "wait", SUCCEEDED, "--timeout=90s", f"phj/{name}")
    assert (done.returncode, done.stdout.strip()) == (0, f"phjob.primehub.io/{name} condition met"), (
        done.stderr
    )


def test_deleting_a_job_deletes_its_pod_and_frees_its_quota(hub: Hub, scene: Scene) -> None:
    """`kubectl -n hub delete phj NAME` of a running job; the next one goes."""
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    waiting = scene.submit("next", gpus=1)
    done = hub.kubectl("-n", NAMESPACE, "delete", "phj", name)
    assert (done.returncode, done.stderr) == (0, "")
    hub.pod_is_gone(name)
    hub.reaches(waiting, "Succeeded")


def test_deleting_a_waiting_job_lets_the_next_one_go(hub: Hub, scene: Scene) -> None:
    """A head that is gone blocks nobody."""
    running = scene.submit("running", gpus=1, run_for=FOREVER)
    hub.reaches(running, "Running")
    head = scene.submit("head", gpus=1)
    small = scene.submit("small")
    hub.says(head, "GroupQuota")
    assert hub.kubectl("-n", NAMESPACE, "delete", "phj", head).returncode == 0
    hub.reaches(small, "Succeeded")
    assert hub.pod(head) is None


def test_a_second_job_of_one_name_is_refused_and_the_first_goes_on(hub: Hub, scene: Scene) -> None:
    """The API server answers; nothing happens to the job that is there."""
    manifest = scene.job("job", run_for=FOREVER)
    (name,) = hub.create(manifest)
    hub.reaches(name, "Running")
    before = hub.job(name).uid
    done = hub.kubectl("-n", NAMESPACE, "create", "-f", "-", input=json.dumps(manifest))
    assert done.returncode == 1
    assert f'phjobs.primehub.io "{name}" already exists' in done.stderr
    assert (hub.job(name).uid, hub.job(name).phase) == (before, "Running")


def test_a_name_can_be_used_again_once_its_job_is_deleted(hub: Hub, scene: Scene) -> None:
    """The new job is a job of its own, with a pod of its own."""
    name = scene.submit("job", run_for=FOREVER)
    hub.reaches(name, "Running")
    first = hub.job(name).uid
    assert hub.kubectl("-n", NAMESPACE, "delete", "phj", name).returncode == 0
    scene.submit("job")
    eventually(lambda: hub.job(name).uid != first, "the second job is there")
    hub.reaches(name, "Succeeded")
