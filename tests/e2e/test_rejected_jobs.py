"""Jobs that can never run: each fails with a message that names the reason, and none blocks others."""

from typing import Any

import pytest
from tests.support.builders import a_group, an_image, an_instance_type
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture, wait_until_quiescent

GROUP_ID = "d8257cb0-3c89-4243-98c2-cdc737ec61d3"


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group of bob and lin, with quotas."""
    spec = {
        "users": ["bob", "lin"],
        "groupId": GROUP_ID,
        "userQuota": {"gpu": 1, "memory": "1G"},
        "groupQuota": {"gpu": 2},
    }
    return GroupFixture(cluster, "phusers", spec).create()


def rejection(cluster: Cluster, group: GroupFixture, reason: str, /, **fields: Any) -> str:
    """Submit a job that fails with the reason, and one behind it that succeeds.

    Returns the message of the first.
    """
    bad = group.submit("bad", **fields)
    good = group.submit("good")
    status = cluster.wait_for_phase(bad, "Failed")
    assert status["reason"] == reason
    assert status["reclaimed"] is True
    assert "finishTime" in status
    assert cluster.phases(bad) == ["Pending", "Failed"]
    assert cluster.pod(bad) is None
    cluster.wait_for_phase(good, "Succeeded")
    message: str = status["message"]
    return message


def test_a_job_with_an_unknown_group_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The message names it."""
    name = cluster.unique_name("nobodys")
    assert rejection(cluster, group, "InvalidSpec", group=name) == f"group '{name}' does not exist"


def test_a_job_of_a_user_who_is_not_a_member_of_the_group_fails(
    cluster: Cluster, group: GroupFixture
) -> None:
    """The message names both."""
    message = rejection(cluster, group, "InvalidSpec", user="mallory")
    assert message == f"user 'mallory' is not a member of group '{group.name}'"


def test_a_job_with_an_unknown_image_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The message names it."""
    assert (
        rejection(cluster, group, "InvalidSpec", image="no-such-image")
        == "image 'no-such-image' does not exist"
    )


def test_a_job_with_an_image_that_is_not_granted_fails(cluster: Cluster, group: GroupFixture) -> None:
    """It exists, but this group has no grant for it."""
    (image,) = cluster.create(an_image(cluster.unique_name("secret")))
    message = rejection(cluster, group, "InvalidSpec", image=image)
    assert message == f"image '{image}' is not granted to group '{group.name}'"


def test_a_job_with_an_unknown_instance_type_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The message names it."""
    message = rejection(cluster, group, "InvalidSpec", instanceType="no-such-type")
    assert message == "instance type 'no-such-type' does not exist"


def test_a_job_with_an_instance_type_that_is_not_granted_fails(cluster: Cluster, group: GroupFixture) -> None:
    """It exists, but this group has no grant for it."""
    (name,) = cluster.create(an_instance_type(cluster.unique_name("huge")))
    message = rejection(cluster, group, "InvalidSpec", instanceType=name)
    assert message == f"instance type '{name}' is not granted to group '{group.name}'"


def test_a_job_with_the_id_of_another_group_fails(cluster: Cluster, group: GroupFixture) -> None:
    """If both the job and the group have an id, the two have to be equal."""
    message = rejection(cluster, group, "InvalidSpec", groupId="another")
    assert message == f"groupId 'another' is not the id of group '{group.name}', which is '{GROUP_ID}'"


def test_a_job_with_the_id_of_its_group_runs(cluster: Cluster, group: GroupFixture) -> None:
    """The id is optional: the jobs of other tests have none."""
    cluster.wait_for_phase(group.submit("job", groupId=GROUP_ID), "Succeeded")


def test_a_job_that_exceeds_the_user_quota_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The message has the resource, the request and the quota."""
    message = rejection(cluster, group, "OverQuota", gpus=2)
    assert message.endswith("needs gpu 2, but the user quota is 1")


def test_a_job_that_exceeds_the_group_quota_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The message has the resource, the request and the quota."""
    group.patch_spec(userQuota={"gpu": None})
    message = rejection(cluster, group, "OverQuota", gpus=4)
    assert message.endswith("needs gpu 4, but the group quota is 2")


def test_memory_has_its_unit_in_messages(cluster: Cluster, group: GroupFixture) -> None:
    """It is in Gi, which is what G means in PrimeHub, and not in bytes."""
    (name,) = cluster.create(an_instance_type(cluster.unique_name("large"), {"limits.memory": "2G"}))
    group.grant(instance_types=(name,))
    message = rejection(cluster, group, "OverQuota", instanceType=name)
    assert message == f"instance type '{name}' needs memory 2Gi, but the user quota is 1Gi"


def test_a_job_with_a_malformed_limit_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The CRD does not validate the limit of another resource. The message names the type and the key."""
    (name,) = cluster.create(
        an_instance_type(cluster.unique_name("odd"), {"limits.example.com/fpga": "lots"})
    )
    group.grant(instance_types=(name,))
    message = rejection(cluster, group, "InvalidSpec", instanceType=name)
    assert message.startswith(f"instance type '{name}' is unusable: limits.example.com/fpga: 'lots'")


def test_a_job_with_an_image_without_a_url_fails(cluster: Cluster, group: GroupFixture) -> None:
    """PrimeHub may still be building it."""
    (name,) = cluster.create(an_image(cluster.unique_name("unbuilt"), url=None))
    group.grant(images=(name,))
    message = rejection(cluster, group, "InvalidSpec", image=name)
    assert message == f"image '{name}' is unusable: it has no url"


def test_a_job_with_a_malformed_request_fails(cluster: Cluster, group: GroupFixture) -> None:
    """The instance type is unusable for all users."""
    (name,) = cluster.create(
        an_instance_type(cluster.unique_name("odd"), {"requests.ephemeral-storage": "lots"})
    )
    group.grant(instance_types=(name,))
    message = rejection(cluster, group, "InvalidSpec", instanceType=name)
    assert message.startswith(f"instance type '{name}' is unusable: requests.ephemeral-storage: 'lots'")


def test_a_request_above_its_limit_is_lowered_to_the_limit(cluster: Cluster, group: GroupFixture) -> None:
    """Otherwise the API server would reject the pod. The instance type may have been edited meanwhile."""
    (name,) = cluster.create(an_instance_type(cluster.unique_name("odd"), {"requests.cpu": 2}))
    group.grant(instance_types=(name,))
    cluster.wait_for_phase(group.submit("job", instanceType=name), "Succeeded")


def test_a_rejected_job_stays_failed_when_its_group_is_created_later(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Failed is a final phase."""
    late = GroupFixture(cluster, "late")
    bad = group.submit("bad", group=late.name)
    cluster.wait_for_phase(bad, "Failed")
    late.create()
    wait_until_quiescent(cluster)
    assert cluster.job(bad).phase == "Failed"


def test_grants_of_the_group_everyone_apply_to_all_groups(cluster: Cluster, group: GroupFixture) -> None:
    """They apply to images and instance types."""
    (image,) = cluster.create(an_image(cluster.unique_name("common")))
    (instance_type,) = cluster.create(an_instance_type(cluster.unique_name("common")))
    cluster.create(a_group("everyone", images=[image], instanceTypes=[instance_type]))
    cluster.wait_for_phase(group.submit("job", image=image, instanceType=instance_type), "Succeeded")
