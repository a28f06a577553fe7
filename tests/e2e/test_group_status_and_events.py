"""The status of groups and the Events of jobs, as plain kubectl shows them."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.support.builders import an_instance_type
from tests.support.cluster import NAMESPACE, Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.waiting import eventually

from dev.stack import Stack


@pytest.fixture
def cluster(short_timeout_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on the stack with the short start timeout."""
    with cluster_on(short_timeout_stack) as cluster:
        yield cluster


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of two GPUs."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 2}}).create()


def status(cluster: Cluster, group: GroupFixture) -> dict[str, Any]:
    found = cluster.api.get("PhGroup", group.name)
    assert found
    now: dict[str, Any] = found.get("status", {})
    return now


def wait_for_status(cluster: Cluster, group: GroupFixture, **fields: Any) -> dict[str, Any]:
    """Wait until the group's status has these fields. Returns the status."""
    eventually(
        lambda: fields.items() <= status(cluster, group).items(),
        f"the group's status has {fields}",
        diagnostics=lambda: status(cluster, group),
    )
    return status(cluster, group)


def test_the_status_of_a_group_has_its_usage_and_the_reason_of_its_head(
    cluster: Cluster, group: GroupFixture
) -> None:
    """`kubectl get phg` shows it. A new group has only zeros."""
    wait_for_status(cluster, group, pending=0, preparing=0, running=0, limit={"gpu": "2"})
    held = group.submit("held", gpus=2, run_for=FOREVER)
    wait_for_status(cluster, group, running=1)
    head = group.submit("head", gpus=1)
    group.submit("second", gpus=1)
    current = wait_for_status(
        cluster, group, pending=2, head=head, message="group quota: gpu 2 of 2 used, needs 1"
    )
    assert current["used"]["gpu"] == "2"
    line = cluster.kubectl("-n", NAMESPACE, "get", "phg", group.name, "--no-headers").stdout.split()
    assert line[:5] == [group.name, "2", "0", "1", head]
    cluster.cancel(held)
    current = wait_for_status(cluster, group, pending=0, preparing=0, running=0)
    assert "head" not in current
    assert "used" not in current or current["used"] == {}


def test_the_status_of_a_busy_group_is_written_every_five_seconds_and_only_if_it_changes(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Forty jobs run. Each write of the group's status is a revision of the group.

    Another job still runs at the end. Without it, the status could be the same as at the beginning, so that
    no write would end the watch.
    """
    wait_for_status(cluster, group, pending=0)
    first = cluster.api.get("PhGroup", group.name)
    assert first
    with cluster.api.watch("PhGroup", first["metadata"]["resourceVersion"]) as watch:
        cluster.kubectl_create(*(group.job_manifest(f"job-{n}") for n in range(40)))
        eventually(
            lambda: len(cluster.jobs_in_phase(group.name, "Succeeded")) == 40,
            "all jobs have succeeded",
            within=120,
        )
        group.submit("another", run_for=FOREVER)
        wait_for_status(cluster, group, pending=0, running=1, preparing=0)
        last = cluster.api.get("PhGroup", group.name)
        assert last
        times, statuses = [], [first.get("status")]
        for event in watch:
            if event["object"]["metadata"]["name"] != group.name:
                continue
            fields = event["object"]["metadata"]["managedFields"]
            times += [f["time"] for f in fields if f.get("subresource") == "status"]
            statuses.append(event["object"]["status"])
            if event["object"]["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]:
                break
    duration = datetime.fromisoformat(times[-1]) - datetime.fromisoformat(times[0])
    assert len(times) <= duration.total_seconds() / 5 + 2, f"{len(times)} writes in {duration}: {times}"
    assert all(before != after for before, after in pairwise(statuses))


def test_repeated_requeues_increase_the_count_of_one_event(cluster: Cluster, group: GroupFixture) -> None:
    """`kubectl describe phj` shows it."""
    name = group.submit("job", start="never")
    event = cluster.wait_for_event(name, "Requeued", count=2)
    assert (event["type"], event["message"]) == ("Warning", "the pod did not start within 3 s")
    described = cluster.kubectl("-n", NAMESPACE, "describe", "phj", name).stdout
    assert "the pod did not start within 3 s" in described.partition("Events:")[2]


def test_rejections_and_deadlines_have_an_event_and_other_ends_have_none(
    cluster: Cluster, group: GroupFixture
) -> None:
    """A success, a cancel and a failed command have no event."""
    (huge,) = cluster.create(an_instance_type(cluster.unique_name("huge"), gpus=8))
    group.grant(instance_types=(huge,))
    cluster.wait_for_event(group.submit("too-large", instanceType=huge), "OverQuota")
    assert cluster.wait_for_event(group.submit("unknown", image="nope"), "InvalidSpec")["message"] == (
        "image 'nope' does not exist"
    )
    cluster.wait_for_event(
        group.submit("slow", run_for=FOREVER, activeDeadlineSeconds=1), "OverActiveDeadline"
    )
    well, failed = group.submit("well"), group.submit("failed", exit_code=3)
    cancelled = group.submit("cancelled", run_for=FOREVER)
    cluster.wait_for_phase(cancelled, "Running")
    cluster.cancel(cancelled)
    for name in (well, failed, cancelled):
        cluster.wait_for_phase(name, "Succeeded", "Failed", "Cancelled")
    cluster.wait_for_event(group.submit("later", image="nope"), "InvalidSpec")
    assert [cluster.events(name) for name in (well, failed, cancelled)] == [[], [], []]
