"""An attacker with the login of one service, on a real RabbitMQ (spec.md, E6).

They can neither speak for another service, nor read its messages, nor change the topology.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from tests.support.installed_broker import ALL_USERS, SHARDS, InstalledBroker
from tests.support.recording_consumer import RecordingConsumer
from tests.support.waiting import eventually_async

from phjob_core import messages
from phjob_core.errors import UnreachableError
from phjob_core.messages import Admit, Heartbeat, JobGone, Message
from phjob_core.stream import Envelope
from phjob_runtime.amqp import bus, dead_letters, topology
from phjob_runtime.amqp.authorship import BrokerUsers
from phjob_runtime.amqp.bus import RabbitBus

A_FACT = JobGone(uid="u", name="job", group="phusers", resource_version=1)
AN_ADMIT = Admit(
    uid="u", name="job", group="phusers", fence="", token="s#1", resources={"cpu": 1}, revision=1
)
MISSING = object()
services = pytest.mark.parametrize("service", topology.SERVICES)
every_user = pytest.mark.parametrize("service", ALL_USERS)


def a_message(message: Message, publisher: str, user: object, **fields: object) -> aio_pika.Message:
    """Return a message that names this publisher, with this `user_id`, or without one."""
    kind, body = messages.encode(message)
    properties = {"app_id": publisher, "type": kind, "message_id": "session 0", **fields}
    if user is not MISSING:
        properties["user_id"] = user
    return aio_pika.Message(body, **properties)  # type: ignore[arg-type]


async def publish(url: str, exchange: str, queue: str, message: aio_pika.Message) -> None:
    """Publish as the user of the URL."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        target = await channel.get_exchange(exchange, ensure=False)
        await target.publish(message, queue, mandatory=True)


@asynccontextmanager
async def receiving(
    installed: InstalledBroker, queue: str
) -> AsyncIterator[tuple[RabbitBus, RecordingConsumer]]:
    """Run the bus of the service whose queue this is. Acknowledge everything."""
    consumer, service = RecordingConsumer(), topology.service_of(queue)
    async with bus.connect(installed.urls[service], service, SHARDS, declare=False) as rabbit:
        await rabbit.consume(queue, consumer.receive)
        yield rabbit, consumer
        await asyncio.gather(*rabbit._tasks)


async def take_dead_letters(installed: InstalledBroker, count: int) -> list[dead_letters.DeadLetter]:
    """Return this many dead letters, and remove them."""
    async with await aio_pika.connect(installed.urls[topology.OPERATOR]) as connection:
        channel = await connection.channel()
        found: list[dead_letters.DeadLetter] = []
        while len(found) < count:
            found += await dead_letters.fetch(channel)
        for letter in found:
            await letter.message.ack()
    return found


async def dead_letter_reasons(installed: InstalledBroker, count: int) -> list[str]:
    """Return the reasons of this many dead letters, and remove them."""
    return [letter.reason for letter in await take_dead_letters(installed, count)]


@services
async def test_no_service_publishes_with_the_user_of_another(
    installed: InstalledBroker, service: str
) -> None:
    """RabbitMQ itself verifies `user_id`."""
    other = next(name for name in topology.SERVICES if name != service)
    recipient = topology.RECIPIENTS[service][0]
    queue = topology.queue_of(recipient)
    forged = a_message(A_FACT, other, installed.user(other))
    with pytest.raises(ChannelPreconditionFailed, match="user_id property set to"):
        await publish(installed.urls[service], topology.exchange_of(queue), queue, forged)


@pytest.mark.parametrize("service", ["scheduler", "janitor", "pod-manager"])
@pytest.mark.parametrize("is_signed", [True, False], ids=["own user", "no user"])
async def test_facts_of_another_service_than_the_watcher_are_dead_lettered(
    installed: InstalledBroker,
    service: str,
    is_signed: bool,  # noqa: FBT001 - pytest's
) -> None:
    """They are not part of the watcher's stream, whatever they claim."""
    queue = topology.queue_of(topology.POD_MANAGER)
    user = installed.user(service) if is_signed else MISSING
    async with receiving(installed, queue) as (_, consumer):
        forged = a_message(A_FACT, topology.WATCHER, user)
        await publish(installed.urls[service], topology.exchange_of(queue), queue, forged)
        (envelope,) = await consumer.wait_for_count(1)
    assert (envelope.publisher, envelope.message) == ("", None)
    (reason,) = await dead_letter_reasons(installed, 1)
    sender = f"RabbitMQ's user {user!r}" if is_signed else "an unknown user"
    expected = f"{sender} sent it, not {installed.user(topology.WATCHER)!r}"
    assert reason == f"it names watcher as its publisher, but {expected}"


