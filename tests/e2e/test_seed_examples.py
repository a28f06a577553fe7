"""The seed's two examples of scheduling, exact, however the jobs come."""

from collections.abc import Callable

import pytest
from tests.support import promises
from tests.support.hub import SERVICES, Hub, Object
from tests.support.scene import Scene, settled

QUOTA = {"userQuota": {"gpu": 4}, "groupQuota": {"gpu": 4}}
"""Seed: user quota 4 gpu, group quota 4 gpu."""

Submit = Callable[[Hub, list[Object]], list[str]]


def one_by_one(hub: Hub, jobs: list[Object]) -> list[str]:
    """Create one after the other; their names."""
    return hub.create(*jobs)


def in_one_create(hub: Hub, jobs: list[Object]) -> list[str]:
    """Create all by one `kubectl create`; their names."""
    return hub.kubectl_create(*jobs)


def before_the_services_start(hub: Hub, jobs: list[Object]) -> list[str]:
    """Create all while no service runs; their names."""
    for name in SERVICES:
        hub.service(name).stop()
    names = hub.kubectl_create(*jobs)
    hub.stack.up()
    return names


@pytest.fixture(params=[one_by_one, in_one_create, before_the_services_start])
def submit(request: pytest.FixtureRequest) -> Submit:
    """A way in which jobs come."""
    way: Submit = request.param
    return way


@pytest.fixture
def phusers(hub: Hub) -> Scene:
    """The seed's group."""
    return Scene(hub, "phusers", QUOTA).make()


def three_jobs(phusers: Scene, *, user_of_b: str) -> list[Object]:
    """The seed's A, B and C; A's pod does not start, so that A stays in Preparing."""
    return [
        phusers.job("job-z-a", user="bob", gpus=2, start="never"),
        phusers.job("job-y-b", user=user_of_b, gpus=4, start="never"),
        phusers.job("job-x-c", user="lin", gpus=2, start="never"),
    ]


def test_example_1_a_job_short_of_group_quota_blocks_all_behind_it(
    hub: Hub, phusers: Scene, submit: Submit
) -> None:
    """A is Preparing; B waits for GPUs, and C waits behind B though there were enough for it."""
    a, b, c = submit(hub, three_jobs(phusers, user_of_b="pan"))
    hub.says(b, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    settled(hub)
    assert [hub.job(name).phase for name in (a, b, c)] == ["Preparing", "Pending", "Pending"]
    assert hub.status(c)["reason"] == "Queued"

    hub.cancel(a)
    hub.reaches(b, "Preparing")
    settled(hub)
    assert hub.job(c).phase == "Pending"

    hub.cancel(b)
    hub.reaches(c, "Preparing")
    events = hub.history.complete()
    assert promises.entered_preparing(events, phusers.group) == [a, b, c]
    assert not promises.over_quota(events, phusers.group, user_quota={"gpu": 4}, group_quota={"gpu": 4})


def test_example_2_a_job_short_of_user_quota_blocks_its_user_alone(
    hub: Hub, phusers: Scene, submit: Submit
) -> None:
    """A is Preparing; B waits for its user's quota, and C of another user goes."""
    a, b, c = submit(hub, three_jobs(phusers, user_of_b="bob"))
    hub.reaches(c, "Preparing")
    hub.says(b, "UserQuota", "user quota: gpu 2 of 4 used, needs 4")
    settled(hub)
    assert [hub.job(name).phase for name in (a, b, c)] == ["Preparing", "Pending", "Preparing"]

    hub.cancel(a)
    settled(hub)
    assert hub.job(b).phase == "Pending"
    hub.cancel(c)
    hub.reaches(b, "Preparing")
    events = hub.history.complete()
    assert promises.entered_preparing(events, phusers.group) == [a, c, b]
    assert not promises.over_quota(events, phusers.group, user_quota={"gpu": 4}, group_quota={"gpu": 4})


def test_jobs_of_one_second_keep_the_order_in_which_they_were_created(hub: Hub, phusers: Scene) -> None:
    """Their names, which would say otherwise, do not count."""
    names: list[str] = []
    stamps: set[str] = set()
    while len(names) < 3 or len(stamps) > 1:  # Until three of them share a second.
        for name in names:
            hub.api.delete("PhJob", name)
        jobs = [phusers.job(f"job-{n}-{hub.next_number()}", gpus=4) for n in ("z", "y", "x")]
        names = hub.kubectl_create(*jobs)
        stamps = {hub.job(name).object["metadata"]["creationTimestamp"] for name in names}

    for name in names:
        hub.reaches(name, "Succeeded")
    entered = promises.entered_preparing(hub.history.complete(), phusers.group)
    assert [name for name in entered if name in names] == names
