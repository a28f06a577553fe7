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
from tests.faults.workload import GROUPS, HELD_BY_JUPYTER, Workload, first_admission
from tests.support.hub import SERVICES, corner
from tests.support.measures import Measured
from tests.support.metrics import samples
from tests.support.waiting import eventually

from shared import topology

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
LONGEST_VAIN_WAIT = 10.0
"""Seconds (I4)."""


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
        assert not "\n".join(violations)
        eventually(
            lambda: not held(breakable, fault.replicas, work),
            "nothing is held",
            instead=lambda: held(breakable, fault.replicas, work),
        )


def held(plant: Plant, replicas: int, work: Workload) -> list[str]:
    """What the services and the broker still hold, and should not (I6)."""
    ours = {queue.name for queue in topology.queues(1)} | {topology.DEAD}
    found = []
    queues = {queue["name"]: queue for queue in plant.management().queues()}
    if set(queues) != ours:
        found.append(f"queues {set(queues) ^ ours}")
    found += [f"{q['messages']} messages in {name}" for name, q in queues.items() if q.get("messages")]
    connections = len(plant.management().connections())
    if connections > replicas * len(SERVICES):
        found.append(f"{connections} connections")
    groups = {scene.group for scene in work.scenes}
    assert len(groups) == GROUPS
    for name in ("scheduler", "scheduler-2")[:replicas]:
        if plant.part(name).pid is None:
            continue
        jobs = samples(plant.site.state, name, "phjob_jobs")
        found += [f"{name}: {count} jobs {key}" for key, count in jobs.items() if count and key[0] in groups]
        for (group, kind, resource), amount in samples(plant.site.state, name, "phjob_quota_used").items():
            expected = HELD_BY_JUPYTER if kind == "jupyter" and resource == "nvidia.com/gpu" else 0
            if group in groups and resource == "nvidia.com/gpu" and amount != expected:
                found.append(f"{name}: {amount} {resource} of {group} by {kind}")
    return found
