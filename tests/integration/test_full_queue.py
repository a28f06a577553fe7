"""Back-pressure on a real RabbitMQ: queues that nobody empties, and a broker that takes nothing.

The limits are made small where the broker's own way at them is what counts.
"""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.broker import memory_alarm
from tests.support.bus import QUEUE, broken, confirmed, send, until_waiting, waiting
from tests.support.inbox import SECONDS, Inbox
from tests.support.stacks import LocalStack
from tests.support.waiting import soon

from shared import bus as bus_module
from shared import topology
from shared.bus import PREFETCH, UNCONFIRMED, connect
from shared.errors import UnreachableError
from shared.messages import Heartbeat
from shared.session import Envelope, Follower, Verdict

LIMIT = 500
OTHER = topology.queue_of(topology.SCHEDULER)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues that are full soon."""
    monkeypatch.setattr(topology, "QUEUE_LIMIT", LIMIT)


@pytest.mark.usefixtures("small")
async def test_a_full_queue_costs_its_sender_nothing_and_nobody_else_anything(broker: str) -> None:
    """Beyond the limit each message is refused, told, and done with; other queues take theirs."""
    inbox = Inbox()
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(OTHER, inbox.receive)
        send(sender, range(10 * LIMIT))
        sender.send(OTHER, Envelope("test", "session", 0, Heartbeat()))
        await confirmed(sender)
        await inbox.count(1)
        assert not sender._unconfirmed
        assert not any(sender._outbox.values())
        assert not sender.stalled
        assert not sender.broken.done()
    # RabbitMQ tells its publishers a moment late.
    assert LIMIT <= await waiting(broker) <= LIMIT + 2 * UNCONFIRMED


@pytest.mark.usefixtures("small")
async def test_who_comes_to_a_full_queue_finds_the_gap_and_gets_what_is_new(broker: str) -> None:
    """What was refused is missed by its number, so the reader knows that he has to ask."""
    inbox = Inbox()
    async with connect(broker, "sender", 1) as sender:
        send(sender, range(10 * LIMIT))
        await confirmed(sender)
        async with connect(broker, "receiver", 1) as receiver:
            await receiver.consume(QUEUE, inbox.receive)
            number = 10 * LIMIT
            async with asyncio.timeout(SECONDS):
                while max(inbox.numbers, default=0) < 10 * LIMIT:
                    send(sender, range(number, number + 1))
                    number += 1
                    await asyncio.sleep(0.02)
    follower = Follower("me")
    follower.ask()
    verdicts = [follower.receive(envelope) for envelope in inbox.envelopes]
    assert inbox.numbers == sorted(set(inbox.numbers))
    assert len(inbox.numbers) < number
    late = [v for v, n in zip(verdicts, inbox.numbers, strict=True) if n >= 10 * LIMIT]
    assert late[0] is Verdict.ASK


@pytest.mark.usefixtures("small")
async def test_a_reader_that_hangs_gets_no_more_than_it_can_hold(broker: str) -> None:
    """Its connection lives and it acknowledges nothing: the rest stays in the queue, up to the limit.

    When it is cut off, its successor gets all that was taken, what the hanging one held before the rest.
    """
    hanging, heir = Inbox(acks=False), Inbox()
    async with connect(broker, "sender", 1) as sender:
        async with connect(broker, "hanging", 1) as stuck:
            await stuck.consume(QUEUE, hanging.receive)
            send(sender, range(PREFETCH))
            await hanging.count(PREFETCH)
            send(sender, range(PREFETCH, PREFETCH + 10 * LIMIT))
            await confirmed(sender)
            assert len(hanging.deliveries) == PREFETCH
            assert not stuck.broken.done()
        taken = await waiting(broker)
        assert PREFETCH + LIMIT <= taken <= PREFETCH + LIMIT + 2 * UNCONFIRMED
        async with connect(broker, "heir", 1) as receiver:
            await receiver.consume(QUEUE, heir.receive)
            await heir.count(taken)
    assert heir.numbers[:PREFETCH] == list(range(PREFETCH))
    assert heir.numbers == sorted(set(heir.numbers))


async def test_dead_letters_past_their_limit_push_the_oldest_out(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To bury is never refused: else its service would wait for it, and everybody for that."""
    monkeypatch.setitem(topology.DEAD_ARGUMENTS, "x-max-length", 5)
    inbox = Inbox(acks=False)
    async with connect(broker, "both", 1) as both:
        await both.consume(QUEUE, inbox.receive)
        send(both, range(20))
        await inbox.count(20)
        for delivery in inbox.deliveries:
            delivery.bury("as a test")
        await asyncio.gather(*both._tasks)
        assert not both.broken.done()
        await until_waiting(broker, 5, topology.DEAD)
    await until_waiting(broker, 0)


