"""The handler of pod-manager: passes each message on to the part that processes it.

Facts and the janitor's commands go to the reconciler, the scheduler's commands to the command executor, and
its reports to the group status writer.
"""

from datetime import datetime
from typing import Any

from phjob_core.lifecycle import Event
from phjob_core.messages import (
    DeleteJob,
    Fact,
    FailNodeLost,
    Message,
    Reclaim,
    ReportGroupStatus,
    Requeue,
    SnapshotBegin,
    SnapshotRequest,
    TimeOut,
)
from phjob_core.planner import PendingCommand
from phjob_core.stream import Envelope, StreamWriter
from phjob_pod_manager.commands import CommandExecutor
from phjob_pod_manager.group_status import GroupStatusWriter
from phjob_pod_manager.reconciler import Reconciler
from phjob_runtime.amqp import topology
from phjob_runtime.consumer import Acknowledge


class PodManagerHandler:
    """The consumer's handler for the pod-manager of one shard."""

    def __init__(
        self,
        reconciler: Reconciler,
        executor: CommandExecutor,
        group_status: GroupStatusWriter,
        stream: StreamWriter,
        shard: int,
    ) -> None:
        self._reconciler = reconciler
        self._executor = executor
        self._group_status = group_status
        self._stream = stream
        self._queue = topology.queue_of(topology.POD_MANAGER, shard)

    def request_snapshot(self, request: str) -> None:
        """Request a snapshot from the watcher, and a session from the scheduler.

        If messages of the watcher were lost, commands and fences may be lost, too. Another replica may have
        read this queue since.
        """
        self._stream.send(topology.WATCHER, SnapshotRequest(queue=self._queue, request=request))
        self._executor.request_session()

    def on_snapshot_begin(self, begin: SnapshotBegin) -> None:
        """Discard the state that is older than the snapshot."""
        self._reconciler.on_snapshot_begin(begin.revisions)

    def on_snapshot_end(self) -> None:
        """Start to reconcile, because the snapshot is complete."""
        self._reconciler.on_snapshot_end()

    def on_fact(self, fact: Message, *, from_snapshot: bool) -> None:
        """Pass a fact on to the reconciler."""
        if isinstance(fact, Fact):
            self._reconciler.on_fact(fact, from_snapshot=from_snapshot)

    def on_command(self, envelope: Envelope, acknowledge: Acknowledge) -> None:
        """Pass a command on to the part that executes it.

        A command of the janitor is acknowledged at once, because the janitor repeats it until it takes
        effect.
        """
        match envelope.message:
            case Requeue() | TimeOut() | FailNodeLost() | Reclaim() | DeleteJob() as command:
                self._reconciler.on_command(command.uid, _pending(command))
                acknowledge()
            case ReportGroupStatus() as report:
                self._group_status.receive(report)
                acknowledge()
            case _:
                self._executor.receive(envelope, acknowledge)

    def next_wakeup(self) -> datetime | None:
        """Return when the reconciler has to act without a message; None: never."""
        return self._reconciler.next_wakeup()

    def on_wakeup(self) -> None:
        """Let the reconciler act, because its time has come."""
        self._reconciler.on_wakeup()

    def debug_state(self) -> dict[str, Any]:
        """Return everything that pod-manager holds, for tests and debugging.

        The reconciler's part is that of `Reconciler.debug_state`, the command executor's that of
        `CommandExecutor.debug_state`.
        """
        return {**self._reconciler.debug_state(), **self._executor.debug_state()}


def _pending(command: Requeue | TimeOut | FailNodeLost | Reclaim | DeleteJob) -> PendingCommand:
    """Return a command of the janitor as the reconciler stores it."""
    name, fence = command.name, command.fence
    match command:
        case Requeue():
            return PendingCommand(
                Event.START_TIMEOUT, name, fence, command.message,
                spares_pulling=command.spares_pulling, message_if_pulling=command.message_if_pulling,
            )  # fmt: skip
        case TimeOut():
            return PendingCommand(Event.OVER_DEADLINE, name, fence, command.message, command.decided_on)
        case FailNodeLost():
            return PendingCommand(Event.NODE_LOST_TOO_LONG, name, fence, command.message)
        case Reclaim():
            return PendingCommand(Event.TTL_OVER, name, fence, command.message, command.decided_on)
        case DeleteJob():
            return PendingCommand(Event.HISTORY_OVER, name, fence)
