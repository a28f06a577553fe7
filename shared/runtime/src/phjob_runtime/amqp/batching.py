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

from phjob_core.messages import encode
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology

BATCH = "Batch"
"""The AMQP type of a batch. Each line of its body is a message: the kind, a space, the message's body.

The `message_id` has the sequence number of the first message.
"""
MAX_BATCH_MESSAGES = 200
"""The number of messages in a batch, which is about 100 kB."""
MAX_BATCH_BYTES = 256 * 2**10
"""The size at which a batch gets no further message. A fact with the longest names has about 10 KiB."""


class Outgoing(NamedTuple):
    """A message that waits to be published or confirmed."""

    position: int
    """Its number among all messages of this connection, from 1."""
    envelope: Envelope


class Batch(NamedTuple):
    """Messages that are published as one."""

    position: int
    """The position of the first message."""
    envelope: Envelope
    """The envelope of the first message."""
    messages: int
    """The number of messages."""
    kind: str
    """The AMQP type."""
    body: bytes


@dataclass(frozen=True, slots=True)
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


def take_batch(waiting: deque[Outgoing]) -> Batch:
    """Remove the messages that are published next as one from the queue's outbox, and encode them."""
    max_messages = MAX_BATCH_MESSAGES if is_batched(waiting) else 1
    position, envelope = waiting[0]
    encoded: list[tuple[str, bytes]] = []
    size = 0
    while waiting and len(encoded) < max_messages and size < MAX_BATCH_BYTES:
        message = waiting.popleft().envelope.message
        assert message is not None  # noqa: S101 - only a received message can be undecodable
        encoded.append(encode(message))
        size += len(encoded[-1][1])
    return Batch(position, envelope, len(encoded), *_pack(encoded))


def _pack(encoded: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the AMQP type and the body of a batch. A single message is sent as it is."""
    if len(encoded) == 1:
        return encoded[0]
    return BATCH, b"\n".join(kind.encode() + b" " + body for kind, body in encoded)


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
