"""RabbitMQ: confirmed, ordered sending, and deliveries that are acknowledged by hand.

A `Bus` is one connection and lives as long as it: when it breaks, `run` of the service starts over
with a new one, and so with new sessions. What the messages mean is not known here.
The only module that imports aio_pika.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, cast

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
HEARTBEAT = 5
"""Seconds between AMQP heartbeats: RabbitMQ gives a silent consumer up after two."""
PREFETCH = 1000
"""Deliveries that may be unacknowledged at a time."""
UNCONFIRMED = 1000
"""Messages that may be sent and not yet confirmed at a time."""
OUTBOX_LIMIT = 200_000
"""Messages that may wait to be sent (about 100 MB); past that the connection is given up."""
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


class _RabbitDelivery:
    """A delivery of RabbitMQ."""

    def __init__(self, bus: "RabbitBus", queue: str, message: DeliveredMessage) -> None:
        self._bus = bus
        self._queue = queue
        self._message = message
        self._tag = message.delivery_tag or 0
        properties = message.header.properties
        session, _, number = (properties.message_id or "").rpartition(" ")
        decoded: messages.Message | None = None
        try:
            decoded = messages.decode(properties.message_type, message.body)
        except messages.UndecodableError as error:
            self.bury(str(error))
        except Exception as error:
            _log.exception("decoding_failed", queue=queue)
            self.bury(f"{type(error).__name__}: {error}")
        self.envelope = Envelope(
            publisher=properties.app_id or "",
            session=session,
            number=int(number) if number.isdecimal() else 0,
            message=decoded,
            redelivered=bool(message.redelivered),
        )

    def ack(self) -> None:
        self._bus.ack(self._tag)

    def bury(self, reason: str) -> None:
        self._bus.bury(self._queue, self._message, reason)


class RabbitBus:
    """The bus over one connection, with a channel to send on and one to consume on."""

    def __init__(self, sending: RawChannel, consuming: RawChannel) -> None:
        self._sending = sending
        self._consuming = consuming
        self._outbox: deque[tuple[int, str, Envelope]] = deque()
        self._wake = asyncio.Event()
        self._window = asyncio.Semaphore(UNCONFIRMED)
        self._sent = 0
        self._unconfirmed: dict[int, None] = {}
        self._progress = 0.0
        """When a message was confirmed last, or the first was sent that waits."""
        self._refused_said: dict[str, float] = {}
        """When it was last said that a queue is full."""
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._unacked: dict[int, bool] = {}
        self._burying: set[int] = set()
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
        if len(self._outbox) >= OUTBOX_LIMIT:
            self.fail(UnreachableError(f"RabbitMQ takes no messages: {OUTBOX_LIMIT} wait"))
            return
        if not self._unconfirmed:
            self._progress = self._loop.time()
        self._sent += 1
        self._unconfirmed[self._sent] = None
        self._outbox.append((self._sent, queue, envelope))
        self._wake.set()

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
                self._unacked[message.delivery_tag or 0] = False
                receive(_RabbitDelivery(self, queue, message))
            except Exception as error:
                _log.exception("delivery_failed", queue=queue)
                self.fail(error)

        metrics.reading(queue)
        await self._consuming.basic_consume(queue, on_message)

    async def write(self) -> None:
        """Send what is in the outbox, for ever."""
        while True:
            while self._outbox:
                await self._window.acquire()
                number, queue, envelope = self._outbox.popleft()
                self._spawn(self._publish(number, queue, envelope))
            self._wake.clear()
            await self._wake.wait()

    def fail(self, error: BaseException) -> None:
        """Give the connection up: whoever runs on it starts over."""
        if not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # retrieved: a bus that nobody waits for may break silently

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _publish(self, number: int, queue: str, envelope: Envelope) -> None:
        assert envelope.message is not None  # noqa: S101 - only what was received can be undecodable
        kind, body = messages.encode(envelope.message)
        properties = Basic.Properties(
            app_id=envelope.publisher,
            content_type=CONTENT_TYPE,
            delivery_mode=2,
            message_id=f"{envelope.session} {envelope.number}",
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
                self._not_taken(queue)
                self._confirmed(number)
            else:
                self.fail(UnreachableError(f"RabbitMQ did not take a message for {queue}: {error}"))
        else:
            self._confirmed(number)
        finally:
            self._window.release()

    def _not_taken(self, queue: str) -> None:
        """The queue is full: its reader will miss this number, and ask for what it needs."""
        metrics.not_taken(queue)
        now = self._loop.time()
        if now - self._refused_said.get(queue, -REFUSED_AGAIN) >= REFUSED_AGAIN:
            self._refused_said[queue] = now
            _log.warning("queue_full", queue=queue, limit=topology.QUEUE_LIMIT)

    def _confirmed(self, number: int) -> None:
        del self._unconfirmed[number]
        self._progress = self._loop.time()
        lowest = next(iter(self._unconfirmed), self._sent + 1)
        while self._waiting and self._waiting[0][0] < lowest:
            self._waiting.popleft()[1]()

    def bury(self, queue: str, message: DeliveredMessage, reason: str) -> None:
        """Move a message that nobody can handle to `phjob.dead`, with the reason.

        It is acknowledged when it is there, and by nobody else.
        """
        tag = message.delivery_tag or 0
        if tag in self._burying or tag not in self._unacked:
            return
        self._burying.add(tag)
        _log.error("message_buried", queue=queue, reason=reason)
        metrics.buried(queue)
        self._spawn(self._bury(tag, queue, message, reason[:LONGEST_REASON]))

    async def _bury(self, tag: int, queue: str, message: DeliveredMessage, reason: str) -> None:
        written = message.header.properties
        properties = Basic.Properties(  # Nothing else: an expiration or a user would have consequences.
            app_id=written.app_id,
            content_type=written.content_type,
            delivery_mode=2,
            message_id=written.message_id,
            message_type=written.message_type,
            headers={"queue": queue, "reason": reason, "time": datetime.now(UTC)},
        )
        await self._sending.basic_publish(
            message.body, exchange=topology.DEAD, routing_key=queue, properties=properties, mandatory=True
        )
        self._burying.discard(tag)
        self.ack(tag)

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, together with others that are done by then."""
        if tag not in self._unacked or tag in self._burying:
            return
        self._unacked[tag] = True
        if not self._ack_planned:
            self._ack_planned = True
            self._spawn(self._flush_acks())

    async def _flush_acks(self) -> None:
        """Acknowledge what is done: one frame for the oldest in a row, one for each other."""
        self._ack_planned = False
        done = [tag for tag, acked in self._unacked.items() if acked]
        in_row = 0
        for tag, acked in self._unacked.items():
            if not acked:
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
