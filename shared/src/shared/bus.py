"""RabbitMQ: confirmed, ordered sending, and deliveries that are acknowledged by hand.

A `Bus` is one connection and lives as long as it: when it breaks, `run` of the service starts over
with a new one, and so with new sessions. What the messages mean is not known here.
The only module that imports aio_pika.

The watcher's messages travel together: while one is on its way to a queue, what comes for that queue
waits, and goes in one piece. So there are few when little happens late, and few when much happens.
They are told apart again before anybody sees them, and each can be buried by itself.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, cast

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
)
from aiormq import Channel as RawChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused
from pamqp.commands import Basic

from shared import messages, metrics, topology
from shared.errors import UnreachableError
from shared.session import Envelope

CONTENT_TYPE = "application/vnd.phjob.v1+json"
BATCH = "Batch"
"""The kind of what holds several messages: each a line, its kind before its body, numbered from the first."""
BATCH_LIMIT = 200
"""Messages in one piece; about 100 kB."""
HEARTBEAT = 5
"""Seconds between AMQP heartbeats: RabbitMQ gives a silent consumer up after two."""
PREFETCH = 1000
"""Deliveries that may be unacknowledged at a time."""
UNCONFIRMED = 1000
"""Messages that may be sent and not yet confirmed at a time."""
OUTBOX_LIMIT = 200_000
"""Messages that may wait to be sent or confirmed (about 100 MB); past that the connection is given up."""
STALLED_AFTER = 10.0
"""Seconds without a confirmation, while messages wait for theirs, before that is told."""
LONGEST_REASON = 2000
"""Characters of why a message was buried."""
REFUSED_AGAIN = 60.0
"""Seconds between two log lines about the same full queue."""

_log = structlog.get_logger()


class Delivery(Protocol):
    """A message that was received, and that its consumer owes an acknowledgement."""

    @property
    def envelope(self) -> Envelope:
        """The message and its place in its stream."""
        ...

    def ack(self) -> None:
        """Say that its effects are done: it will not come again."""
        ...

    def bury(self, reason: str) -> None:
        """Move it to `phjob.dead`, with the reason: nobody can handle it."""
        ...


Receive = Callable[[Delivery], None]


class Bus(Protocol):
    """The port to the broker."""

    def send(self, queue: str, envelope: Envelope) -> None:
        """Send behind everything sent before; the broker's confirmation comes later."""
        ...

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call `done` once everything sent up to now is confirmed."""
        ...

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to hand over the queue's deliveries, in their order."""
        ...


class Connection(Bus, Protocol):
    """A bus as long as it lasts."""

    @property
    def broken(self) -> asyncio.Future[None]:
        """Fails when the connection has; never done before."""
        ...

    @property
    def stalled(self) -> str:
        """How RabbitMQ keeps this sender waiting, for a person to read; empty if it doesn't."""
        ...


class _Outgoing(NamedTuple):
    """A message that waits to be sent, or for its confirmation."""

    nth: int
    """How many were sent up to it."""
    envelope: Envelope
    kind: str
    body: bytes


@dataclass(frozen=True)
class _Written:
    """A message as it is written, alone or as a line of a batch."""

    kind: str | None
    body: bytes
    session: str
    number: int
    redelivered: bool
    properties: Basic.Properties
    """Of what it came in."""


def _written(message: DeliveredMessage) -> Iterator[_Written]:
    """What was delivered, each by itself."""
    properties = message.header.properties
    session, _, number = (properties.message_id or "").rpartition(" ")
    first = int(number) if number.isdecimal() else 0
    rest = bool(message.redelivered), properties
    if properties.message_type != BATCH:
        yield _Written(properties.message_type, message.body, session, first, *rest)
        return
    for place, line in enumerate(message.body.split(b"\n"), first):
        kind, _, body = line.partition(b" ")
        yield _Written(kind.decode(errors="replace"), body, session, place, *rest)


