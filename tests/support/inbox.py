"""What arrived from the bus, in order, and waiting for it."""

import asyncio
from collections.abc import Callable

from shared.bus import Delivery
from shared.session import Envelope

SECONDS = 60.0


class Inbox:
    """Receives from a bus; acknowledges at once, or never."""

    def __init__(self, *, acks: bool = True) -> None:
        self._acks = acks
        self._arrived = asyncio.Event()
        self.deliveries: list[Delivery] = []

    def receive(self, delivery: Delivery) -> None:
        """Take a delivery in: give this to `Bus.consume`."""
        self.deliveries.append(delivery)
        if self._acks:
            delivery.ack()
        self._arrived.set()

    @property
    def envelopes(self) -> list[Envelope]:
        """All that arrived."""
        return [delivery.envelope for delivery in self.deliveries]

    @property
    def numbers(self) -> list[int]:
        """Their numbers."""
        return [envelope.number for envelope in self.envelopes]

    async def until(self, arrived: Callable[[list[Envelope]], bool]) -> list[Envelope]:
        """All that arrived, once that is so."""
        async with asyncio.timeout(SECONDS):
            while not arrived(self.envelopes):
                self._arrived.clear()
                await self._arrived.wait()
        return self.envelopes

    async def count(self, number: int) -> list[Envelope]:
        """All that arrived, once there are so many."""
        return await self.until(lambda envelopes: len(envelopes) >= number)
