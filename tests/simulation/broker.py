"""A simulated RabbitMQ: durable queues, a single active consumer each, confirms and redelivery.

Connections break, sometimes without notice. The broker restarts, loses its data, or blocks publishers.
Messages of one sender to one queue stay in sequence. Messages to different queues have no common sequence.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from random import Random

from tests.simulation.interceptor import Interceptor
from tests.simulation.process import Process

from phjob_core.errors import UnreachableError
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Receive

PREFETCH = 1000
MAX_DELAY_SECONDS = 3.0
"""The maximum time that a message or a confirm takes."""
MAX_LATE_DELIVERY_SECONDS = 10.0
"""The maximum time after the loss of a connection in which messages sent on it may arrive."""


class Moment(Enum):
    """The moments of a message at which a fault can intercept it."""

    SENT = auto()
    """A process has sent the message."""
    RECEIVED = auto()
    """The consumer has received the message."""


@dataclass
class BrokerConditions:
    """The faults of the broker that are active now."""

    random: Random
    latency: float = 0.02
    """The usual maximum seconds of one way. Rarely, one takes up to 20 times as long."""
    duplication: float = 0.0
    """The probability that a message enters its queue twice."""
    loss: float = 0.0
    """The probability that a message of the watcher is confirmed but lost."""
    down: bool = False
    blocked: bool = False
    """True while the broker accepts no messages, because of a memory alarm."""

    def draw_delay(self) -> float:
        """Return the seconds that the next message or confirm takes."""
        slow = 20 if self.random.random() < 0.02 else 1
        return min(self.random.uniform(0.0005, self.latency) * slow, MAX_DELAY_SECONDS)


@dataclass
class Message:
    """A message in a queue."""

    position: int
    envelope: Envelope
    arrived_at: float
    deliveries: int = 0


@dataclass
class Queue:
    """A queue. Its first consumer is the active one."""

    name: str
    ready: list[tuple[int, Message]] = field(default_factory=list)
    unacked: dict[int, Message] = field(default_factory=dict)
    consumers: list["SimulatedBus"] = field(default_factory=list)


class Broker:
    """All queues of one installation."""

    def __init__(self, conditions: BrokerConditions, shards: int) -> None:
        self.conditions = conditions
        self.queues = {queue.name: Queue(queue.name) for queue in topology.queues(shards)}
        self.dead_letters: list[tuple[Envelope, str]] = []
        """Each dead letter, with its reason."""
        self.connections: list[SimulatedBus] = []
        self._last_position = 0
        self._last_tag = 0
        self._blocked_messages: list[tuple[SimulatedBus, str, Envelope, int]] = []
        self._lost_connections: list[SimulatedBus] = []
        self.message_interceptor: Interceptor[tuple[Moment, type], Process] = Interceptor()
        """The faults that wait for a message; they get the process that sent or received it."""

    @asynccontextmanager
    async def connect(self, process: Process) -> AsyncIterator["SimulatedBus"]:
        """Open a connection.

        Raises:
            UnreachableError: the broker is down.

        """
        await process.wait_until_running()
        await asyncio.sleep(self.conditions.draw_delay())
        await process.wait_until_running()
        if self.conditions.down:
            raise UnreachableError("RabbitMQ is not reachable: connection refused")
        bus = SimulatedBus(self, process)
        self.connections.append(bus)
        try:
            yield bus
        finally:
            self.drop(bus)

    def drop(self, bus: "SimulatedBus", *, notice: float = 0.0, extra_delay: float = 0.0) -> None:
        """Break a connection, and requeue its unacknowledged messages.

        The process notices it `notice` seconds later. Messages in flight arrive `extra_delay` seconds later
        than they would have, or never.
        """
        if bus not in self.connections:
            return
        self.connections.remove(bus)
        self._lost_connections.append(bus)
        bus.is_dropped = True
        loop, random = asyncio.get_running_loop(), self.conditions.random
        # Messages in flight may arrive after those of a successor.
        bus.cutoff = loop.time() + random.choice((0, random.uniform(0, 0.1), MAX_LATE_DELIVERY_SECONDS))
        if extra_delay:
            bus.cutoff = loop.time() + extra_delay + MAX_DELAY_SECONDS
            bus.delay_pending(extra_delay)
        for queue in self.queues.values():
            if bus in queue.consumers:
                active = queue.consumers[0] is bus
                queue.consumers.remove(bus)
                if active:
                    self._requeue_unacked(queue)
        loop.call_later(notice, bus.notice_loss)

    def deliver_pending(self) -> None:
        """Deliver all messages in flight from lost connections now."""
        for bus in self._lost_connections:
            bus.deliver_pending()
        self._lost_connections.clear()

    def switch_consumer(self, queue: Queue) -> bool:
        """Make the next consumer of the queue the active one, without any notice.

        Returns whether there is another consumer.
        """
        if len(queue.consumers) < 2:
            return False
        queue.consumers.append(queue.consumers.pop(0))
        self._requeue_unacked(queue)
        return True

    def restart(self, *, wiped: bool) -> None:
        """Break every connection. `wiped`: all messages are lost, too.

        Then every process notices it at once (design/consistency.md, Known limits).
        """
        for bus in list(self.connections):
            notice = self.conditions.random.uniform(0, 2)
            self.drop(bus, notice=0.0 if wiped else notice)
        if wiped:
            for queue in self.queues.values():
                queue.ready.clear()
            self._blocked_messages.clear()

    def purge(self, name: str) -> None:
        """Lose the queue's messages that are ready for delivery."""
        self.queues[name].ready.clear()

    def unblock(self) -> None:
        """Accept messages again."""
        self.conditions.blocked = False
        blocked, self._blocked_messages = self._blocked_messages, []
        for bus, queue, envelope, number in blocked:
            self.arrive(bus, queue, envelope, number)

    def consume(self, name: str, bus: "SimulatedBus") -> None:
        """Add a consumer to the queue. It is active if it is the only one."""
        queue = self.queues[name]
        queue.consumers.append(bus)
        self._deliver(queue)

    def arrive(self, bus: "SimulatedBus", name: str, envelope: Envelope, number: int) -> None:
        """Put a message that has arrived into its queue, and confirm it."""
        loop = asyncio.get_running_loop()
        if self.conditions.down or loop.time() > bus.cutoff:
            return
        if self.conditions.blocked:
            self._blocked_messages.append((bus, name, envelope, number))
            return
        queue, random = self.queues[name], self.conditions.random
        copies = 2 if self.conditions.duplication and random.random() < self.conditions.duplication else 1
        if (
            self.conditions.loss
            and envelope.publisher == topology.WATCHER
            and random.random() < self.conditions.loss
        ):
            copies = 0
        for _ in range(copies):
            self._last_position += 1
            heapq.heappush(
                queue.ready, (self._last_position, Message(self._last_position, envelope, loop.time()))
            )
        loop.call_later(self.conditions.draw_delay(), bus.confirm, number)
        self._deliver(queue)

    def on_acknowledged(self, name: str, tag: int, bus: "SimulatedBus") -> None:
        """Remove an acknowledged message, unless it was requeued before."""
        if asyncio.get_running_loop().time() <= bus.cutoff:
            queue = self.queues[name]
            queue.unacked.pop(tag, None)
            self._deliver(queue)

    def _requeue_unacked(self, queue: Queue) -> None:
        for message in queue.unacked.values():
            if message.deliveries > topology.DELIVERY_LIMIT:
                self.dead_letters.append((message.envelope, "delivery limit"))
            else:
                heapq.heappush(queue.ready, (message.position, message))
        queue.unacked.clear()
        self._deliver(queue)

    def _deliver(self, queue: Queue) -> None:
        while queue.consumers and queue.ready and len(queue.unacked) < PREFETCH:
            _, message = heapq.heappop(queue.ready)
            message.deliveries += 1
            self._last_tag += 1
            queue.unacked[self._last_tag] = message
            queue.consumers[0].deliver(queue.name, self._last_tag, message)


