"""shared.bus on a real RabbitMQ: order, confirmation, redelivery, and what nobody can read."""

import asyncio

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from tests.support.bus import QUEUE, broken, confirmed, delete_queue, given_up, send, until_waiting, waiting
from tests.support.inbox import SECONDS, Inbox

from shared import topology
from shared.bus import BATCH, PREFETCH, RabbitBus, connect
from shared.errors import UnreachableError
from shared.messages import CatalogListed, Heartbeat
from shared.session import Envelope

MANY = 5000


async def acknowledged(bus: RabbitBus) -> None:
    """Return when the broker has every acknowledgement: it answers what comes behind them."""
    await asyncio.gather(*bus._tasks)
    await bus._consuming.basic_qos(prefetch_count=PREFETCH)


async def dead_letters(broker: str, number: int) -> list[AbstractIncomingMessage]:
    """The messages in phjob.dead, once there are so many."""
    found: list[AbstractIncomingMessage] = []
    async with asyncio.timeout(SECONDS), await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.DEAD)
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                found.append(message)
                if len(found) == number:
                    break
    return found


async def test_thousands_of_messages_arrive_once_each_and_in_order(broker: str) -> None:
    """With their place in the stream, and marked as new."""
    inbox = Inbox()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, inbox.receive)
        send(sender, range(MANY))
        await confirmed(sender)
        envelopes = await inbox.count(MANY)
        await acknowledged(receiver)
    assert inbox.numbers == list(range(MANY))
    assert envelopes[0] == Envelope("test", "session", 0, Heartbeat())
    assert not any(envelope.redelivered for envelope in envelopes)
    await until_waiting(broker, 0)


async def test_what_is_confirmed_survives_its_sender(broker: str) -> None:
    """It is in the queue, all of it, when when_sent says so."""
    async with connect(broker, "sender", 1) as sender:
        send(sender, range(MANY))
        await confirmed(sender)
    inbox = Inbox()
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, inbox.receive)
        await inbox.count(MANY)
    assert inbox.numbers == list(range(MANY))


async def test_confirmations_are_told_in_the_order_of_sending(broker: str) -> None:
    """Each when all that was sent before it is confirmed; with nothing under way, at once."""
    told: list[int] = []
    async with connect(broker, "sender", 1) as sender:
        sender.when_sent(lambda: told.append(-1))
        assert told == [-1]
        for step in range(10):
            send(sender, range(step * 100, (step + 1) * 100))
            sender.when_sent(lambda step=step: told.append(step))  # type: ignore[misc]
        await confirmed(sender)
    assert told == list(range(-1, 10))


async def test_a_body_comes_back_as_it_was_sent(broker: str) -> None:
    """Kind and fields."""
    inbox = Inbox()
    message = CatalogListed(request=7, revision=1234567890123)
    async with connect(broker, "both", 1) as bus:
        await bus.consume(QUEUE, inbox.receive)
        bus.send(QUEUE, Envelope("scheduler", "a session/with spaces 3", 5, message))
        assert await inbox.count(1) == [Envelope("scheduler", "a session/with spaces 3", 5, message)]


async def test_the_standby_gets_nothing_until_the_active_consumer_is_gone_then_what_it_left_first(
    broker: str,
) -> None:
    """Unacknowledged messages come again, in their order, marked, before anything newer."""
    first, second = Inbox(acks=False), Inbox()
    async with connect(broker, "sender", 1) as sender, connect(broker, "standby", 1) as standby:
        async with connect(broker, "active", 1) as active:
            await active.consume(QUEUE, first.receive)
            await standby.consume(QUEUE, second.receive)
            send(sender, range(100))
            await first.count(100)
            for delivery in first.deliveries[:40]:
                delivery.ack()
            send(sender, range(100, 110))
            await first.count(110)
            assert second.numbers == []
        send(sender, range(110, 200))
        await second.until(lambda envelopes: 199 in [envelope.number for envelope in envelopes])
    left = second.numbers[0]
    assert left <= 40  # An acknowledgement may be lost with its connection.
    assert second.numbers == list(range(left, 200))
    again = [envelope.number for envelope in second.envelopes if envelope.redelivered]
    assert again == list(range(left, 110))


async def test_only_what_was_not_acknowledged_comes_again(broker: str) -> None:
    """In whatever order it was acknowledged."""
    inbox, later = Inbox(acks=False), Inbox()
    async with connect(broker, "sender", 1) as sender:
        async with connect(broker, "first", 1) as first:
            await first.consume(QUEUE, inbox.receive)
            send(sender, range(30))
            await inbox.count(30)
            for delivery in reversed(inbox.deliveries):
                if delivery.envelope.number % 3:
                    delivery.ack()
            await acknowledged(first)
        async with connect(broker, "second", 1) as second:
            await second.consume(QUEUE, later.receive)
            await later.count(10)
            send(sender, range(30, 31))
            await later.count(11)
    assert later.numbers == [*range(0, 30, 3), 30]


