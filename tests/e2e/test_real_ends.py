"""How jobs end on a real node: evictions, drains, restarts of its daemons, and injected containers."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support.cluster import NAMESPACE, Cluster, Object, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.injection import injected_container
from tests.support.stacks import RealNode, log_archive_settings
from tests.support.waiting import eventually

from dev.image import NOTEBOOK

pytestmark = pytest.mark.real_node

LONG_SECONDS = 180
"""The time in which a container starts on a busy machine, or the kubelet measures a full disk."""
PULL_TIMEOUT_SECONDS = 20
SETTINGS = f"jobSubmission: {{workingDirSize: 20Mi, pullTimeoutSeconds: {PULL_TIMEOUT_SECONDS}}}\n"
ENDS_AT_SIGTERM = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
TRAINER = "trap 'echo saved; exit 3' TERM; echo begun; while :; do sleep 1; done"
"""A command that writes its last words when it is ended."""
EVICTED = "its pod was deleted while it ran: EvictionByEvictionAPI: Eviction API: evicting"


@pytest.fixture
def cluster(real_node: RealNode, archive: Path) -> Iterator[Cluster]:
    """Yield the cluster, whose jobs have a small working directory and little time to pull an image."""
    stack = real_node.start(log_archive_settings(archive) + SETTINGS)
    with cluster_on(stack) as cluster:
        yield cluster
        cluster.kubectl("uncordon", "localhost")


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group whose quota allows one job at a time."""
    return GroupFixture(cluster, "ends", {"groupQuota": {"cpu": "500m"}}).create()


def log_of(status: Object) -> str:
    """Return the log of a job in the archive."""
    return Path(urlsplit(status["logURL"]).path).read_text()


def run(cluster: Cluster, group: GroupFixture, command: str) -> str:
    """Run a job until its command has begun. Returns its name."""
    name = group.submit(f"job-{cluster.next_number()}", command=command)
    cluster.wait_for_phase(name, "Running", within=LONG_SECONDS)
    eventually(lambda: "begun" in cluster.kubectl("-n", NAMESPACE, "logs", name).stdout, "it has begun")
    return name


