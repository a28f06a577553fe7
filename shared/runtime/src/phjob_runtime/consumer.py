"""A service's consumer: one queue, the watcher's stream, and timers.

It connects the session protocol (`phjob_core.stream`), the bus and a service's handler. The handler gets
only messages that are new and complete.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from phjob_core.backoff import Backoff
from phjob_core.errors import RetryableError
from phjob_core.messages import Heartbeat, Message, SnapshotBegin
from phjob_core.stream import Envelope, StreamAction, StreamReader
from phjob_runtime import metrics
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus, Delivery
from phjob_runtime.clock import Clock

SNAPSHOT_TIMEOUT = timedelta(seconds=5)
"""The time to wait for progress on a snapshot request before it is repeated."""
SNAPSHOT_BACKOFF = Backoff(first=SNAPSHOT_TIMEOUT.total_seconds(), longest=40.0)
"""The same after unanswered requests in a row: it doubles, so that a slow watcher can catch up."""

MIN_RESYNC_INTERVAL = timedelta(seconds=60)
"""The minimum time between two resyncs because of messages that could not be processed."""

STALE_SESSION_TIMEOUT = timedelta(seconds=60)
"""The time for which messages of older sessions only may arrive before the consumer starts over.

A watcher's session is an etcd revision. After etcd was restored from a backup, a new watcher's session
compares less than the current one. Without this limit, the consumer would ignore it for days.
"""

MAX_SLEEP = timedelta(seconds=30)
"""The maximum time between two checks of the clock, because a machine may be suspended meanwhile."""

_NO_ANSWER = "no answer"

_log = structlog.get_logger()


class StaleSessionError(RetryableError):
    """The watcher's session is older than the current one.

    The service has to start over on a new connection.
    """


class ShardsError(RetryableError):
    """The watcher has another number of shards, so this service must not act.

    Two schedulers could decide for one group.
    """


class Handler(Protocol):
    """A service's own part: how it processes messages and wakeups."""

    def request_snapshot(self, request: str) -> None:
        """Discard the state, and request a snapshot with the id `request`."""
        ...

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        """Start to receive a snapshot."""
        ...

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:
        """Process a message of the watcher. `from_snapshot`: it is a part of the snapshot."""
        ...

    def on_snapshot_end(self) -> None:
        """Start to act, because the snapshot is complete."""
        ...

    def on_command(self, envelope: Envelope, acknowledge: "Acknowledge") -> None:
        """Process a message of another service.

        Call `acknowledge` once its effects are complete.
        """
        ...

    def next_wakeup(self) -> datetime | None:
        """Return when to call `on_wakeup` next; None if never."""
        ...

    def on_wakeup(self) -> None:
        """Act, because the time that `next_wakeup` returned has come."""
        ...


class Acknowledge(Protocol):
    """The function that acknowledges one message. It may be called once."""

    def __call__(self, failure: str = "") -> None:
        """Acknowledge the message, or dead-letter it if there is a `failure`."""
        ...


