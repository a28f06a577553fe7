"""Many pods with a TTL while both janitors are killed: each is deleted after its TTL, and none earlier."""

import os
import random
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

JOBS = int(os.environ.get("PHJOB_TTL_JOBS", "200"))
MAX_TTL_SECONDS = 60 if JOBS > 200 else 20


@pytest.fixture
def cluster(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Cluster]:
    """Start two replicas of each service. Afterwards, one of each is left."""
    with cluster_on(local_stack.start(replicas=2)) as cluster:
        yield cluster
    kwok_stack.up()


def test_each_pod_is_deleted_after_its_ttl_and_none_earlier(
    cluster: Cluster, report_measurement: MeasurementReporter
) -> None:
    """The active janitor is killed while the pods wait, and then the one that has taken over."""
    group = GroupFixture(cluster, "phusers").create()
    choice = random.Random(7)  # noqa: S311 - a repeatable choice
    names = cluster.kubectl_create(
        *(
            group.job_manifest(
                f"job-{n}", run_for="1s", ttlSecondsAfterFinished=choice.randint(1, MAX_TTL_SECONDS)
            )
            for n in range(JOBS)
        )
    )

    def count_deleted() -> int:
        return JOBS - sum(
            cluster.pod(name) is not None for name in names if cluster.status(name).get("podName")
        )

    def is_share_deleted(share: float) -> bool:
        return count_deleted() > share * JOBS

    def count_finished() -> int:
        return len(cluster.jobs_in_phase(group.name, "Succeeded"))

    for share, janitor in ((0.3, "janitor"), (0.6, "janitor-2")):
        eventually(partial(is_share_deleted, share), f"over {share:.0%} of the pods are deleted", within=300)
        cluster.service(janitor).kill(signal.SIGKILL)
        cluster.service(janitor).start()
    eventually(
        lambda: count_finished() == JOBS, "all jobs have finished", within=300, diagnostics=count_finished
    )
    eventually(lambda: count_deleted() == JOBS, "all pods are deleted", within=300, diagnostics=count_deleted)

    ends = {
        event.name: event.observed_at
        for event in cluster.history.complete_events()
        if event.kind == "Pod" and event.gone
    }
    late = sorted((ends[name] - ttl_end(cluster, name)) / timedelta(seconds=1) for name in names)
    report_measurement(
        f"{JOBS} pods, TTL 1 to {MAX_TTL_SECONDS} s, deleted after the end of their TTL by "
        f"{late[0]:.2f} s at least, {late[JOBS // 2]:.2f} s (median), "
        f"{late[JOBS * 99 // 100]:.2f} s (99 %), {late[-1]:.2f} s at most"
    )
    assert late[0] >= 0


def ttl_end(cluster: Cluster, name: str) -> datetime:
    """Return the time at which the TTL of the job's pod ends."""
    job = cluster.job(name).object
    ttl = timedelta(seconds=job["spec"]["ttlSecondsAfterFinished"])
    return datetime.fromisoformat(job["status"]["finishTime"]) + ttl
