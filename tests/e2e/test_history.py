"""The janitor deletes old records by age and by number, and never an unfinished job."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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
        old.append(group.submit(f"old-{number}", ttlSecondsAfterFinished=0 if number == 1 else 1, user="lin"))
        cluster.cancel(old[-1]) if number == 2 else cluster.wait_for_phase(old[-1], "Succeeded")
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