class _RabbitDelivery:
    """A message of a delivery of RabbitMQ."""

    def __init__(self, bus: "RabbitBus", queue: str, tag: int, written: _Written) -> None:
        self._bus = bus
        self._queue = queue
        self._tag = tag
        self._written = written
        self._owed = True
        decoded: messages.Message | None = None
        try:
            decoded = messages.decode(written.kind, written.body)
        except messages.UndecodableError as error:
            self.bury(str(error))
        except Exception as error:
            _log.exception("decoding_failed", queue=queue)
            self.bury(f"{type(error).__name__}: {error}")
        self.envelope = Envelope(
            publisher=written.properties.app_id or "",
            session=written.session,
            number=written.number,
            message=decoded,
            redelivered=written.redelivered,
        )

    def ack(self) -> None:
        if self._owed:
            self._owed = False
            self._bus.ack(self._tag)

    def bury(self, reason: str) -> None:
        if self._owed:
            self._owed = False  # It is acknowledged when it is there.
            self._bus.bury(self._queue, self._tag, self._written, reason)


class RabbitBus:
    """The bus over one connection, with a channel to send on and one to consume on."""

    def __init__(self, sending: RawChannel, consuming: RawChannel) -> None:
        self._sending = sending
        self._consuming = consuming
        self._outbox: defaultdict[str, deque[_Outgoing]] = defaultdict(deque)
        self._encoded: tuple[messages.Message | None, str, bytes] = (None, "", b"")
        """The last message: often the same goes to several queues."""
        self._on_its_way: set[str] = set()
        """The queues to which a batch is, so that the next waits."""
        self._wake = asyncio.Event()
        self._window = asyncio.Semaphore(UNCONFIRMED)
        self._sent = 0
        self._unconfirmed: dict[int, None] = {}
        self._progress = 0.0
        """When a message was confirmed last, or the first was sent that waits."""
        self._refused_said: dict[str, float] = {}
        """When it was last said that a queue is full."""
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._unacked: dict[int, int] = {}
        """How many messages of a delivery are not done, by its tag."""
        self._ack_planned = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        metrics.outbox(lambda: len(self._unconfirmed))

    @property
    def stalled(self) -> str:
        """How RabbitMQ keeps this sender waiting, for a person to read; empty if it doesn't."""
        if not self._unconfirmed or self._loop.time() - self._progress < STALLED_AFTER:
            return ""
        return f"RabbitMQ to take messages: {len(self._unconfirmed)} wait"

    def send(self, queue: str, envelope: Envelope) -> None:
        """Send behind everything sent before; the broker's confirmation comes later."""
        if len(self._unconfirmed) >= OUTBOX_LIMIT:
            self.fail(UnreachableError(f"RabbitMQ takes no messages: {OUTBOX_LIMIT} wait"))
            return
        if not self._unconfirmed:
            self._progress = self._loop.time()
        self._sent += 1
        self._unconfirmed[self._sent] = None
        self._outbox[queue].append(_Outgoing(self._sent, envelope, *self._encode(envelope.message)))
        self._wake.set()

    def _encode(self, message: messages.Message | None) -> tuple[str, bytes]:
        assert message is not None  # noqa: S101 - only what was received can be undecodable
        if self._encoded[0] is not message:
            self._encoded = (message, *messages.encode(message))
        return self._encoded[1:]

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call `done` once everything sent up to now is confirmed."""
        if self._unconfirmed:
            self._waiting.append((self._sent, done))
        else:
            done()

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to hand over the queue's deliveries, in their order."""

        async def on_message(message: DeliveredMessage) -> None:
            try:
                tag, written = message.delivery_tag or 0, list(_written(message))
                self._unacked[tag] = len(written)
                for one in written:
                    receive(_RabbitDelivery(self, queue, tag, one))
            except Exception as error:
                _log.exception("delivery_failed", queue=queue)
                self.fail(error)

        metrics.reading(queue)
        await self._consuming.basic_consume(queue, on_message)

    async def write(self) -> None:
        """Send what is in the outbox, for ever."""
        while True:
            self._wake.clear()
            for queue, waiting in list(self._outbox.items()):
                while waiting and queue not in self._on_its_way:
                    await self._window.acquire()
                    self._spawn(self._publish(queue, self._next(queue, waiting)))
            await self._wake.wait()

    def _next(self, queue: str, waiting: deque[_Outgoing]) -> list[_Outgoing]:
        """Take what goes in one piece."""
        if waiting[0].envelope.publisher != topology.WATCHER:
            return [waiting.popleft()]
        self._on_its_way.add(queue)
        return [waiting.popleft() for _ in range(min(len(waiting), BATCH_LIMIT))]

    def fail(self, error: BaseException) -> None:
        """Give the connection up: whoever runs on it starts over."""
        if not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # retrieved: a bus that nobody waits for may break silently

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _publish(self, queue: str, sent: Sequence[_Outgoing]) -> None:
        _, first, kind, body = sent[0]
        if len(sent) > 1:
            kind, body = BATCH, b"\n".join(one.kind.encode() + b" " + one.body for one in sent)
        properties = Basic.Properties(
            app_id=first.publisher,
            content_type=CONTENT_TYPE,
            delivery_mode=2,
            message_id=f"{first.session} {first.number}",
            message_type=kind,
        )
        try:
            await self._sending.basic_publish(
                body,
                exchange=topology.exchange_of(queue),
                routing_key=queue,
                properties=properties,
                mandatory=True,  # Else a queue that is gone would swallow it, confirmed.
                wait=False,
            )
        except (AMQPError, ChannelInvalidStateError, DeliveryError, ConnectionError) as error:
            if isinstance(error, DeliveryError) and isinstance(error.frame, Basic.Nack):
                self._not_taken(queue, len(sent))
                self._confirmed(sent)
            else:
                self.fail(UnreachableError(f"RabbitMQ did not take a message for {queue}: {error}"))
        else:
            self._confirmed(sent)
        finally:
            self._window.release()
            self._on_its_way.discard(queue)
            self._wake.set()

    def _not_taken(self, queue: str, count: int) -> None:
        """The queue is full: its reader will miss these numbers, and ask for what it needs."""
        metrics.not_taken(queue, count)
        now = self._loop.time()
        if now - self._refused_said.get(queue, -REFUSED_AGAIN) >= REFUSED_AGAIN:
            self._refused_said[queue] = now
            _log.warning("queue_full", queue=queue, limit=topology.QUEUE_LIMIT)

    def _confirmed(self, sent: Sequence[_Outgoing]) -> None:
        for one in sent:
            del self._unconfirmed[one.nth]
        self._progress = self._loop.time()
        lowest = next(iter(self._unconfirmed), self._sent + 1)
        while self._waiting and self._waiting[0][0] < lowest:
            self._waiting.popleft()[1]()

    def bury(self, queue: str, tag: int, written: _Written, reason: str) -> None:
        """Move a message that nobody can handle to `phjob.dead`, with the reason; then acknowledge it."""
        _log.error("message_buried", queue=queue, reason=reason)
        metrics.buried(queue)
        self._spawn(self._bury(tag, queue, written, reason[:LONGEST_REASON]))

    async def _bury(self, tag: int, queue: str, written: _Written, reason: str) -> None:
        came_in = written.properties
        alone = came_in.message_type != BATCH
        properties = Basic.Properties(  # Nothing else: an expiration or a user would have consequences.
            app_id=came_in.app_id,
            content_type=came_in.content_type,
            delivery_mode=2,
            message_id=came_in.message_id if alone else f"{written.session} {written.number}",
            message_type=written.kind,
            headers={"queue": queue, "reason": reason, "time": datetime.now(UTC)},
        )
        await self._sending.basic_publish(
            written.body, exchange=topology.DEAD, routing_key=queue, properties=properties, mandatory=True
        )
        self.ack(tag)

    def ack(self, tag: int) -> None:
        """A message of the delivery is done; acknowledge it when all are, with others that are by then."""
        self._unacked[tag] -= 1
        if not self._unacked[tag] and not self._ack_planned:
            self._ack_planned = True
            self._spawn(self._flush_acks())

    async def _flush_acks(self) -> None:
        """Acknowledge what is done: one frame for the oldest in a row, one for each other."""
        self._ack_planned = False
        done = [tag for tag, owed in self._unacked.items() if not owed]
        in_row = 0
        for tag, owed in self._unacked.items():
            if owed:
                break
            in_row = tag
        for tag in done:
            del self._unacked[tag]
        try:
            if in_row:
                await self._consuming.basic_ack(in_row, multiple=True, wait=False)
            for tag in done:
                if tag > in_row:
                    await self._consuming.basic_ack(tag, wait=False)
        except (AMQPError, ChannelInvalidStateError, ConnectionError) as error:
            self.fail(UnreachableError(f"RabbitMQ did not take an acknowledgement: {error}"))

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)


