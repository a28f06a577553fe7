"""The services' bus on a real RabbitMQ, as its tests use it: one queue, and numbered messages in it."""

import asyncio

import aio_pika
from tests.support.inbox import SECONDS, Inbox

from shared import topology
from shared.bus import RabbitBus, connect
from shared.messages import Heartbeat
from shared.session import Envelope

QUEUE = topology.queue_of(topology.JANITOR)


def send(bus: RabbitBus, numbers: range, publisher: str = "test") -> None:
    """Send as many heartbeats, numbered."""
    for number in numbers:
        bus.send(QUEUE, Envelope(publisher, "session", number, Heartbeat()))


async def confirmed(bus: RabbitBus) -> None:
    """Return when all that was sent is confirmed."""
    done = asyncio.Event()
    bus.when_sent(done.set)
    async with asyncio.timeout(SECONDS):
        await done.wait()


async def waiting(broker: str, queue: str = QUEUE) -> int:
    """How many messages are in the queue now: acknowledged ones, too, until RabbitMQ gets round to them."""
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def until_waiting(broker: str, count: int, queue: str = QUEUE) -> None:
    """Return when there are so many."""
    async with asyncio.timeout(SECONDS):
        while await waiting(broker, queue) != count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)


async def broken(bus: RabbitBus) -> None:
    """Return when the bus has given up."""
    async with asyncio.timeout(SECONDS):
        await asyncio.shield(bus.broken)


async def delete_queue(broker: str) -> None:
    """Do what a person can do on RabbitMQ's management page."""
    async with await aio_pika.connect(broker) as connection:
        queue = await (await connection.channel()).get_queue(QUEUE)
        await queue.delete(if_unused=False, if_empty=False)


async def given_up(broker: str, count: int) -> None:
    """So many messages, numbered, that RabbitMQ gives up: one consumer after the other dies with them."""
    async with connect(broker, "sender", 1) as sender:
        send(sender, range(count))
        await confirmed(sender)
    for _ in range(topology.DELIVERY_LIMIT + 1):
        dying = Inbox(acks=False)
        async with connect(broker, "dying", 1) as bus:
            await bus.consume(QUEUE, dying.receive)
            await dying.count(count)
