"""Dead letters on a real RabbitMQ: the command shows them, and replays them without losing any."""

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
from tests.support.bus import (
    QUEUE,
    count_queued_messages,
    dead_letter_messages,
    delete_queue,
    wait_for_queued_messages,
)
from tests.support.recording_consumer import DELIVERY_TIMEOUT_SECONDS, RecordingConsumer

from phjob_core.messages import Fence, Heartbeat, Message, SnapshotBegin
from phjob_core.stream import Envelope
from phjob_runtime.amqp import dead_letters, topology
from phjob_runtime.amqp.bus import connect
from phjob_runtime.clock import SystemClock
from phjob_runtime.consumer import Acknowledge, Consumer

OTHER = topology.queue_of(topology.SCHEDULER)
POD_MANAGER = topology.queue_of(topology.POD_MANAGER)


async def command(broker: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
    """Run the command as an operator does. Returns its exit code and its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "phjob_runtime.amqp.dead_letters", *arguments,
        env={**os.environ, "AMQP_URL": broker},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), DELIVERY_TIMEOUT_SECONDS)
    return process.returncode or 0, output.decode()


async def dead_lettered(broker: str, count: int, queue: str = QUEUE) -> None:
    """Dead-letter so many messages of the queue, which are numbered."""
    consumer = RecordingConsumer(acks=False)
    async with connect(broker, "both", 1) as bus:
        before = await count_queued_messages(broker, topology.DEAD_LETTER_QUEUE)
        await bus.consume(queue, consumer.receive)
        for number in range(count):
            bus.send(queue, Envelope("watcher", "session", number, Heartbeat()))
        await consumer.wait_for_count(count)
        for delivery in consumer.deliveries:
            delivery.dead_letter("ValueError: so it is")
        await wait_for_queued_messages(broker, before + count, topology.DEAD_LETTER_QUEUE)


async def test_a_dead_letter_is_shown_with_everything_that_is_known(broker: str) -> None:
    """Queue, reason, time, kind, publisher and body. It stays, however often it is shown."""
    await dead_lettered(broker, 3)
    for _ in range(topology.DELIVERY_LIMIT + 2):
        await dead_letters.run(broker, "show", None, [])
    code, output = await command(broker, "show")
    assert code == 0
    first = re.match(r"([0-9a-f]{10})  (\S+ \S+)Z  (\S+)  Heartbeat from watcher\n", output)
    assert first
    time = datetime.fromisoformat(first[2]).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=10)
    assert first[3] == QUEUE
    assert output.count("    reason: ValueError: so it is\n    body:   {} (2 bytes)\n") == 3
    assert output.endswith(f"3 message(s) in {topology.DEAD_LETTER_QUEUE}\n")
    await wait_for_queued_messages(broker, 3, topology.DEAD_LETTER_QUEUE)


async def test_a_message_that_rabbitmq_dead_lettered_is_shown_and_replayed_too(broker: str) -> None:
    """Its consumers stopped with it, so the reason is in RabbitMQ's own headers."""
    await dead_letter_messages(broker, 1)
    await wait_for_queued_messages(broker, 1, topology.DEAD_LETTER_QUEUE)
    _, output = await command(broker, "show")
    assert f"  {QUEUE}  Heartbeat from janitor\n    reason: 20 deliveries failed" in output

    assert await command(broker, "replay") == (
        0,
        f"{output[:10]}: replayed to {QUEUE}\n1 of 1 message(s) replayed\n",
    )
    consumer = RecordingConsumer(acks=False)
    async with connect(broker, "fixed", 1) as bus:
        await bus.consume(QUEUE, consumer.receive)
        (envelope,) = await consumer.wait_for_count(1)
    assert envelope == Envelope("janitor", "session", 0, Heartbeat())  # Not marked as redelivered.


async def test_replay_publishes_each_to_its_queue_as_it_was_first_published(broker: str) -> None:
    """In order, and without headers, so that a copy that fails again has headers of its own."""
    await dead_lettered(broker, 2)
    await dead_lettered(broker, 1, OTHER)
    code, output = await command(broker, "replay", "--queue", QUEUE)
    assert (code, output.splitlines()[-1]) == (0, "2 of 2 message(s) replayed")
    await wait_for_queued_messages(broker, 1, topology.DEAD_LETTER_QUEUE)
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
        ("Heartbeat", "watcher", b"{}")
    }


async def test_replay_selects_by_ids(broker: str) -> None:
    """By those that `show` printed, which stay the same. An unknown id is an error."""
    await dead_lettered(broker, 3)
    _, output = await command(broker, "show")
    ids = re.findall(r"^([0-9a-f]{10})  ", output, re.MULTILINE)
    assert len(set(ids)) == 3
    code, output = await command(broker, "replay", ids[1], "0123456789")
    assert code == 1
    assert output.splitlines() == [
        f"{ids[1]}: replayed to {QUEUE}",
        f"0123456789: not in {topology.DEAD_LETTER_QUEUE}",
        "1 of 1 message(s) replayed",
    ]
    _, output = await command(broker, "show")
    assert re.findall(r"^([0-9a-f]{10})  ", output, re.MULTILINE) == [ids[0], ids[2]]


