"""Many pods with a time to live, while the janitors are killed: each goes at its time, none before."""

import os
import random
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from tests.support.hub import Hub, corner
from tests.support.measures import Measured
from tests.support.scene import Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

JOBS = int(os.environ.get("PHJOB_TTL_JOBS", "200"))
LONGEST = 60 if JOBS > 200 else 20
"""Seconds."""


@pytest.fixture
def hub(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Hub]:
    """A corner of a stack with two replicas of each service; afterwards there is one again."""
    with corner(local_stack.whole(replicas=2)) as hub:
        yield hub
    kwok_stack.up()


def test_each_pod_goes_when_its_time_is_over_and_none_before(hub: Hub, measured: Measured) -> None:
    """A janitor is killed with -9 while they wait, and then the other one, which took over."""
    scene = Scene(hub, "phusers").make()
    lives = random.Random(7)  # noqa: S311 - a repeatable choice
    names = hub.kubectl_create(
        *(
            scene.job(f"job-{n}", run_for="1s", ttlSecondsAfterFinished=lives.randint(1, LONGEST))
            for n in range(JOBS)
        )
    )

    def gone() -> int:
        return JOBS - sum(hub.pod(name) is not None for name in names if hub.status(name).get("podName"))

    def finished() -> int:
        return len(hub.in_phase(scene.group, "Succeeded"))

    for share, janitor in ((0.3, "janitor"), (0.6, "janitor-2")):
        eventually(lambda share=share: gone() > share * JOBS, "some are gone", within=300)  # type: ignore[misc]
        hub.service(janitor).kill(signal.SIGKILL)
        hub.service(janitor).start()
    eventually(lambda: finished() == JOBS, "all have finished", within=300, instead=finished)
    eventually(lambda: gone() == JOBS, "all pods are gone", within=300, instead=gone)

    ends = {event.name: event.seen for event in hub.history.complete() if event.kind == "Pod" and event.gone}
    late = sorted((ends[name] - due(hub, name)) / timedelta(seconds=1) for name in names)
    measured(
        f"{JOBS} pods, TTL 1 to {LONGEST} s, gone after their time by "
        f"{late[0]:.2f} s at least, {late[JOBS // 2]:.2f} s in the middle, "
        f"{late[JOBS * 99 // 100]:.2f} s at 99 %, {late[-1]:.2f} s at most"
    )
    assert late[0] >= 0


def due(hub: Hub, name: str) -> datetime:
    """When the job's pod is to go."""
    job = hub.job(name).object
    ttl = timedelta(seconds=job["spec"]["ttlSecondsAfterFinished"])
    return datetime.fromisoformat(job["status"]["finishTime"]) + ttl
