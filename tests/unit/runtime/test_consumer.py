"""The consumer: resyncs, standby, and messages that cannot be processed.

`tests/unit/core/test_stream.py` tests the session protocol itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from tests.fakes.broker import FakeBus, FakeDelivery
from tests.fakes.facts import START

from phjob_core.messages import Heartbeat, Message, SessionRequest, SnapshotBegin, SnapshotEnd
from phjob_core.stream import Envelope
from phjob_runtime.consumer import (
    MIN_RESYNC_INTERVAL,
    SNAPSHOT_TIMEOUT,
    STALE_SESSION_TIMEOUT,
    Acknowledge,
    Consumer,
    ShardsError,
    StaleSessionError,
)


class Fixture:
    """The bus, the clock and the handler of a consumer. They record everything that it does."""

    def __init__(self) -> None:
        self.now_ = START
        self.requests: list[str] = []
        self.handled: list[Message] = []
        self.is_failing = False
        self.is_active = False
        """Whether RabbitMQ delivers the consumer's probes."""
        self.bus = FakeBus()
        self.deliveries: list[FakeDelivery] = []
        self.running: asyncio.Task[None] | None = None
        self.consumer: Consumer
        self._number = 0
        self._slept = asyncio.Event()

    # The clock.

    def now(self) -> datetime:
        return self.now_

    def monotonic(self) -> float:
        return self.now_.timestamp()

    async def sleep(self, _: float) -> None:
        self._slept.clear()
        await self._slept.wait()

    # The handler.

    def request_snapshot(self, request: str) -> None:
        self.requests.append(request)

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        pass

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:  # noqa: ARG002 - the port's
        if self.is_failing:
            raise ZeroDivisionError("the fault")
        self.handled.append(fact)

    def on_snapshot_end(self) -> None:
        pass

    def on_command(self, envelope: Envelope, acknowledge: Acknowledge) -> None:  # noqa: ARG002 - the port's
        self.consumer.resync("session requested")
        acknowledge()

    def next_wakeup(self) -> datetime | None:
        return None

    def on_wakeup(self) -> None:
        pass

    # The rest of the world.

    def publish(self, *messages: Message | None, session: str = "2") -> None:
        """Deliver messages of the watcher."""
        for message in messages:
            self.deliver(Envelope("watcher", session, self._number, message))
            self._number += 1

    def deliver(self, envelope: Envelope) -> None:
        """Deliver one message."""
        self.deliveries.append(FakeDelivery(envelope))
        self.bus.receive(self.deliveries[-1])

    @property
    def dead_letters(self) -> list[str]:
        """The reasons of the dead letters, in order."""
        return [delivery.dead_letter_reason for delivery in self.deliveries if delivery.dead_letter_reason]

    def deliver_probes(self) -> None:
        """Deliver the consumer's own probes, as RabbitMQ does for the active consumer only."""
        probes = [probe for _, probe in self.bus.sent]
        self.bus.sent.clear()
        for probe in probes:
            self.deliver(probe)

    def publish_snapshot(self, shards: int = 1) -> None:
        """Deliver the snapshot that was requested last."""
        request = self.requests[-1]
        self.publish(
            SnapshotBegin(request=request, revisions={}, shards=shards), SnapshotEnd(request=request)
        )

    async def advance(self, time: timedelta) -> None:
        """Let time pass, and let the consumer react."""
        self.now_ += time
        self._slept.set()
        for _ in range(10):
            await asyncio.sleep(0)
            if self.is_active:
                self.deliver_probes()


