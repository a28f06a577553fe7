"""Many jobs whose pods never start, again and again: nobody else is held up, and nothing leaks."""

import os
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.support import promises
from tests.support.builders import an_instance_type
from tests.support.history import Event
from tests.support.hub import Hub, corner
from tests.support.measures import Measured
from tests.support.metrics import writes
from tests.support.scene import Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

JOBS = int(os.environ.get("PHJOB_STORM_JOBS", "100"))
TIMES = 3
"""How often each of them is sent back at least."""
FITTING = 20


@pytest.fixture
def hub(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Hub]:
    """A corner of a stack that gives a pod two seconds; afterwards it has the usual settings again."""
    with corner(local_stack.whole("jobSubmission: {preparingTimeoutSeconds: 2}\n")) as hub:
        yield hub
    kwok_stack.up()


def test_a_storm_of_requeues_holds_nobody_else_up_and_leaks_nothing(
    hub: Hub, local_stack: LocalStack, measured: Measured
) -> None:
    """Backoff, order, quota and writes: contract.md, Queueing 5."""
    quota = {"gpu": JOBS + FITTING}
    stuck, other = Scene(hub, "stuck", {"groupQuota": quota}).make(), Scene(hub, "other").make()
    (nowhere,) = hub.create(
        an_instance_type(hub.name("nowhere"), {"nodeSelector": {"no-node": "has-this"}}, gpus=1)
    )
    stuck.grants(instance_types=(nowhere,))
    before = writes(local_stack.state)
    names = hub.kubectl_create(
        *(stuck.job(f"stuck-{n:03}", user="bob", instanceType=nowhere) for n in range(JOBS))
    )
    fitting = hub.kubectl_create(
        *(stuck.job(f"fits-{n}", user="lin", gpus=1) for n in range(FITTING)),
        *(other.job(f"other-{n}") for n in range(FITTING)),
    )
    for name in fitting:
        hub.reaches(name, "Succeeded")

    def requeues() -> list[int]:
        return [hub.status(name)["requeued"] for name in names]

    eventually(lambda: min(requeues()) >= TIMES, "all are sent back", within=400, instead=requeues)
    spent = writes(local_stack.state) - before - 4 * len(fitting)
    measured(f"{JOBS} jobs, {sum(requeues())} requeues: {spent / sum(requeues()):.2f} API writes a requeue")
    events = hub.history.complete()
    assert not [line for name in names for line in too_early(events, name)]
    assert not promises.out_of_order([e for e in events if e.name in names or e.kind == "Pod"], stuck.group)
    assert not promises.over_quota(events, stuck.group, group_quota=quota)

    for name in names:
        hub.cancel(name)
    for name in names:
        hub.reaches(name, "Cancelled")
    eventually(lambda: not any(hub.pod(name) for name in names), "no pod is left")
    stuck.change(groupQuota={"gpu": 1})
    hub.reaches(stuck.submit("last", gpus=1), "Succeeded")  # It gets the whole quota: nothing holds any.


def too_early(events: list[Event], name: str) -> Iterator[str]:
    """Each admission of the job before its backoff was over."""
    pause = ""
    for event in events:
        if (event.kind, event.name) == ("PhJob", name):
            status = event.object["status"]
            if event.phase == "Preparing" and pause:
                if datetime.fromisoformat(status["preparingTime"]) < datetime.fromisoformat(pause):
                    yield event.line()
                pause = ""
            elif event.phase == "Pending":
                pause = status.get("requeueAfter", "")