async def test_a_dead_letter_that_cannot_be_replayed_stays_and_holds_up_no_other(broker: str) -> None:
    """Its queue was deleted, or is unknown."""
    await dead_lettered(broker, 1)
    await dead_lettered(broker, 1, OTHER)
    await delete_queue(broker)
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        stray = aio_pika.Message(b"\x1b[2J\xff", type="Stray")
        await (await channel.get_exchange(topology.DEAD_LETTER_QUEUE)).publish(stray, "")
    code, output = await command(broker, "replay")
    assert code == 1
    assert output.splitlines()[-1] == "1 of 3 message(s) replayed"
    assert f"not replayed: RabbitMQ did not accept it for {QUEUE}" in output
    assert "not replayed: its queue is unknown" in output
    _, output = await command(broker, "show")
    assert "\x1b" not in output
    assert output.endswith(f"2 message(s) in {topology.DEAD_LETTER_QUEUE}\n")


async def test_an_interrupted_replay_loses_nothing(broker: str) -> None:
    """Wherever it is killed, each message is in one of the two queues, or in both."""
    many = 400
    await dead_lettered(broker, many)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "phjob_runtime.amqp.dead_letters", "replay",
        env={**os.environ, "AMQP_URL": broker}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
        await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    consumer = RecordingConsumer()
    async with connect(broker, "receiver", 1) as receiver:
        await receiver.consume(QUEUE, consumer.receive)
        code, _ = await command(broker, "replay")
        assert code == 0
        await consumer.wait_until(
            lambda envelopes: {envelope.sequence for envelope in envelopes} == set(range(many))
        )
    await wait_for_queued_messages(broker, 0, topology.DEAD_LETTER_QUEUE)


async def test_the_url_may_come_from_standard_input(broker: str) -> None:
    """So that the operator's password appears in no list of processes."""
    code, output = await command("amqp://guest:guest@127.0.0.1:1/", "show", "--url", "-", stdin=f"{broker}\n")
    assert (code, output) == (
        2,
        f"RabbitMQ has no queue {topology.DEAD_LETTER_QUEUE}: is it the right virtual host?\n",
    )
    async with connect(broker, "declares", 1):
        pass
    code, output = await command("amqp://guest:guest@127.0.0.1:1/", "show", "--url", "-", stdin=f"{broker}\n")
    assert (code, output) == (0, f"0 message(s) in {topology.DEAD_LETTER_QUEUE}\n")


async def test_an_unreachable_broker_is_reported_in_one_line() -> None:
    """With the exit code 2, because nothing was done."""
    code, output = await command("amqp://guest:guest@127.0.0.1:1/", "show")
    assert code == 2
    assert output.startswith("RabbitMQ is not reachable: ")
    assert output.count("\n") == 1


class FaultyHandler:
    """A handler with a fault, until the test fixes it."""

    def __init__(self, *, fails_later: bool) -> None:
        self.is_faulty = True
        self.fails_later = fails_later
        self.handled: list[Envelope] = []

    def request_snapshot(self, _: str) -> None:
        pass

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        pass

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:
        pass

    def on_snapshot_end(self) -> None:
        pass

    def on_command(self, envelope: Envelope, acknowledge: Acknowledge) -> None:
        if self.is_faulty and self.fails_later:
            acknowledge("ZeroDivisionError: the fault")
            return
        if self.is_faulty:
            raise ZeroDivisionError("the fault")
        self.handled.append(envelope)
        acknowledge()

    next_wakeup: Callable[[], None] = staticmethod(lambda: None)

    def on_wakeup(self) -> None:
        pass


@pytest.mark.parametrize("fails_later", [False, True], ids=["at once", "when its effects fail"])
async def test_a_replayed_message_is_processed_after_its_fault_is_fixed(
    broker: str,
    fails_later: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Meanwhile it holds up no other message, and each that fails is dead-lettered alone."""
    handler = FaultyHandler(fails_later=fails_later)
    async with connect(broker, "service", 1) as bus:
        consumer = Consumer(bus, POD_MANAGER, "me", SystemClock(), handler, shards=1)
        running = asyncio.create_task(consumer.run())
        for number in range(3):
            bus.send(
                POD_MANAGER, Envelope("scheduler", "session", number, Fence(session="s", queue="scheduler.0"))
            )
        await wait_for_queued_messages(broker, 3, topology.DEAD_LETTER_QUEUE)
        handler.is_faulty = False
        _, output = await command(broker, "show")
        assert output.count("reason: ZeroDivisionError: the fault\n") == 3
        code, _ = await command(broker, "replay")
        assert code == 0
        async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
            while len(handler.handled) < 3:  # noqa: ASYNC110 - the handler has no event
                await asyncio.sleep(0.05)
        running.cancel()
    assert [envelope.sequence for envelope in handler.handled] == [0, 1, 2]
    await wait_for_queued_messages(broker, 0, topology.DEAD_LETTER_QUEUE)
