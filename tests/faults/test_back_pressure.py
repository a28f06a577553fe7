"""A consumer that is down or paused while its queue fills: it holds up no other service, and no job is lost.

A policy lowers the limit of RabbitMQ's queues. The smaller of two limits applies.
"""

import signal
from collections.abc import Iterator

import pytest
from tests.support import promises
from tests.support.broker import ManagementApi
from tests.support.cluster import SERVICES, Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from phjob_runtime.amqp import topology

MAX_QUEUE_MESSAGES = 50
JOBS_PER_GROUP = 60
"""The jobs of each of two groups. A job is at least one fact to every service, and its pod another."""
QUOTA = {"gpu": 4}


@pytest.fixture
def management(local_stack: LocalStack) -> Iterator[ManagementApi]:
    """The broker's management API. The queues are small."""
    management = local_stack.management()
    management.limit_queues("^(scheduler|janitor|pod-manager)", MAX_QUEUE_MESSAGES)
    yield management
    management.remove_queue_limit()


def rejected_count(local_stack: LocalStack, queue: str) -> float:
    """Return how many messages to the queue RabbitMQ rejected, as counted by their publishers.

    The consumer of the queue is left out, because it may be down.
    """
    return sum(
        count
        for service in SERVICES
        if queue != topology.queue_of(service)
        for (of,), count in samples(local_stack.state, service, "phjob_messages_rejected_total").items()
        if of == queue
    )


SIGNALS = {"is paused": (signal.SIGSTOP, signal.SIGCONT), "is down": (signal.SIGTERM, None)}
"""The signals to stop and to continue the consumer; None: it is started again."""
CASES = [("scheduler", "is paused"), ("pod-manager", "is down")]


@pytest.mark.parametrize(("service", "state"), CASES)
@pytest.mark.usefixtures("management")
def test_a_full_queue_holds_up_no_other_service(
    cluster: Cluster,
    local_stack: LocalStack,
    service: str,
    state: str,
    report_measurement: MeasurementReporter,
) -> None:
    """Its publishers keep nothing for it, and count the rejected messages. In the end all jobs succeed."""
    queue = topology.queue_of(service)
    consumer = cluster.service(service)
    before = rejected_count(local_stack, queue)
    groups = [GroupFixture(cluster, f"group-{n}", {"groupQuota": QUOTA}).create() for n in range(2)]
    stop_signal, continue_signal = SIGNALS[state]
    consumer.kill(stop_signal)
    if state == "is down":
        eventually(lambda: consumer.pid is None, f"{service} has ended")
    try:
        cluster.kubectl_create(
            *(
                group.job_manifest(f"{group.prefix}-{n}", gpus=1, run_for="0.2s")
                for n in range(JOBS_PER_GROUP)
                for group in groups
            )
        )
        # A paused consumer has prefetched messages. The others wait in the queue, up to its limit.
        enough = 1000 + MAX_QUEUE_MESSAGES if state == "is paused" else MAX_QUEUE_MESSAGES
        for number in range(enough):
            if not number % 25 and rejected_count(local_stack, queue) > before:
                break
            groups[0].patch_spec(jobDefaultActiveDeadlineSeconds=10_000 + number)
        eventually(
            lambda: rejected_count(local_stack, queue) > before, f"RabbitMQ rejects messages to {queue}"
        )
        for name in SERVICES:
            if name != service:
                outbox = samples(local_stack.state, name, "phjob_outbox_messages")
                assert sum(outbox.values()) < 1000, f"the outbox of {name} must be short; it holds {outbox}"
                eventually(cluster.service(name).spec.ready, f"{name} is ready")
    finally:
        if continue_signal:
            consumer.kill(continue_signal)
        else:
            consumer.start()
            consumer.wait_ready()
    for group in groups:
        eventually(
            lambda group=group: len(cluster.jobs_in_phase(group.name, "Succeeded")) == JOBS_PER_GROUP,  # type: ignore[misc]
            f"all jobs of {group.name} have succeeded",
            within=180,
            diagnostics=lambda group=group: len(cluster.jobs_in_phase(group.name, "Succeeded")),  # type: ignore[misc]
        )
    events = cluster.history.complete_events()
    for group in groups:
        assert not promises.order_violations(events, group.name)
        assert not promises.quota_violations(events, group.name, group_quota=QUOTA)
    rejected = rejected_count(local_stack, queue) - before
    report_measurement(f"{rejected:.0f} messages to {queue} were rejected while {service} {state}")