@asynccontextmanager
async def a_synced_consumer() -> AsyncIterator[Fixture]:
    """Run a consumer that has received its snapshot."""
    fixture = Fixture()
    fixture.consumer = Consumer(fixture.bus, "queue", "me", fixture, fixture, shards=1)
    running = asyncio.create_task(fixture.consumer.run())
    fixture.running = running
    await fixture.advance(timedelta(0))
    fixture.publish(Heartbeat())
    fixture.publish_snapshot()
    fixture.bus.sent.clear()
    fixture.is_active = True
    try:
        yield fixture
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_fact_that_fails_is_dead_lettered_and_causes_a_resync() -> None:
    """The state may lack a part of that fact. Meanwhile the next facts are processed."""
    async with a_synced_consumer() as fixture:
        fixture.is_failing = True
        fixture.publish(Heartbeat())
        fixture.is_failing = False
        fixture.publish(Heartbeat())
        assert fixture.dead_letters == ["ZeroDivisionError: the fault"]
        assert len(fixture.handled) == 1
        await fixture.advance(timedelta(0))
        assert fixture.requests == ["me/1", "me/2"]


async def test_an_undecodable_fact_causes_a_resync() -> None:
    """Its sequence number counts, but its content is missing."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None, Heartbeat())
        assert len(fixture.handled) == 1
        await fixture.advance(timedelta(0))
        assert fixture.requests == ["me/1", "me/2"]


async def test_a_fact_that_always_fails_causes_one_resync_a_minute() -> None:
    """It is in every snapshot, too. Without the limit, resyncs would never end."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        for _ in range(5):
            fixture.publish_snapshot()
            fixture.publish(None)
            await fixture.advance(timedelta(seconds=1))
        assert len(fixture.requests) == 2
        await fixture.advance(MIN_RESYNC_INTERVAL)
        assert len(fixture.requests) == 3


async def test_a_service_with_another_number_of_shards_than_the_watcher_does_nothing() -> None:
    """Otherwise two schedulers would decide for one group. A watcher that sends no number is trusted."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        fixture.publish_snapshot(shards=0)
        fixture.publish(Heartbeat(), None)
        await fixture.advance(MIN_RESYNC_INTERVAL)
        assert len(fixture.handled) == 1
        fixture.publish_snapshot(shards=2)
        fixture.publish(Heartbeat())
        assert len(fixture.handled) == 1
        assert fixture.running
        with pytest.raises(ShardsError, match="the watcher has 2 shards, but this service has 1: stop all"):
            await asyncio.wait_for(asyncio.shield(fixture.running), 10)


async def test_a_consumer_that_was_replaced_without_losing_its_connection_goes_on_standby() -> None:
    """Its probe does not come back, so another replica is active and must not be disturbed."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        requests = len(fixture.requests)
        fixture.is_active = False
        for _ in range(5):
            await fixture.advance(16 * SNAPSHOT_TIMEOUT)
        assert len(fixture.requests) == requests
        assert REGISTRY.get_sample_value("phjob_active", {"queue": "queue"}) == 0


async def test_a_replaced_consumer_does_not_start_over_when_its_handler_asks_for_it() -> None:
    """A replaced scheduler would take pod-manager from its successor, because its admissions are overdue."""
    async with a_synced_consumer() as fixture:
        fixture.is_active = False
        fixture.consumer.resync("admission unobserved")
        for _ in range(5):
            await fixture.advance(16 * SNAPSHOT_TIMEOUT)
        assert fixture.requests == ["me/1"]


async def test_an_active_consumer_starts_over_when_its_handler_asks_for_it() -> None:
    async with a_synced_consumer() as fixture:
        fixture.consumer.resync("admission unobserved")
        assert fixture.requests == ["me/1"]
        await fixture.advance(timedelta(0))
        assert fixture.requests == ["me/1", "me/2"]
        fixture.publish_snapshot()
        await fixture.advance(16 * SNAPSHOT_TIMEOUT)
        assert fixture.requests == ["me/1", "me/2"]


