"""The bus on a real RabbitMQ: order, confirmation, redelivery, batches, and undecodable messages."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from tests.support.bus import (
    QUEUE,
    count_queued_messages,
    dead_letter_messages,
    delete_queue,
    send_heartbeats,
    wait_for_queued_messages,
    wait_until_broken,
    wait_until_confirmed,
)
from tests.support.recording_consumer import DELIVERY_TIMEOUT_SECONDS, RecordingConsumer

from phjob_core.errors import UnreachableError
from phjob_core.messages import CatalogSynced, Heartbeat
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.batching import BATCH
from phjob_runtime.amqp.bus import PREFETCH_COUNT, RabbitBus, connect

MANY = 5000


async def acknowledged(bus: RabbitBus) -> None:
    """Wait until the broker has every acknowledgement, because it answers a later request."""
    await asyncio.gather(*bus._tasks)
    await bus._consuming.basic_qos(prefetch_count=PREFETCH_COUNT)


async def dead_letters(broker: str, number: int) -> list[AbstractIncomingMessage]:
    """Wait until so many messages are in phjob.dead. Returns them."""
    found: list[AbstractIncomingMessage] = []
    async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS), await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.DEAD_LETTER_QUEUE)
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                found.append(message)
                if len(found) == number:
                    break
    return found


def a_message(broker: str, body: bytes, **properties: Any) -> aio_pika.Message:
    """Return a message of the janitor, with the user of this broker's URL."""
    return aio_pika.Message(body, app_id=topology.JANITOR, user_id=urlsplit(broker).username, **properties)


async def test_thousands_of_messages_arrive_once_each_and_in_order(broker: str) -> None:
    """With their sequence numbers, and not marked as redelivered."""
    consumer = RecordingConsumer()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, consumer.receive)
        send_heartbeats(sender, range(MANY))
        await wait_until_confirmed(sender)
        envelopes = await consumer.wait_for_count(MANY)
        await acknowledged(receiver)
    assert consumer.sequence_numbers == list(range(MANY))
    assert envelopes[0] == Envelope("janitor", "session", 0, Heartbeat())
    assert not any(envelope.redelivered for envelope in envelopes)
    await wait_for_queued_messages(broker, 0)


async def test_confirmed_messages_survive_their_publisher(broker: str) -> None:
    """All of them are in the queue once `when_confirmed` calls back."""
    async with connect(broker, "sender", 1) as sender:
        send_heartbeats(sender, range(MANY))
        await wait_until_confirmed(sender)
    consumer = RecordingConsumer()
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, consumer.receive)
        await consumer.wait_for_count(MANY)
    assert consumer.sequence_numbers == list(range(MANY))


async def test_confirmations_are_reported_in_the_order_of_publishing(broker: str) -> None:
    """Each once everything published before it is confirmed; at once if nothing is unconfirmed."""
    confirmations: list[int] = []
    async with connect(broker, "sender", 1) as sender:
        sender.when_confirmed(lambda: confirmations.append(-1))
        assert confirmations == [-1]
        for step in range(10):
            send_heartbeats(sender, range(step * 100, (step + 1) * 100))
            sender.when_confirmed(lambda step=step: confirmations.append(step))  # type: ignore[misc]
        await wait_until_confirmed(sender)
    assert confirmations == list(range(-1, 10))


async def test_a_message_arrives_as_it_was_published(broker: str) -> None:
    """With its kind, its fields and its session."""
    consumer = RecordingConsumer()
    message = CatalogSynced(request=7, revision=1234567890123)
    async with connect(broker, "both", 1) as bus:
        await bus.consume(QUEUE, consumer.receive)
        bus.send(QUEUE, Envelope("watcher", "a session/with spaces 3", 5, message))
        assert await consumer.wait_for_count(1) == [
            Envelope("watcher", "a session/with spaces 3", 5, message)
        ]


