"""The bus on RabbitMQ: confirmed publishing in order, and deliveries that are acknowledged one by one.

A `RabbitBus` has one connection. When the connection breaks, the bus is over: the service starts again
with a new connection, and so with new sessions (`phjob_runtime.service`). The meaning of a message is not
known here. `batching` packs the watcher's messages, `authorship` proves who sent a message, and
`dead_letters` describes a dead letter.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
)
from aiormq import Channel as RawChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused
from pamqp.commands import Basic

from phjob_core import messages
from phjob_core.errors import UnreachableError
from phjob_core.stream import Envelope
from phjob_runtime import metrics
from phjob_runtime.amqp import authorship, batching, dead_letters, topology
from phjob_runtime.amqp.authorship import AuthorshipError, BrokerUsers
from phjob_runtime.amqp.batching import Batch, Part
from phjob_runtime.amqp.outbox import Outbox
from phjob_runtime.amqp.port import Receive

CONTENT_TYPE = "application/vnd.phjob.v1+json"
CONNECT_TIMEOUT_SECONDS = 10
HEARTBEAT_SECONDS = 5
"""The time between AMQP heartbeats. RabbitMQ drops a consumer that has missed two."""
PREFETCH_COUNT = 1000
"""The number of deliveries that may be unacknowledged at the same time."""
MAX_UNCONFIRMED = 1000
"""The number of AMQP messages that may be published and not yet confirmed at the same time."""
MAX_OUTBOX_MESSAGES = 200_000
"""The number of messages that may wait for their confirmation. The next breaks the bus.

