"""Back-pressure on a real RabbitMQ: full queues, and a broker that accepts no messages.

The limits are small where the test is about what RabbitMQ does at a limit.
"""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.broker import set_memory_alarm
from tests.support.bus import (
    QUEUE,
    count_queued_messages,
    send_heartbeats,
    wait_for_queued_messages,
    wait_until_broken,
    wait_until_confirmed,
)
from tests.support.recording_consumer import DELIVERY_TIMEOUT_SECONDS, RecordingConsumer
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually_async

from phjob_core.errors import UnreachableError
from phjob_core.messages import Heartbeat
from phjob_core.stream import Envelope, StreamAction, StreamReader
from phjob_runtime.amqp import bus as bus_module
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.bus import MAX_UNCONFIRMED, PREFETCH_COUNT, connect

LIMIT = 500
OTHER = topology.queue_of(topology.SCHEDULER)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues that are full after a few messages."""
    monkeypatch.setattr(topology, "MAX_QUEUE_MESSAGES", LIMIT)


@pytest.mark.usefixtures("small")
async def test_a_full_queue_holds_up_neither_its_publisher_nor_other_queues(broker: str) -> None:
    """RabbitMQ rejects each message beyond the limit, and the publisher drops it."""
    consumer = RecordingConsumer()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(OTHER, consumer.receive)
        send_heartbeats(sender, range(10 * LIMIT))
        sender.send(OTHER, Envelope("pod-manager", "session", 0, Heartbeat()))
        await wait_until_confirmed(sender)
        await consumer.wait_for_count(1)
        assert not len(sender._outbox)
        assert not sender.stall_reason
        assert not sender.broken.done()
    # RabbitMQ blocks its publishers a moment late.
    assert LIMIT <= await count_queued_messages(broker) <= LIMIT + 2 * MAX_UNCONFIRMED


@pytest.mark.usefixtures("small")
async def test_the_consumer_of_a_full_queue_finds_the_gap_and_resyncs(broker: str) -> None:
    """The sequence numbers of the rejected messages are missing."""
    consumer = RecordingConsumer()
    async with connect(broker, "sender", 1) as sender:
        send_heartbeats(sender, range(10 * LIMIT))
        await wait_until_confirmed(sender)
        async with connect(broker, "receiver", 1) as receiver:
            await receiver.consume(QUEUE, consumer.receive)
            number = 10 * LIMIT
            async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
                while max(consumer.sequence_numbers, default=0) < 10 * LIMIT:
                    send_heartbeats(sender, range(number, number + 1))
                    number += 1
                    await asyncio.sleep(0.02)
    stream = StreamReader("me")
    stream.new_request()
    actions = [stream.receive(envelope) for envelope in consumer.envelopes]
    assert consumer.sequence_numbers == sorted(set(consumer.sequence_numbers))
    assert len(consumer.sequence_numbers) < number
    late = [action for action, n in zip(actions, consumer.sequence_numbers, strict=True) if n >= 10 * LIMIT]
    assert late[0] is StreamAction.RESYNC


@pytest.mark.usefixtures("small")
async def test_a_consumer_that_hangs_gets_no_more_than_the_prefetch_count(broker: str) -> None:
    """It acknowledges nothing, so the rest stays in the queue, up to the limit.

    After its connection ends, its successor gets every accepted message, the unacknowledged ones first.
    """
    hanging, successor = RecordingConsumer(acks=False), RecordingConsumer()
    async with connect(broker, "sender", 1) as sender:
        async with connect(broker, "hanging", 1) as stuck:
            await stuck.consume(QUEUE, hanging.receive)
            send_heartbeats(sender, range(PREFETCH_COUNT))
            await hanging.wait_for_count(PREFETCH_COUNT)
            send_heartbeats(sender, range(PREFETCH_COUNT, PREFETCH_COUNT + 10 * LIMIT))
            await wait_until_confirmed(sender)
            assert len(hanging.deliveries) == PREFETCH_COUNT
            assert not stuck.broken.done()
        accepted = await count_queued_messages(broker)
        assert PREFETCH_COUNT + LIMIT <= accepted <= PREFETCH_COUNT + LIMIT + 2 * MAX_UNCONFIRMED
        async with connect(broker, "successor", 1) as receiver:
            await receiver.consume(QUEUE, successor.receive)
            await successor.wait_for_count(accepted)
    assert successor.sequence_numbers[:PREFETCH_COUNT] == list(range(PREFETCH_COUNT))
    assert successor.sequence_numbers == sorted(set(successor.sequence_numbers))


async def test_beyond_their_limit_the_oldest_dead_letters_are_dropped(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ never rejects a dead letter. Its service, and all that depend on it, would wait."""
    monkeypatch.setitem(topology.DEAD_LETTER_ARGUMENTS, "x-max-length", 5)
    consumer = RecordingConsumer(acks=False)
    async with connect(broker, "both", 1) as both:
        await both.consume(QUEUE, consumer.receive)
        send_heartbeats(both, range(20))
        await consumer.wait_for_count(20)
        for delivery in consumer.deliveries:
            delivery.dead_letter("as a test")
        await asyncio.gather(*both._tasks)
        assert not both.broken.done()
        await wait_for_queued_messages(broker, 5, topology.DEAD_LETTER_QUEUE)
    await wait_for_queued_messages(broker, 0)


