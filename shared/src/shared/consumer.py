"""A service's consumer: one queue, the watcher's stream followed, and timers.

It brings the session protocol (`session`), the broker (`bus`) and a service's handlers together, so
that a handler only ever sees news. What to do with them is the service's part.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from shared import metrics, topology
from shared.bus import Bus, Delivery
from shared.clock import Clock
from shared.messages import Heartbeat, Message, SnapshotBegin
from shared.session import Envelope, Follower, Verdict

ASK_AGAIN = timedelta(seconds=5)
"""How long an answer to a request for a snapshot may take to begin or go on, with nothing said of it.

Each time in a row that there was none, twice as long as before: where answers are slow, none would ever
be in time else.
"""
MOST_DOUBLINGS = 3

LONGEST_SLEEP = timedelta(seconds=30)
"""Between two looks at the clock: a machine that was suspended may have overslept."""

_log = structlog.get_logger()


class Handler(Protocol):
    """A service's own part: what it does with what the consumer hands it."""

    def ask(self, request: str) -> None:
        """Forget all, and send what leads to a snapshot under the name `request`."""
        ...

    def begin(self, begin: SnapshotBegin) -> None:
        """A snapshot starts."""
        ...

    def fact(self, fact: Message, *, listed: bool) -> None:
        """A message of the watcher; `listed` if it is a part of the snapshot."""
        ...

    def end(self) -> None:
        """The snapshot is complete: start to act."""
        ...

    def other(self, envelope: Envelope, done: Callable[[], None]) -> None:
        """A message of another service; call `done` once its effects are done."""
        ...

    def due(self) -> datetime | None:
        """When `tick` wants to be called next."""
        ...

    def tick(self) -> None:
        """The time that `due` named has come."""
        ...


class Consumer:
    """Runs a handler on a queue until it is cancelled."""

    def __init__(self, bus: Bus, queue: str, identity: str, clock: Clock, handler: Handler) -> None:
        self._bus = bus
        self._queue = queue
        self._identity = identity
        self._clock = clock
        self._handler = handler
        self._follower = Follower(identity)
        self._active = False
        self._ask_again: datetime | None = None
        self._unanswered = 0
        self._wake = asyncio.Event()
        self._planned: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether it does its work, or stands by for the one that does."""
        return self._follower.whole or not self._active

    async def run(self) -> None:
        """Consume and keep the timers, for ever."""
        metrics.active(self._queue, False)  # noqa: FBT003 - a gauge's value
        await self._bus.consume(self._queue, self._receive)
        # Whichever replica the broker chose as the active consumer gets this. If it comes back to
        # us, we are the one, and start; else we stand by.
        self._bus.send(self._queue, Envelope(self._identity, "", 0, Heartbeat()))
        while True:
            self._wake.clear()
            now = self._clock.now()
            if self._ask_again and now >= self._ask_again:
                self._unanswered = min(self._unanswered + 1, MOST_DOUBLINGS)
                self._ask("no answer")
            due = self._handler.due() if self._follower.whole else None
            if due and now >= due:
                self._handler.tick()
                continue
            self._planned = min(filter(None, (due, self._ask_again)), default=None)
            await self._wait(self._planned, now)

    async def _wait(self, until: datetime | None, now: datetime) -> None:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(self._wake.wait())]
        if until:
            nap = min(until - now, LONGEST_SLEEP)
            tasks.append(asyncio.create_task(self._clock.sleep(nap.total_seconds())))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _receive(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        metrics.received(envelope)
        try:
            with metrics.handling(envelope):
                self._handle(delivery)
        except Exception as error:
            _log.exception("handler_failed", kind=type(envelope.message).__name__)
            metrics.handler_failed(envelope)
            delivery.bury(f"{type(error).__name__}: {error}")
        metrics.active(self._queue, self._follower.whole)
        self._replan()

    def _handle(self, delivery: Delivery) -> None:
        envelope = delivery.envelope

        def done() -> None:
            self._bus.when_sent(delivery.ack)

        if envelope.publisher == topology.WATCHER:
            self._follow(envelope)
        elif envelope.publisher == self._identity:
            if not self._active:
                self._ask("active")
        elif envelope.message is not None and not isinstance(envelope.message, Heartbeat):
            self._handler.other(envelope, done)
            return
        done()

    def _replan(self) -> None:
        """Wake the timers if something is due before the time they sleep to."""
        due = self._handler.due() if self._follower.whole else self._ask_again
        if due and (self._planned is None or due < self._planned):
            self._wake.set()

    def _follow(self, envelope: Envelope) -> None:
        verdict = self._follower.receive(envelope)
        message = envelope.message
        if isinstance(message, Heartbeat) and message.sent:
            metrics.heartbeat(self._queue, message.sent)
            if self._ask_again and message.answering == self._follower.request:
                self._be_patient()
        if verdict is Verdict.ASK:
            self._unanswered = 0
            self._ask("gap")
        elif verdict is Verdict.BEGIN and isinstance(message, SnapshotBegin):
            self._be_patient()
            self._handler.begin(message)
        elif verdict is Verdict.END:
            self._ask_again, self._unanswered = None, 0
            self._handler.end()
            _log.info("snapshot_complete", request=self._follower.request)
        elif verdict is Verdict.APPLY and message is not None:
            if self._follower.in_snapshot and self._ask_again:
                self._be_patient()
            self._handler.fact(message, listed=self._follower.in_snapshot)

    def ask(self, why: str) -> None:
        """Start a new session, because the handler is in doubt."""
        self._ask(why)
        self._replan()

    def _ask(self, why: str) -> None:
        self._active = True
        request = self._follower.ask()
        self._be_patient()
        metrics.session_asked(why)
        _log.info("session_asked", why=why, request=request)
        self._handler.ask(request)

    def _be_patient(self) -> None:
        self._ask_again = self._clock.now() + ASK_AGAIN * 2**self._unanswered
