"""Jobs that can never run: each is told why, and none stops the others."""

from typing import Any

import pytest
from tests.support.builders import a_group, an_image, an_instance_type
from tests.support.hub import Hub
from tests.support.scene import Scene, settled
from tests.support.waiting import eventually

GROUP_ID = "d8257cb0-3c89-4243-98c2-cdc737ec61d3"


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group of bob and lin, with quotas."""
    spec = {
        "users": ["bob", "lin"],
        "groupId": GROUP_ID,
        "userQuota": {"gpu": 1, "memory": "1G"},
        "groupQuota": {"gpu": 2},
    }
    return Scene(hub, "phusers", spec).make()


def refused(hub: Hub, scene: Scene, reason: str, **fields: Any) -> str:
    """The message of a job that is refused for the reason; another one behind it runs."""
    bad = scene.submit("bad", **fields)
    good = scene.submit("good")
    status = hub.reaches(bad, "Failed")
    assert status["reason"] == reason
    assert status["reclaimed"] is True
    assert "finishTime" in status
    assert hub.phases(bad) == ["Pending", "Failed"]
    assert hub.pod(bad) is None
    hub.reaches(good, "Succeeded")
    message: str = status["message"]
    return message


def test_an_unknown_group(hub: Hub, scene: Scene) -> None:
    """It is named."""
    name = hub.name("nobodys")
    assert refused(hub, scene, "InvalidSpec", group=name) == f"group '{name}' does not exist"


def test_a_user_who_is_not_of_the_group(hub: Hub, scene: Scene) -> None:
    """Both are named."""
    message = refused(hub, scene, "InvalidSpec", user="mallory")
    assert message == f"user 'mallory' is not a member of group '{scene.group}'"


def test_an_unknown_image(hub: Hub, scene: Scene) -> None:
    """It is named."""
    assert refused(hub, scene, "InvalidSpec", image="no-such-image") == "image 'no-such-image' does not exist"


def test_an_image_that_is_not_granted(hub: Hub, scene: Scene) -> None:
    """There is one, but not for this group."""
    (image,) = hub.create(an_image(hub.name("secret")))
    message = refused(hub, scene, "InvalidSpec", image=image)
    assert message == f"image '{image}' is not granted to group '{scene.group}'"


def test_an_unknown_instance_type(hub: Hub, scene: Scene) -> None:
    """It is named."""
    message = refused(hub, scene, "InvalidSpec", instanceType="no-such-type")
    assert message == "instance type 'no-such-type' does not exist"


def test_an_instance_type_that_is_not_granted(hub: Hub, scene: Scene) -> None:
    """There is one, but not for this group."""
    (name,) = hub.create(an_instance_type(hub.name("huge")))
    message = refused(hub, scene, "InvalidSpec", instanceType=name)
    assert message == f"instance type '{name}' is not granted to group '{scene.group}'"


def test_a_group_id_that_is_another_groups(hub: Hub, scene: Scene) -> None:
    """Where job and group both have one, they must agree."""
    message = refused(hub, scene, "InvalidSpec", groupId="another")
    assert message == f"groupId 'another' is not the id of group '{scene.group}', which is '{GROUP_ID}'"


def test_a_group_id_that_agrees_is_welcome(hub: Hub, scene: Scene) -> None:
    """And it is not needed: other tests' jobs have none."""
    hub.reaches(scene.submit("job", groupId=GROUP_ID), "Succeeded")


def test_a_job_larger_than_its_users_quota(hub: Hub, scene: Scene) -> None:
    """Resource, request and limit are named."""
    message = refused(hub, scene, "OverQuota", gpus=2)
    assert message.endswith("needs gpu 2, but the user quota is 1")


def test_a_job_larger_than_its_groups_quota(hub: Hub, scene: Scene) -> None:
    """Resource, request and limit are named."""
    scene.change(userQuota={"gpu": None})
    message = refused(hub, scene, "OverQuota", gpus=4)
    assert message.endswith("needs gpu 4, but the group quota is 2")


def test_memory_is_told_as_it_is_written(hub: Hub, scene: Scene) -> None:
    """In Gi, not in bytes: what G means in PrimeHub."""
    (name,) = hub.create(an_instance_type(hub.name("large"), {"limits.memory": "2G"}))
    scene.grants(instance_types=(name,))
    message = refused(hub, scene, "OverQuota", instanceType=name)
    assert message == f"instance type '{name}' needs memory 2Gi, but the user quota is 1Gi"


def test_a_malformed_limit_that_the_schema_does_not_know(hub: Hub, scene: Scene) -> None:
    """The instance type and its key are named."""
    (name,) = hub.create(an_instance_type(hub.name("odd"), {"limits.example.com/fpga": "lots"}))
    scene.grants(instance_types=(name,))
    message = refused(hub, scene, "InvalidSpec", instanceType=name)
    assert message.startswith(f"instance type '{name}' is unusable: limits.example.com/fpga: 'lots'")


def test_an_image_without_a_url(hub: Hub, scene: Scene) -> None:
    """PrimeHub may still be building it."""
    (name,) = hub.create(an_image(hub.name("unbuilt"), url=None))
    scene.grants(images=(name,))
    message = refused(hub, scene, "InvalidSpec", image=name)
    assert message == f"image '{name}' is unusable: it has no url"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("requests.ephemeral-storage", "lots", "'lots' is not a quantity"),
        ("requests.cpu", 2, "must be less than or equal to cpu limit"),
    ],
    ids=["malformed", "above-the-limit"],
)
def test_a_request_that_no_pod_can_have(hub: Hub, scene: Scene, key: str, value: object, said: str) -> None:
    """It shows only when the pod is made: the job fails then, and its quota is free again."""
    (name,) = hub.create(an_instance_type(hub.name("odd"), {key: value}, gpus=1))
    scene.grants(instance_types=(name,))
    bad = scene.submit("bad", instanceType=name)
    status = hub.reaches(bad, "Failed")
    assert status["reason"] == "PodCreationFailed"
    eventually(lambda: hub.status(bad)["reclaimed"], "nothing is left of it but its record")
    assert said in status["message"]
    hub.reaches(scene.submit("good", gpus=1), "Succeeded")


def test_a_group_that_comes_after_its_job_is_too_late(hub: Hub, scene: Scene) -> None:
    """A refused job stays refused: it is final."""
    late = Scene(hub, "late")
    bad = scene.submit("bad", group=late.group)
    hub.reaches(bad, "Failed")
    late.make()
    settled(hub)
    assert hub.job(bad).phase == "Failed"


def test_everyones_grants_are_every_groups(hub: Hub, scene: Scene) -> None:
    """The group named everyone grants images and instance types to all."""
    (image,) = hub.create(an_image(hub.name("common")))
    (kind,) = hub.create(an_instance_type(hub.name("common")))
    hub.create(a_group("everyone", images=[image], instanceTypes=[kind]))
    hub.reaches(scene.submit("job", image=image, instanceType=kind), "Succeeded")
