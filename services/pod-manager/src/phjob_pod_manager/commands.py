"""The scheduler's commands: which session to accept, and in which order to execute them.

This is pod-manager's half of the fence (design/consistency.md, The fence):

- It accepts the commands of one session only, and only once every older write has ended.
- It settles each redelivered admission, because a predecessor may still be writing it.
- It writes the commands of one group strictly in sequence, so that jobs become Preparing in their order.

The pods of a group's next admissions are created ahead, in parallel. A gated pod does nothing.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from phjob_core.errors import RejectedError
from phjob_core.messages import (
    Admit,
    AdmitPod,
    ExplainPod,
    Fence,
    Reject,
    SessionRequest,
    SetPendingReason,
    SnapshotEnd,
    SnapshotRequest,
)
from phjob_core.stream import Envelope, StreamWriter
from phjob_pod_manager import metrics
from phjob_pod_manager.command_writes import CommandWriter, SettledError
from phjob_pod_manager.gated_pods import GatedPodWriter
from phjob_pod_manager.in_flight import InFlight
from phjob_pod_manager.pod_creator import CreatedPod
from phjob_pod_manager.reconciler import Reconciler
from phjob_runtime.amqp import topology
from phjob_runtime.clock import Clock
from phjob_runtime.consumer import Acknowledge
from phjob_runtime.keyed_queue import KeyedWorkQueue, report_failure

SESSION_REQUEST_TIMEOUT = timedelta(seconds=5)
"""The time to wait for the scheduler's answer to a `SessionRequest` before it may be repeated."""
MAX_COMMANDS_AHEAD = 16
"""The number of a group's next commands whose pods are created ahead."""
MAX_GROUPS_AT_ONCE = 1000
"""The number of groups whose commands are executed at the same time: RabbitMQ delivers no more commands."""

_log = structlog.get_logger()

SchedulerCommand = Admit | Reject | SetPendingReason | AdmitPod | ExplainPod


@dataclass(eq=False)
class _QueuedCommand:
    """A command in the queue of its group."""

    command: SchedulerCommand
    settle: bool
    """True for a redelivered admission: it is settled instead of executed."""
    acknowledge: Acknowledge
    creation: asyncio.Task[CreatedPod] | None = None
    """The creation of the pod of an `Admit`."""
    writing: bool = False
    """True once its first write may have been sent."""
    void: bool = False
    """True if its session is over before its first write: nothing of it will be written."""


