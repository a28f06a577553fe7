"""The port to the broker: what a service needs of RabbitMQ, and what a simulation can replace."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from phjob_core.stream import Envelope


class Delivery(Protocol):
    """A received message that its consumer still has to acknowledge."""

    @property
    def envelope(self) -> Envelope:
        """The message and its position in its stream."""
        ...

    def ack(self) -> None:
        """Acknowledge the message, because its effects are complete.

        It is not delivered again.
        """
        ...

    def dead_letter(self, reason: str) -> None:
        """Move the message to `phjob.dead`, with the reason why no service can process it."""
        ...


Receive = Callable[[Delivery], None]


class Bus(Protocol):
    """The port to the broker."""

    def send(self, queue: str, envelope: Envelope) -> None:
        """Publish after everything published before. RabbitMQ confirms it later."""
        ...

    def when_confirmed(self, done: Callable[[], None]) -> None:
        """Call `done` once RabbitMQ has confirmed everything published up to now."""
        ...

    async def consume(self, queue: str, receive: Receive) -> None:
        """Start to pass the queue's deliveries to `receive`, in order."""
        ...


class Connection(Bus, Protocol):
    """A bus, as long as its connection lasts."""

    @property
    def broken(self) -> asyncio.Future[None]:
        """A future that fails when the connection does. It never succeeds."""
        ...

    @property
    def stall_reason(self) -> str:
        """Why publishing has stalled, for people; empty if it has not."""
        ...