async def test_a_standby_consumer_takes_over_with_the_unacknowledged_messages(broker: str) -> None:
    """In order, marked as redelivered, before anything newer. Before, it receives nothing."""
    first, second = RecordingConsumer(acks=False), RecordingConsumer()
    async with connect(broker, "sender", 1) as sender, connect(broker, "standby", 1) as standby:
        async with connect(broker, "active", 1) as active:
            await active.consume(QUEUE, first.receive)
            await standby.consume(QUEUE, second.receive)
            send_heartbeats(sender, range(100))
            await first.wait_for_count(100)
            for delivery in first.deliveries[:40]:
                delivery.ack()
            send_heartbeats(sender, range(100, 110))
            await first.wait_for_count(110)
            assert second.sequence_numbers == []
        send_heartbeats(sender, range(110, 200))
        await second.wait_until(lambda envelopes: 199 in [envelope.sequence for envelope in envelopes])
    first_left = second.sequence_numbers[0]
    assert first_left <= 40  # An acknowledgement may be lost with its connection.
    assert second.sequence_numbers == list(range(first_left, 200))
    redelivered = [envelope.sequence for envelope in second.envelopes if envelope.redelivered]
    assert redelivered == list(range(first_left, 110))


async def test_only_unacknowledged_messages_are_redelivered(broker: str) -> None:
    """In whatever order the others were acknowledged."""
    consumer, later = RecordingConsumer(acks=False), RecordingConsumer()
    async with connect(broker, "sender", 1) as sender:
        async with connect(broker, "first", 1) as first:
            await first.consume(QUEUE, consumer.receive)
            send_heartbeats(sender, range(30))
            await consumer.wait_for_count(30)
            for delivery in reversed(consumer.deliveries):
                if delivery.envelope.sequence % 3:
                    delivery.ack()
            await acknowledged(first)
        async with connect(broker, "second", 1) as second:
            await second.consume(QUEUE, later.receive)
            await later.wait_for_count(10)
            send_heartbeats(sender, range(30, 31))
            await later.wait_for_count(11)
    assert later.sequence_numbers == [*range(0, 30, 3), 30]


async def test_an_undecodable_message_is_dead_lettered_and_holds_up_no_other(broker: str) -> None:
    """With its bytes, its queue and the reason. Its sequence number still counts."""
    consumer = RecordingConsumer()
    async with connect(broker, "receiver", 1) as receiver, await aio_pika.connect(broker) as raw:
        await receiver.consume(QUEUE, consumer.receive)
        exchange = await (await raw.channel()).get_exchange(topology.exchange_of(QUEUE))
        bodies = {"Nonsense": b"{}", "CatalogSynced": b'{"request": "many"}', "Heartbeat": b"{}"}
        for number, (kind, body) in enumerate(bodies.items()):
            await exchange.publish(a_message(broker, body, type=kind, message_id=f"session {number}"), QUEUE)
        envelopes = await consumer.wait_for_count(3)
        dead = await dead_letters(broker, 2)
    assert [envelope.message for envelope in envelopes] == [None, None, Heartbeat()]
    assert consumer.sequence_numbers == [0, 1, 2]
    assert [message.body for message in dead] == [b"{}", b'{"request": "many"}']
    assert [message.headers["queue"] for message in dead] == [QUEUE, QUEUE]
    assert dead[0].headers["reason"] == "unknown message kind 'Nonsense'"
    assert str(dead[1].headers["reason"]).startswith("CatalogSynced: Expected `int`, got `str`")
    await wait_for_queued_messages(broker, 0)


async def test_a_message_that_cannot_be_processed_is_dead_lettered_with_the_reason(broker: str) -> None:
    """It is not redelivered."""
    consumer = RecordingConsumer(acks=False)
    async with connect(broker, "both", 1) as bus:
        await bus.consume(QUEUE, consumer.receive)
        send_heartbeats(bus, range(1))
        await consumer.wait_for_count(1)
        consumer.deliveries[0].dead_letter("ValueError: so it is")
        (dead,) = await dead_letters(broker, 1)
    assert dead.type == "Heartbeat"
    assert dead.headers["reason"] == "ValueError: so it is"
    await wait_for_queued_messages(broker, 0)


async def test_the_watchers_messages_are_batched_and_arrive_one_by_one(broker: str) -> None:
    """In order, with their own sequence numbers."""
    consumer = RecordingConsumer()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        send_heartbeats(sender, range(MANY), publisher=topology.WATCHER)
        await wait_until_confirmed(sender)
        assert await count_queued_messages(broker) < MANY / 50
        await receiver.consume(QUEUE, consumer.receive)
        envelopes = await consumer.wait_for_count(MANY)
        await acknowledged(receiver)
    assert consumer.sequence_numbers == list(range(MANY))
    assert {(envelope.publisher, envelope.session) for envelope in envelopes} == {("watcher", "session")}
    await wait_for_queued_messages(broker, 0)