async def test_a_dead_lettered_message_is_acknowledged_only_after_its_copy_is_confirmed(broker: str) -> None:
    """An `ack` meanwhile, as by a consumer of an undecodable message, changes nothing."""
    consumer = RecordingConsumer(acks=False)
    async with connect(broker, "sender", 1) as sender, connect(broker, "failing", 1) as failing:
        await failing.consume(QUEUE, consumer.receive)
        send_heartbeats(sender, range(1))
        await consumer.wait_for_count(1)
        failing._sending = None  # type: ignore[assignment]  # So that the publish fails.
        consumer.deliveries[0].dead_letter("as a test")
        consumer.deliveries[0].ack()
        with pytest.raises(AttributeError):
            await wait_until_broken(failing)
    await wait_for_queued_messages(broker, 1)
    assert await count_queued_messages(broker, topology.DEAD_LETTER_QUEUE) == 0


@pytest.fixture
def alarm(local_stack: LocalStack, rabbitmq: str) -> Callable[[bool], None]:
    """A switch for the memory alarm of the local broker, which only this process uses."""
    component = local_stack.start_parts("rabbitmq").component("rabbitmq")
    if str(local_stack.start_parts("rabbitmq").amqp_url).rpartition("@")[2].partition("/")[0] not in rabbitmq:
        pytest.fail("the memory alarm needs the local broker: don't give an AMQP_URL")
    return lambda on: set_memory_alarm(component, on=on)


async def test_a_broker_that_accepts_nothing_is_reported_and_waited_for(
    broker: str, alarm: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages in flight stay bounded, and the bus gives a reason. Then all arrive in order."""
    monkeypatch.setattr(bus_module, "STALL_SECONDS", 0.5)
    consumer = RecordingConsumer()
    many = 5 * MAX_UNCONFIRMED
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, consumer.receive)
        await asyncio.to_thread(alarm, True)  # noqa: FBT003 - on
        try:
            send_heartbeats(sender, range(many))
            await eventually_async(lambda: sender.stall_reason, "publishing has stalled")
            assert sender.stall_reason == f"RabbitMQ to accept messages: {many} unconfirmed"
            assert many - sender._outbox.waiting(QUEUE) <= MAX_UNCONFIRMED
            assert not sender.broken.done()
        finally:
            await asyncio.to_thread(alarm, False)  # noqa: FBT003 - off
        await wait_until_confirmed(sender)
        assert not sender.stall_reason
        await consumer.wait_for_count(many)
    assert consumer.sequence_numbers == list(range(many))


async def test_a_bus_with_a_full_outbox_breaks(
    broker: str, alarm: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection closes, although RabbitMQ reads nothing from it."""
    limit = 3 * MAX_UNCONFIRMED
    monkeypatch.setattr(bus_module, "MAX_OUTBOX_MESSAGES", limit)
    try:
        async with connect(broker, "sender", 1) as sender:
            await asyncio.to_thread(alarm, True)  # noqa: FBT003 - on
            async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
                number = 0
                while not sender.broken.done():
                    send_heartbeats(sender, range(number, number + 100))
                    number += 100
                    await asyncio.sleep(0.001)
            assert number <= limit + MAX_UNCONFIRMED + 1000
            with pytest.raises(UnreachableError, match="messages are unconfirmed"):
                await wait_until_broken(sender)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 30
    finally:
        await asyncio.to_thread(alarm, False)  # noqa: FBT003 - off
