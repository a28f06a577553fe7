"""The examples of spec.md, Q2a and Q2b, exactly, in three ways of submitting the jobs."""

from collections.abc import Callable

import pytest
from tests.support import promises
from tests.support.cluster import SERVICES, Cluster, Object
from tests.support.group_fixture import GroupFixture, wait_until_quiescent

QUOTA = {"userQuota": {"gpu": 4}, "groupQuota": {"gpu": 4}}
"""The quotas of both examples (spec.md, Q2a, Q2b)."""

Submit = Callable[[Cluster, list[Object]], list[str]]


def one_by_one(cluster: Cluster, jobs: list[Object]) -> list[str]:
    """Create the jobs one after the other. Returns their names."""
    return cluster.create(*jobs)


def in_one_create(cluster: Cluster, jobs: list[Object]) -> list[str]:
    """Create the jobs with one `kubectl create`. Returns their names."""
    return cluster.kubectl_create(*jobs)


def before_the_services_start(cluster: Cluster, jobs: list[Object]) -> list[str]:
    """Create the jobs while no service runs. Returns their names."""
    for name in SERVICES:
        cluster.service(name).stop()
    names = cluster.kubectl_create(*jobs)
    cluster.stack.up()
    return names


@pytest.fixture(params=[one_by_one, in_one_create, before_the_services_start])
def submit(request: pytest.FixtureRequest) -> Submit:
    """Return a function that submits the jobs in one of the three ways."""
    function: Submit = request.param
    return function


@pytest.fixture
def phusers(cluster: Cluster) -> GroupFixture:
    """Create the group of the examples."""
    return GroupFixture(cluster, "phusers", QUOTA).create()


def three_jobs(phusers: GroupFixture, *, user_of_b: str) -> list[Object]:
    """Return the jobs A, B and C of an example.

    Their pods do not start, so that they stay in Preparing.
    """
    return [
        phusers.job_manifest("job-z-a", user="bob", gpus=2, start="never"),
        phusers.job_manifest("job-y-b", user=user_of_b, gpus=4, start="never"),
        phusers.job_manifest("job-x-c", user="lin", gpus=2, start="never"),
    ]


def test_example_1_a_job_that_exceeds_the_group_quota_blocks_all_behind_it(
    cluster: Cluster, phusers: GroupFixture, submit: Submit
) -> None:
    """A is Preparing. B waits for GPUs. C waits behind B, although there are enough GPUs for it."""
    a, b, c = submit(cluster, three_jobs(phusers, user_of_b="pan"))
    cluster.wait_for_reason(b, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    wait_until_quiescent(cluster)
    assert [cluster.job(name).phase for name in (a, b, c)] == ["Preparing", "Pending", "Pending"]
    assert cluster.status(c)["reason"] == "Queued"

    cluster.cancel(a)
    cluster.wait_for_phase(b, "Preparing")
    wait_until_quiescent(cluster)
    assert cluster.job(c).phase == "Pending"

    cluster.cancel(b)
    cluster.wait_for_phase(c, "Preparing")
    events = cluster.history.complete_events()
    assert promises.admission_order(events, phusers.name) == [a, b, c]
    assert not promises.quota_violations(events, phusers.name, user_quota={"gpu": 4}, group_quota={"gpu": 4})


def test_example_2_a_job_that_exceeds_the_user_quota_blocks_only_its_user(
    cluster: Cluster, phusers: GroupFixture, submit: Submit
) -> None:
    """A is Preparing. B waits for its user's quota. C, of another user, is admitted."""
    a, b, c = submit(cluster, three_jobs(phusers, user_of_b="bob"))
    cluster.wait_for_phase(c, "Preparing")
    cluster.wait_for_reason(b, "UserQuota", "user quota: gpu 2 of 4 used, needs 4")
    wait_until_quiescent(cluster)
    assert [cluster.job(name).phase for name in (a, b, c)] == ["Preparing", "Pending", "Preparing"]

    cluster.cancel(a)
    wait_until_quiescent(cluster)
    assert cluster.job(b).phase == "Pending"
    cluster.cancel(c)
    cluster.wait_for_phase(b, "Preparing")
    events = cluster.history.complete_events()
    assert promises.admission_order(events, phusers.name) == [a, c, b]
    assert not promises.quota_violations(events, phusers.name, user_quota={"gpu": 4}, group_quota={"gpu": 4})


def test_jobs_with_the_same_creation_time_keep_their_order(cluster: Cluster, phusers: GroupFixture) -> None:
    """The order of their names, which is the opposite, does not count."""
    names: list[str] = []
    stamps: set[str] = set()
    while len(names) < 3 or len(stamps) > 1:  # Until all three have the same creation time.
        for name in names:
            cluster.api.delete("PhJob", name)
        jobs = [phusers.job_manifest(f"job-{n}-{cluster.next_number()}", gpus=4) for n in ("z", "y", "x")]
        names = cluster.kubectl_create(*jobs)
        stamps = {cluster.job(name).object["metadata"]["creationTimestamp"] for name in names}

    for name in names:
        cluster.wait_for_phase(name, "Succeeded")
    entered = promises.admission_order(cluster.history.complete_events(), phusers.name)
    assert [name for name in entered if name in names] == names
