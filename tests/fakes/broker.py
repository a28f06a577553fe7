"""The broker's ports without a broker: a bus that records what is sent, and deliveries from the test."""

from collections.abc import Callable
from typing import TypeVar

from phjob_core.messages import Message
from phjob_core.stream import Envelope
from phjob_runtime.amqp.port import Receive

M = TypeVar("M", bound=Message)


class FakeBus:
    """A bus with one consumer. Everything is confirmed at once, and nothing is delivered by itself."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Envelope]] = []
        """The queue and the envelope of each message, in order."""
        self.receive: Receive = lambda _: None
        """The consumer's callback for a delivery."""

    def send(self, queue: str, envelope: Envelope) -> None:
        """Record the message."""
        self.sent.append((queue, envelope))

    def when_confirmed(self, done: Callable[[], None]) -> None:
        """Call `done` at once."""
        done()

    async def consume(self, queue: str, receive: Receive) -> None:  # noqa: ARG002 - there is one consumer
        """Keep the consumer's callback."""
        self.receive = receive

    def messages(self, queue: str, kind: type[M]) -> list[M]:
        """Return the messages of one kind that were sent to the queue."""
        sent = (envelope.message for name, envelope in self.sent if name == queue)
        return [message for message in sent if isinstance(message, kind)]


class FakeDelivery:
    """A delivery that records what its consumer does with it."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.acks = 0
        self.dead_letter_reason = ""
        """The reason of the dead letter; empty if it is none."""

    def ack(self) -> None:
        """Count the acknowledgement."""
        self.acks += 1

    def dead_letter(self, reason: str) -> None:
        """Record the reason."""
        self.dead_letter_reason = reason