@pytest.mark.parametrize("service", ["watcher", "janitor", "pod-manager"])
async def test_only_the_scheduler_can_admit(installed: InstalledBroker, service: str) -> None:
    """A service that admits in its own name is no scheduler."""
    queue = topology.queue_of(topology.POD_MANAGER)
    async with receiving(installed, queue) as (_, consumer):
        admit = a_message(AN_ADMIT, service, installed.user(service))
        await publish(installed.urls[service], topology.exchange_of(queue), queue, admit)
        (envelope,) = await consumer.wait_for_count(1)
    assert (envelope.publisher, envelope.message) == (service, None)
    assert await dead_letter_reasons(installed, 1) == [f"{service} may not send Admit to pod-manager"]


async def test_a_batch_of_another_service_is_dead_lettered_message_by_message(
    installed: InstalledBroker,
) -> None:
    """Its properties are those of all its messages."""
    queue = topology.queue_of(topology.POD_MANAGER)
    kind, body = messages.encode(A_FACT)
    batch = aio_pika.Message(
        b"\n".join([kind.encode() + b" " + body] * 3),
        app_id=topology.WATCHER,
        type="Batch",
        message_id="session 0",
        user_id=installed.user(topology.JANITOR),
    )
    async with receiving(installed, queue) as (_, consumer):
        await publish(installed.urls[topology.JANITOR], topology.exchange_of(queue), queue, batch)
        envelopes = await consumer.wait_for_count(3)
    assert {envelope.publisher for envelope in envelopes} == {""}
    assert len(set(await dead_letter_reasons(installed, 3))) == 1


async def test_a_genuine_message_is_accepted_beside_the_forged_ones(installed: InstalledBroker) -> None:
    """The watcher's own fact has its place in the stream."""
    queue = topology.queue_of(topology.POD_MANAGER)
    async with (
        receiving(installed, queue) as (_, consumer),
        bus.connect(installed.urls[topology.WATCHER], "watcher", SHARDS, declare=False) as watcher,
    ):
        forged = a_message(A_FACT, topology.WATCHER, installed.user(topology.JANITOR))
        await publish(installed.urls[topology.JANITOR], topology.exchange_of(queue), queue, forged)
        watcher.send(queue, Envelope(topology.WATCHER, "session", 0, A_FACT))
        envelopes = await consumer.wait_for_count(2)
    assert [envelope for envelope in envelopes if envelope.publisher] == [
        Envelope(topology.WATCHER, "session", 0, A_FACT)
    ]
    assert len(await dead_letter_reasons(installed, 1)) == 1


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        (
            lambda user: {"queue": "pod-manager.0", "user": user("watcher"), "reason": "x"},
            "its headers are of",
        ),
        (lambda _: {"x-death": [{"queue": "pod-manager.0", "reason": "delivery_limit"}]}, "it names watcher"),
    ],
    ids=["as a service", "as RabbitMQ"],
)
async def test_a_forged_dead_letter_is_not_replayed(
    installed: InstalledBroker,
    capsys: pytest.CaptureFixture[str],
    headers: Callable[[Callable[[str], str]], dict[str, object]],
    problem: str,
) -> None:
    """Otherwise the operator's replay would publish it in the name of the watcher."""
    user = installed.user(topology.JANITOR)
    forged = a_message(A_FACT, topology.WATCHER, user, headers=headers(installed.user))
    await publish(installed.urls[topology.JANITOR], topology.DEAD_LETTER_QUEUE, "", forged)
    operator = installed.urls[topology.OPERATOR]
    assert await dead_letters.run(operator, "show", None, []) == 0
    assert f"    author: not proven, because {problem}" in capsys.readouterr().out
    assert await dead_letters.run(operator, "replay", None, []) == 1
    output = capsys.readouterr().out
    assert "not replayed: " in output
    assert problem in output
    assert len(await take_dead_letters(installed, 1)) == 1


