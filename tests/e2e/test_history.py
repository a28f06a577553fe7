"""The janitor deletes old records by age and by number, for each group, and never an unfinished job."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

TTL = "defaultTTLSecondsAfterFinished: 1"
"""A setting by which a finished job soon has no pod."""


@pytest.fixture(params=["historyLimit: 2", "historyTTLSeconds: 3"])
def limit(request: pytest.FixtureRequest) -> str:
    """Return the setting that limits the history."""
    return str(request.param)


@pytest.fixture
def cluster(kwok_stack: Stack, local_stack: LocalStack, limit: str) -> Iterator[Cluster]:
    """Start the stack with the limit.

    Afterwards, the stack has the usual settings again.
    """
    with cluster_on(local_stack.start(f"jobSubmission: {{{limit}, {TTL}}}\n")) as cluster:
        yield cluster
    kwok_stack.up()


def existing(cluster: Cluster, names: list[str]) -> list[str]:
    """Return the jobs that still exist."""
    return [name for name in names if cluster.history.current("PhJob", name)]


def wait_until(moment: datetime) -> None:
    """Wait until the time has passed. The API server stores times in whole seconds."""
    eventually(lambda: datetime.now(UTC) > moment, f"{moment} has passed")


def wait_until_reclaimed(cluster: Cluster, name: str) -> None:
    """Wait until the job's pod is reclaimed, or the job is deleted already."""
    eventually(
        lambda: not existing(cluster, [name]) or cluster.status(name)["reclaimed"], f"{name} is reclaimed"
    )


def restart_janitor(cluster: Cluster) -> None:
    """Restart the janitor.

    It checks the history when it starts, and then once a minute.
    """
    cluster.service("janitor").kill(signal.SIGKILL)
    cluster.service("janitor").start()
    cluster.service("janitor").wait_ready()


def test_only_the_oldest_records_are_deleted(cluster: Cluster, limit: str) -> None:
    """The newest records and the unfinished jobs stay (spec.md, L11)."""
    group = GroupFixture(cluster, "phusers", {"userQuota": {"gpu": 1}}).create()
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    waiting = group.submit("waiting", gpus=1)
    old = []
    for number in range(4):
        ttl = 0 if number == 1 else 1
        old.append(
            group.submit(
                f"old-{number}",
                ttlSecondsAfterFinished=ttl,
                user="lin",
                run_for=FOREVER if number == 2 else "1s",
            )
        )
        if number == 2:  # A job that was never admitted would have other limits.
            cluster.wait_for_phase(old[-1], "Running")
            cluster.cancel(old[-1])
        ended = datetime.fromisoformat(
            cluster.wait_for_phase(old[-1], "Succeeded", "Cancelled")["finishTime"]
        )
        wait_until(
            ended + timedelta(seconds=1)
        )  # Without this, the next job could have the same finish time.
    by_count = limit.startswith("historyLimit")
    kept = old[2:] if by_count else []
    for name in old:
        if name != old[1]:  # Its TTL of 0 means that its pod is kept with the record.
            wait_until_reclaimed(cluster, name)
    wait_until(ended + timedelta(seconds=4))
    restart_janitor(cluster)
    eventually(
        lambda: existing(cluster, old) == kept,
        f"only {kept} are kept",
        diagnostics=lambda: existing(cluster, old),
    )
    cluster.wait_for_pod_deletion(old[1])
    wait_until_quiescent(cluster)
    assert existing(cluster, [running, waiting]) == [running, waiting]
    assert cluster.job(running).phase == "Running"
    assert cluster.job(waiting).phase == "Pending"


@pytest.fixture
def small_histories(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Cluster]:
    """Start the stack with one record for each group, and a second for those that never ran."""
    settings = f"jobSubmission: {{historyLimit: 1, neverRanTTLSeconds: 1, {TTL}}}\n"
    with cluster_on(local_stack.start(settings)) as cluster:
        yield cluster
    kwok_stack.up()


def finish(cluster: Cluster, group: GroupFixture, name: str, **fields: Any) -> str:
    """Run a job until only its record is left, and the next one finishes later. Returns its name."""
    job = group.submit(name, **fields)
    ended = datetime.fromisoformat(cluster.wait_for_phase(job, "Succeeded")["finishTime"])
    wait_until_reclaimed(cluster, job)
    wait_until(ended + timedelta(seconds=1))
    return job


def test_each_group_keeps_its_own_records(small_histories: Cluster) -> None:
    """A group with many jobs deletes none of another. Jobs that never ran go soon (spec.md, L11)."""
    cluster = small_histories
    quiet, busy = GroupFixture(cluster, "quiet").create(), GroupFixture(cluster, "busy").create()
    kept = [finish(cluster, quiet, "kept")]
    deleted = [finish(cluster, busy, "first"), finish(cluster, busy, "second")]
    kept.append(finish(cluster, busy, "last"))
    rejected = busy.submit("rejected", image="no-such-image")
    ended = datetime.fromisoformat(cluster.wait_for_phase(rejected, "Failed")["finishTime"])
    wait_until(ended + timedelta(seconds=3))
    restart_janitor(cluster)
    eventually(
        lambda: existing(cluster, [*kept, *deleted, rejected]) == kept,
        "one record of each group is kept",
        diagnostics=lambda: existing(cluster, [*kept, *deleted, rejected]),
    )


def test_records_that_a_finalizer_keeps_delete_no_others(small_histories: Cluster) -> None:
    """They are neither counted nor deleted again and again (spec.md, L11)."""
    cluster = small_histories
    group = GroupFixture(cluster, "held").create()
    manifest = group.job_manifest("held")
    manifest["metadata"]["finalizers"] = ["example.com/keep"]
    (held,) = cluster.create(manifest)
    cluster.wait_for_phase(held, "Succeeded")
    wait_until_reclaimed(cluster, held)
    try:
        cluster.api.delete("PhJob", held)
        old, new = finish(cluster, group, "old"), finish(cluster, group, "new")
        restart_janitor(cluster)
        eventually(lambda: existing(cluster, [old, new]) == [new], "only the newest other record is kept")
        assert existing(cluster, [held]) == [held]
    finally:
        cluster.api.merge_patch("PhJob", held, {"metadata": {"finalizers": None}})