class Consumer:
    """The loop that runs a handler on one queue."""

    def __init__(
        self, bus: Bus, queue: str, identity: str, clock: Clock, handler: Handler, *, shards: int
    ) -> None:
        """Take the number of `shards` in this service's settings, beside the ports and the handler."""
        self._bus = bus
        self._shards = shards
        self._watcher_shards = shards
        self._queue = queue
        self._service = topology.service_of(queue)
        self._identity = identity
        self._clock = clock
        self.handler = handler
        self._reader = StreamReader(identity)
        self._is_active = False
        self._is_probing = False
        """True from a probe to the consumer's own queue until any message comes."""
        self._is_receiving = False
        """True while a message is processed."""
        self._due_resync = ""
        """The reason for a resync once the probe shows that this consumer is active; empty for none."""
        self._repeat_request_at: float | None = None
        self._unanswered = 0
        """The number of snapshot requests in a row without an answer."""
        self._resync_at: float | None = None
        self._last_resync: float | None = None
        self._stale_at: float | None = None
        """When to start over, unless a message of a current session arrives before."""
        self._wake = asyncio.Event()
        self._next_check: float | None = None
        """The time until which `run` sleeps."""

    @property
    def is_ready(self) -> bool:
        """Return whether the consumer is synced, or on standby."""
        return self._reader.synced or not self._is_active

    async def run(self) -> None:
        """Consume messages and wake the handler, until cancelled.

        Raises:
            StaleSessionError: the watcher sent only older sessions for `STALE_SESSION_TIMEOUT`.
            ShardsError: the watcher has another number of shards.

        """
        metrics.set_standby(self._queue)
        await self._bus.consume(self._queue, self._receive)
        # If the probe comes back, this replica is active and starts; otherwise it is on standby.
        self._probe()
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            if self._watcher_shards != self._shards:
                raise ShardsError(
                    f"the watcher has {self._watcher_shards} shards, but this service has {self._shards}:"
                    " stop all services, and start them with the same number (SHARDS, the chart's `shards`)"
                )
            if self._stale_at is not None and now >= self._stale_at:
                raise StaleSessionError("the watcher's session is older than the current one")
            if self._repeat_request_at is not None and now >= self._repeat_request_at:
                self._on_request_unanswered()
            if self._resync_at is not None and now >= self._resync_at:
                self._last_resync, self._resync_at = now, None
                self._resync_if_active("handler failed")
            due = self._handler_due()
            if due is not None and now >= due:
                self.handler.on_wakeup()
                continue
            self._next_check = _earliest(due, self._repeat_request_at, self._resync_at, self._stale_at)
            await self._wait(self._next_check, now)

    def _handler_due(self) -> float | None:
        """Return the handler's next wakeup on the monotonic clock; None if there is none."""
        due = self.handler.next_wakeup() if self._reader.synced else None
        if due is None:
            return None
        return self._clock.monotonic() + (due - self._clock.now()).total_seconds()

    def _probe(self) -> None:
        """Send a message to the consumer's own queue. Only the active consumer receives it."""
        self._is_probing = True
        self._bus.send(self._queue, Envelope(self._service, self._identity, 0, Heartbeat()))

    def _on_request_unanswered(self) -> None:
        """Enter standby if the probe is unanswered, too. Otherwise repeat the snapshot request."""
        if self._is_probing:
            _log.info("standby_entered", queue=self._queue)
            self._is_active, self._repeat_request_at, self._unanswered = False, None, 0
            self._due_resync = ""
            self._reader.new_request()
            metrics.set_standby(self._queue)
            return
        self._unanswered += 1
        self._resync_if_active(self._due_resync or _NO_ANSWER)

    def _resync_if_active(self, reason: str) -> None:
        """Resync as soon as a probe comes back. Without it, enter standby.

        RabbitMQ may have made another replica the active consumer without breaking this connection, after a
        partition between its nodes. Without the probe, the replaced scheduler would start a session, which
        takes pod-manager from its successor.
        """
        self._due_resync = reason
        self._probe()
        self._extend_deadline()

    async def _wait(self, until: float | None, now: float) -> None:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(self._wake.wait())]
        if until is not None:
            seconds = min(until - now, MAX_SLEEP.total_seconds())
            tasks.append(asyncio.create_task(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _receive(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        self._is_probing, self._is_receiving = False, True  # Only the active consumer receives anything.
        metrics.message_received(envelope)
        try:
            with metrics.time_handler(envelope):
                self._handle(delivery)
        except Exception as error:
            kind = envelope.message.kind if envelope.message else "undecodable"
            _log.exception("handler_failed", kind=kind)
            self._dead_letter(delivery, f"{type(error).__name__}: {error}")
            if envelope.publisher == topology.WATCHER:
                self._schedule_resync()
        finally:
            self._is_receiving = False
        (metrics.set_active if self._reader.synced else metrics.set_standby)(self._queue)
        self._replan()

    def _handle(self, delivery: Delivery) -> None:
        envelope = delivery.envelope

        def acknowledge(failure: str = "") -> None:
            if failure:
                self._dead_letter(delivery, failure)
            else:
                self._bus.when_confirmed(delivery.ack)

        if envelope.publisher == topology.WATCHER:
            self._read(envelope)
            if not self._is_active:  # It was on standby, and receives messages again.
                self._resync("active")
        elif (envelope.publisher, envelope.session) == (self._service, self._identity):  # The probe.
            if not self._is_active:
                self._resync("active")
            elif self._due_resync:
                self._resync(self._due_resync)
        elif envelope.message is not None and not isinstance(envelope.message, Heartbeat):
            self.handler.on_command(envelope, acknowledge)
            return
        acknowledge()

    def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        metrics.handler_failed(delivery.envelope)
        delivery.dead_letter(reason)

    def _schedule_resync(self) -> None:
        """Schedule a resync, because the state may be incomplete.

        At most one a minute, so that a message that always fails cannot cause a loop.
        """
        if self._resync_at is None:
            now, last = self._clock.monotonic(), self._last_resync
            interval = MIN_RESYNC_INTERVAL.total_seconds()
            self._resync_at = now if last is None else max(now, last + interval)

    def _replan(self) -> None:
        """Wake `run` if something is due before the time until which it sleeps."""
        due = _earliest(self._handler_due(), self._repeat_request_at, self._resync_at, self._stale_at)
        if due is not None and (self._next_check is None or due < self._next_check):
            self._wake.set()

    def _watch_session(self, envelope: Envelope) -> None:
        """Start or stop the timer for messages of older sessions only."""
        if not self._reader.is_older(envelope):
            self._stale_at = None
        elif self._stale_at is None:
            self._stale_at = self._clock.monotonic() + STALE_SESSION_TIMEOUT.total_seconds()

    def _read(self, envelope: Envelope) -> None:
        self._watch_session(envelope)
        action = self._reader.receive(envelope)
        message = envelope.message
        if message is None and action is StreamAction.APPLY:
            self._schedule_resync()
        if isinstance(message, Heartbeat) and message.sent:
            metrics.heartbeat_processed(self._queue, message.sent)
            if self._repeat_request_at is not None and message.answering == self._reader.request:
                self._extend_deadline()
        if action is StreamAction.RESYNC:
            self._unanswered = 0
            self._resync("gap")
        elif action is StreamAction.BEGIN and isinstance(message, SnapshotBegin):
            self._begin_snapshot(message)
        elif action is StreamAction.END:
            self._repeat_request_at, self._unanswered = None, 0
            self.handler.on_snapshot_end()
            _log.info("snapshot_received", request=self._reader.request)
        elif action is StreamAction.APPLY and message is not None:
            if self._reader.in_snapshot and self._repeat_request_at is not None:
                self._extend_deadline()
            self.handler.on_fact(message, from_snapshot=self._reader.in_snapshot)

    def _begin_snapshot(self, begin: SnapshotBegin) -> None:
        if begin.shards not in (0, self._shards):
            self._watcher_shards = begin.shards
            self._reader.new_request()  # So that the rest of this snapshot is ignored.
            self._wake.set()
            return
        if self._due_resync == _NO_ANSWER:
            self._due_resync = ""
        self._extend_deadline()
        self.handler.on_snapshot_begin(begin)

    def resync(self, reason: str) -> None:
        """Start over with a new snapshot, because the handler needs one."""
        if self._is_receiving:
            self._resync(reason)
        else:
            self._resync_if_active(reason)
        self._replan()

    def _resync(self, reason: str) -> None:
        self._is_active, self._due_resync = True, ""
        request = self._reader.new_request()
        self._extend_deadline()
        metrics.snapshot_requested(reason)
        _log.info("snapshot_requested", reason=reason, request=request)
        self.handler.request_snapshot(request)

    def _extend_deadline(self) -> None:
        timeout = SNAPSHOT_BACKOFF.delay(self._unanswered + 1)
        self._repeat_request_at = self._clock.monotonic() + timeout


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)
