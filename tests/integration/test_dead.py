"""`shared.dead` on a real RabbitMQ: shows what nobody could handle, and sends it back without losing any."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
from tests.support.bus import QUEUE, delete_queue, given_up, until_waiting, waiting
from tests.support.inbox import SECONDS, Inbox

from shared import dead, topology
from shared.bus import connect
from shared.clock import SystemClock
from shared.consumer import Consumer, Done
from shared.messages import Heartbeat, Message, SnapshotBegin
from shared.session import Envelope

OTHER = topology.queue_of(topology.SCHEDULER)


async def command(broker: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
    """Run it as a person does; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.dead", *arguments,
        env={**os.environ, "AMQP_URL": broker},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(stdin.encode()), SECONDS)
    return process.returncode or 0, said.decode()


async def buried(broker: str, count: int, queue: str = QUEUE) -> None:
    """So many messages of the queue, numbered, that nobody could handle."""
    inbox = Inbox(acks=False)
    async with connect(broker, "both", 1) as bus:
        before = await waiting(broker, topology.DEAD)
        await bus.consume(queue, inbox.receive)
        for number in range(count):
            bus.send(queue, Envelope("test", "session", number, Heartbeat()))
        await inbox.count(count)
        for delivery in inbox.deliveries:
            delivery.bury("ValueError: so it is")
        await until_waiting(broker, before + count, topology.DEAD)


async def test_what_was_buried_is_shown_with_all_that_is_known_of_it(broker: str) -> None:
    """Queue, reason, time, kind, sender and body; and it stays where it is, however often it is shown."""
    await buried(broker, 3)
    for _ in range(topology.DELIVERY_LIMIT + 2):
        await dead.run(broker, "show", None, [])
    code, said = await command(broker, "show")
    assert code == 0
    first = re.match(r"([0-9a-f]{10})  (\S+ \S+)Z  (\S+)  Heartbeat from test\n", said)
    assert first
    when = datetime.fromisoformat(first[2]).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=10)
    assert first[3] == QUEUE
    assert said.count("    reason: ValueError: so it is\n    body:   {} (2 bytes)\n") == 3
    assert said.endswith(f"3 message(s) in {topology.DEAD}\n")
    await until_waiting(broker, 3, topology.DEAD)


async def test_what_rabbitmq_gave_up_is_shown_and_replayed_too(broker: str) -> None:
    """Its consumers died with it: then the reason is in RabbitMQ's own headers."""
    await given_up(broker, 1)
    await until_waiting(broker, 1, topology.DEAD)
    _, said = await command(broker, "show")
    assert f"  {QUEUE}  Heartbeat from test\n    reason: its consumers died" in said

    assert await command(broker, "replay") == (
        0,
        f"{said[:10]}: back in {QUEUE}\n1 of 1 message(s) replayed\n",
    )
    again = Inbox(acks=False)
    async with connect(broker, "mended", 1) as bus:
        await bus.consume(QUEUE, again.receive)
        (envelope,) = await again.count(1)
    assert envelope == Envelope("test", "session", 0, Heartbeat())  # Not marked as delivered before.


async def test_replay_sends_each_back_to_where_it_died_as_it_was_first_sent(broker: str) -> None:
    """In its order, and nothing of its death is in its headers; a copy that dies again can be told apart."""
    await buried(broker, 2)
    await buried(broker, 1, OTHER)
    code, said = await command(broker, "replay", "--queue", QUEUE)
    assert (code, said.splitlines()[-1]) == (0, "2 of 2 message(s) replayed")
    await until_waiting(broker, 1, topology.DEAD)
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE)
        found = []
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                found.append(message)
                if len(found) == 2:
                    break
    assert [message.message_id for message in found] == ["session 0", "session 1"]
    assert [message.headers for message in found] == [{}, {}]
    assert {(message.type, message.app_id, message.body) for message in found} == {
        ("Heartbeat", "test", b"{}")
    }


async def test_replay_takes_those_that_are_named(broker: str) -> None:
    """By the ids that `show` printed, which stay the same; one that is not there is told."""
    await buried(broker, 3)
    _, said = await command(broker, "show")
    ids = re.findall(r"^([0-9a-f]{10})  ", said, re.MULTILINE)
    assert len(set(ids)) == 3
    code, said = await command(broker, "replay", ids[1], "0123456789")
    assert code == 1
    assert said.splitlines() == [
        f"{ids[1]}: back in {QUEUE}",
        f"0123456789: not in {topology.DEAD}",
        "1 of 1 message(s) replayed",
    ]
    _, said = await command(broker, "show")
    assert re.findall(r"^([0-9a-f]{10})  ", said, re.MULTILINE) == [ids[0], ids[2]]