async def test_what_cannot_be_decoded_goes_to_the_dead_letters_and_holds_nobody_up(broker: str) -> None:
    """With its bytes, its queue and the reason; its place in the stream still counts."""
    inbox = Inbox()
    async with connect(broker, "receiver", 1) as receiver, await aio_pika.connect(broker) as raw:
        await receiver.consume(QUEUE, inbox.receive)
        exchange = await (await raw.channel()).get_exchange(topology.exchange_of(QUEUE))
        bodies = {"Nonsense": b"{}", "CatalogListed": b'{"request": "many"}', "Heartbeat": b"{}"}
        for number, (kind, body) in enumerate(bodies.items()):
            properties = {"type": kind, "message_id": f"session {number}", "app_id": "test"}
            await exchange.publish(aio_pika.Message(body, **properties), QUEUE)  # type: ignore[arg-type]
        envelopes = await inbox.count(3)
        dead = await dead_letters(broker, 2)
    assert [envelope.message for envelope in envelopes] == [None, None, Heartbeat()]
    assert inbox.numbers == [0, 1, 2]
    assert [message.body for message in dead] == [b"{}", b'{"request": "many"}']
    assert [message.headers["queue"] for message in dead] == [QUEUE, QUEUE]
    assert dead[0].headers["reason"] == "unknown message kind 'Nonsense'"
    assert str(dead[1].headers["reason"]).startswith("CatalogListed: 2 fields do not fit")
    await until_waiting(broker, 0)


async def test_what_nobody_can_handle_is_buried_with_its_reason(broker: str) -> None:
    """It does not come again."""
    inbox = Inbox(acks=False)
    async with connect(broker, "both", 1) as bus:
        await bus.consume(QUEUE, inbox.receive)
        send(bus, range(1))
        await inbox.count(1)
        inbox.deliveries[0].bury("ValueError: so it is")
        (dead,) = await dead_letters(broker, 1)
    assert dead.type == "Heartbeat"
    assert dead.headers["reason"] == "ValueError: so it is"
    await until_waiting(broker, 0)


async def test_what_the_watcher_says_travels_together_and_arrives_one_by_one(broker: str) -> None:
    """In order, with the places that it was given."""
    inbox = Inbox()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        send(sender, range(MANY), publisher=topology.WATCHER)
        await confirmed(sender)
        assert await waiting(broker) < MANY / 50
        await receiver.consume(QUEUE, inbox.receive)
        envelopes = await inbox.count(MANY)
        await acknowledged(receiver)
    assert inbox.numbers == list(range(MANY))
    assert {(envelope.publisher, envelope.session) for envelope in envelopes} == {("watcher", "session")}
    await until_waiting(broker, 0)


async def test_what_travels_together_is_acknowledged_together(broker: str) -> None:
    """When the last of it is done: else all of it comes again."""
    inbox, later = Inbox(acks=False), Inbox()
    async with connect(broker, "sender", 1) as sender:
        send(sender, range(3), publisher=topology.WATCHER)
        await confirmed(sender)
        assert await waiting(broker) == 1
        async with connect(broker, "first", 1) as first:
            await first.consume(QUEUE, inbox.receive)
            await inbox.count(3)
            for delivery in inbox.deliveries[1:]:
                delivery.ack()
            await acknowledged(first)
        async with connect(broker, "second", 1) as second:
            await second.consume(QUEUE, later.receive)
            envelopes = await later.count(3)
            await acknowledged(second)
    assert later.numbers == [0, 1, 2]
    assert all(envelope.redelivered for envelope in envelopes)
    await until_waiting(broker, 0)


async def test_one_of_several_that_cannot_be_read_is_buried_alone(broker: str) -> None:
    """With its own kind, body and place; the others are handled."""
    inbox = Inbox()
    async with connect(broker, "receiver", 1) as receiver, await aio_pika.connect(broker) as raw:
        await receiver.consume(QUEUE, inbox.receive)
        exchange = await (await raw.channel()).get_exchange(topology.exchange_of(QUEUE))
        body = b'Heartbeat {}\nNonsense {"a": 1}\nHeartbeat {}'
        message = aio_pika.Message(body, type=BATCH, message_id="session 5", app_id="test")
        await exchange.publish(message, QUEUE)
        envelopes = await inbox.count(3)
        (dead,) = await dead_letters(broker, 1)
        await acknowledged(receiver)
    assert [envelope.message for envelope in envelopes] == [Heartbeat(), None, Heartbeat()]
    assert inbox.numbers == [5, 6, 7]
    assert (dead.type, dead.body, dead.message_id) == ("Nonsense", b'{"a": 1}', "session 6")
    await until_waiting(broker, 0)


async def test_a_message_that_always_kills_its_consumer_ends_with_the_dead_letters(broker: str) -> None:
    """After the delivery limit, so that those behind it have their turn."""
    await given_up(broker, 2)
    assert [message.message_id for message in await dead_letters(broker, 2)] == ["session 0", "session 1"]
    await until_waiting(broker, 0)


async def test_a_broker_that_is_not_there_is_unreachable() -> None:
    """Nothing listens on port 1."""
    with pytest.raises(UnreachableError, match="RabbitMQ is not reachable"):
        async with connect("amqp://guest:guest@127.0.0.1:1/", "nobody", 1):
            pass


async def test_a_broker_that_lets_nobody_in_is_unreachable(broker: str) -> None:
    """It may let us in later, when somebody has mended the password."""
    scheme, _, rest = broker.partition("://")
    wrong = f"{scheme}://nobody:wrong@{rest.rpartition('@')[2]}"
    with pytest.raises(UnreachableError, match="RabbitMQ is not reachable"):
        async with connect(wrong, "nobody", 1):
            pass


async def test_a_queue_that_is_deleted_under_its_sender_breaks_the_bus(broker: str) -> None:
    """A message that reaches no queue is not lost in silence: its sender starts over."""
    async with connect(broker, "sender", 1) as sender:
        await delete_queue(broker)
        send(sender, range(1))
        with pytest.raises(UnreachableError):
            await broken(sender)


async def test_a_queue_that_is_deleted_under_its_consumer_breaks_the_bus(broker: str) -> None:
    """A service does not listen for ever to a queue that is no more: it starts over and declares it anew."""
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, Inbox().receive)
        await delete_queue(broker)
        with pytest.raises(UnreachableError):
            await broken(receiver)
