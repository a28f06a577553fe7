"""RabbitMQ, as its clients see it: durable queues, one active consumer each, confirms, redelivery.

A connection may be cut unnoticed, and the broker may restart, be wiped, or take no messages for a while.
Messages to one queue keep the order of their sender; between queues there is none.
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

from tests.simulation.ambush import Ambushes
from tests.simulation.process import Process

from shared import topology
from shared.bus import Receive
from shared.errors import UnreachableError
from shared.session import Envelope

PREFETCH = 1000
SLOWEST = 3.0
"""Seconds that one way takes at most."""
IN_FLIGHT = 10.0
"""Seconds that a message of a connection that was lost may still be on its way."""


class Moment(Enum):
    """In the life of a message."""

    SENT = auto()
    """It is on its way to the broker."""
    RECEIVED = auto()
    """It was handed to its consumer."""


@dataclass
class BrokerWeather:
    """What messages may suffer."""

    random: Random
    latency: float = 0.02
    """Seconds each way, at most; now and then much more."""
    duplicates: float = 0.0
    """Of each message: that it is in its queue twice."""
    losses: float = 0.0
    """Of each message of the watcher: that it is confirmed, and lost."""
    down: bool = False
    blocked: bool = False
    """It takes no messages (memory alarm)."""

    def delay(self) -> float:
        """Of one way."""
        slow = 20 if self.random.random() < 0.02 else 1
        return min(self.random.uniform(0.0005, self.latency) * slow, SLOWEST)


@dataclass
class Message:
    """A message in a queue."""

    place: int
    envelope: Envelope
    at: float
    """When it came."""
    deliveries: int = 0


@dataclass
class Queue:
    """A queue, whose first consumer is the active one."""

    name: str
    ready: list[tuple[int, Message]] = field(default_factory=list)
    unacked: dict[int, Message] = field(default_factory=dict)
    consumers: list["SimulatedBus"] = field(default_factory=list)


class Broker:
    """All queues of one installation."""

    def __init__(self, weather: BrokerWeather, shards: int) -> None:
        self.weather = weather
        self.queues = {queue.name: Queue(queue.name) for queue in topology.queues(shards)}
        self.dead: list[tuple[Envelope, str]] = []
        self.connections: list[SimulatedBus] = []
        self._places = 0
        self._tags = 0
        self._held: list[tuple[SimulatedBus, str, Envelope, int]] = []
        self._lost: list[SimulatedBus] = []
        self.moments: Ambushes[tuple[Moment, type], Process] = Ambushes()
        """Whose moment with a message of a kind it is."""

    @asynccontextmanager
    async def connect(self, process: Process) -> AsyncIterator["SimulatedBus"]:
        """A new connection; UnreachableError if the broker is down."""
        await process.awake()
        await asyncio.sleep(self.weather.delay())
        await process.awake()
        if self.weather.down:
            raise UnreachableError("RabbitMQ is not reachable: connection refused")
        bus = SimulatedBus(self, process)
        self.connections.append(bus)
        try:
            yield bus
        finally:
            self.drop(bus)

    def drop(self, bus: "SimulatedBus", *, notice: float = 0.0, straggle: float = 0.0) -> None:
        """End the connection: what it had not acknowledged goes back. It notices after so many seconds.

        What it has sent and is still on its way comes so much later, if at all.
        """
        if bus not in self.connections:
            return
        self.connections.remove(bus)
        self._lost.append(bus)
        loop, random = asyncio.get_running_loop(), self.weather.random
        # What it has sent may still be on its way, and arrive behind what a successor sends.
        bus.cutoff = loop.time() + random.choice((0, random.uniform(0, 0.1), IN_FLIGHT))
        if straggle:
            bus.cutoff = loop.time() + straggle + SLOWEST
            bus.straggle(straggle)
        for queue in self.queues.values():
            if bus in queue.consumers:
                active = queue.consumers[0] is bus
                queue.consumers.remove(bus)
                if active:
                    self._take_back(queue)
        loop.call_later(notice, bus.lose)

    def hurry(self) -> None:
        """Let all that is on its way from connections that are lost arrive now."""
        for bus in self._lost:
            bus.hurry()
        self._lost.clear()

    def restart(self, *, wiped: bool) -> None:
        """End every connection; `wiped`: all messages are lost."""
        for bus in list(self.connections):
            self.drop(bus, notice=self.weather.random.uniform(0, 2))
        if wiped:
            for queue in self.queues.values():
                queue.ready.clear()
            self._held.clear()

    def purge(self, name: str) -> None:
        """Lose what is ready in the queue."""
        self.queues[name].ready.clear()

    def unblock(self) -> None:
        """Take messages again."""
        self.weather.blocked = False
        held, self._held = self._held, []
        for bus, queue, envelope, number in held:
            self.arrive(bus, queue, envelope, number)

    def consume(self, name: str, bus: "SimulatedBus") -> None:
        """A connection reads the queue from now on; it is active if it is the first."""
        queue = self.queues[name]
        queue.consumers.append(bus)
        self._deliver(queue)

    def arrive(self, bus: "SimulatedBus", name: str, envelope: Envelope, number: int) -> None:
        """A message is there: in its queue, and confirmed."""
        loop = asyncio.get_running_loop()
        if self.weather.down or loop.time() > bus.cutoff:
            return
        if self.weather.blocked:
            self._held.append((bus, name, envelope, number))
            return
        queue, random = self.queues[name], self.weather.random
        copies = 2 if self.weather.duplicates and random.random() < self.weather.duplicates else 1
        if (
            self.weather.losses
            and envelope.publisher == topology.WATCHER
            and random.random() < self.weather.losses
        ):
            copies = 0
        for _ in range(copies):
            self._places += 1
            heapq.heappush(queue.ready, (self._places, Message(self._places, envelope, loop.time())))
        loop.call_later(self.weather.delay(), bus.confirmed, number)
        self._deliver(queue)

    def acked(self, name: str, tag: int, bus: "SimulatedBus") -> None:
        """A delivery is done with, unless it went back before."""
        if asyncio.get_running_loop().time() <= bus.cutoff:
            queue = self.queues[name]
            queue.unacked.pop(tag, None)
            self._deliver(queue)

    def _take_back(self, queue: Queue) -> None:
        for message in queue.unacked.values():
            if message.deliveries > topology.DELIVERY_LIMIT:
                self.dead.append((message.envelope, "delivery limit"))
            else:
                heapq.heappush(queue.ready, (message.place, message))
        queue.unacked.clear()
        self._deliver(queue)

    def _deliver(self, queue: Queue) -> None:
        while queue.consumers and queue.ready and len(queue.unacked) < PREFETCH:
            _, message = heapq.heappop(queue.ready)
            message.deliveries += 1
            self._tags += 1
            queue.unacked[self._tags] = message
            queue.consumers[0].deliver(queue.name, self._tags, message)


class Delivery:
    """A message that a connection received."""

    def __init__(self, bus: "SimulatedBus", queue: str, tag: int, envelope: Envelope) -> None:
        self._bus = bus
        self._queue = queue
        self._tag = tag
        self.envelope = envelope

    def ack(self) -> None:
        """Say that its effects are done."""
        self._bus.acknowledge(self._queue, self._tag)

    def bury(self, reason: str) -> None:
        """Move it to the dead ones."""
        self._bus.broker.dead.append((self.envelope, reason))
        self.ack()


class SimulatedBus:
    """One connection of one process."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.cutoff = inf
        """What would arrive later than this does not."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stalled = ""
        self._receive: Receive | None = None
        self._arrivals: dict[str, float] = {}
        self._on_the_way: dict[int, tuple[asyncio.TimerHandle, str, Envelope]] = {}
        self._deliveries = 0.0
        self._sent = 0
        self._unconfirmed: dict[int, None] = {}
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def send(self, queue: str, envelope: Envelope) -> None:
        """Send behind everything sent before to that queue."""
        if not self.process.alive:
            return
        self._sent += 1
        self._unconfirmed[self._sent] = None
        loop = asyncio.get_running_loop()
        earliest = self._arrivals.get(queue, 0.0)
        self._arrivals[queue] = at = max(earliest + 1e-6, loop.time() + self.broker.weather.delay())
        arrival = loop.call_at(at, self._arrives, self._sent)
        self._on_the_way[self._sent] = arrival, queue, envelope
        self.broker.moments.comes((Moment.SENT, type(envelope.message)), self.process)

    def straggle(self, seconds: float) -> None:
        """Let what is on its way need so much longer."""
        loop = asyncio.get_running_loop()
        for number, (arrival, queue, envelope) in self._on_the_way.items():
            arrival.cancel()
            later = loop.call_at(arrival.when() + seconds, self._arrives, number)
            self._on_the_way[number] = later, queue, envelope

    def hurry(self) -> None:
        """Let what is on its way arrive now."""
        for number, (arrival, _, _) in list(self._on_the_way.items()):
            arrival.cancel()
            self._arrives(number)

    def _arrives(self, number: int) -> None:
        _, queue, envelope = self._on_the_way.pop(number)
        self.broker.arrive(self, queue, envelope, number)

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call `done` once everything sent up to now is confirmed."""
        if self._unconfirmed:
            self._waiting.append((self._sent, done))
        else:
            done()

    @property
    def reader(self) -> object:
        """What receives the deliveries."""
        return getattr(self._receive, "__self__", None)

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to hand over the queue's deliveries, in their order."""
        await self.process.awake()
        self._receive = receive
        if self in self.broker.connections:
            self.broker.consume(queue, self)

    def confirmed(self, number: int) -> None:
        """The broker has the message."""
        self.process.when_awake(lambda: self._confirmed(number))

    def _confirmed(self, number: int) -> None:
        if self.broken.done():
            return
        self._unconfirmed.pop(number, None)
        lowest = next(iter(self._unconfirmed), self._sent + 1)
        while self._waiting and self._waiting[0][0] < lowest:
            self._waiting.popleft()[1]()

    def deliver(self, queue: str, tag: int, message: Message) -> None:
        """The broker sends a delivery on its way."""
        loop = asyncio.get_running_loop()
        self._deliveries = at = max(self._deliveries + 1e-6, loop.time() + self.broker.weather.delay())
        again = message.deliveries > 1
        content = message.envelope
        envelope = Envelope(content.publisher, content.session, content.number, content.message, again)
        loop.call_at(at, self._arrived, Delivery(self, queue, tag, envelope))

    def _arrived(self, delivery: Delivery) -> None:
        def receive() -> None:
            if self._receive and not self.broken.done():
                self._receive(delivery)
                self.broker.moments.comes((Moment.RECEIVED, type(delivery.envelope.message)), self.process)

        self.process.when_awake(receive)

    def acknowledge(self, queue: str, tag: int) -> None:
        """Send an acknowledgement on its way."""
        if self.process.alive:
            loop = asyncio.get_running_loop()
            loop.call_later(self.broker.weather.delay(), self.broker.acked, queue, tag, self)

    def lose(self) -> None:
        """Notice that the connection is lost."""

        def noticed() -> None:
            if not self.broken.done():
                self.broken.set_exception(UnreachableError("the connection to RabbitMQ was lost"))
                self.broken.exception()

        self.process.when_awake(noticed)