async def test_a_batch_is_acknowledged_once_all_of_its_messages_are(broker: str) -> None:
    """Otherwise RabbitMQ redelivers the whole batch."""
    consumer, later = RecordingConsumer(acks=False), RecordingConsumer()
    async with connect(broker, "sender", 1) as sender:
        send_heartbeats(sender, range(3), publisher=topology.WATCHER)
        await wait_until_confirmed(sender)
        assert await count_queued_messages(broker) == 1
        async with connect(broker, "first", 1) as first:
            await first.consume(QUEUE, consumer.receive)
            await consumer.wait_for_count(3)
            for delivery in consumer.deliveries[1:]:
                delivery.ack()
            await acknowledged(first)
        async with connect(broker, "second", 1) as second:
            await second.consume(QUEUE, later.receive)
            envelopes = await later.wait_for_count(3)
            await acknowledged(second)
    assert later.sequence_numbers == [0, 1, 2]
    assert all(envelope.redelivered for envelope in envelopes)
    await wait_for_queued_messages(broker, 0)


async def test_an_undecodable_message_of_a_batch_is_dead_lettered_alone(broker: str) -> None:
    """With its own kind, body and sequence number. The others are processed."""
    consumer = RecordingConsumer()
    async with connect(broker, "receiver", 1) as receiver, await aio_pika.connect(broker) as raw:
        await receiver.consume(QUEUE, consumer.receive)
        exchange = await (await raw.channel()).get_exchange(topology.exchange_of(QUEUE))
        body = b'Heartbeat {}\nNonsense {"a": 1}\nHeartbeat {}'
        await exchange.publish(a_message(broker, body, type=BATCH, message_id="session 5"), QUEUE)
        envelopes = await consumer.wait_for_count(3)
        (dead,) = await dead_letters(broker, 1)
        await acknowledged(receiver)
    assert [envelope.message for envelope in envelopes] == [Heartbeat(), None, Heartbeat()]
    assert consumer.sequence_numbers == [5, 6, 7]
    assert (dead.type, dead.body, dead.message_id) == ("Nonsense", b'{"a": 1}', "session 6")
    await wait_for_queued_messages(broker, 0)


async def test_a_message_that_always_ends_its_consumer_is_dead_lettered(broker: str) -> None:
    """After the delivery limit, so that the messages behind it are processed."""
    await dead_letter_messages(broker, 2)
    assert [message.message_id for message in await dead_letters(broker, 2)] == ["session 0", "session 1"]
    await wait_for_queued_messages(broker, 0)


async def test_a_broker_that_does_not_answer_is_unreachable() -> None:
    """Nothing listens on port 1."""
    with pytest.raises(UnreachableError, match="RabbitMQ is not reachable"):
        async with connect("amqp://guest:guest@127.0.0.1:1/", "nobody", 1):
            pass


async def test_a_broker_that_rejects_the_login_is_unreachable(broker: str) -> None:
    """It may accept the login later, after an operator has corrected the password."""
    scheme, _, rest = broker.partition("://")
    wrong = f"{scheme}://nobody:wrong@{rest.rpartition('@')[2]}"
    with pytest.raises(UnreachableError, match="RabbitMQ is not reachable"):
        async with connect(wrong, "nobody", 1):
            pass


async def test_a_queue_with_other_arguments_is_reported_with_the_remedy(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ keeps a queue as an earlier release has declared it."""
    async with connect(broker, "earlier release", 1):
        pass
    monkeypatch.setattr(topology, "MAX_QUEUE_MESSAGES", 5)
    with pytest.raises(UnreachableError, match=r"has other arguments; .* delete it, .*'x-max-length'"):
        async with connect(broker, "this release", 1):
            pass


async def test_publishing_to_a_deleted_queue_breaks_the_bus(broker: str) -> None:
    """RabbitMQ would otherwise drop the message, and confirm it."""
    async with connect(broker, "sender", 1) as sender:
        await delete_queue(broker)
        send_heartbeats(sender, range(1))
        with pytest.raises(UnreachableError):
            await wait_until_broken(sender)


async def test_the_deletion_of_a_consumed_queue_breaks_the_bus(broker: str) -> None:
    """The service starts over, and declares the queue again. Without this, it would wait forever."""
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, RecordingConsumer().receive)
        await delete_queue(broker)
        with pytest.raises(UnreachableError):
            await wait_until_broken(receiver)