@asynccontextmanager
async def connect(url: str, name: str, shards: int, *, declare: bool = True) -> AsyncIterator[RabbitBus]:
    """A bus on a new connection; every exchange and queue is there.

    `name` is how RabbitMQ's management page shows the connection. With `declare` they are made now,
    which takes a user who may do that; else they must have been made by `definitions`.

    Raises:
        UnreachableError: RabbitMQ does not answer, does not let us in, or lacks something.

    """
    try:
        connection = await aio_pika.connect(
            url, client_properties={"connection_name": name}, heartbeat=HEARTBEAT, timeout=10
        )
    except (AMQPError, OSError, TimeoutError) as error:
        msg = f"RabbitMQ is not reachable: {type(error).__name__}: {error}"
        raise UnreachableError(msg) from error
    try:
        sending = await connection.channel(publisher_confirms=True, on_return_raises=True)
        consuming = await connection.channel(publisher_confirms=False)
        await consuming.set_qos(prefetch_count=PREFETCH)
        await (_declare if declare else _check)(sending, shards)
        bus = RabbitBus(
            cast("RawChannel", await sending.get_underlay_channel()),
            cast("RawChannel", await consuming.get_underlay_channel()),
        )

        def on_cancel(_: object) -> None:
            bus.fail(UnreachableError("RabbitMQ ended our consumer: its queue was deleted"))

        (await consuming.get_underlay_channel()).on_consumer_cancel_callbacks.add(on_cancel)

        def on_close(_: object, error: BaseException | None) -> None:
            bus.fail(UnreachableError(f"the connection to RabbitMQ was lost: {error}"))

        connection.close_callbacks.add(on_close)
        sending.close_callbacks.add(on_close)
        consuming.close_callbacks.add(on_close)
        writer = asyncio.create_task(bus.write())
        try:
            yield bus
        finally:
            writer.cancel()
            bus.close()
    except (AMQPError, ChannelInvalidStateError) as error:
        msg = f"RabbitMQ refused: {type(error).__name__}: {error}"
        raise UnreachableError(msg) from error
    finally:
        await connection.close()


