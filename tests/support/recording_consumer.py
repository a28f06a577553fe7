"""A consumer that records what it receives from the bus, for tests that wait for messages."""

import asyncio
from collections.abc import Callable

from phjob_core.stream import Envelope
from phjob_runtime.amqp.port import Delivery

DELIVERY_TIMEOUT_SECONDS = 60.0


class RecordingConsumer:
    """A consumer that acknowledges every delivery at once, or none."""

    def __init__(self, *, acks: bool = True) -> None:
        self._acks = acks
        self._arrived = asyncio.Event()
        self.deliveries: list[Delivery] = []

    def receive(self, delivery: Delivery) -> None:
        """Record a delivery. This is the callback for `Bus.consume`."""
        self.deliveries.append(delivery)
        if self._acks:
            delivery.ack()
        self._arrived.set()

    @property
    def envelopes(self) -> list[Envelope]:
        """The envelopes of all deliveries, in order."""
        return [delivery.envelope for delivery in self.deliveries]

    @property
    def sequence_numbers(self) -> list[int]:
        """The sequence numbers of all deliveries, in order."""
        return [envelope.sequence for envelope in self.envelopes]

    async def wait_until(self, condition: Callable[[list[Envelope]], bool]) -> list[Envelope]:
        """Wait until the condition holds for the envelopes. Returns them."""
        async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
            while not condition(self.envelopes):
                self._arrived.clear()
                await self._arrived.wait()
        return self.envelopes

    async def wait_for_count(self, count: int) -> list[Envelope]:
        """Wait for this many deliveries. Returns all envelopes."""
        return await self.wait_until(lambda envelopes: len(envelopes) >= count)
