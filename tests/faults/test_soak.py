"""A random fault every few seconds while jobs run: no promise is broken, and memory does not grow.

`make soak` takes half an hour and ten thousand jobs. Other runs are short.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from tests.faults.breakable_stack import BreakableStack, breakable_stack
from tests.faults.catalogue import BROKEN_CONNECTION_SECONDS, FAULTS, service_faults
from tests.faults.leftovers import wait_until_nothing_is_left
from tests.faults.workload import Workload
from tests.support.cluster import SERVICES, cluster_on
from tests.support.measurements import MeasurementReporter
from tests.support.waiting import eventually

from dev.services import replicas

DURATION_SECONDS = 60 * float(os.environ.get("PHJOB_SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("PHJOB_SOAK_SEED", "1"))
JOBS = max(100, round(DURATION_SECONDS * 10_000 / 1800))
FAULT_INTERVAL_SECONDS = (5, 15)
"""The shortest and the longest time from the start of one fault to the start of the next."""
LONG_FAULTS = ("30 s", "20 s", f"{BROKEN_CONNECTION_SECONDS} s", "half-open", "two replicas")
"""Parts of the names of the faults that are left out, because they last longer than the interval."""
MAX_UNFINISHED_JOBS = 300
SAMPLE_INTERVAL_SECONDS = 5.0
MAX_GROWTH = 1.25
"""The bound of a service's memory in the last third of the time, as a multiple of that in the second."""

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableStack]:
    """A stack of this module's own, with a short TTL and a short history."""
    state = tmp_path_factory.mktemp("soak")
    with breakable_stack(state, historyLimit=1000, defaultTTLSecondsAfterFinished=60) as target:
        target.stacks[2].up()
        yield target


@pytest.mark.timeout(900 + 3 * DURATION_SECONDS)
def test_many_faults_break_no_promise(
    target: BreakableStack, report_measurement: MeasurementReporter
) -> None:
    """With two replicas of each service. In a run of ten minutes or more, no service's memory grows."""
    standby_faults = [fault for service in SERVICES for fault in service_faults(f"{service}-2")]
    faults = [f for f in (*FAULTS, *standby_faults) if not any(part in f.name for part in LONG_FAULTS)]
    rng = random.Random(SEED)  # noqa: S311 - a repeatable choice
    began = time.monotonic()
    injected = 0
    with cluster_on(target.stacks[2], target.etcd_url) as cluster:
        workload = Workload(cluster)
        with workload.with_cancellations(), sampled_memory(target) as memory, submitting(workload):
            while time.monotonic() < began + DURATION_SECONDS:
                next_fault_at = time.monotonic() + rng.uniform(*FAULT_INTERVAL_SECONDS)
                fault = rng.choice(faults)
                latest = ", ".join(
                    f"{name} {samples[-1] / 2**20:.0f}" for name, samples in memory.items() if samples
                )
                elapsed, jobs = time.monotonic() - began, workload.submitted_count()
                _log.info("%.0f s, %d jobs, MiB: %s; next fault: %s", elapsed, jobs, latest, fault.name)
                with fault.inject(target):
                    pass
                injected += 1
                time.sleep(max(0.0, next_fault_at - time.monotonic()))
            target.stacks[2].up()
            eventually(lambda: workload.submitted_count() == JOBS, "all jobs are submitted", within=900)
            workload.wait_until_ended(within=600)
        eventually(lambda: not workload.leftover_pods(), "no pod is left", diagnostics=workload.leftover_pods)
        events = cluster.history.complete_events()
        minutes = (time.monotonic() - began) / 60
        report_measurement(f"{JOBS} jobs, {injected} faults (seed {SEED}), {minutes:.1f} min")
        by_third_parties = sum(not deletion.held for deletion in workload.deletions(events))
        report_measurement(
            f"{len(events)} revisions of jobs and pods checked; "
            f"{by_third_parties} pods deleted by third parties"
        )
        growing = list(report_memory(memory, report_measurement))
        violations = list(workload.violations(events, all_observed=False))
        assert not violations, workload.explain(violations)
        wait_until_nothing_is_left(target, 2, workload)
        assert not growing or DURATION_SECONDS < 600, (
            f"memory must not grow by more than {MAX_GROWTH - 1:.0%}: {growing}"
        )


@contextmanager
def submitting(workload: Workload) -> Iterator[None]:
    """Submit jobs, evenly over the time."""

    def submit() -> None:
        began = time.monotonic()
        while (number := workload.submitted_count()) < JOBS:
            due = began + number * DURATION_SECONDS / JOBS
            time.sleep(max(0.0, due - time.monotonic()))
            if len(workload.unfinished()) < MAX_UNFINISHED_JOBS:
                workload.submit(1)

    users = threading.Thread(target=submit, daemon=True)
    users.start()
    yield
    users.join()


@contextmanager
def sampled_memory(target: BreakableStack) -> Iterator[dict[str, list[int]]]:
    """Sample the resident memory of each service's larger replica, in bytes."""
    samples: dict[str, list[int]] = {service: [] for service in SERVICES}
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLE_INTERVAL_SECONDS):
            for service in SERVICES:
                of_replicas = [
                    resident_bytes(target, name) for name in replicas(2) if name.removesuffix("-2") == service
                ]
                if all(of_replicas):
                    samples[service].append(max(of_replicas))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stopped.set()
        thread.join()


def resident_bytes(target: BreakableStack, name: str) -> int:
    """Return the resident memory of a component's process; 0 if there is no process."""
    pid = target.component(name).pid
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def report_memory(memory: dict[str, list[int]], report_measurement: MeasurementReporter) -> Iterator[str]:
    """Report the memory of each service. Yields a sentence for each that grows."""
    for service, samples in memory.items():
        third = len(samples) // 3
        if not third:
            continue
        middle, last = (median(part) / 2**20 for part in (samples[third : 2 * third], samples[2 * third :]))
        line = f"{service}: {middle:.0f} MiB in the second third, {last:.0f} MiB in the last (medians)"
        report_measurement(f"{line}, {max(samples) / 2**20:.0f} MiB at most")
        if last > middle * MAX_GROWTH:
            yield line
