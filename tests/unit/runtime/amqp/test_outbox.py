"""The outbox: what is published next, what is confirmed, and what a waiting message costs."""

import tracemalloc

import pytest
from tests.fakes.facts import a_job

from phjob_core.messages import Heartbeat, Message
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.outbox import Outbox

QUEUE, OTHER = "janitor.0", "scheduler.0"


def add(outbox: Outbox, queue: str = QUEUE, publisher: str = "test", message: Message | None = None) -> None:
    """Send a message."""
    outbox.add(queue, Envelope(publisher, "session", 0, message or Heartbeat()))


def test_a_message_counts_until_it_is_confirmed() -> None:
    """Also while it is in flight."""
    outbox = Outbox()
    add(outbox)
    add(outbox)
    assert (len(outbox), outbox.waiting(QUEUE)) == (2, 2)
    batch = outbox.take(QUEUE)
    assert (len(outbox), outbox.waiting(QUEUE)) == (2, 1)
    outbox.confirm(QUEUE, batch)
    assert len(outbox) == 1


@pytest.mark.parametrize("publisher", [topology.WATCHER, "scheduler@host"])
def test_only_a_batch_of_the_watcher_lets_the_next_one_wait(publisher: str) -> None:
    """So that facts accumulate, but no command waits for another."""
    outbox = Outbox()
    add(outbox, publisher=publisher)
    batch = outbox.take(QUEUE)
    add(outbox, publisher=publisher)
    assert outbox.has_next(QUEUE) == (publisher != topology.WATCHER)
    outbox.confirm(QUEUE, batch)
    outbox.end(QUEUE)
    assert outbox.has_next(QUEUE)
    assert not outbox.has_next(OTHER)


def test_confirmations_are_reported_once_everything_before_is_confirmed() -> None:
    """In whatever order RabbitMQ confirms, and to whichever queue the messages went."""
    outbox, reported = Outbox(), list[str]()
    outbox.when_confirmed(lambda: reported.append("at once"))
    assert reported == ["at once"]
    add(outbox)
    outbox.when_confirmed(lambda: reported.append("first"))
    add(outbox, OTHER)
    add(outbox)
    outbox.when_confirmed(lambda: reported.append("all"))
    first, other = outbox.take(QUEUE), outbox.take(OTHER)
    outbox.confirm(OTHER, other)
    assert reported == ["at once"]
    outbox.confirm(QUEUE, first)
    assert reported == ["at once", "first"]
    outbox.confirm(QUEUE, outbox.take(QUEUE))
    assert reported == ["at once", "first", "all"]


def test_a_waiting_message_takes_little_memory_beside_its_object() -> None:
    """A snapshot of 100,000 facts is sent in one piece, and the watcher holds the facts anyway."""
    count, job = 1000, a_job()
    outbox = Outbox()
    tracemalloc.start()
    try:
        for _ in range(count):
            add(outbox, publisher=topology.WATCHER, message=job)
        assert tracemalloc.get_traced_memory()[0] < 300 * count
    finally:
        tracemalloc.stop()