async def test_a_buried_message_is_acknowledged_only_when_it_is_among_the_dead(broker: str) -> None:
    """Whoever says meanwhile that it is done, as a consumer does with what it can't read, changes nothing."""
    inbox = Inbox(acks=False)
    async with connect(broker, "sender", 1) as sender, connect(broker, "dying", 1) as dying:
        await dying.consume(QUEUE, inbox.receive)
        send(sender, range(1))
        await inbox.count(1)
        dying._sending = None  # type: ignore[assignment]  # It never gets as far as to send it.
        inbox.deliveries[0].bury("as a test")
        inbox.deliveries[0].ack()
        with pytest.raises(AttributeError):
            await broken(dying)
    await until_waiting(broker, 1)
    assert await waiting(broker, topology.DEAD) == 0


@pytest.fixture
def alarm(local_stack: LocalStack, rabbitmq: str) -> Callable[[bool], None]:
    """Turns the broker's memory alarm on and off; the broker is the local one, of this process alone."""
    component = local_stack.parts("rabbitmq").component("rabbitmq")
    if str(local_stack.parts("rabbitmq").amqp_url).rpartition("@")[2].partition("/")[0] not in rabbitmq:
        pytest.fail("the memory alarm needs the local broker: don't give an AMQP_URL")
    return lambda on: memory_alarm(component, on=on)


async def test_a_broker_that_takes_nothing_is_told_and_waited_for(
    broker: str, alarm: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way stays bounded; the sender says what it waits for; then all arrives, in order."""
    monkeypatch.setattr(bus_module, "STALLED_AFTER", 0.5)
    inbox = Inbox()
    many = 5 * UNCONFIRMED
    async with connect(broker, "sender", 1) as sender, connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, inbox.receive)
        await asyncio.to_thread(alarm, True)  # noqa: FBT003 - on
        try:
            send(sender, range(many))
            await soon(lambda: sender.stalled, "the sender says what it waits for")
            assert sender.stalled == f"RabbitMQ to take messages: {many} wait"
            assert many - len(sender._outbox[QUEUE]) <= UNCONFIRMED
            assert not sender.broken.done()
        finally:
            await asyncio.to_thread(alarm, False)  # noqa: FBT003 - off
        await confirmed(sender)
        assert not sender.stalled
        await inbox.count(many)
    assert inbox.numbers == list(range(many))


async def test_who_would_have_to_hold_too_much_starts_over_soon(
    broker: str, alarm: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the outbox's limit its connection is closed, although RabbitMQ reads nothing from it."""
    limit = 3 * UNCONFIRMED
    monkeypatch.setattr(bus_module, "OUTBOX_LIMIT", limit)
    try:
        async with connect(broker, "sender", 1) as sender:
            await asyncio.to_thread(alarm, True)  # noqa: FBT003 - on
            async with asyncio.timeout(SECONDS):
                number = 0
                while not sender.broken.done():
                    send(sender, range(number, number + 100))
                    number += 100
                    await asyncio.sleep(0.001)
            assert number <= limit + UNCONFIRMED + 1000
            with pytest.raises(UnreachableError, match="RabbitMQ takes no messages"):
                await broken(sender)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 30
    finally:
        await asyncio.to_thread(alarm, False)  # noqa: FBT003 - off
