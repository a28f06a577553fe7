"""Where each message goes. The parts that receive them have tests of their own."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.fakes.facts import a_job

from phjob_core.lifecycle import Event
from phjob_core.messages import (
    Admit,
    DeleteJob,
    FailNodeLost,
    Fence,
    Message,
    Reclaim,
    ReportGroupStatus,
    Requeue,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRequest,
    TimeOut,
)
from phjob_core.planner import PendingCommand
from phjob_core.stream import Envelope, StreamWriter
from phjob_pod_manager.handler import PodManagerHandler

JOB: dict[str, Any] = {"uid": "u", "name": "job-1", "group": "g", "fence": "s#1"}


@dataclass
class Calls:
    """A part that records the calls of its methods."""

    made: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.made.append((name, *args, *options.values()))


class Handled:
    """A handler whose parts record their calls."""

    def __init__(self) -> None:
        self.reconciler, self.executor, self.group_status = Calls(), Calls(), Calls()
        self.sent: list[tuple[str, Message | None]] = []
        self.acknowledged = 0
        stream = StreamWriter("pod-manager", "1", lambda queue, e: self.sent.append((queue, e.message)))
        parts: dict[str, Any] = {
            "reconciler": self.reconciler, "executor": self.executor, "group_status": self.group_status
        }  # fmt: skip
        self.handler = PodManagerHandler(**parts, stream=stream, shard=3)

    def acknowledge(self, failure: str = "") -> None:
        assert not failure
        self.acknowledged += 1

    def receive(self, message: Message) -> Envelope:
        """Receive a command, and return its envelope."""
        envelope = Envelope("scheduler", "s", 0, message)
        self.handler.on_command(envelope, self.acknowledge)
        return envelope


@pytest.mark.parametrize(
    ("message", "pending"),
    [
        (Requeue(**JOB, message="m"), PendingCommand(Event.START_TIMEOUT, "job-1", "s#1", "m")),
        (
            Requeue(**JOB, message="m").model_copy(
                update={"spares_pulling": True, "message_if_pulling": "p"}
            ),
            PendingCommand(
                Event.START_TIMEOUT, "job-1", "s#1", "m", spares_pulling=True, message_if_pulling="p"
            ),
        ),
        (
            TimeOut(**JOB, message="m", decided_on={"activeDeadlineSeconds": None}),
            PendingCommand(Event.OVER_DEADLINE, "job-1", "s#1", "m", {"activeDeadlineSeconds": None}),
        ),
        (FailNodeLost(**JOB, message="m"), PendingCommand(Event.NODE_LOST_TOO_LONG, "job-1", "s#1", "m")),
        (
            Reclaim(**JOB, message="m", decided_on={"ttlSecondsAfterFinished": 2}),
            PendingCommand(Event.TTL_OVER, "job-1", "s#1", "m", {"ttlSecondsAfterFinished": 2}),
        ),
        (DeleteJob(**JOB), PendingCommand(Event.HISTORY_OVER, "job-1", "s#1")),
    ],
)
def test_a_command_of_the_janitor_is_stored_and_acknowledged_at_once(
    message: Message, pending: PendingCommand
) -> None:
    """The janitor repeats it until it takes effect, so RabbitMQ need not keep it."""
    handled = Handled()
    handled.receive(message)
    assert handled.reconciler.made == [("on_command", "u", pending)]
    assert handled.acknowledged == 1


@pytest.mark.parametrize(
    "message",
    [
        Admit(**JOB, token="s#2", resources={}, revision=1),
        Fence(session="s", queue="scheduler.3"),
        SnapshotEnd(request="s"),
    ],
)
def test_a_message_of_the_scheduler_is_acknowledged_by_the_executor(message: Message) -> None:
    """RabbitMQ keeps it until its writes have ended."""
    handled = Handled()
    envelope = handled.receive(message)
    assert handled.executor.made == [("receive", envelope, handled.acknowledge)]
    assert handled.acknowledged == 0


def test_a_report_goes_to_the_group_status_writer() -> None:
    """A newer one follows, so it is acknowledged at once."""
    report = ReportGroupStatus(uid="u", name="g", group="g", place="1/1")
    handled = Handled()
    handled.receive(report)
    assert handled.group_status.made == [("receive", report)]
    assert handled.acknowledged == 1


def test_a_lost_fact_ends_the_session_of_the_scheduler_as_well() -> None:
    """Another replica may have read the queue, and with it a fence."""
    handled = Handled()
    handled.handler.request_snapshot("request")
    assert handled.sent == [("watcher", SnapshotRequest(queue="pod-manager.3", request="request"))]
    assert handled.executor.made == [("request_session",)]


def test_facts_and_snapshots_go_to_the_reconciler() -> None:
    """Other messages of the watcher do not."""
    job = a_job()
    handled = Handled()
    handled.handler.on_snapshot_begin(SnapshotBegin(request="request", revisions={"phjobs": 7}))
    handled.handler.on_fact(job, from_snapshot=True)
    handled.handler.on_fact(SnapshotEnd(request="request"), from_snapshot=True)
    handled.handler.on_snapshot_end()
    assert handled.reconciler.made == [
        ("on_snapshot_begin", {"phjobs": 7}), ("on_fact", job, True), ("on_snapshot_end",),
    ]  # fmt: skip