class CommandExecutor:
    """Executes the commands of one shard's scheduler."""

    def __init__(
        self,
        clock: Clock,
        writer: CommandWriter,
        reconciler: Reconciler,
        gated_pods: GatedPodWriter,
        *,
        stream: StreamWriter,
        shard: int,
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._reconciler = reconciler
        self._gated_pods = gated_pods
        self._stream = stream
        self._scheduler = topology.queue_of(topology.SCHEDULER, shard)
        self._received: asyncio.Queue[tuple[Envelope, Acknowledge]] = asyncio.Queue()
        self._session: str | None = None
        """The session whose commands are accepted; None until the next fence."""
        self._expected = 0
        """The sequence number of that session's next message."""
        self._session_requested_at: float | None = None
        self._settle_count = 0
        self._queues: dict[str, deque[_QueuedCommand]] = {}
        """The queue of each group with a command."""
        self._in_flight = InFlight()
        """Commands that are being written, and those that wait to be settled. A fence waits for both."""
        self._workers = KeyedWorkQueue(self._execute_group, MAX_GROUPS_AT_ONCE)

    def receive(self, envelope: Envelope, acknowledge: Acknowledge) -> None:
        """Take a message of the scheduler. It is acknowledged once its writes have ended."""
        self._received.put_nowait((envelope, acknowledge))

    def request_session(self) -> None:
        """Accept no command until the next fence, and request a new session."""
        self._session = None
        self._send_session_request()

    async def run(self) -> None:
        """Process the received messages in sequence, forever."""
        while True:
            envelope, acknowledge = await self._received.get()
            message = envelope.message
            if isinstance(message, Fence):
                if not envelope.redelivered:
                    await self._fence(message, envelope.sequence)
                acknowledge()
            elif isinstance(message, Admit | AdmitPod) and envelope.redelivered:
                self._enqueue(_QueuedCommand(message, settle=True, acknowledge=acknowledge))
            elif isinstance(message, SchedulerCommand) and self._accepts(envelope):
                self._enqueue(_QueuedCommand(message, settle=False, acknowledge=acknowledge))
            else:
                if isinstance(message, SnapshotEnd):
                    self._accepts(envelope)  # It has a sequence number. Without this, the next has a gap.
                acknowledge()

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the executor holds.

        Its keys are:

        - `queued_commands`: the number of commands in the queue of each group.
        - `in_flight`: true while a command is being written, or waits to be settled.
        - `executing`: the number of groups whose worker runs.
        """
        return {
            "queued_commands": {group: len(queue) for group, queue in self._queues.items()},
            "in_flight": bool(self._in_flight),
            "executing": len(self._workers),
        }

    async def close(self) -> None:
        """Cancel all work. RabbitMQ redelivers the unacknowledged commands."""
        await self._workers.close()
        creations = [entry.creation for queue in self._queues.values() for entry in queue if entry.creation]
        for creation in creations:
            creation.cancel()
        await asyncio.gather(*creations, return_exceptions=True)

    # --- the session ---

    async def _fence(self, fence: Fence, sequence: int) -> None:
        """Wait until every older write has ended, then accept only the new session.

        Older commands without a write are void, because the new session decides again.
        """
        self._session = None
        for queue in self._queues.values():
            self._void(queue, "fence")
        await self._in_flight.drained()
        self._session, self._expected = fence.session, sequence + 1
        self._session_requested_at = None
        self._stream.send(topology.WATCHER, SnapshotRequest(queue=fence.queue, request=fence.session))
        _log.info("fence_reached", session=fence.session)

    def _accepts(self, envelope: Envelope) -> bool:
        """Count the message if it is the current session's next.

        Returns whether it is. Requests a new session if the current one is unknown or has lost a message.
        """
        kind = envelope.message.kind if envelope.message else ""
        if envelope.redelivered:
            metrics.command_ignored(kind, "redelivered")
            return False
        if self._session is None or envelope.session != self._session:
            metrics.command_ignored(kind, "session")
            self._send_session_request()
            return False
        if envelope.sequence < self._expected:
            metrics.command_ignored(kind, "duplicate")
            return False
        if envelope.sequence > self._expected:
            metrics.command_ignored(kind, "gap")
            self.request_session()
            return False
        self._expected += 1
        return True

    def _send_session_request(self) -> None:
        """Request a session, unless a request was sent within `SESSION_REQUEST_TIMEOUT`."""
        now, last = self._clock.monotonic(), self._session_requested_at
        if last is None or now - last > SESSION_REQUEST_TIMEOUT.total_seconds():
            self._session_requested_at = now
            self._stream.send(self._scheduler, SessionRequest())

    def _abandon_session(self, queue: Iterable[_QueuedCommand]) -> None:
        """Void the group's remaining commands, and request a new session.

        A successor has settled a command before them. Without this, a later job of the group would be
        admitted before the settled one.
        """
        self._void(queue, "settled")
        self.request_session()

    def _void(self, queue: Iterable[_QueuedCommand], reason: str) -> None:
        """Void every command of the queue that has no write yet and is not to be settled."""
        for entry in queue:
            if not entry.settle and not entry.writing and not entry.void:
                entry.void = True
                metrics.command_ignored(entry.command.kind, reason)
                if entry.creation:
                    entry.creation.cancel()

    # --- the queues of the groups ---

    def _enqueue(self, entry: _QueuedCommand) -> None:
        """Append the command to the queue of its group."""
        if isinstance(entry.command, Admit):
            self._reconciler.begin_admission(entry.command.uid)
        if entry.settle:
            self._in_flight.begin()
        queue = self._queues.setdefault(entry.command.group, deque())
        queue.append(entry)
        self._create_ahead(queue)
        self._workers.add(entry.command.group)

    async def _execute_group(self, group: str) -> None:
        """Execute the commands of one group in sequence, until its queue is empty."""
        queue = self._queues.get(group, deque())
        while queue:
            entry = queue[0]
            failure = ""
            with bound_contextvars(job=entry.command.name, uid=entry.command.uid):
                try:
                    await self._execute_or_abandon(entry, queue)
                except Exception as error:  # It concerns this command alone: the next one has its turn.
                    report_failure(error)
                    failure = f"{type(error).__name__}: {error}"
            queue.popleft()
            self._create_ahead(queue)
            self._finish(entry, failure)
        self._queues.pop(group, None)

    def _create_ahead(self, queue: deque[_QueuedCommand]) -> None:
        """Start to create the pods of the group's next admissions."""
        for entry in list(queue)[:MAX_COMMANDS_AHEAD]:
            command = entry.command
            if isinstance(command, Admit) and not entry.settle and not entry.creation and not entry.void:
                entry.creation = asyncio.create_task(self._writer.create_pod(command))

    def _finish(self, entry: _QueuedCommand, failure: str) -> None:
        """Acknowledge the command, or dead-letter it if there was a failure."""
        if entry.settle:
            self._in_flight.end()
        if isinstance(entry.command, Admit):
            self._reconciler.end_admission(entry.command.uid)
        entry.acknowledge(failure)

    async def _execute_or_abandon(self, entry: _QueuedCommand, queue: Iterable[_QueuedCommand]) -> None:
        """Execute the command; abandon the session if a successor has settled it."""
        try:
            await self._execute(entry)
        except SettledError:
            self._abandon_session(queue)

    async def _execute(self, entry: _QueuedCommand) -> None:
        """Execute the command, unless its session is over.

        Raises:
            SettledError: a successor has settled it.

        """
        if entry.creation:
            await asyncio.wait((entry.creation,))
        if entry.void:
            return
        entry.writing = True
        self._in_flight.begin()
        try:
            await self._write(entry)
        except RejectedError as error:
            self._writer.record_rejection(entry.command, error)
        finally:
            self._in_flight.end()

    async def _write(self, entry: _QueuedCommand) -> None:
        match entry.command:
            case Admit() as command if entry.settle:
                await self._writer.settle(command, self._settling_token())
            case AdmitPod() as command if entry.settle:
                await self._gated_pods.settle(command, self._settling_token())
            case Admit() as command:
                assert entry.creation is not None  # noqa: S101 - `_create_ahead` has started it before
                await self._writer.admit(command, entry.creation)
            case Reject() as command:
                await self._writer.reject(command)
            case SetPendingReason() as command:
                await self._writer.set_pending_reason(command)
            case AdmitPod() as command:
                await self._gated_pods.admit(command)
            case ExplainPod() as command:
                self._gated_pods.explain(command)

    def _settling_token(self) -> str:
        """Return a token that settles an admission. No other admission has it."""
        self._settle_count += 1
        return f"{self._stream.session}!{self._settle_count}"
