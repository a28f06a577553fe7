"""Every fault, each in the middle of a run of jobs: nothing lost, nothing twice, never over quota.

`make faults` runs the whole matrix and writes docs/faults.md; a plain run takes some of it, with fewer jobs.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.faults import page
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.plant import Plant, plant
from tests.faults.remains import nothing_is_held
from tests.faults.workload import Workload, first_admission
from tests.support.hub import corner
from tests.support.measures import Measured
from tests.support.waiting import eventually

PAGE = os.environ.get("PHJOB_FAULTS", "")
JOBS = 300 if PAGE else 120
LATER = JOBS // 5
"""How many of them are submitted only when the fault is over."""
IN_EVERY_RUN = {
    "watcher: SIGKILL",
    "scheduler: SIGKILL",
    "pod-manager: SIGKILL, two replicas",
    "janitor: SIGKILL",
    "RabbitMQ: data wiped",
    "kube-apiserver: SIGKILL",
    "kube-apiserver: watches expired, etcd compacted",
    "etcd: SIGSTOP for 10 s",
}


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A stack of its own, with links in between."""
    with plant(tmp_path_factory.mktemp("faults")) as of:
        yield of


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if PAGE or fault.name in IN_EVERY_RUN], ids=lambda fault: fault.name
)
def test_a_fault_costs_neither_a_job_nor_order_nor_quota(
    breakable: Plant, fault: Fault, measured: Measured
) -> None:
    """All invariants hold, and jobs go on once it is over."""
    stack = breakable.stacks[fault.replicas]
    stack.up()
    with corner(stack, breakable.etcd) as hub:
        work = Workload(hub)
        with work.with_users():
            work.submit(JOBS - LATER)
            work.until_ended(JOBS // 5)
            with fault.happens(breakable):
                pass
            over = datetime.now(UTC)
            work.submit(LATER)
            work.until_ended()
        eventually(lambda: not work.leftovers(), "no pod is left", instead=work.leftovers)
        events = hub.history.complete()
        violations = list(work.violations(events))
        vain_wait = work.longest_vain_wait(events, over)
        row = page.Row(fault.name, JOBS, first_admission(events, over), vain_wait, not violations)
        measured(row.line())
        if PAGE:
            page.write(Path(PAGE), row, [fault.name for fault in FAULTS])
        assert not violations, work.explained(violations)
        nothing_is_held(breakable, fault.replicas, work)
