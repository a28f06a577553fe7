"""Actions on one queue of a real RabbitMQ, through the services' bus and as an operator."""

import asyncio

import aio_pika
from tests.support.recording_consumer import DELIVERY_TIMEOUT_SECONDS, RecordingConsumer

from phjob_core.messages import Heartbeat
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.bus import RabbitBus, connect

QUEUE = topology.queue_of(topology.JANITOR)


def send_heartbeats(bus: RabbitBus, numbers: range, publisher: str = topology.JANITOR) -> None:
    """Send a heartbeat for each of the sequence numbers."""
    for number in numbers:
        bus.send(QUEUE, Envelope(publisher, "session", number, Heartbeat()))


async def wait_until_confirmed(bus: RabbitBus) -> None:
    """Wait until RabbitMQ has confirmed everything that the bus has sent."""
    done = asyncio.Event()
    bus.when_confirmed(done.set)
    async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
        await done.wait()


async def count_queued_messages(broker: str, queue: str = QUEUE) -> int:
    """Return the number of messages in the queue.

    RabbitMQ removes acknowledged ones with a delay.
    """
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def wait_for_queued_messages(broker: str, count: int, queue: str = QUEUE) -> None:
    """Wait until exactly this many messages are in the queue."""
    async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
        while await count_queued_messages(broker, queue) != count:  # noqa: ASYNC110 - the broker signals nothing
            await asyncio.sleep(0.05)


async def wait_until_broken(bus: RabbitBus) -> None:
    """Wait until the bus is broken. Raises the error that has broken it."""
    async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
        await asyncio.shield(bus.broken)


async def delete_queue(broker: str) -> None:
    """Delete the queue, as an operator can in RabbitMQ's management UI."""
    async with await aio_pika.connect(broker) as connection:
        queue = await (await connection.channel()).get_queue(QUEUE)
        await queue.delete(if_unused=False, if_empty=False)


async def dead_letter_messages(broker: str, count: int) -> None:
    """Let RabbitMQ dead-letter messages, because all of their consumers have died."""
    async with connect(broker, "sender", 1) as sender:
        send_heartbeats(sender, range(count))
        await wait_until_confirmed(sender)
    for _ in range(topology.DELIVERY_LIMIT + 1):
        consumer = RecordingConsumer(acks=False)
        async with connect(broker, "dying", 1) as bus:
            await bus.consume(QUEUE, consumer.receive)
            await consumer.wait_for_count(count)