async def _declare(channel: AbstractChannel, shards: int) -> None:
    """Make what is missing."""
    try:
        dead = await channel.declare_exchange(topology.DEAD, aio_pika.ExchangeType.FANOUT, durable=True)
        dead_queue = await channel.declare_queue(
            topology.DEAD, durable=True, arguments=dict(topology.DEAD_ARGUMENTS)
        )
        await dead_queue.bind(dead)
        for queue in topology.queues(shards):
            exchange = await channel.declare_exchange(
                queue.exchange, aio_pika.ExchangeType.DIRECT, durable=True
            )
            declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
            await declared.bind(exchange, routing_key=queue.name)
    except ChannelAccessRefused as error:
        remedy = "import the definitions and set AMQP_DECLARE=false"
        raise UnreachableError(f"RabbitMQ lets this user declare nothing; {remedy}: {error}") from error


async def _check(channel: AbstractChannel, shards: int) -> None:
    """Find out what is missing, which needs no rights."""
    queues = list(topology.queues(shards))
    try:
        for exchange in dict.fromkeys((topology.DEAD, *(queue.exchange for queue in queues))):
            await channel.declare_exchange(exchange, passive=True)
        for name in (topology.DEAD, *(queue.name for queue in queues)):
            await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity as error:
        remedy = f"import the definitions for SHARDS={shards}"
        raise UnreachableError(f"RabbitMQ lacks an exchange or a queue; {remedy}: {error}") from error
