"""Two hundred jobs at once: order, quota and outcome, even if all services are killed.

The history from the API server's watch proves all of it.
"""

import itertools
import signal

from tests.support import promises
from tests.support.cluster import SERVICES, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.waiting import eventually

GROUPS = 5
JOBS_PER_GROUP = 40
PARALLEL_JOBS = 4
"""The number of jobs of a group that its quota allows at a time."""
USERS = ("bob", "lin", "pan")
KILL_COUNTS = (30, 80)
"""The numbers of finished jobs at which the test kills all services."""

QUOTA = {"gpu": PARALLEL_JOBS}


def submit_all(cluster: Cluster) -> list[GroupFixture]:
    """Create all jobs with one `kubectl create`. Returns the groups.

    The groups take turns. The first jobs of each group run until the whole quota is in use. Otherwise it
    might never be, on a slow machine.
    """
    groups = [
        GroupFixture(cluster, f"group-{n}", {"userQuota": QUOTA, "groupQuota": QUOTA}).create()
        for n in range(GROUPS)
    ]
    users = itertools.cycle(USERS)
    cluster.kubectl_create(
        *(
            group.job_manifest(
                f"{group.prefix}-{n}",
                gpus=1,
                user=next(users),
                run_for=FOREVER if n < PARALLEL_JOBS else "1s",
            )
            for n in range(JOBS_PER_GROUP)
            for group in groups
        )
    )
    first = [name for group in groups for name in wait_for_full_quota(cluster, group)]
    for name in first:
        cluster.api.merge_patch("Pod", name, {"status": {"phase": "Succeeded"}}, subresource="status")
    return groups


def wait_for_full_quota(cluster: Cluster, group: GroupFixture) -> list[str]:
    """Wait until the group's running jobs use its whole quota. Returns their names."""

    def running_jobs() -> list[str] | None:
        names = cluster.jobs_in_phase(group.name, "Running")
        return names if len(names) == PARALLEL_JOBS else None

    return eventually(running_jobs, f"{PARALLEL_JOBS} jobs of {group.name} run", within=300)


def count_finished(cluster: Cluster, groups: list[GroupFixture]) -> int:
    """Return the number of finished jobs."""
    return sum(len(cluster.jobs_in_phase(group.name, "Succeeded", "Failed", "Cancelled")) for group in groups)


def wait_for_finished(cluster: Cluster, groups: list[GroupFixture], count: int) -> None:
    """Wait until at least this many jobs have finished."""
    eventually(lambda: count_finished(cluster, groups) >= count, f"{count} jobs have finished", within=300)


def assert_all_promises_kept(cluster: Cluster, groups: list[GroupFixture]) -> None:
    """Wait until all jobs have finished, and check the promises."""
    eventually(
        lambda: count_finished(cluster, groups) == GROUPS * JOBS_PER_GROUP,
        "all jobs have finished",
        within=300,
        diagnostics=lambda: f"{count_finished(cluster, groups)} have finished",
    )
    events = cluster.history.complete_events()
    for group in groups:
        assert not "\n\n".join(
            cluster.describe_job(name) for name in cluster.jobs_in_phase(group.name, "Failed", "Cancelled")
        )
        assert len(cluster.jobs_in_phase(group.name, "Succeeded")) == JOBS_PER_GROUP
        assert len(promises.admission_order(events, group.name)) == JOBS_PER_GROUP
        assert not promises.order_violations(events, group.name)
        assert not promises.quota_violations(events, group.name, user_quota=QUOTA, group_quota=QUOTA)
        assert promises.peak_usage(events, group.name, "gpu") == PARALLEL_JOBS


def test_each_groups_jobs_start_in_order_and_within_its_quota(cluster: Cluster) -> None:
    """Two hundred jobs of five groups, each with room for four at a time."""
    assert_all_promises_kept(cluster, submit_all(cluster))


def test_killing_all_services_breaks_neither_order_nor_quota_and_loses_no_job(cluster: Cluster) -> None:
    """As in a power failure that spares only the broker and the API server."""
    groups = submit_all(cluster)
    for number in KILL_COUNTS:
        wait_for_finished(cluster, groups, number)
        for name in SERVICES:
            cluster.service(name).kill(signal.SIGKILL)
        cluster.stack.up()
    assert_all_promises_kept(cluster, groups)
