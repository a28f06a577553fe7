"""The standby of each service takes over: soon after SIGKILL of the active replica, at once after SIGTERM.

The measured times are printed. The assertions allow three times the bounds, because the machine may be busy.
"""

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest
from tests.support.cluster import SERVICES, Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.history import WatchEvent
from tests.support.measurements import MeasurementReporter
from tests.support.metrics import active_replicas
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

SIGKILL_BOUND_SECONDS = {"watcher": 10.0, "scheduler": 10.0, "pod-manager": 15.0, "janitor": 10.0}
"""The bound of the time from the SIGKILL of the active replica to the next admission, by service."""
SIGTERM_BOUND_SECONDS = 2.0
"""The bound of the same time after a SIGTERM."""
TOLERANCE_FACTOR = 3
SUBMIT_INTERVAL_SECONDS = 0.2
"""The time between two submissions."""
DEADLINE_SECONDS = 1
"""The deadline of every fifth job. Such a job does not end by itself."""


@pytest.fixture(scope="module")
def replicated_stack(local_stack: LocalStack) -> Iterator[Stack]:
    """The stack with two replicas of each service. Afterwards it has one again."""
    yield local_stack.start(replicas=2)
    local_stack.start()


@pytest.fixture
def cluster(replicated_stack: Stack) -> Iterator[Cluster]:
    """The objects of one test on the stack with two replicas. All replicas are up."""
    replicated_stack.up()
    with cluster_on(replicated_stack) as cluster:
        yield cluster


class SteadyJobs:
    """Jobs of one group that are submitted at a steady rate inside the context."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._group = GroupFixture(cluster, "steady").create()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.created: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(SUBMIT_INTERVAL_SECONDS):
            number += 1
            if number % 5:
                name = self._group.submit(f"job-{number}", run_for="0.5s")
            else:
                name = self._group.submit(
                    f"job-{number}", run_for=FOREVER, activeDeadlineSeconds=DEADLINE_SECONDS
                )
            self.created[name] = datetime.now(UTC)

    def first_events(self, phase: str, reason: str = "") -> dict[str, WatchEvent]:
        """Return the first event of each job in the phase, by the job's name."""
        first: dict[str, WatchEvent] = {}
        for event in self._cluster.history.events():
            job = event.kind == "PhJob" and event.name in self.created and event.phase == phase
            if job and reason in event.object["status"].get("reason", ""):
                first.setdefault(event.name, event)
        return first

    def first_admission_delay(self, since: datetime) -> float | None:
        """Return the time from `since` to the first admission of a job that was created later, in seconds.

        None if no such job was admitted yet.
        """
        admitted = [
            event.observed_at
            for name, event in self.first_events("Preparing").items()
            if self.created[name] > since
        ]
        return (min(admitted) - since).total_seconds() if admitted else None

    def first_timeout_delay(self, since: datetime) -> float | None:
        """Return how late the deadline of the first job that started after `since` was enforced, in seconds.

        None if no such job was timed out yet.
        """
        running = self.first_events("Running")
        late = [
            event.observed_at - running[name].observed_at - timedelta(seconds=DEADLINE_SECONDS)
            for name, event in self.first_events("Failed", "OverActiveDeadline").items()
            if running[name].observed_at > since
        ]
        return late[0].total_seconds() if late else None

    def longest_admission_gap(self, since: datetime) -> float:
        """Return the longest time without an admission after `since`, in seconds."""
        times = sorted(event.observed_at for event in self.first_events("Preparing").values())
        times = [time for time in times if time > since]
        gaps = [later - earlier for earlier, later in zip([since, *times], times, strict=False)]
        return max(gap.total_seconds() for gap in gaps)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("service", SERVICES)
def test_the_standby_takes_over(
    cluster: Cluster,
    local_stack: LocalStack,
    service: str,
    number: signal.Signals,
    report_measurement: MeasurementReporter,
) -> None:
    """Jobs are submitted all the time, and every one of them ends."""
    state = local_stack.state
    for each in SERVICES:
        eventually(lambda each=each: len(active_replicas(state, each)) == 1, f"one {each} is active")  # type: ignore[misc]
    (name,) = active_replicas(state, service)
    with SteadyJobs(cluster) as jobs:
        eventually(lambda: jobs.first_events("Succeeded"), "jobs run")
        eventually(lambda: jobs.first_events("Failed", "OverActiveDeadline"), "jobs are timed out")
        since = datetime.now(UTC)
        cluster.service(name).kill(number)
        admission = eventually(lambda: jobs.first_admission_delay(since), "the next job is admitted")
        late = eventually(lambda: jobs.first_timeout_delay(since), "the next job is timed out")
    gap = jobs.longest_admission_gap(since)
    report_measurement(
        f"next admission {admission:.1f} s after the {number.name} of the active {service}, "
        f"next timeout {late:.1f} s late; longest time without an admission {gap:.1f} s"
    )
    bound = SIGKILL_BOUND_SECONDS[service] if number == signal.SIGKILL else SIGTERM_BOUND_SECONDS
    assert admission < TOLERANCE_FACTOR * bound, f"{service}: the next admission took {admission:.1f} s"
    for job in jobs.created:
        cluster.wait_for_phase(job, "Succeeded", "Failed")
    succeeded, timed_out = (
        jobs.first_events("Succeeded"),
        jobs.first_events("Failed", "OverActiveDeadline"),
    )
    assert len(succeeded) + len(timed_out) == len(jobs.created), "every job must succeed or be timed out"
    eventually(lambda: cluster.service(name).pid is None, f"{name} has ended")
    cluster.service(name).start()
    cluster.service(name).wait_ready()
