"""Many jobs whose pods never start: they delay no other job, and hold no quota in the end."""

import os
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.support import promises
from tests.support.builders import an_unschedulable_instance_type
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.history import WatchEvent
from tests.support.measurements import MeasurementReporter
from tests.support.metrics import count_api_requests
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

JOBS = int(os.environ.get("PHJOB_STORM_JOBS", "100"))
REQUEUES = 3
"""The number of requeues of each job for which the test waits."""
FITTING_JOBS = 20


@pytest.fixture
def cluster(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Cluster]:
    """Set the start timeout to two seconds.

    Afterwards, the stack has the usual settings again.
    """
    with cluster_on(local_stack.start("jobSubmission: {preparingTimeoutSeconds: 2}\n")) as cluster:
        yield cluster
    kwok_stack.up()


def test_many_requeues_delay_no_other_job_and_leak_no_quota(
    cluster: Cluster, local_stack: LocalStack, report_measurement: MeasurementReporter
) -> None:
    """Backoff, order, quota and the number of writes are as in spec.md, Q5."""
    quota = {"gpu": JOBS + FITTING_JOBS}
    stuck, other = (
        GroupFixture(cluster, "stuck", {"groupQuota": quota}).create(),
        GroupFixture(cluster, "other").create(),
    )
    (instance_type,) = cluster.create(an_unschedulable_instance_type(cluster.unique_name("nowhere"), gpus=1))
    stuck.grant(instance_types=(instance_type,))

    def count_writes() -> float:
        return count_api_requests(local_stack.state, ("phjobs", "pods"), ("POST", "PATCH", "PUT", "DELETE"))

    before = count_writes()
    names = cluster.kubectl_create(
        *(stuck.job_manifest(f"stuck-{n:03}", user="bob", instanceType=instance_type) for n in range(JOBS))
    )
    fitting = cluster.kubectl_create(
        *(stuck.job_manifest(f"fits-{n}", user="lin", gpus=1) for n in range(FITTING_JOBS)),
        *(other.job_manifest(f"other-{n}") for n in range(FITTING_JOBS)),
    )
    for name in fitting:
        cluster.wait_for_phase(name, "Succeeded")

    def requeues() -> list[int]:
        return [cluster.status(name)["requeued"] for name in names]

    eventually(
        lambda: min(requeues()) >= REQUEUES,
        f"all jobs are requeued {REQUEUES} times",
        within=400,
        diagnostics=requeues,
    )
    writes = count_writes() - before - 4 * len(fitting)
    report_measurement(
        f"{JOBS} jobs, {sum(requeues())} requeues: {writes / sum(requeues()):.2f} API writes a requeue"
    )
    events = cluster.history.complete_events()
    assert not [line for name in names for line in early_admissions(events, name)]
    assert not promises.order_violations(
        [e for e in events if e.name in names or e.kind == "Pod"], stuck.name
    )
    assert not promises.quota_violations(events, stuck.name, group_quota=quota)

    for name in names:
        cluster.cancel(name)
    for name in names:
        cluster.wait_for_phase(name, "Cancelled")
    eventually(lambda: not any(cluster.pod(name) for name in names), "no pod is left")
    stuck.patch_spec(groupQuota={"gpu": 1})
    cluster.wait_for_phase(
        stuck.submit("last", gpus=1), "Succeeded"
    )  # It needs the whole quota, so no other job holds any.


def early_admissions(events: list[WatchEvent], name: str) -> Iterator[str]:
    """Yield each admission of the job before the end of its backoff."""
    backoff_end = ""
    for event in events:
        if (event.kind, event.name) == ("PhJob", name):
            status = event.object["status"]
            if event.phase == "Preparing" and backoff_end:
                if datetime.fromisoformat(status["preparingTime"]) < datetime.fromisoformat(backoff_end):
                    yield event.describe()
                backoff_end = ""
            elif event.phase == "Pending":
                backoff_end = status.get("requeueAfter", "")
