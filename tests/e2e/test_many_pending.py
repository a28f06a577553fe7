"""A long queue: how fast it is answered about, and how little is written meanwhile.

PHJOB_PENDING_JOBS says how many wait; 10,000 is what the figures in docs/why.md are of.
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.cli import Cli
from tests.support.hub import Hub
from tests.support.measures import Measured
from tests.support.metrics import samples
from tests.support.scene import Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

JOBS = int(os.environ.get("PHJOB_PENDING_JOBS", "500"))
BATCH = 500
TRIES = 3
LONG = 900


def patches(state: Path, resource: str) -> float:
    """How many writes pod-manager has asked for on the status of such objects."""
    requests = samples(state, "pod-manager", "phjob_api_requests_total")
    return sum(count for (_, of, verb), count in requests.items() if (of, verb) == (resource, "PATCH"))


def test_a_long_queue_is_answered_about_at_once(
    hub: Hub, local_stack: LocalStack, measured: Measured
) -> None:
    """`queue`, `why` and `list`, each as a new process; and the jobs that wait cost no writes."""
    scene = Scene(hub, "vision", {"groupQuota": {"gpu": 4}, "userQuota": {"gpu": 4}}).make()
    old = [scene.submit(f"old-{n}", run_for=f"{n + 1}s") for n in range(5)]
    for name in old:
        hub.reaches(name, "Succeeded")
    holder = scene.submit("holder", gpus=4, run_for="1h")
    hub.reaches(holder, "Running")
    began, before = (
        datetime.now(UTC),
        (patches(local_stack.state, "phjobs"), patches(local_stack.state, "phgroups")),
    )
    users = [f"user-{n}" for n in range(20)]
    for first in range(0, JOBS, BATCH):
        hub.kubectl_create(
            *(
                scene.job(f"job-{n}", gpus=1, user=users[n % 20])
                for n in range(first, min(first + BATCH, JOBS))
            )
        )
    eventually(lambda: len(hub.in_phase(scene.group, "Pending")) == JOBS, "all wait", within=LONG)
    hub.says(hub.name("job-0"), "GroupQuota")
    group = eventually(
        lambda: (now := hub.api.get("PhGroup", scene.group)) and now["status"]["pending"] == JOBS and now,
        "the group's status counts them",
    )
    assert group["status"]["head"] == hub.name("job-0")

    cli, last = Cli(hub.stack.kubeconfig, PHJOB_USER="user-1"), hub.name(f"job-{JOBS - 1}")
    for words in (["queue", scene.group], ["why", last], ["list", "--group", scene.group]):
        took = []
        for _ in range(TRIES):
            start = time.perf_counter()
            done = cli(*words)
            took.append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
        measured(f"{JOBS} wait: {words[0]} answered in {min(took):.2f} to {max(took):.2f} s")
    assert cli.json("why", last)["place"] == JOBS

    seconds = (datetime.now(UTC) - began).total_seconds()
    explained, reported = (
        patches(local_stack.state, kind) - was
        for kind, was in zip(("phjobs", "phgroups"), before, strict=True)
    )
    measured(
        f"{JOBS} wait, in {seconds:.0f} s: {explained:.0f} writes of explanations "
        f"({explained / seconds:.2f} a second), {reported:.0f} of the group's status"
    )
    assert reported <= seconds + 1, "at most one write a second and group"
    assert explained < 5 * seconds, "only the jobs that decide are told why they wait"
