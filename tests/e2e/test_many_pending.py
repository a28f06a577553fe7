"""A long queue: the CLI answers fast, and pending jobs cause few writes.

PHJOB_PENDING_JOBS is the number of pending jobs. The figures in docs/why.md are for 10,000.
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.cli import Cli
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.metrics import count_api_requests
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

JOBS = int(os.environ.get("PHJOB_PENDING_JOBS", "500"))
CREATE_BATCH_JOBS = 500
REPETITIONS = 3
LONG_SECONDS = 900


def count_patches(state: Path, resource: str) -> float:
    """Return how many status patches of this resource pod-manager has sent."""
    return count_api_requests(state, (resource,), ("PATCH",))


def test_the_cli_answers_fast_about_a_long_queue_and_pending_jobs_cost_few_writes(
    cluster: Cluster, local_stack: LocalStack, report_measurement: MeasurementReporter
) -> None:
    """`queue`, `why` and `list` run as new processes. Only jobs that block a queue get a pending reason."""
    group = GroupFixture(cluster, "vision", {"groupQuota": {"gpu": 4}, "userQuota": {"gpu": 4}}).create()
    old = [group.submit(f"old-{n}", run_for=f"{n + 1}s") for n in range(5)]
    for name in old:
        cluster.wait_for_phase(name, "Succeeded")
    holder = group.submit("holder", gpus=4, run_for="1h")
    cluster.wait_for_phase(holder, "Running")
    began, before = (
        datetime.now(UTC),
        (count_patches(local_stack.state, "phjobs"), count_patches(local_stack.state, "phgroups")),
    )
    users = [f"user-{n}" for n in range(20)]
    for first in range(0, JOBS, CREATE_BATCH_JOBS):
        cluster.kubectl_create(
            *(
                group.job_manifest(f"job-{n}", gpus=1, user=users[n % 20])
                for n in range(first, min(first + CREATE_BATCH_JOBS, JOBS))
            )
        )
    eventually(
        lambda: len(cluster.jobs_in_phase(group.name, "Pending")) == JOBS,
        "all jobs are pending",
        within=LONG_SECONDS,
    )
    cluster.wait_for_reason(cluster.unique_name("job-0"), "GroupQuota")
    phgroup = eventually(
        lambda: (now := cluster.api.get("PhGroup", group.name)) and now["status"]["pending"] == JOBS and now,
        "the group's status counts all pending jobs",
    )
    assert phgroup["status"]["head"] == cluster.unique_name("job-0")

    cli, last = Cli(cluster.stack.kubeconfig, PHJOB_USER="user-1"), cluster.unique_name(f"job-{JOBS - 1}")
    for args in (["queue", group.name], ["why", last], ["list", "--group", group.name]):
        durations = []
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            done = cli(*args)
            durations.append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
        report_measurement(
            f"{JOBS} pending jobs: {args[0]} answered in {min(durations):.2f} to {max(durations):.2f} s"
        )
    assert cli.json("why", last)["place"] == JOBS

    seconds = (datetime.now(UTC) - began).total_seconds()
    reason_writes, status_writes = (
        count_patches(local_stack.state, kind) - was
        for kind, was in zip(("phjobs", "phgroups"), before, strict=True)
    )
    report_measurement(
        f"{JOBS} pending jobs, in {seconds:.0f} s: {reason_writes:.0f} writes of pending reasons "
        f"({reason_writes / seconds:.2f} a second), {status_writes:.0f} of the group's status"
    )
    assert status_writes <= seconds + 1, "at most one write per second and group"
    assert reason_writes < 5 * seconds, "only jobs that block a queue get a pending reason"
