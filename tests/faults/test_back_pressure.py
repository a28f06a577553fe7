"""A reader that is away or hangs while its queue runs full: nobody else suffers, and nothing is lost.

RabbitMQ's limit is lowered by a policy; the smaller one counts.
"""

import signal
from collections.abc import Iterator

import pytest
from tests.support import promises
from tests.support.broker import Management
from tests.support.hub import SERVICES, Hub
from tests.support.measures import Measured
from tests.support.metrics import samples
from tests.support.scene import Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from shared import topology

LIMIT = 50
JOBS = 60
"""Of each of two groups: each is at least one fact to every reader, and there is one more for its pod."""
QUOTA = {"gpu": 4}


@pytest.fixture
def management(local_stack: LocalStack) -> Iterator[Management]:
    """The broker's, with queues that are full soon."""
    management = local_stack.management()
    management.limit_queues("^(scheduler|janitor|pod-manager)", LIMIT)
    yield management
    management.unlimit_queues()


def refused(local_stack: LocalStack, queue: str) -> float:
    """How many messages to the queue its senders have seen refused; its reader, who may be away, is none."""
    return sum(
        count
        for service in SERVICES
        if queue != topology.queue_of(service)
        for (of,), count in samples(local_stack.state, service, "phjob_messages_refused_total").items()
        if of == queue
    )


AWAY = {"hangs": (signal.SIGSTOP, signal.SIGCONT), "is gone": (signal.SIGTERM, None)}
CASES = [("scheduler", "hangs"), ("pod-manager", "is gone")]


@pytest.mark.parametrize(("service", "how"), CASES)
@pytest.mark.usefixtures("management")
def test_a_service_that_is_away_while_its_queue_runs_full(
    hub: Hub, local_stack: LocalStack, service: str, how: str, measured: Measured
) -> None:
    """Its senders hold nothing for it, and say that it is full; when it is back, all jobs succeed."""
    queue = topology.queue_of(service)
    reader = hub.service(service)
    before = refused(local_stack, queue)
    scenes = [Scene(hub, f"group-{n}", {"groupQuota": QUOTA}).make() for n in range(2)]
    leave, back = AWAY[how]
    reader.kill(leave)
    if how == "is gone":
        eventually(lambda: reader.pid is None, f"{service} has ended")
    try:
        hub.kubectl_create(
            *(scene.job(f"{scene.name}-{n}", gpus=1, run_for="0.2s") for n in range(JOBS) for scene in scenes)
        )
        # Prefetched by the one that hangs; the rest waits in the queue, to its limit.
        enough = 1000 + LIMIT if how == "hangs" else LIMIT
        for number in range(enough):
            if not number % 25 and refused(local_stack, queue) > before:
                break
            scenes[0].change(jobDefaultActiveDeadlineSeconds=10_000 + number)
        eventually(lambda: refused(local_stack, queue) > before, f"RabbitMQ refuses messages to {queue}")
        for name in SERVICES:
            if name != service:
                held = samples(local_stack.state, name, "phjob_outbox_messages")
                assert sum(held.values()) < 1000, name
                eventually(hub.service(name).spec.ready, f"{name} is ready")
    finally:
        if back:
            reader.kill(back)
        else:
            reader.start()
            reader.wait_ready()
    for scene in scenes:
        eventually(
            lambda scene=scene: len(hub.in_phase(scene.group, "Succeeded")) == JOBS,  # type: ignore[misc]
            "all jobs have succeeded",
            within=180,
            instead=lambda scene=scene: len(hub.in_phase(scene.group, "Succeeded")),  # type: ignore[misc]
        )
    events = hub.history.complete()
    for scene in scenes:
        assert not promises.out_of_order(events, scene.group)
        assert not promises.over_quota(events, scene.group, group_quota=QUOTA)
    measured(f"{refused(local_stack, queue) - before:.0f} messages to {queue} were refused while it {how}")
