"""Jobs with plain kubectl: submit, watch, wait for, and delete them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
SUCCEEDED = "--for=jsonpath={.status.phase}=Succeeded"


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of one GPU."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()


@pytest.fixture
def examples(cluster: Cluster) -> Iterator[list[str]]:
    """Apply k8s/examples, and yield the names of its jobs.

    Delete all of it afterwards.
    """
    cluster.reports_all_objects = True
    done = cluster.kubectl("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    applied = [line.split()[0] for line in done.stdout.splitlines()]
    jobs = [name.partition("/")[2] for name in applied if name.startswith("phjob.")]
    yield jobs
    cluster.kubectl("delete", "-f", str(EXAMPLES))
    for name in jobs:  # Another test may use these names.
        cluster.api.delete("Pod", name)
        cluster.wait_for_pod_deletion(name)


def test_the_examples_run_as_they_are(cluster: Cluster, examples: list[str]) -> None:
    """Every job succeeds after `kubectl apply -f k8s/examples/`, and `kubectl wait` notices it."""
    assert "job-qm42d" in examples
    jobs = [f"phj/{name}" for name in examples]
    done = cluster.kubectl("-n", NAMESPACE, "wait", SUCCEEDED, "--timeout=90s", *jobs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"phjob.primehub.io/{name} condition met" for name in examples]


def test_applying_the_examples_again_changes_no_job(cluster: Cluster, examples: list[str]) -> None:
    """A folder may be applied at any time, also when its jobs are finished."""
    before = [cluster.wait_for_phase(name, "Succeeded") for name in examples]
    done = cluster.kubectl("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    wait_until_quiescent(cluster)
    assert [cluster.status(name) for name in examples] == before


def test_get_w_shows_every_phase_of_a_job(cluster: Cluster, group: GroupFixture, tmp_path: Path) -> None:
    """Pending, Preparing, Running, Succeeded: a notebook delays the job until kubectl watches it."""
    notebook = group.start_notebook("jupyter", gpus=1)
    eventually(lambda: cluster.pod(notebook), "the notebook's pod exists")
    name = group.submit("job", gpus=1, run_for="3s")
    cluster.wait_for_reason(name, "GroupQuota")

    output = tmp_path / "output"
    command = [str(kubectl_path()), f"--kubeconfig={cluster.stack.kubeconfig}", "-n", NAMESPACE]
    command += ["get", "phj", name, "--watch", "--no-headers", "--output-watch-events=false"]
    with output.open("w") as out, subprocess.Popen(command, stdout=out) as watching:
        try:
            eventually(lambda: "Pending" in output.read_text(), "kubectl watches")
            cluster.api.delete("Pod", notebook)
            eventually(
                lambda: "Succeeded" in output.read_text(),
                "kubectl shows the end",
                diagnostics=output.read_text,
            )
        finally:
            watching.terminate()
    phases = [line.split()[3] for line in output.read_text().splitlines()]
    assert list(dict.fromkeys(phases)) == ["Pending", "Preparing", "Running", "Succeeded"]


def test_get_shows_user_group_status_and_reason(cluster: Cluster, group: GroupFixture) -> None:
    """The columns of a plain `kubectl get phj`."""
    name = group.submit("job", user="lin")
    cluster.wait_for_phase(name, "Succeeded")
    head, line = cluster.kubectl("-n", NAMESPACE, "get", "phj", name).stdout.splitlines()
    assert head.split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    assert line.split()[:5] == [name, "lin", group.name, "Succeeded", "Completed"]


def test_wait_returns_when_a_job_has_succeeded(cluster: Cluster, group: GroupFixture) -> None:
    """`kubectl wait --for=jsonpath='{.status.phase}'=Succeeded phj/NAME` works right after the creation."""
    name = group.submit("job")
    done = cluster.kubectl("-n", NAMESPACE, "wait", SUCCEEDED, "--timeout=90s", f"phj/{name}")
    assert (done.returncode, done.stdout.strip()) == (0, f"phjob.primehub.io/{name} condition met"), (
        done.stderr
    )


def test_deleting_a_job_deletes_its_pod_and_frees_its_quota(cluster: Cluster, group: GroupFixture) -> None:
    """The next job starts after `kubectl -n hub delete phj NAME` of a running job."""
    name = group.submit("job", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    waiting = group.submit("next", gpus=1)
    done = cluster.kubectl("-n", NAMESPACE, "delete", "phj", name)
    assert (done.returncode, done.stderr) == (0, "")
    cluster.wait_for_pod_deletion(name)
    cluster.wait_for_phase(waiting, "Succeeded")


def test_deleting_a_pending_job_unblocks_the_jobs_behind_it(cluster: Cluster, group: GroupFixture) -> None:
    """A deleted head blocks no other job."""
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    head = group.submit("head", gpus=1)
    small = group.submit("small")
    cluster.wait_for_reason(head, "GroupQuota")
    assert cluster.kubectl("-n", NAMESPACE, "delete", "phj", head).returncode == 0
    cluster.wait_for_phase(small, "Succeeded")
    assert cluster.pod(head) is None


def test_a_second_job_of_the_same_name_is_rejected(cluster: Cluster, group: GroupFixture) -> None:
    """The API server rejects it, and the first job continues."""
    manifest = group.job_manifest("job", run_for=FOREVER)
    (name,) = cluster.create(manifest)
    cluster.wait_for_phase(name, "Running")
    before = cluster.job(name).uid
    done = cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", input=json.dumps(manifest))
    assert done.returncode == 1
    assert f'phjobs.primehub.io "{name}" already exists' in done.stderr
    assert (cluster.job(name).uid, cluster.job(name).phase) == (before, "Running")


def test_a_name_can_be_used_again_after_its_job_is_deleted(cluster: Cluster, group: GroupFixture) -> None:
    """The new job has its own uid and its own pod."""
    name = group.submit("job", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    first = cluster.job(name).uid
    assert cluster.kubectl("-n", NAMESPACE, "delete", "phj", name).returncode == 0
    group.submit("job")
    eventually(lambda: cluster.job(name).uid != first, "the second job exists")
    cluster.wait_for_phase(name, "Succeeded")
