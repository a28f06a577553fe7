"""How a job ends: by itself, by cancel, by timeout, by somebody's hand; and what becomes of its pod."""

import signal

import pytest
from tests.support.hub import Hub
from tests.support.scene import FOREVER, Scene, settled
from tests.support.waiting import eventually


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for one GPU at a time."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 1}}).make()


def frees_its_quota(hub: Hub, scene: Scene) -> None:
    """A next job gets the group's only GPU."""
    hub.reaches(scene.submit("next", gpus=1), "Succeeded")


def is_reclaimed(hub: Hub, name: str) -> None:
    """The pod is gone and the record says so."""
    hub.pod_is_gone(name)
    eventually(lambda: hub.status(name)["reclaimed"], f"{name} is reclaimed")


def test_a_job_that_succeeds_says_when_where_and_how(hub: Hub, scene: Scene) -> None:
    """Its times are the container's own; its pod stays for the log."""
    name = scene.submit("job", gpus=1, run_for="3s")
    hub.reaches(name, "Running")
    status = hub.reaches(name, "Succeeded")
    assert (status["reason"], status["message"], status["exitCode"]) == ("Completed", "exit code 0", 0)
    assert (status["podName"], status["nodeName"]) == (name, "kwok-0")
    assert status["resources"] == {"cpu": "500m", "memory": "256Mi", "nvidia.com/gpu": "1"}
    pod = hub.pod(name)
    assert pod
    ended = pod.object["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (status["startTime"], status["finishTime"]) == (ended["startedAt"], ended["finishedAt"])
    assert status["preparingTime"] <= status["startTime"]
    assert (status["requeued"], status["reclaimed"]) == (0, False)
    assert hub.phases(name) == ["Pending", "Preparing", "Running", "Succeeded"]


def test_a_job_takes_four_writes_and_one_pod(hub: Hub, scene: Scene) -> None:
    """Design: one pod and three status patches on the good path, and not one more."""
    name = scene.submit("job", run_for="3s")
    hub.reaches(name, "Succeeded")
    settled(hub)
    revisions = [event for event in hub.history.complete() if (event.kind, event.name) == ("PhJob", name)]
    assert [event.phase for event in revisions] == ["Pending", "Preparing", "Running", "Succeeded"]


def test_a_failing_command_fails_the_job_with_its_exit_code(hub: Hub, scene: Scene) -> None:
    """Exit code and the container's reason are in the message."""
    name = scene.submit("job", gpus=1, exit_code=3)
    status = hub.reaches(name, "Failed")
    assert (status["reason"], status["exitCode"]) == ("Error", 3)
    assert status["message"].startswith("exit code 3 (Error)")
    assert status["reclaimed"] is False
    frees_its_quota(hub, scene)


def test_a_waiting_job_can_be_cancelled(hub: Hub, scene: Scene) -> None:
    """It never gets a pod, and who waited behind it goes."""
    running = scene.submit("running", gpus=1, run_for=FOREVER)
    hub.reaches(running, "Running")
    name, behind = scene.submit("job", gpus=1), scene.submit("behind")
    hub.says(name, "GroupQuota")
    hub.cancel(name)
    status = hub.reaches(name, "Cancelled")
    assert (status["reason"], status["reclaimed"]) == ("Cancelled", True)
    assert "finishTime" in status
    hub.reaches(behind, "Succeeded")
    assert hub.phases(name) == ["Pending", "Cancelled"]
    assert hub.pod(name) is None


def test_a_preparing_job_can_be_cancelled(hub: Hub, scene: Scene) -> None:
    """Its pod, which never started, is deleted."""
    name = scene.submit("job", gpus=1, start="never")
    hub.reaches(name, "Preparing")
    eventually(lambda: hub.pod(name), "its pod is there")
    hub.cancel(name)
    assert hub.reaches(name, "Cancelled")["reason"] == "Cancelled"
    is_reclaimed(hub, name)
    assert hub.phases(name) == ["Pending", "Preparing", "Cancelled"]
    frees_its_quota(hub, scene)


def test_a_running_job_can_be_cancelled(hub: Hub, scene: Scene) -> None:
    """Its pod is deleted."""
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    hub.cancel(name)
    status = hub.reaches(name, "Cancelled")
    assert "startTime" in status
    assert "finishTime" in status
    is_reclaimed(hub, name)
    assert hub.phases(name) == ["Pending", "Preparing", "Running", "Cancelled"]
    frees_its_quota(hub, scene)


def test_a_job_that_is_created_cancelled_never_runs(hub: Hub, scene: Scene) -> None:
    """The wish was there before the job was looked at."""
    name = scene.submit("job", cancel=True)
    hub.reaches(name, "Cancelled")
    assert hub.phases(name) == ["Pending", "Cancelled"]


def test_the_cancel_of_a_finished_job_changes_nothing(hub: Hub, scene: Scene) -> None:
    """It keeps its phase and its pod."""
    name = scene.submit("job")
    before = hub.reaches(name, "Succeeded")
    hub.cancel(name)
    settled(hub)
    assert hub.status(name) == before
    assert hub.pod(name) is not None


def test_a_job_that_runs_too_long_is_stopped(hub: Hub, scene: Scene) -> None:
    """Running longer than activeDeadlineSeconds: Failed, and the pod is gone."""
    name = scene.submit("job", gpus=1, run_for=FOREVER, activeDeadlineSeconds=1)
    status = hub.reaches(name, "Failed")
    assert status["reason"] == "OverActiveDeadline"
    assert status["message"] == "it ran longer than its deadline of 1 s"
    is_reclaimed(hub, name)
    assert hub.phases(name) == ["Pending", "Preparing", "Running", "Failed"]
    frees_its_quota(hub, scene)


def test_a_deadline_can_be_set_while_the_job_runs(hub: Hub, scene: Scene) -> None:
    """It takes effect at once."""
    name = scene.submit("job", run_for=FOREVER)
    hub.reaches(name, "Running")
    hub.change("PhJob", name, activeDeadlineSeconds=1)
    assert hub.reaches(name, "Failed")["reason"] == "OverActiveDeadline"


def test_the_groups_deadline_counts_for_a_job_without_one(hub: Hub, scene: Scene) -> None:
    """And a job's own, also a longer one, comes before it."""
    scene.change(jobDefaultActiveDeadlineSeconds=1)
    own = scene.submit("own", run_for=FOREVER, activeDeadlineSeconds=3600)
    name = scene.submit("job", run_for=FOREVER)
    assert hub.reaches(name, "Failed")["reason"] == "OverActiveDeadline"
    settled(hub)
    assert hub.job(own).phase == "Running"


def test_a_finished_jobs_pod_is_reclaimed_after_its_ttl(hub: Hub, scene: Scene) -> None:
    """The record stays, with all that it says."""
    name = scene.submit("job", ttlSecondsAfterFinished=1)
    hub.reaches(name, "Succeeded")
    is_reclaimed(hub, name)
    status = hub.status(name)
    assert (status["phase"], status["exitCode"], status["message"]) == ("Succeeded", 0, "exit code 0")


def test_a_ttl_can_be_set_when_the_job_has_finished(hub: Hub, scene: Scene) -> None:
    """And a failed job's pod goes the same way."""
    name = scene.submit("job", exit_code=1)
    hub.reaches(name, "Failed")
    hub.change("PhJob", name, ttlSecondsAfterFinished=1)
    is_reclaimed(hub, name)


def test_a_pod_deleted_while_it_runs_fails_the_job(hub: Hub, scene: Scene) -> None:
    """Its command is never run a second time behind its user's back."""
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    hub.api.delete("Pod", name)
    status = hub.reaches(name, "Failed")
    assert status["reason"] == "PodDeleted"
    eventually(lambda: hub.status(name)["reclaimed"], "nothing is left of it but its record")
    frees_its_quota(hub, scene)
    assert hub.phases(name) == ["Pending", "Preparing", "Running", "Failed"]


def test_a_pod_deleted_while_it_is_prepared_counts_as_a_requeue(hub: Hub, scene: Scene) -> None:
    """The job gets a new one at once, and says how often it was sent back."""
    name = scene.submit("job", gpus=1, start="never")
    hub.reaches(name, "Preparing")
    first = eventually(lambda: hub.pod(name), "its pod is there")
    hub.api.delete("Pod", name)
    eventually(lambda: (pod := hub.pod(name)) and pod.uid != first.uid, "it has another pod")
    status = hub.status(name)
    assert (status["phase"], status["requeued"]) == ("Preparing", 1)
    assert hub.phases(name) == ["Pending", "Preparing", "Pending", "Preparing"]


def test_a_finished_jobs_pod_deleted_by_hand_is_reclaimed(hub: Hub, scene: Scene) -> None:
    """The job keeps its phase."""
    name = scene.submit("job")
    hub.reaches(name, "Succeeded")
    hub.api.delete("Pod", name)
    is_reclaimed(hub, name)
    assert hub.job(name).phase == "Succeeded"


def test_an_evicted_pod_fails_the_job_and_says_so(hub: Hub, scene: Scene) -> None:
    """By `kubectl drain`: the API's eviction is a deletion by somebody else."""
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    hub.api.create_sub("Pod", name, "eviction", eviction)
    assert hub.reaches(name, "Failed")["reason"] == "PodDeleted"
    frees_its_quota(hub, scene)


def test_a_pod_that_the_kubelet_evicts_fails_the_job_with_the_kubelets_reason(hub: Hub, scene: Scene) -> None:
    """Evicted, with its words: low on memory, over its disk limit."""
    name = scene.submit("job", gpus=1, run_for=FOREVER)
    hub.reaches(name, "Running")
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    hub.api.merge("Pod", name, {"status": {**evicted, "containerStatuses": []}}, subresource="status")
    status = hub.reaches(name, "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == "the pod failed (Evicted): The node was low on resource: memory."
    frees_its_quota(hub, scene)


def test_a_job_too_quick_to_be_seen_running_has_both_times(hub: Hub, scene: Scene) -> None:
    """Preparing to Succeeded at once: the times are the container's own."""
    name = scene.submit("job", gpus=1, start="never")
    eventually(lambda: (pod := hub.pod(name)) and pod.object["spec"].get("nodeName"), "its pod is on a node")
    ran = {"exitCode": 0, "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}
    container = {"name": "main", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
    ended = {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ran}}]}
    hub.api.merge("Pod", name, {"status": ended}, subresource="status")
    status = hub.reaches(name, "Succeeded")
    assert (status["startTime"], status["finishTime"]) == (ran["startedAt"], ran["finishedAt"])
    assert hub.phases(name) == ["Pending", "Preparing", "Succeeded"]


def test_a_deadline_that_is_lengthened_in_the_last_moment_is_kept(hub: Hub, scene: Scene) -> None:
    """The janitor has ordered already: the order is not carried out against the newer spec."""
    name = scene.submit("job", run_for=FOREVER, activeDeadlineSeconds=3)
    hub.reaches(name, "Running")
    hub.service("pod-manager").kill(signal.SIGSTOP)
    try:
        eventually(lambda: '"order": "TimeOut"' in hub.log("janitor"), "the janitor has ordered")
        hub.change("PhJob", name, activeDeadlineSeconds=3600)
    finally:
        hub.service("pod-manager").kill(signal.SIGCONT)
    settled(hub)
    assert hub.job(name).phase == "Running"
    hub.change("PhJob", name, activeDeadlineSeconds=1)
    assert hub.reaches(name, "Failed")["reason"] == "OverActiveDeadline"


def test_a_cancel_together_with_the_end_comes_to_one_end(hub: Hub, scene: Scene) -> None:
    """Whichever is first; a final phase never changes."""
    names = [scene.submit(f"job-{n}", run_for="2s") for n in range(20)]
    for name in names:
        hub.reaches(name, "Running", "Succeeded")
    for name in names:
        hub.cancel(name)
    ends = [hub.reaches(name, "Succeeded", "Cancelled") for name in names]
    settled(hub)
    assert [hub.status(name)["phase"] for name in names] == [end["phase"] for end in ends]


@pytest.mark.parametrize("phase", ["Pending", "Preparing", "Running", "Succeeded"])
def test_a_job_can_be_deleted_in_every_phase(hub: Hub, scene: Scene, phase: str) -> None:
    """Its pod goes with it, and its quota is free."""
    if phase == "Pending":
        hub.reaches(scene.submit("first", gpus=1, run_for=FOREVER), "Running")
    start = "never" if phase == "Preparing" else None
    name = scene.submit("job", gpus=1, start=start, run_for="1s" if phase == "Succeeded" else FOREVER)
    hub.reaches(name, phase)
    hub.api.delete("PhJob", name)
    eventually(lambda: hub.history.latest("PhJob", name) is None, "the job is gone")
    hub.pod_is_gone(name)
    if phase == "Pending":
        hub.cancel(hub.name("first"))
    frees_its_quota(hub, scene)


def test_a_pod_whose_name_is_taken_fails_the_job(hub: Hub, scene: Scene) -> None:
    """A pod of that name that is no job's is left alone."""
    (stranger,) = hub.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": hub.name("job")},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        }
    )
    name = scene.submit("job", gpus=1)
    assert name == stranger
    status = hub.reaches(name, "Failed")
    assert status["reason"] == "PodCreationFailed"
    eventually(lambda: hub.status(name)["reclaimed"], "nothing is left of it but its record")
    assert status["message"] == f"the name of pod '{name}' is taken by another"
    assert hub.has_event(name, "PodCreationFailed")["message"] == status["message"]
    assert hub.api.get("Pod", stranger)
    frees_its_quota(hub, scene)