async def test_a_snapshot_does_not_replace_what_the_handler_asks_for() -> None:
    """pod-manager may request a session while a snapshot arrives, and ignores all commands until then."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        requests = len(fixture.requests)
        fixture.consumer.resync("admission unobserved")
        fixture.publish_snapshot()
        await fixture.advance(timedelta(0))
        assert len(fixture.requests) == requests + 1


async def test_a_late_answer_makes_its_repetition_unnecessary() -> None:
    """The snapshot is complete. Another one would only cost time."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        requests = len(fixture.requests)
        fixture.is_active = False
        await fixture.advance(SNAPSHOT_TIMEOUT)
        fixture.publish_snapshot()
        fixture.is_active = True
        await fixture.advance(timedelta(0))
        assert len(fixture.requests) == requests


async def test_a_message_that_asks_for_a_new_start_shows_that_the_consumer_is_active() -> None:
    async with a_synced_consumer() as fixture:
        fixture.is_active = False
        fixture.deliver(Envelope("pod-manager", "1", 0, SessionRequest()))
        assert fixture.requests == ["me/1", "me/2"]


async def test_a_lost_probe_is_sent_again() -> None:
    """Other messages show that the consumer is active, so it does not go on standby."""
    async with a_synced_consumer() as fixture:
        fixture.consumer.resync("admission unobserved")
        fixture.bus.sent.clear()
        fixture.publish(Heartbeat())
        await fixture.advance(SNAPSHOT_TIMEOUT)
        assert fixture.requests == ["me/1", "me/2"]


async def test_an_active_consumer_repeats_its_request_until_it_is_answered() -> None:
    """The watcher may be unavailable for a long time."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        requests = len(fixture.requests)
        for _ in range(5):
            await fixture.advance(16 * SNAPSHOT_TIMEOUT)
        assert len(fixture.requests) == requests + 5


async def test_the_time_before_a_request_is_repeated_doubles_up_to_a_limit() -> None:
    """A slow watcher would otherwise never answer the latest request in time."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        await fixture.advance(timedelta(0))
        for doublings in (0, 1, 2, 3, 3, 3):
            requests = len(fixture.requests)
            timeout = SNAPSHOT_TIMEOUT * 2**doublings
            await fixture.advance(timeout - timedelta(milliseconds=1))
            assert len(fixture.requests) == requests
            await fixture.advance(timedelta(milliseconds=2))
            assert len(fixture.requests) == requests + 1


async def test_a_standby_consumer_starts_over_when_it_becomes_active() -> None:
    """Any message shows that it is active; here, the watcher's heartbeat."""
    async with a_synced_consumer() as fixture:
        fixture.publish(None)
        fixture.is_active = False
        for _ in range(3):
            await fixture.advance(16 * SNAPSHOT_TIMEOUT)
        requests = len(fixture.requests)
        fixture.publish(Heartbeat())
        assert len(fixture.requests) == requests + 1
        fixture.publish_snapshot()
        fixture.publish(Heartbeat())
        assert fixture.handled == [Heartbeat()]


async def test_a_consumer_that_receives_only_an_older_session_starts_over() -> None:
    """After a restore of etcd from a backup, revisions are lower, and so are the watcher's sessions."""
    async with a_synced_consumer() as fixture:
        fixture.publish(Heartbeat(), session="1")
        await fixture.advance(STALE_SESSION_TIMEOUT / 2)
        fixture.publish(Heartbeat(), session="1")
        await fixture.advance(STALE_SESSION_TIMEOUT / 2)
        assert fixture.running
        assert isinstance(fixture.running.exception(), StaleSessionError)


async def test_a_consumer_ignores_an_older_session_while_the_current_one_goes_on() -> None:
    """An earlier watcher that wakes up may still send messages."""
    async with a_synced_consumer() as fixture:
        for number in range(5):
            fixture.deliver(Envelope("watcher", "1", number, Heartbeat()))
            fixture.publish(Heartbeat())
            await fixture.advance(STALE_SESSION_TIMEOUT / 2)
        assert fixture.running
        assert not fixture.running.done()
        assert fixture.requests == ["me/1"]