A snapshot of a shard is sent in one piece, so it has to be smaller.
"""
STALL_SECONDS = 10.0
"""The time without a confirmation, while messages wait for theirs, after which publishing has stalled."""
MIN_FULL_WARNING_INTERVAL_SECONDS = 60.0
"""The time between two log lines about the same full queue."""

_log = structlog.get_logger()


class _RabbitDelivery:
    """One message of a delivery of RabbitMQ.

    A message that does not decode, or whose author is not proven, is dead-lettered at once.
    """

    __slots__ = ("_bus", "_is_done", "_part", "_queue", "_tag", "envelope")

    def __init__(self, bus: "RabbitBus", queue: str, tag: int, part: Part, users: BrokerUsers) -> None:
        self._bus = bus
        self._queue = queue
        self._tag = tag
        self._part = part
        self._is_done = False
        decoded: messages.Message | None = None
        publisher = ""  # A message of an unproven author must not count in the stream of the one it names.
        try:
            publisher = users.author(part.properties.app_id, part.properties.user_id)
            message = messages.decode(part.kind, part.body)
            authorship.check_permission(publisher, queue, message)
            decoded = message
        except (AuthorshipError, messages.UndecodableError) as error:
            self.dead_letter(str(error))
        except Exception as error:
            _log.exception("decoding_failed", queue=queue)
            self.dead_letter(f"{type(error).__name__}: {error}")
        self.envelope = Envelope(
            publisher=publisher,
            session=part.session,
            sequence=part.sequence,
            message=decoded,
            redelivered=part.redelivered,
        )

    def ack(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._bus.ack(self._tag)

    def dead_letter(self, reason: str) -> None:
        if not self._is_done:
            self._is_done = True  # The bus acknowledges it once RabbitMQ has confirmed the dead letter.
            self._bus.dead_letter(self._queue, self._tag, self._part, reason)


class RabbitBus:
    """The bus on one connection, with a channel to publish and a channel to consume."""

    def __init__(self, user: str, sending: RawChannel, consuming: RawChannel) -> None:
        """`user`: the RabbitMQ user of the connection."""
        self._user = user
        self._sending = sending
        self._consuming = consuming
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._publish_slots = asyncio.Semaphore(MAX_UNCONFIRMED)
        self._last_confirm = 0.0
        """When RabbitMQ last confirmed, or when the first message that waits was sent."""
        self._last_full_warning: dict[str, float] = {}
        """When the last warning about each full queue was logged."""
        self._unprocessed: dict[int, int] = {}
        """The number of messages that are not processed yet, by the tag of their delivery."""
        self._is_ack_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        metrics.observe_outbox(lambda: len(self._outbox))

    @property
    def stall_reason(self) -> str:
        """Why publishing has stalled, for people; empty if it has not."""
        if not len(self._outbox) or self._loop.time() - self._last_confirm < STALL_SECONDS:
            return ""
        return f"RabbitMQ to accept messages: {len(self._outbox)} unconfirmed"

    def send(self, queue: str, envelope: Envelope) -> None:
        """Publish after everything published before. RabbitMQ confirms it later."""
        if len(self._outbox) >= MAX_OUTBOX_MESSAGES:
            cause = "RabbitMQ accepts none, or a shard has more jobs and pods than that: use more shards"
            self.fail(UnreachableError(f"{MAX_OUTBOX_MESSAGES} messages are unconfirmed: {cause}"))
            return
        if not len(self._outbox):
            self._last_confirm = self._loop.time()
        self._outbox.add(queue, envelope)
        self._wake.set()

    def when_confirmed(self, done: Callable[[], None]) -> None:
        """Call `done` once RabbitMQ has confirmed everything published up to now."""
        self._outbox.when_confirmed(done)

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to pass the queue's deliveries to `receive`, in order."""
        users = BrokerUsers.of(self._user, topology.service_of(queue))

        async def on_message(message: DeliveredMessage) -> None:
            try:
                tag, parts = message.delivery_tag or 0, list(batching.unpack(message))
                self._unprocessed[tag] = len(parts)
                for part in parts:
                    receive(_RabbitDelivery(self, queue, tag, part, users))
            except Exception as error:
                _log.exception("delivery_failed", queue=queue)
                self.fail(error)

        metrics.consuming(queue)
        await self._consuming.basic_consume(queue, on_message)

    async def write(self) -> None:
        """Publish the messages of the outbox, until cancelled."""
        try:
            while True:
                self._wake.clear()
                for queue in self._outbox.queues():
                    while self._outbox.has_next(queue):
                        await self._publish_slots.acquire()
                        self._spawn(self._publish(queue, self._outbox.take(queue)))
                await self._wake.wait()
        except Exception as error:
            # Without this, a message that cannot be encoded would silently stop all publishing.
            _log.exception("publishing_failed")
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Break the bus, so that its service starts again on a new connection."""
        if not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # Without this, asyncio would log an error that no task awaits.

    def close(self) -> None:
        """Cancel every publish and acknowledgement in flight."""
        for task in self._tasks:
            task.cancel()

    async def _publish(self, queue: str, batch: Batch) -> None:
        first = batch.envelope
        properties = Basic.Properties(
            app_id=first.publisher,
            content_type=CONTENT_TYPE,
            delivery_mode=2,
            message_id=f"{first.session} {first.sequence}",
            message_type=batch.kind,
            user_id=self._user,
        )
        try:
            await self._sending.basic_publish(
                batch.body,
                exchange=topology.exchange_of(queue),
                routing_key=queue,
                properties=properties,
                mandatory=True,  # Otherwise RabbitMQ would confirm and drop a message to a missing queue.
                wait=False,
            )
        except (AMQPError, ChannelInvalidStateError, DeliveryError, ConnectionError) as error:
            if isinstance(error, DeliveryError) and isinstance(error.frame, Basic.Nack):
                self._on_rejected(queue, batch.messages)
                self._on_confirmed(queue, batch)
            else:
                self.fail(UnreachableError(f"RabbitMQ did not accept a message for {queue}: {error}"))
        else:
            self._on_confirmed(queue, batch)
        finally:
            self._publish_slots.release()
            self._outbox.end(queue)
            self._wake.set()

    def _on_rejected(self, queue: str, count: int) -> None:
        """Record that the queue is full.

        Its consumer will find the gap, and request a snapshot.
        """
        metrics.messages_rejected(queue, count)
        now = self._loop.time()
        last = self._last_full_warning.get(queue, -MIN_FULL_WARNING_INTERVAL_SECONDS)
        if now - last >= MIN_FULL_WARNING_INTERVAL_SECONDS:
            self._last_full_warning[queue] = now
            _log.warning("queue_full", queue=queue, limit=topology.MAX_QUEUE_MESSAGES)

    def _on_confirmed(self, queue: str, batch: Batch) -> None:
        self._last_confirm = self._loop.time()
        self._outbox.confirm(queue, batch)

    def dead_letter(self, queue: str, tag: int, part: Part, reason: str) -> None:
        """Publish a message to `phjob.dead`, with the reason, then acknowledge it."""
        _log.error("message_dead_lettered", queue=queue, reason=reason)
        metrics.message_dead_lettered(queue)
        self._spawn(self._dead_letter(queue, tag, part, reason))

    async def _dead_letter(self, queue: str, tag: int, part: Part, reason: str) -> None:
        await self._sending.basic_publish(
            part.body,
            exchange=topology.DEAD_LETTER_QUEUE,
            routing_key=queue,
            properties=dead_letters.properties_of(part, queue, reason, datetime.now(UTC), self._user),
            mandatory=True,
        )
        self.ack(tag)

    def ack(self, tag: int) -> None:
        """Count one message of a delivery as processed.

        The delivery is acknowledged once all of its messages are processed.
        """
        self._unprocessed[tag] -= 1
        if not self._unprocessed[tag] and not self._is_ack_scheduled:
            self._is_ack_scheduled = True
            self._spawn(self._flush_acks())

    async def _flush_acks(self) -> None:
        """Acknowledge every processed delivery.

        The oldest ones without a gap take one frame, and each other delivery takes one.
        """
        self._is_ack_scheduled = False
        processed = [tag for tag, count in self._unprocessed.items() if not count]
        last_in_row = 0
        for tag, count in self._unprocessed.items():
            if count:
                break
            last_in_row = tag
        for tag in processed:
            del self._unprocessed[tag]
        try:
            if last_in_row:
                await self._consuming.basic_ack(last_in_row, multiple=True, wait=False)
            for tag in processed:
                if tag > last_in_row:
                    await self._consuming.basic_ack(tag, wait=False)
        except (AMQPError, ChannelInvalidStateError, ConnectionError) as error:
            self.fail(UnreachableError(f"RabbitMQ did not accept an acknowledgement: {error}"))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)


@asynccontextmanager
async def connect(url: str, name: str, shards: int, *, declare: bool = True) -> AsyncIterator[RabbitBus]:
    """Connect to RabbitMQ, with every exchange and queue in place.

    RabbitMQ's management page shows the connection as `name`. With `declare` the exchanges and queues are
    declared now, which needs a user with that right. Otherwise `definitions` must have made them.

    Raises:
        UnreachableError: RabbitMQ does not answer, rejects the login, or lacks an exchange or a queue.

    """
    try:
        connection = await aio_pika.connect(
            url,
            client_properties={"connection_name": name},
            heartbeat=HEARTBEAT_SECONDS,
            timeout=CONNECT_TIMEOUT_SECONDS,
        )
    except (AMQPError, OSError, TimeoutError) as error:
        msg = f"RabbitMQ is not reachable: {type(error).__name__}: {error}"
        raise UnreachableError(msg) from error
    try:
        sending = await connection.channel(publisher_confirms=True, on_return_raises=True)
        consuming = await connection.channel(publisher_confirms=False)
        await consuming.set_qos(prefetch_count=PREFETCH_COUNT)
        await (_declare if declare else _check)(sending, shards)
        bus = RabbitBus(
            connection.url.user or authorship.DEFAULT_USER,
            cast("RawChannel", await sending.get_underlay_channel()),
            cast("RawChannel", await consuming.get_underlay_channel()),
        )

        def on_cancel(_: object) -> None:
            bus.fail(UnreachableError("RabbitMQ ended our consumer, because its queue was deleted"))

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
        msg = f"RabbitMQ rejected a request: {type(error).__name__}: {error}"
        raise UnreachableError(msg) from error
    finally:
        await connection.close()


async def _declare(channel: AbstractChannel, shards: int) -> None:
    """Declare every exchange and queue, which makes those that are missing."""
    try:
        dead = await channel.declare_exchange(
            topology.DEAD_LETTER_QUEUE, aio_pika.ExchangeType.FANOUT, durable=True
        )
        dead_queue = await channel.declare_queue(
            topology.DEAD_LETTER_QUEUE, durable=True, arguments=dict(topology.DEAD_LETTER_ARGUMENTS)
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
    except ChannelPreconditionFailed as error:
        remedy = "stop the services, delete it, and start them again"
        raise UnreachableError(f"a queue or an exchange has other arguments; {remedy}: {error}") from error


async def _check(channel: AbstractChannel, shards: int) -> None:
    """Check that every exchange and queue exists, which needs no rights.

    RabbitMQ shows their arguments only to a user who may declare them (`definitions_diff`).
    """
    queues = list(topology.queues(shards))
    dead = topology.DEAD_LETTER_QUEUE
    try:
        for exchange in dict.fromkeys((dead, *(queue.exchange for queue in queues))):
            await channel.declare_exchange(exchange, passive=True)
        for name in (dead, *(queue.name for queue in queues)):
            await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity as error:
        remedy = f"import the definitions for SHARDS={shards}"
        raise UnreachableError(f"RabbitMQ lacks an exchange or a queue; {remedy}: {error}") from error
