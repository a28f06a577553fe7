"""What plain kubectl tells without being asked for: the status of groups, and events about jobs."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from tests.support.builders import an_instance_type
from tests.support.hub import NAMESPACE, Hub, corner
from tests.support.scene import FOREVER, Scene
from tests.support.waiting import eventually

from dev.stack import Stack


@pytest.fixture
def hub(impatient_stack: Stack) -> Iterator[Hub]:
    """This test's corner of that stack."""
    with corner(impatient_stack) as hub:
        yield hub


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for two GPUs."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 2}}).make()


def status(hub: Hub, scene: Scene) -> dict[str, Any]:
    found = hub.api.get("PhGroup", scene.group)
    assert found
    now: dict[str, Any] = found.get("status", {})
    return now


def reads(hub: Hub, scene: Scene, **wanted: Any) -> dict[str, Any]:
    """The group's status once it has these."""
    eventually(
        lambda: wanted.items() <= status(hub, scene).items(),
        f"the group reads {wanted}",
        instead=lambda: status(hub, scene),
    )
    return status(hub, scene)


def test_a_group_says_how_full_it_is_and_what_its_head_waits_for(hub: Hub, scene: Scene) -> None:
    """`kubectl get phg`; a new group reads zero."""
    reads(hub, scene, pending=0, preparing=0, running=0, limit={"gpu": "2"})
    held = scene.submit("held", gpus=2, run_for=FOREVER)
    reads(hub, scene, running=1)
    head = scene.submit("head", gpus=1)
    scene.submit("second", gpus=1)
    told = reads(hub, scene, pending=2, head=head, message="group quota: gpu 2 of 2 used, needs 1")
    assert told["used"]["gpu"] == "2"
    line = hub.kubectl("-n", NAMESPACE, "get", "phg", scene.group, "--no-headers").stdout.split()
    assert line[:5] == [scene.group, "2", "0", "1", head]
    hub.cancel(held)
    told = reads(hub, scene, pending=0, running=0)
    assert "head" not in told
    assert "used" not in told or told["used"] == {}


def test_a_group_is_written_at_most_once_a_second_and_not_without_change(hub: Hub, scene: Scene) -> None:
    """Forty jobs come and go; each write of the group is a revision of it."""
    reads(hub, scene, pending=0)
    first = hub.api.get("PhGroup", scene.group)
    assert first
    with hub.api.watch("PhGroup", first["metadata"]["resourceVersion"]) as watch:
        hub.kubectl_create(*(scene.job(f"job-{n}") for n in range(40)))
        eventually(lambda: len(hub.in_phase(scene.group, "Succeeded")) == 40, "all have run", within=120)
        reads(hub, scene, pending=0, running=0, preparing=0)
        last = hub.api.get("PhGroup", scene.group)
        assert last
        times, said = [], [first.get("status")]
        for event in watch:
            if event["object"]["metadata"]["name"] != scene.group:
                continue
            fields = event["object"]["metadata"]["managedFields"]
            times += [f["time"] for f in fields if f.get("subresource") == "status"]
            said.append(event["object"]["status"])
            if event["object"]["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]:
                break
    assert max(times.count(second) for second in times) <= 2, "once a second, whole seconds hold two at most"
    assert all(before != after for before, after in pairwise(said))


def test_a_job_that_is_sent_back_again_and_again_has_one_event_that_counts(hub: Hub, scene: Scene) -> None:
    """`kubectl describe phj` tells the story."""
    name = scene.submit("job", start="never")
    event = hub.has_event(name, "Requeued", count=2)
    assert (event["type"], event["message"]) == ("Warning", "the pod did not start within 3 s")
    described = hub.kubectl("-n", NAMESPACE, "describe", "phj", name).stdout
    assert "the pod did not start within 3 s" in described.partition("Events:")[2]


def test_what_went_wrong_has_an_event_and_what_went_well_has_none(hub: Hub, scene: Scene) -> None:
    """Refused, timed out; a job that ran, one that was cancelled, and one whose command failed."""
    (huge,) = hub.create(an_instance_type(hub.name("huge"), gpus=8))
    scene.grants(instance_types=(huge,))
    hub.has_event(scene.submit("too-large", instanceType=huge), "OverQuota")
    assert hub.has_event(scene.submit("unknown", image="nope"), "InvalidSpec")["message"] == (
        "image 'nope' does not exist"
    )
    hub.has_event(scene.submit("slow", run_for=FOREVER, activeDeadlineSeconds=1), "OverActiveDeadline")
    well, failed = scene.submit("well"), scene.submit("failed", exit_code=3)
    cancelled = scene.submit("cancelled", run_for=FOREVER)
    hub.reaches(cancelled, "Running")
    hub.cancel(cancelled)
    for name in (well, failed, cancelled):
        hub.reaches(name, "Succeeded", "Failed", "Cancelled")
    hub.has_event(scene.submit("later", image="nope"), "InvalidSpec")
    assert [hub.events(name) for name in (well, failed, cancelled)] == [[], [], []]
