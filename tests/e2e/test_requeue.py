"""Jobs whose pod does not start, under settings that give a pod three seconds."""

from collections.abc import Iterator

import pytest
from tests.support import promises
from tests.support.builders import an_instance_type, an_object
from tests.support.hub import Hub, corner
from tests.support.scene import FOREVER, Scene, settled
from tests.support.waiting import eventually

from dev.stack import Stack

TOO_LATE = "the pod did not start within 3 s"


@pytest.fixture
def hub(impatient_stack: Stack) -> Iterator[Hub]:
    """This test's corner of that stack."""
    with corner(impatient_stack) as hub:
        yield hub


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for one GPU at a time."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 1}}).make()


def requeued(hub: Hub, name: str, times: int) -> None:
    """Wait until the job was sent back so often."""
    eventually(
        lambda: hub.status(name)["requeued"] >= times,
        f"{name} is requeued {times} times",
        instead=lambda: hub.status(name),
    )


def test_a_job_whose_pod_does_not_start_is_sent_back_and_keeps_its_place(hub: Hub, scene: Scene) -> None:
    """The first time it goes again at once, before the one behind it, with a new pod."""
    name = scene.submit("job", gpus=1, start="never")
    first = eventually(lambda: hub.pod(name), "its pod is there")
    behind = scene.submit("behind", gpus=1, run_for=FOREVER)
    requeued(hub, name, 1)
    eventually(lambda: (pod := hub.pod(name)) and pod.uid != first.uid, "it has another pod")
    assert hub.job(behind).phase == "Pending"
    events = hub.history.complete()
    assert promises.entered_preparing(events, scene.group) == [name]
    sent_back = next(e for e in events if e.name == name and e.object.get("status", {}).get("requeued") == 1)
    assert (sent_back.phase, sent_back.object["status"]["reason"]) == ("Pending", "Requeued")
    assert sent_back.object["status"]["message"] == TOO_LATE


def test_a_job_that_is_sent_back_again_pauses_and_blocks_nobody(hub: Hub, scene: Scene) -> None:
    """Half a minute, in which the one behind it gets the room; then it has its turn, in its place."""
    name = scene.submit("job", gpus=1, start="never")
    hub.reaches(name, "Preparing")
    behind, third = scene.submit("behind", gpus=1), scene.submit("third", gpus=1, run_for=FOREVER)
    requeued(hub, name, 2)
    hub.reaches(behind, "Succeeded")
    hub.reaches(third, "Running")
    status = hub.status(name)
    assert (status["phase"], status["reason"], status["message"]) == ("Pending", "Requeued", TOO_LATE)

    fourth = scene.submit("fourth", gpus=1)
    hub.says(name, "GroupQuota", "gpu 1 of 1 used, needs 1")
    hub.cancel(third)
    hub.reaches(name, "Preparing")
    assert hub.job(fourth).phase == "Pending"
    assert promises.entered_preparing(hub.history.complete(), scene.group) == [name, behind, third]
    assert not promises.over_quota(hub.history.complete(), scene.group, group_quota={"gpu": 1})


def test_a_job_that_may_not_be_sent_back_fails(hub: Hub, scene: Scene) -> None:
    """With a requeueLimit of 0: at once, and its quota is free."""
    name = scene.submit("job", gpus=1, start="never", requeueLimit=0)
    status = hub.reaches(name, "Failed")
    assert (status["reason"], status["requeued"]) == ("OverRequeueLimit", 0)
    eventually(lambda: hub.status(name)["reclaimed"], "nothing is left of it but its record")
    assert TOO_LATE in status["message"]
    assert hub.pod(name) is None
    hub.reaches(scene.submit("next", gpus=1), "Succeeded")


def test_a_job_fails_when_it_was_sent_back_as_often_as_it_may(hub: Hub, scene: Scene) -> None:
    """With a requeueLimit of 1: the second time."""
    name = scene.submit("job", start="never", requeueLimit=1)
    status = hub.reaches(name, "Failed")
    assert (status["reason"], status["requeued"]) == ("OverRequeueLimit", 1)
    assert hub.phases(name) == ["Pending", "Preparing", "Pending", "Preparing", "Failed"]


def test_a_job_for_which_there_is_no_node_says_so(hub: Hub, scene: Scene) -> None:
    """What Kubernetes' scheduler said is in the message."""
    selector = {"nodeSelector": {"no-node": "has-this"}}
    (kind,) = hub.create(an_instance_type(hub.name("nowhere"), selector))
    scene.grants(instance_types=(kind,))
    name = scene.submit("job", instanceType=kind, requeueLimit=0)
    status = hub.reaches(name, "Failed")
    assert f"{TOO_LATE}; no node can take it: Unschedulable: 0/1 nodes are available" in status["message"]


def test_a_job_whose_volume_is_missing_says_so(hub: Hub, scene: Scene) -> None:
    """What Kubernetes' scheduler said names the claim."""
    (dataset,) = hub.create(an_object("Dataset", hub.name("data"), {"type": "pv", "volumeName": "nowhere"}))
    scene.change(datasets=[{"name": dataset, "writable": False}])
    name = scene.submit("job", requeueLimit=0)
    status = hub.reaches(name, "Failed")
    said = (
        f"{TOO_LATE}; a volume can't be had: Unschedulable: 0/1 nodes are available: persistentvolumeclaim \""
    )
    assert said in status["message"]


def test_a_pod_that_its_node_rejects_is_a_requeue(hub: Hub, scene: Scene) -> None:
    """Its command never ran. The pod is replaced, and its reason is told."""
    name = scene.submit("job", gpus=1, start="never")
    pod = eventually(
        lambda: (pod := hub.pod(name)) and pod.object["spec"].get("nodeName") and pod, "on a node"
    )
    rejected = {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}
    hub.api.merge("Pod", name, {"status": rejected}, subresource="status")
    eventually(lambda: (new := hub.pod(name)) and new.uid != pod.uid, "it has another pod")
    jobs = [event.object["status"] for event in hub.history.complete() if event.kind == "PhJob"]
    sent_back = next(status for status in jobs if status["requeued"])
    assert sent_back["message"] == "the pod failed (OutOfcpu): Node didn't have enough resource: cpu"


def test_a_job_that_pauses_can_be_cancelled(hub: Hub, scene: Scene) -> None:
    """It need not wait for its turn."""
    name = scene.submit("job", start="never")
    requeued(hub, name, 2)
    hub.cancel(name)
    status = hub.reaches(name, "Cancelled")
    assert status["reclaimed"] is True


def test_a_running_job_is_never_sent_back(hub: Hub, scene: Scene) -> None:
    """However long it runs: the timeout is for its start alone."""
    name = scene.submit("job", run_for=FOREVER)
    hub.reaches(name, "Running")
    late = scene.submit("late", start="never", requeueLimit=0)
    hub.reaches(late, "Failed")  # So three seconds are over.
    settled(hub)
    assert hub.phases(name) == ["Pending", "Preparing", "Running"]
