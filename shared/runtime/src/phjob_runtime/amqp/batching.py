"""Batches: several messages of the watcher to one queue, in one message of RabbitMQ. Pure.

While a publish to a queue is in flight, further messages for that queue accumulate. They are sent as one
batch: low latency when there is little to send, few messages under load. The receiving bus unpacks a batch
before a consumer sees its messages. Each of them can be dead-lettered alone.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology

BATCH = "Batch"
"""The AMQP type of a batch. Each line of its body is a message: the kind, a space, the message's body.

The `message_id` has the sequence number of the first message.
"""
MAX_BATCH_MESSAGES = 200
"""The number of messages in a batch, which is about 100 kB."""


class Outgoing(NamedTuple):
    """A message that waits to be published or confirmed."""

    position: int
    """Its number among all messages of this connection, from 1."""
    envelope: Envelope
    kind: str
    body: bytes


@dataclass(frozen=True)
class Part:
    """A received message, alone or from a batch, before it is decoded."""

    kind: str | None
    body: bytes
    session: str
    sequence: int
    redelivered: bool
    properties: Basic.Properties
    """The properties of the AMQP message that contains it."""

    @property
    def message_id(self) -> str | None:
        """The `message_id` that it has, or would have alone."""
        if self.properties.message_type != BATCH:
            return self.properties.message_id
        return f"{self.session} {self.sequence}"


def is_batched(waiting: deque[Outgoing]) -> bool:
    """Return whether the next message to the queue is sent in a batch."""
    return waiting[0].envelope.publisher == topology.WATCHER


def take_batch(waiting: deque[Outgoing]) -> list[Outgoing]:
    """Remove the messages that are published next as one from the queue's outbox.

    Returns them.
    """
    if not is_batched(waiting):
        return [waiting.popleft()]
    return [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH_MESSAGES))]


def pack(batch: Sequence[Outgoing]) -> tuple[str, bytes]:
    """Return the AMQP type and the body of a batch. A single message is sent as it is."""
    if len(batch) == 1:
        return batch[0].kind, batch[0].body
    return BATCH, b"\n".join(one.kind.encode() + b" " + one.body for one in batch)


def unpack(message: DeliveredMessage) -> Iterator[Part]:
    """Yield each message that an AMQP message contains."""
    properties = message.header.properties
    session, _, number = (properties.message_id or "").rpartition(" ")
    first = int(number) if number.isdecimal() else 0
    rest = bool(message.redelivered), properties
    if properties.message_type != BATCH:
        yield Part(properties.message_type, message.body, session, first, *rest)
        return
    for sequence, line in enumerate(message.body.split(b"\n"), first):
        kind, _, body = line.partition(b" ")
        yield Part(kind.decode(errors="replace"), body, session, sequence, *rest)
