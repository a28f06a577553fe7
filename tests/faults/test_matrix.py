"""Each fault in the middle of a run of jobs: no job is lost, runs twice or exceeds a quota.

`make faults` injects all faults and writes docs/faults.md. Other runs inject some of them, with fewer jobs.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.faults import results_page
from tests.faults.breakable_stack import BreakableStack, breakable_stack
from tests.faults.catalogue import FAULT_SECONDS, FAULTS, Fault
from tests.faults.leftovers import wait_until_nothing_is_left
from tests.faults.workload import Workload, seconds_to_next_admission
from tests.support.cluster import cluster_on
from tests.support.measurements import MeasurementReporter
from tests.support.waiting import eventually

from phjob_runtime.amqp import topology

RESULTS_PAGE = os.environ.get("PHJOB_FAULTS", "")
"""The path of the page to write; empty if none is to be written."""
JOBS = 300 if RESULTS_PAGE else 60
JOBS_DURING_FAULT = 3 * JOBS // 10
"""The number of jobs that are submitted during the fault."""
JOBS_AFTER_FAULT = JOBS // 5
"""The number of jobs that are submitted after the end of the fault."""
END_TIMEOUT_SECONDS = 600
"""The time in which all jobs have to end after the fault.

After an outage of the API server, kube-scheduler and KWOK wait for up to a minute before they connect again.
No pod starts in that time, so jobs are requeued. Each requeue doubles the backoff of its job.
"""
IN_EVERY_RUN = {
    "watcher: SIGKILL",
    "scheduler: SIGKILL",
    "pod-manager: SIGKILL, two replicas",
    "janitor: SIGKILL",
    "RabbitMQ: data wiped",
    "kube-apiserver: SIGKILL",
    "kube-apiserver: watches expired, etcd compacted",
    "etcd: SIGSTOP for 10 s",
    "pod-manager to kube-apiserver: 403 to every other request for 10 s",
    "node: drained for 10 s",
    "pods: deleted by hand for 10 s",
    "pods: finished ones garbage-collected for 10 s, pod-manager away",
}
"""The faults that `make test` injects."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableStack]:
    """A stack of this module's own."""
    with breakable_stack(tmp_path_factory.mktemp("faults")) as target:
        yield target


@pytest.mark.timeout(3 * END_TIMEOUT_SECONDS)
@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if RESULTS_PAGE or fault.name in IN_EVERY_RUN],
    ids=lambda fault: fault.name,
)
def test_a_fault_breaks_no_promise(
    target: BreakableStack, fault: Fault, report_measurement: MeasurementReporter
) -> None:
    """The system recovers by itself: jobs that are submitted after the fault run."""
    stack = target.stacks[fault.replicas]
    stack.up()
    # Without this, dead letters of an earlier fault, whose test failed, would be leftovers of this one.
    target.management().purge(topology.DEAD_LETTER_QUEUE)
    with cluster_on(stack, target.etcd_url) as cluster:
        workload = Workload(cluster)
        with workload.with_cancellations():
            workload.submit(JOBS - JOBS_DURING_FAULT - JOBS_AFTER_FAULT)
            workload.wait_until_ended(JOBS // 5)
            with workload.submitting(JOBS_DURING_FAULT, FAULT_SECONDS):
                with fault.inject(target):
                    pass
                fault_end = datetime.now(UTC)
            workload.submit(JOBS_AFTER_FAULT)
            workload.wait_until_ended(within=END_TIMEOUT_SECONDS)
        eventually(lambda: not workload.leftover_pods(), "no pod is left", diagnostics=workload.leftover_pods)
        events = cluster.history.complete_events()
        violations = list(workload.violations(events, all_observed=not fault.without_pod_manager))
        recovery = seconds_to_next_admission(events, fault_end)
        avoidable_wait = workload.longest_avoidable_wait(events, fault_end)
        row = results_page.Row(fault.name, JOBS, recovery, avoidable_wait, not violations)
        report_measurement(row.line())
        if RESULTS_PAGE:
            results_page.write(Path(RESULTS_PAGE), row, [fault.name for fault in FAULTS])
        by_third_parties = [deletion for deletion in workload.deletions(events) if not deletion.held]
        if fault.deletes_pods:
            stages = Counter(deletion.stage.value for deletion in by_third_parties)
            counts = ", ".join(f"{count} {stage}" for stage, count in stages.items())
            report_measurement(f"pods deleted by third parties: {counts}")
        assert not violations, workload.explain(violations)
        if fault.deletes_pods:
            assert by_third_parties, f"{fault.name} must delete pods; it deleted none"
        else:
            assert not by_third_parties, workload.explain(
                [
                    f"{deletion.name} lost its pod at r{deletion.revision}, but no third party is at work"
                    for deletion in by_third_parties
                ]
            )
        wait_until_nothing_is_left(target, fault.replicas, workload)