async def test_what_cannot_go_back_stays_and_holds_the_others_up_no_more(broker: str) -> None:
    """Its queue is gone, or nobody says which it was."""
    await buried(broker, 1)
    await buried(broker, 1, OTHER)
    await delete_queue(broker)
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        stray = aio_pika.Message(b"\x1b[2J\xff", type="Stray")
        await (await channel.get_exchange(topology.DEAD)).publish(stray, "")
    code, said = await command(broker, "replay")
    assert code == 1
    assert said.splitlines()[-1] == "1 of 3 message(s) replayed"
    assert f"stays: RabbitMQ did not take it for {QUEUE}" in said
    assert "stays: nobody says in which queue it died" in said
    _, said = await command(broker, "show")
    assert "\x1b" not in said
    assert said.endswith(f"2 message(s) in {topology.DEAD}\n")


async def test_an_interrupted_replay_loses_nothing(broker: str) -> None:
    """Killed anywhere, each message is in one of the two queues, or in both."""
    many = 400
    await buried(broker, many)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.dead", "replay", env={**os.environ, "AMQP_URL": broker},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(SECONDS):
        await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    inbox = Inbox()
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, inbox.receive)
        code, _ = await command(broker, "replay")
        assert code == 0
        await inbox.until(lambda envelopes: {envelope.number for envelope in envelopes} == set(range(many)))
    await until_waiting(broker, 0, topology.DEAD)


async def test_the_url_may_come_from_standard_input(broker: str) -> None:
    """So that the operator's password stands in no list of processes."""
    code, said = await command("amqp://guest:guest@127.0.0.1:1/", "show", "--url", "-", stdin=f"{broker}\n")
    assert (code, said) == (2, f"RabbitMQ has no queue {topology.DEAD}: is it the right virtual host?\n")
    async with connect(broker, "declares", 1):
        pass
    code, said = await command("amqp://guest:guest@127.0.0.1:1/", "show", "--url", "-", stdin=f"{broker}\n")
    assert (code, said) == (0, f"0 message(s) in {topology.DEAD}\n")


async def test_a_broker_that_is_not_there_is_told_in_one_line() -> None:
    """And the exit code says that nothing was done."""
    code, said = await command("amqp://guest:guest@127.0.0.1:1/", "show")
    assert code == 2
    assert said.startswith("RabbitMQ is not reachable: ")
    assert said.count("\n") == 1


class Mendable:
    """A handler with a fault, until it is mended."""

    def __init__(self, *, later: bool) -> None:
        self.broken = True
        self.later = later
        self.asked = 0
        self.handled: list[Envelope] = []

    def ask(self, _: str) -> None:
        self.asked += 1

    def begin(self, begin: SnapshotBegin) -> None:
        """Nothing."""

    def fact(self, fact: Message, *, listed: bool) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def other(self, envelope: Envelope, done: Done) -> None:
        if self.broken and self.later:
            done("ZeroDivisionError: the fault")
            return
        if self.broken:
            raise ZeroDivisionError("the fault")
        self.handled.append(envelope)
        done()

    due: Callable[[], None] = staticmethod(lambda: None)

    def tick(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("later", [False, True], ids=["at once", "when its effects fail"])
async def test_what_a_service_could_not_handle_is_handled_after_its_fault_is_mended(
    broker: str,
    later: bool,  # noqa: FBT001 - pytest's
) -> None:
    """It blocks nobody meanwhile: what comes behind it is handled or buried, each by itself."""
    handler = Mendable(later=later)
    async with connect(broker, "service", 1) as bus:
        consumer = Consumer(bus, QUEUE, "me", SystemClock(), handler)
        running = asyncio.create_task(consumer.run())
        for number in range(3):
            bus.send(
                QUEUE, Envelope("scheduler", "session", number, SnapshotBegin(request="r", revisions={}))
            )
        await until_waiting(broker, 3, topology.DEAD)
        handler.broken = False
        _, said = await command(broker, "show")
        assert said.count("reason: ZeroDivisionError: the fault\n") == 3
        code, _ = await command(broker, "replay")
        assert code == 0
        async with asyncio.timeout(SECONDS):
            while len(handler.handled) < 3:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        running.cancel()
    assert [envelope.number for envelope in handler.handled] == [0, 1, 2]
    await until_waiting(broker, 0, topology.DEAD)