class Delivery:
    """A delivery of a message to a consumer."""

    def __init__(self, bus: "SimulatedBus", queue: str, tag: int, envelope: Envelope) -> None:
        self._bus = bus
        self._queue = queue
        self._tag = tag
        self.envelope = envelope

    def ack(self) -> None:
        """Acknowledge the message."""
        self._bus.acknowledge(self._queue, self._tag)

    def dead_letter(self, reason: str) -> None:
        """Move the message to the dead letters."""
        self._bus.broker.dead_letters.append((self.envelope, reason))
        self.ack()


class SimulatedBus:
    """One connection of one process, as the product's port `Bus`."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.cutoff = inf
        """The time after which nothing that was sent on this connection arrives."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stall_reason = ""
        self.is_dropped = False
        """True once the broker has closed the connection, even if the process has not noticed it."""
        self._receive: Receive | None = None
        self._latest_arrival: dict[str, float] = {}
        """The time at which the latest message to each queue arrives."""
        self._in_flight: dict[int, tuple[asyncio.TimerHandle, str, Envelope]] = {}
        self._latest_delivery = 0.0
        """The time at which the latest delivery arrives."""
        self._sent = 0
        self._unconfirmed: dict[int, None] = {}
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def send(self, queue: str, envelope: Envelope) -> None:
        """Send a message. It arrives after all earlier ones to the same queue."""
        if not self.process.is_alive:
            return
        self._sent += 1
        self._unconfirmed[self._sent] = None
        self.broker.message_interceptor.offer((Moment.SENT, type(envelope.message)), self.process)
        if self.is_dropped:
            return  # Only messages sent before the loss may still arrive.
        loop = asyncio.get_running_loop()
        earliest = self._latest_arrival.get(queue, 0.0)
        self._latest_arrival[queue] = at = max(
            earliest + 1e-6, loop.time() + self.broker.conditions.draw_delay()
        )
        arrival = loop.call_at(at, self._arrive, self._sent)
        self._in_flight[self._sent] = arrival, queue, envelope

    def delay_pending(self, seconds: float) -> None:
        """Delay all messages in flight by so many seconds."""
        loop = asyncio.get_running_loop()
        for number, (arrival, queue, envelope) in self._in_flight.items():
            arrival.cancel()
            later = loop.call_at(arrival.when() + seconds, self._arrive, number)
            self._in_flight[number] = later, queue, envelope

    def deliver_pending(self) -> None:
        """Deliver all messages in flight to the broker now."""
        for number, (arrival, _, _) in list(self._in_flight.items()):
            arrival.cancel()
            self._arrive(number)

    def _arrive(self, number: int) -> None:
        _, queue, envelope = self._in_flight.pop(number)
        self.broker.arrive(self, queue, envelope, number)

    def when_confirmed(self, done: Callable[[], None]) -> None:
        """Call `done` once all messages sent up to now are confirmed."""
        if self._unconfirmed:
            self._waiting.append((self._sent, done))
        else:
            done()

    @property
    def receiver(self) -> object:
        """Return the object that receives the deliveries; None if the bus consumes no queue."""
        return getattr(self._receive, "__self__", None)

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to pass on the queue's deliveries, in sequence."""
        await self.process.wait_until_running()
        self._receive = receive
        if self in self.broker.connections:
            self.broker.consume(queue, self)

    def confirm(self, number: int) -> None:
        """Confirm a message to the process."""
        self.process.when_running(lambda: self._on_confirmed(number))

    def _on_confirmed(self, number: int) -> None:
        if self.broken.done():
            return
        self._unconfirmed.pop(number, None)
        lowest = next(iter(self._unconfirmed), self._sent + 1)
        while self._waiting and self._waiting[0][0] < lowest:
            self._waiting.popleft()[1]()

    def deliver(self, queue: str, tag: int, message: Message) -> None:
        """Send a delivery to the process."""
        loop = asyncio.get_running_loop()
        delay = self.broker.conditions.draw_delay()
        self._latest_delivery = at = max(self._latest_delivery + 1e-6, loop.time() + delay)
        redelivered = message.deliveries > 1
        sent = message.envelope
        envelope = Envelope(sent.publisher, sent.session, sent.sequence, sent.message, redelivered)
        loop.call_at(at, self._receive_delivery, Delivery(self, queue, tag, envelope))

    def _receive_delivery(self, delivery: Delivery) -> None:
        def receive() -> None:
            if self._receive and not self.broken.done():
                self._receive(delivery)
                self.broker.message_interceptor.offer(
                    (Moment.RECEIVED, type(delivery.envelope.message)), self.process
                )

        self.process.when_running(receive)

    def acknowledge(self, queue: str, tag: int) -> None:
        """Send an acknowledgement to the broker."""
        if self.process.is_alive:
            loop = asyncio.get_running_loop()
            loop.call_later(
                self.broker.conditions.draw_delay(), self.broker.on_acknowledged, queue, tag, self
            )

    def notice_loss(self) -> None:
        """Let the process notice that the connection is lost."""

        def notice() -> None:
            if not self.broken.done():
                self.broken.set_exception(UnreachableError("the connection to RabbitMQ was lost"))
                self.broken.exception()

        self.process.when_running(notice)
