"""Batches: which messages are sent as one, and that a receiver gets each of them back."""

from collections import deque
from dataclasses import dataclass

import pytest
from pamqp.commands import Basic

from phjob_core import messages
from phjob_core.messages import CatalogSynced, Heartbeat, Message
from phjob_core.stream import Envelope
from phjob_runtime.amqp import batching
from phjob_runtime.amqp.batching import BATCH, MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, Outgoing, Part


@dataclass
class Header:
    properties: Basic.Properties


@dataclass
class Delivered:
    """An AMQP message, as the client library delivers it."""

    body: bytes
    header: Header
    redelivered: bool = False


def delivered(body: bytes, kind: str, message_id: str = "session 5", **options: bool) -> list[Part]:
    """Return the parts of an AMQP message."""
    properties = Basic.Properties(message_type=kind, message_id=message_id, app_id="watcher")
    return list(batching.unpack(Delivered(body, Header(properties), **options)))  # type: ignore[arg-type]


def outbox(count: int, publisher: str = "watcher", message: Message | None = None) -> deque[Outgoing]:
    """Return so many messages that wait."""
    return deque(
        Outgoing(number, Envelope(publisher, "session", number, message or Heartbeat()))
        for number in range(count)
    )


def test_the_watchers_messages_are_sent_together() -> None:
    """All that wait for the queue, up to the limit."""
    waiting = outbox(MAX_BATCH_MESSAGES + 3)
    assert batching.is_batched(waiting)
    first, second = batching.take_batch(waiting), batching.take_batch(waiting)
    assert (first.position, first.messages) == (0, MAX_BATCH_MESSAGES)
    assert (second.position, second.messages) == (MAX_BATCH_MESSAGES, 3)
    assert not waiting


def test_large_messages_make_a_batch_of_few() -> None:
    """Its receiver holds a whole batch in memory."""
    large = Heartbeat(answering="x" * (MAX_BATCH_BYTES // 3))
    waiting = outbox(10, message=large)
    assert batching.take_batch(waiting).messages == 3
    assert len(batching.take_batch(waiting).body) <= MAX_BATCH_BYTES + len(messages.encode(large)[1])


@pytest.mark.parametrize("publisher", ["scheduler@host-1", "janitor@host-1", "pod-manager@host-1"])
def test_a_command_is_sent_alone(publisher: str) -> None:
    """It would wait for another one in a batch."""
    waiting = outbox(3, publisher)
    assert not batching.is_batched(waiting)
    assert batching.take_batch(waiting).messages == 1
    assert len(waiting) == 2


def test_a_single_message_is_no_batch() -> None:
    """It has its own kind, so that every release understands it."""
    batch = batching.take_batch(outbox(1))
    assert (batch.kind, batch.body) == ("Heartbeat", b"{}")


def test_a_batch_is_unpacked_into_what_was_packed() -> None:
    """Kinds, bodies, and the sequence numbers, which count up from the first."""
    first, second = CatalogSynced(request=1, revision=7), Heartbeat(answering="me/1")
    batch = batching.take_batch(outbox(1, message=first) + outbox(1, message=second))
    assert batch.kind == BATCH
    parts = delivered(batch.body, batch.kind)
    assert [messages.decode(part.kind, part.body) for part in parts] == [first, second]
    assert [(part.session, part.sequence) for part in parts] == [("session", 5), ("session", 6)]
    assert [part.message_id for part in parts] == ["session 5", "session 6"]


def test_a_single_message_keeps_its_message_id() -> None:
    """Also if another program chose it."""
    (part,) = delivered(b"{}", "Heartbeat", message_id="anything")
    assert (part.kind, part.body, part.message_id) == ("Heartbeat", b"{}", "anything")
    assert part.sequence == 0


def test_every_part_of_a_redelivered_batch_is_redelivered() -> None:
    """RabbitMQ redelivers a batch as a whole."""
    parts = delivered(b"Heartbeat {}\nHeartbeat {}", BATCH, redelivered=True)
    assert [part.redelivered for part in parts] == [True, True]


def test_a_session_may_contain_spaces() -> None:
    """Only the last word of a message id is the sequence number."""
    (part,) = delivered(b"{}", "Heartbeat", message_id="a session 3")
    assert (part.session, part.sequence) == ("a session", 3)


def test_a_line_without_a_body_is_a_part_that_does_not_decode() -> None:
    """The bus dead-letters it alone, instead of the whole batch."""
    parts = delivered(b"Heartbeat {}\nNonsense\n\xff {}", BATCH)
    assert [(part.kind, part.body) for part in parts] == [
        ("Heartbeat", b"{}"), ("Nonsense", b""), ("\ufffd", b"{}"),
    ]  # fmt: skip
