"""What a consumer does about facts that it can't read or handle; the session protocol is `test_session`'s."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from tests.unit.facts import START

from shared.bus import Receive
from shared.consumer import HEAL_AGAIN, Consumer, Done
from shared.messages import Heartbeat, Message, SnapshotBegin, SnapshotEnd
from shared.session import Envelope


class Watched:
    """A bus and a handler in one: everything that a consumer does shows here."""

    def __init__(self) -> None:
        self.now_ = START
        self.requests: list[str] = []
        self.handled: list[Message] = []
        self.buried: list[str] = []
        self.failing = False
        self.receive: Receive = lambda _: None
        self._number = 0
        self._slept = asyncio.Event()

    # the bus

    def send(self, queue: str, envelope: Envelope) -> None:
        """Nothing."""

    def when_sent(self, done: Callable[[], None]) -> None:
        done()

    async def consume(self, _: str, receive: Receive) -> None:
        self.receive = receive

    # the clock

    def now(self) -> datetime:
        return self.now_

    async def sleep(self, _: float) -> None:
        self._slept.clear()
        await self._slept.wait()

    # the handler

    def ask(self, request: str) -> None:
        self.requests.append(request)

    def begin(self, begin: SnapshotBegin) -> None:
        """Nothing."""

    def fact(self, fact: Message, *, listed: bool) -> None:  # noqa: ARG002 - the port's
        if self.failing:
            raise ZeroDivisionError("the fault")
        self.handled.append(fact)

    def end(self) -> None:
        """Nothing."""

    def other(self, envelope: Envelope, done: Done) -> None:
        """Nothing."""

    def due(self) -> datetime | None:
        return None

    def tick(self) -> None:
        """Nothing."""

    # what happens

    def tell(self, *messages: Message | None) -> None:
        """Send messages of the watcher."""
        for message in messages:
            self.receive(_Delivery(Envelope("watcher", "1", self._number, message), self.buried))
            self._number += 1

    def answer(self) -> None:
        """Send the snapshot that was asked for."""
        request = self.requests[-1]
        self.tell(SnapshotBegin(request=request, revisions={}), SnapshotEnd(request=request))

    async def later(self, passed: timedelta) -> None:
        """Let so much time pass."""
        self.now_ += passed
        self._slept.set()
        for _ in range(10):
            await asyncio.sleep(0)


class _Delivery:
    def __init__(self, envelope: Envelope, buried: list[str]) -> None:
        self.envelope = envelope
        self._buried = buried

    def ack(self) -> None:
        """Nothing."""

    def bury(self, reason: str) -> None:
        self._buried.append(reason)


@asynccontextmanager
async def a_consumer() -> AsyncIterator[Watched]:
    """One that has its snapshot."""
    watched = Watched()
    running = asyncio.create_task(Consumer(watched, "queue", "me", watched, watched).run())
    await watched.later(timedelta(0))
    watched.tell(Heartbeat())
    watched.answer()
    try:
        yield watched
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_fact_that_could_not_be_handled_is_buried_and_all_is_asked_for_anew() -> None:
    """What is known may be half of what it said; the next ones are handled meanwhile."""
    async with a_consumer() as watched:
        watched.failing = True
        watched.tell(Heartbeat())
        watched.failing = False
        watched.tell(Heartbeat())
        assert watched.buried == ["ZeroDivisionError: the fault"]
        assert len(watched.handled) == 1
        await watched.later(timedelta(seconds=0))
        assert watched.requests == ["me/1", "me/2"]


async def test_so_is_one_that_could_not_be_read() -> None:
    """Its place counts; what it said is missing."""
    async with a_consumer() as watched:
        watched.tell(None, Heartbeat())
        assert len(watched.handled) == 1
        await watched.later(timedelta(seconds=0))
        assert watched.requests == ["me/1", "me/2"]


async def test_one_that_always_fails_starts_no_circle() -> None:
    """It is in the snapshot, too: the next one is asked for a minute later."""
    async with a_consumer() as watched:
        watched.tell(None)
        await watched.later(timedelta(seconds=0))
        for _ in range(5):
            watched.answer()
            watched.tell(None)
            await watched.later(timedelta(seconds=1))
        assert len(watched.requests) == 2
        await watched.later(HEAL_AGAIN)
        assert len(watched.requests) == 3