async def test_a_genuine_dead_letter_is_replayed_in_the_name_of_its_author(
    installed: InstalledBroker,
) -> None:
    """The operator's user may publish for others, so the receiver accepts it."""
    queue = topology.queue_of(topology.JANITOR)
    consumer = RecordingConsumer(acks=False)
    async with (
        bus.connect(installed.urls[topology.JANITOR], "janitor", SHARDS, declare=False) as janitor,
        bus.connect(installed.urls[topology.WATCHER], "watcher", SHARDS, declare=False) as watcher,
    ):
        await janitor.consume(queue, consumer.receive)
        watcher.send(queue, Envelope(topology.WATCHER, "session", 7, Heartbeat()))
        await consumer.wait_for_count(1)
        consumer.deliveries[0].dead_letter("as a test")
        await asyncio.gather(*janitor._tasks)
        await eventually_async(lambda: not janitor._unprocessed, "the dead letter is confirmed")
        assert await dead_letters.run(installed.urls[topology.OPERATOR], "replay", None, []) == 0
        envelopes = await consumer.wait_for_count(2)
        consumer.deliveries[1].ack()
        await asyncio.gather(*janitor._tasks)
    assert envelopes[1] == Envelope(topology.WATCHER, "session", 7, Heartbeat())


async def test_an_operator_without_the_tag_is_told_the_remedy(
    installed: InstalledBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user of another broker may lack it. The dead letter stays."""
    queue = topology.queue_of(topology.JANITOR)
    letter = a_message(
        Heartbeat(),
        topology.WATCHER,
        installed.user(topology.JANITOR),
        headers={"queue": queue, "user": installed.user(topology.WATCHER), "reason": "x"},
    )
    await publish(installed.urls[topology.JANITOR], topology.DEAD_LETTER_QUEUE, "", letter)
    async with await aio_pika.connect(installed.urls[topology.OPERATOR]) as reading:
        (found,) = await dead_letters.fetch(await reading.channel())
        async with await aio_pika.connect(installed.urls[topology.JANITOR]) as untagged:
            channel = await untagged.channel(publisher_confirms=True, on_return_raises=True)
            users = BrokerUsers.of(installed.user(topology.OPERATOR), topology.OPERATOR)
            with pytest.raises(UnreachableError, match="RabbitMQ's tag impersonator"):
                await dead_letters.replay(channel, found, users)
        await found.message.ack()
    assert capsys.readouterr().out == ""


Attack = Callable[[AbstractChannel], Awaitable[object]]
HOSTILE: dict[str, Attack] = {
    "declare a queue": lambda channel: channel.declare_queue("mine", durable=True),
    "declare a queue of one connection": lambda channel: channel.declare_queue(exclusive=True),
    "declare an exchange": lambda channel: channel.declare_exchange("mine", "direct", durable=True),
    "delete a queue": lambda channel: channel.queue_delete("scheduler.0"),
    "delete an exchange": lambda channel: channel.exchange_delete("phjob.scheduler"),
}


@every_user
@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE)
async def test_no_user_changes_the_topology(installed: InstalledBroker, service: str, attack: Attack) -> None:
    """Not even for its own queue."""
    async with await aio_pika.connect(installed.urls[service]) as connection:
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await attack(channel)


@every_user
async def test_no_user_purges_binds_or_floods_the_queue_of_another(
    installed: InstalledBroker, service: str
) -> None:
    """Not through any exchange that RabbitMQ has by itself, either."""
    own = topology.DEAD_LETTER_QUEUE if service == topology.OPERATOR else topology.queue_of(service)
    others = [queue.name for queue in topology.queues(1) if topology.service_of(queue.name) != service]
    async with await aio_pika.connect(installed.urls[service]) as connection:
        for name in others:
            queue = await (await connection.channel()).get_queue(name)
            with pytest.raises(ChannelAccessRefused):
                await queue.purge()
        for exchange in ("", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"):
            channel = await connection.channel()
            target = await channel.get_exchange(exchange) if exchange else channel.default_exchange
            with pytest.raises(ChannelAccessRefused):
                await target.publish(aio_pika.Message(b"", user_id=installed.user(service)), others[0])
        for exchange in ("phjob.watcher", "phjob.scheduler", "amq.rabbitmq.trace"):
            queue = await (await connection.channel()).get_queue(own)
            with pytest.raises(ChannelAccessRefused):
                await queue.bind(exchange, own)