def test_a_full_working_directory_is_named_before_the_exit_code(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Of an exit code 137 alone, nobody knows what to change (spec.md, L4)."""
    name = group.submit("full", command="echo epoch 3; dd if=/dev/zero of=full bs=1M count=60; sleep 600")
    status = cluster.wait_for_phase(name, "Failed", within=LONG_SECONDS)
    assert status["reason"] == "Evicted"
    full = 'Evicted: Usage of EmptyDir volume "home" exceeds the limit "20Mi"'
    # The kubelet may have removed the container's folder already, and then reports that instead of the log.
    assert status["message"].startswith(f"{full}; exit code {status['exitCode']} (Error): ")


def test_a_traceback_of_more_than_the_kubelet_quotes_ends_with_its_error(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The kubelet takes the last 2 kB of the log, and the job's message keeps their end (spec.md, L4)."""
    lines = "for i in $(seq 300); do echo '  File train.py, in forward'; done"
    name = group.submit("traceback", command=f"{lines}; echo 'OutOfMemoryError: CUDA out of memory'; exit 1")
    status = cluster.wait_for_phase(name, "Failed", within=LONG_SECONDS)
    assert status["message"].startswith("exit code 1 (Error): ")
    assert status["message"].endswith("in forward\nOutOfMemoryError: CUDA out of memory")


def test_an_eviction_while_it_runs_is_named_with_its_last_words(
    cluster: Cluster, group: GroupFixture
) -> None:
    """It fails, and its command does not run again (spec.md, L6, L7)."""
    name = run(cluster, group, TRAINER)
    evict(cluster, name)
    status = cluster.wait_for_phase(name, "Failed", within=LONG_SECONDS)
    assert (status["reason"], status["exitCode"]) == ("PodDeleted", 3)
    assert status["message"].startswith(f"{EVICTED}; exit code 3 (Error): begun\n")
    assert status["message"].endswith("\nsaved")
    assert cluster.wait_for_event(name, "PodDeleted")["message"] == f"{EVICTED}; exit code 3 (Error)"


def evict(cluster: Cluster, name: str) -> None:
    """Evict a pod through the API."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    cluster.api.create_subresource("Pod", name, "eviction", eviction)


def test_a_drain_while_it_runs_fails_the_job_and_the_next_one_waits_for_the_node(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The next job gets the quota at once, and the node when it is uncordoned."""
    name, behind = run(cluster, group, TRAINER), group.submit("behind", command="true")
    drain = ("drain", "localhost", "--delete-emptydir-data", "--force", "--timeout=120s")
    done = cluster.kubectl(*drain, f"--pod-selector=primehub.io/phjob={name}")
    assert done.returncode == 0, done.stderr
    assert cluster.wait_for_phase(name, "Failed")["message"].startswith(EVICTED)
    cluster.wait_for_phase(behind, "Preparing")
    cluster.kubectl("uncordon", "localhost")
    cluster.wait_for_phase(behind, "Succeeded", within=LONG_SECONDS)


def test_an_eviction_while_its_image_is_pulled_sends_the_job_back(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The kubelet invents an exit code for a container that it never started (spec.md, L6)."""
    with unanswered_pull(cluster, group) as (name, registry):
        eventually(lambda: waits_for_its_container(cluster, name), "its image is pulled", within=LONG_SECONDS)
        evict(cluster, name)
        registry.close()
        requeued = first_requeue(cluster, name)
        expected = "its pod was deleted before it started: EvictionByEvictionAPI: Eviction API: evicting"
        assert requeued["message"] == expected


def test_a_pull_has_its_own_time_which_is_longer_than_the_time_to_start(
    cluster: Cluster, group: GroupFixture
) -> None:
    """PhJob learns of the pull by the kubelet's Events (spec.md, Q5)."""
    cluster.patch_spec("PhGroup", group.name, preparingTimeoutSeconds=5)
    with unanswered_pull(cluster, group) as (name, registry):
        eventually(lambda: is_being_deleted(cluster, name), "it is given up", within=LONG_SECONDS)
        registry.close()
        requeued = first_requeue(cluster, name)
        assert requeued["message"].startswith(f"its image was not pulled within {PULL_TIMEOUT_SECONDS} s")


@contextmanager
def unanswered_pull(cluster: Cluster, group: GroupFixture) -> Iterator[tuple[str, socket.socket]]:
    """Submit a job whose image is pulled until the registry is closed.

    Yields the job's name and the registry. The kubelet ends a pod only after the pull.
    """
    with socket.create_server(("127.0.0.1", 0)) as registry:  # It accepts connections, and never answers.
        image = f"127.0.0.1:{registry.getsockname()[1]}/slow:1"
        cluster.patch_spec("Image", group.image, url=image)
        name = group.submit("pulling", command="true")
        cluster.wait_for_bound_pod(name)
        yield name, registry
        cluster.cancel(name)
        cluster.wait_for_phase(name, "Cancelled")
    cluster.wait_for_pod_deletion(name)


def is_being_deleted(cluster: Cluster, name: str) -> bool:
    """Return whether the deletion of the pod is requested, or the pod is gone."""
    pod = cluster.pod(name)
    return pod is None or "deletionTimestamp" in pod.object["metadata"]


def first_requeue(cluster: Cluster, name: str) -> Object:
    """Wait until the job is requeued. Returns the status that the first requeue wrote."""
    eventually(lambda: cluster.status(name)["requeued"] >= 1, "it is requeued", within=LONG_SECONDS)
    status: Object = next(
        event.object["status"]
        for event in cluster.history.complete_events()
        if (event.kind, event.name) == ("PhJob", name) and event.object["status"]["requeued"] == 1
    )
    assert (status["phase"], status["reason"]) == ("Pending", "Requeued")
    return status


def waits_for_its_container(cluster: Cluster, name: str) -> bool:
    """Return whether the kubelet has reported that it prepares the container."""
    pod = cluster.pod(name)
    statuses = pod.object["status"].get("containerStatuses", ()) if pod else ()
    return any("waiting" in status["state"] for status in statuses)


def test_the_replacement_of_a_running_job_is_another_job_that_waits_for_the_end_of_the_first(
    cluster: Cluster, group: GroupFixture
) -> None:
    """`kubectl replace --force` deletes it and creates another (spec.md, Q10, L13).

    Without a quota, only the name of the pod keeps the two commands from running at the same time.
    """
    group.patch_spec(groupQuota=None)
    name = run(cluster, group, "trap 'sleep 2; exit 0' TERM; echo begun; while :; do sleep 0.1; done")
    first = cluster.job(name)
    replacement = {**first.object, "spec": {**first.object["spec"], "command": "echo replaced"}}
    done = cluster.kubectl("replace", "--force", "-f", "-", input=json.dumps(replacement))
    assert done.returncode == 0, done.stderr
    eventually(lambda: cluster.job(name).uid != first.uid, "the job is replaced")
    status = cluster.wait_for_phase(name, "Succeeded", within=LONG_SECONDS)
    assert (status["requeued"], status["podUID"] != first.object["status"]["podUID"]) == (0, True)
    assert cluster.kubectl("-n", NAMESPACE, "logs", name).stdout == "replaced\n"
    assert status["startTime"] >= end_of_container(cluster, first.object["status"]["podUID"])


def end_of_container(cluster: Cluster, pod_uid: str) -> str:
    """Return when the container of a pod ended, by the clock of its node."""
    *_, last = (event for event in cluster.history.complete_events() if event.uid == pod_uid)
    end: str = last.object["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    return end


@pytest.mark.parametrize("daemon", ["kubelet", "containerd"])
def test_a_job_goes_on_while_a_daemon_of_its_node_is_killed_and_started_again(
    cluster: Cluster, group: GroupFixture, daemon: str
) -> None:
    """Its container belongs to neither of them."""
    name = run(cluster, group, "echo begun; sleep 30; echo ended")
    started = cluster.status(name)["startTime"]
    component = cluster.service(daemon)
    component.kill()
    component.start()
    component.wait_ready()
    status = cluster.wait_for_phase(name, "Succeeded", "Failed", within=LONG_SECONDS)
    assert (status["phase"], status["startTime"]) == ("Succeeded", started), status
    assert cluster.phases(name) == ["Pending", "Preparing", "Running", "Succeeded"]
    assert cluster.kubectl("-n", NAMESPACE, "logs", name).stdout == "begun\nended\n"


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_job_ends_by_its_command_while_an_injected_sidecar_runs_on(
    cluster: Cluster, group: GroupFixture, code: int, phase: str
) -> None:
    """Its log is stored, then its pod is deleted, which frees the quota (spec.md, L4, Q3)."""
    with injected_container(cluster, group.name, "containers", "proxy", NOTEBOOK, ENDS_AT_SIGTERM):
        name = group.submit("meshed", command=f"echo no data found; exit {code}")
        behind = group.submit("behind", command="true")
        status = cluster.wait_for_phase(name, "Succeeded", "Failed", within=LONG_SECONDS)
        assert (status["phase"], status["exitCode"]) == (phase, code)
        assert status["reason"] == ("Completed" if code == 0 else "Error")
        note = "its pod is deleted, because its container proxy runs on"
        words = ": no data found" if code else ""
        reason = "" if code == 0 else " (Error)"
        assert status["message"] == f"exit code {code}{reason}; {note}{words}"
        cluster.wait_for_pod_deletion(name)
        assert log_of(cluster.status(name)) == "no data found\n"
        cluster.wait_for_phase(behind, "Succeeded", within=LONG_SECONDS)


def test_a_job_ends_by_its_command_while_a_native_sidecar_runs(cluster: Cluster, group: GroupFixture) -> None:
    """The kubelet ends that sidecar after the command, so the pod stays until its TTL (spec.md, L4)."""
    with injected_container(
        cluster, group.name, "initContainers", "proxy", NOTEBOOK, ENDS_AT_SIGTERM, restart_policy="Always"
    ):
        name = group.submit("meshed", command="exit 3")
        status = cluster.wait_for_phase(name, "Succeeded", "Failed", within=LONG_SECONDS)
    assert (status["phase"], status["message"], status["exitCode"]) == ("Failed", "exit code 3 (Error)", 3)
    pod = eventually(lambda: ended_pod(cluster, name), "its pod has ended", within=LONG_SECONDS)
    (sidecar,) = pod["status"]["initContainerStatuses"]
    main = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert sidecar["state"]["terminated"]["startedAt"] <= main["startedAt"]
    assert sidecar["state"]["terminated"]["finishedAt"] >= main["finishedAt"]
    assert "deletionTimestamp" not in pod["metadata"]


def ended_pod(cluster: Cluster, name: str) -> Object | None:
    """Return the pod if all its containers have ended; otherwise None."""
    pod = cluster.pod(name)
    return pod.object if pod and pod.phase in ("Succeeded", "Failed") else None


def test_a_job_has_succeeded_although_an_injected_sidecar_fails(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Kubernetes calls its pod Failed (spec.md, L4)."""
    with injected_container(cluster, group.name, "containers", "proxy", NOTEBOOK, ["sh", "-c", "exit 1"]):
        name = group.submit("meshed", command="sleep 5")
        status = cluster.wait_for_phase(name, "Succeeded", "Failed", within=LONG_SECONDS)
    assert (status["phase"], status["message"], status["exitCode"]) == ("Succeeded", "exit code 0", 0)
    pod = eventually(lambda: cluster.pod(name), "its pod stays")
    assert pod.phase == "Failed"


def test_an_injected_init_container_that_fails_sends_the_job_back(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Its command never ran, and the message names the container (spec.md, L6, Q5)."""
    fails = ["sh", "-c", "echo permission denied; exit 4"]
    with injected_container(cluster, group.name, "initContainers", "agent-init", NOTEBOOK, fails):
        name = group.submit("agent", command="true", requeueLimit=0)
        status = cluster.wait_for_phase(name, "Failed", within=LONG_SECONDS)
    assert status["reason"] == "OverRequeueLimit"
    assert status["message"].startswith("requeued 0 times, which is its limit: init container agent-init ")
    assert "exit code 4 (Error)" in status["message"]
