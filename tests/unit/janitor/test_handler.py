from datetime import datetime

from tests.fakes.clock import ManualClock
from tests.fakes.facts import START, a_group, a_job, at, later
from tests.fakes.held import collections
from tests.fakes.many_facts import MAX_FINISHED_BYTES, finished_job, measured_memory

from phjob_core.api import Phase
from phjob_core.messages import (
    DeleteJob,
    FailNodeLost,
    FinishedJob,
    HistoryPage,
    HistoryRequest,
    JobGone,
    Message,
    NodeSeen,
    Reclaim,
    Requeue,
    SnapshotBegin,
    SnapshotRequest,
    TimeOut,
)
from phjob_core.stream import Envelope
from phjob_janitor.handler import REPEAT_INTERVAL, JanitorHandler
from phjob_runtime.amqp.topology import Shard, shard_of_group
from phjob_runtime.settings import JobSubmission

WITHOUT_HISTORY = {
    "defaultActiveDeadlineSeconds": 1000,
    "historyTTLSeconds": 0,
    "historyLimit": 0,
    "neverRanTTLSeconds": 0,
}
"""Settings with which the janitor never requests the history."""


class Janitor:
    """The janitor's handler, with a clock that the test sets, and the messages that it sends."""

    def __init__(self, settings: JobSubmission | None = None) -> None:
        self.clock = ManualClock()
        self.sent: list[tuple[str, Message | None]] = []
        self.handler = JanitorHandler(
            Shard(0, 1), self.clock, self._send, settings or JobSubmission(**WITHOUT_HISTORY)
        )
        self.handler.request_snapshot("request")
        assert self.take() == [("watcher", SnapshotRequest(queue="janitor.0", request="request"))]
        self.handler.on_snapshot_begin(
            SnapshotBegin(request="request", revisions={"phjobs": 0, "phgroups": 0, "nodes": 0})
        )

    def _send(self, queue: str, envelope: Envelope) -> None:
        self.sent.append((queue, envelope.message))

    def take(self) -> list[tuple[str, Message | None]]:
        sent, self.sent = self.sent, []
        return sent

    def commands_at(self, time: datetime) -> list[Message | None]:
        self.clock.time = time
        due = self.handler.next_wakeup()
        if due and due <= time:
            self.handler.on_wakeup()
        return [message for _, message in self.take()]


def test_a_command_is_repeated_until_it_has_an_effect() -> None:
    """Therefore losing one is harmless."""
    janitor = Janitor()
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=5)
    janitor.handler.on_fact(job, from_snapshot=True)
    assert janitor.commands_at(at(4.9)) == []
    (command,) = janitor.commands_at(at(5))
    assert isinstance(command, Reclaim)
    assert janitor.commands_at(at(6)) == []
    assert len(janitor.commands_at(at(5) + REPEAT_INTERVAL)) == 1


def test_the_command_to_requeue_spares_a_pull_until_its_time_is_over() -> None:
    """pod-manager ignores it meanwhile, so it is repeated (spec.md, Q5)."""
    settings = JobSubmission(**WITHOUT_HISTORY, preparingTimeoutSeconds=20, pullTimeoutSeconds=60)
    janitor = Janitor(settings)
    janitor.handler.on_fact(a_job(phase=Phase.PREPARING, preparing_time=START), from_snapshot=False)
    spares = []
    for seconds in (20, 50, 80):
        (command,) = janitor.commands_at(at(seconds))
        assert isinstance(command, Requeue)
        spares.append(command.spares_pulling)
    assert spares == [True, True, False]


def test_an_outstanding_command_is_not_repeated_because_of_another_change_of_its_job() -> None:
    """Such as the URL of its log. An edit of the TTL is a new deadline, so its command is sent at once."""
    janitor = Janitor()
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=5)
    janitor.handler.on_fact(job, from_snapshot=True)
    assert len(janitor.commands_at(at(5))) == 1
    janitor.handler.on_fact(later(job, log_url="file:///log"), from_snapshot=False)
    assert janitor.commands_at(at(6)) == []
    janitor.handler.on_fact(later(job, ttl_seconds_after_finished=6), from_snapshot=False)
    assert len(janitor.commands_at(at(6))) == 1


def test_a_groups_default_deadline_counts_even_if_the_group_comes_after_its_jobs() -> None:
    """An edit of it takes effect at once (spec.md, L8)."""
    janitor = Janitor()
    job = a_job(phase=Phase.RUNNING, start_time=START)
    janitor.handler.on_fact(job, from_snapshot=True)
    janitor.handler.on_fact(a_group(default_active_deadline_seconds=20), from_snapshot=True)
    janitor.handler.on_snapshot_end()
    assert janitor.handler.next_wakeup() == at(20)
    janitor.handler.on_fact(a_group(default_active_deadline_seconds=10), from_snapshot=False)
    (command,) = janitor.commands_at(at(10))
    assert isinstance(command, TimeOut)


def test_an_edited_deadline_takes_effect_at_once() -> None:
    """A user may change it at any time (spec.md, A3, L8)."""
    janitor = Janitor()
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=100)
    janitor.handler.on_fact(job, from_snapshot=True)
    janitor.handler.on_fact(later(job, active_deadline_seconds=5), from_snapshot=False)
    assert janitor.handler.next_wakeup() == at(5)
    janitor.handler.on_fact(later(job, active_deadline_seconds=0), from_snapshot=False)
    assert janitor.handler.next_wakeup() is None


def test_a_job_on_a_lost_node_fails_after_the_grace_period_unless_the_node_responds() -> None:
    """With `nodeLostGraceSeconds` (spec.md, L12)."""
    janitor = Janitor(
        JobSubmission(**{**WITHOUT_HISTORY, "nodeLostGraceSeconds": 60, "defaultActiveDeadlineSeconds": 0})
    )
    job = a_job(phase=Phase.RUNNING, start_time=START, node="node-1", reason="NodeLost")
    node = NodeSeen(uid="n", name="node-1", resource_version=10**6, lost_since=at(10))
    janitor.handler.on_fact(job, from_snapshot=True)
    janitor.handler.on_fact(node, from_snapshot=True)
    assert janitor.handler.next_wakeup() == at(70)
    back = node.model_copy(update={"resource_version": node.resource_version + 1, "lost_since": None})
    janitor.handler.on_fact(back, from_snapshot=False)
    assert janitor.handler.next_wakeup() is None
    lost = node.model_copy(update={"resource_version": node.resource_version + 2})
    janitor.handler.on_fact(lost, from_snapshot=False)
    (command,) = janitor.commands_at(at(70))
    assert isinstance(command, FailNodeLost)


def test_jobs_over_the_historys_limits_are_deleted() -> None:
    """With the fence that the watcher observed. The limits are those of the settings (spec.md, L11)."""
    janitor = Janitor(JobSubmission(historyLimit=1))
    janitor.handler.on_snapshot_end()
    (request,) = janitor.commands_at(START)
    assert isinstance(request, HistoryRequest)
    assert request.limits is not None
    assert request.limits.count == 1
    job = FinishedJob(uid="uid-1", name="job-1", group="phusers", finish_time=at(1), fence="s#1")
    janitor.handler.on_fact(
        HistoryPage(request=request.request, total=2, over_limit=(job,)), from_snapshot=False
    )
    assert janitor.commands_at(at(1)) == [DeleteJob(uid="uid-1", name="job-1", group="phusers", fence="s#1")]
    assert janitor.commands_at(at(2)) == []


def test_the_job_of_another_shard_is_deleted_by_that_shards_pod_manager() -> None:
    """The limits of all shards' groups are enforced by one janitor (spec.md, L11)."""
    sent: list[tuple[str, Message | None]] = []
    handler = JanitorHandler(
        Shard(0, 2), ManualClock(), lambda queue, one: sent.append((queue, one.message)), JobSubmission()
    )
    handler.request_snapshot("request")
    handler.on_wakeup()
    groups = {shard_of_group(f"group-{n}", 2): f"group-{n}" for n in range(20)}
    jobs = tuple(FinishedJob(uid=g, name=g, group=g, finish_time=START) for g in groups.values())
    handler.on_fact(HistoryPage(request=1, total=2, over_limit=jobs), from_snapshot=False)
    handler.on_wakeup()
    queues = {one.group: queue for queue, one in sent if isinstance(one, DeleteJob)}
    assert queues == {group: f"pod-manager.{shard}" for shard, group in groups.items()}


def test_only_the_first_shards_janitor_requests_the_history() -> None:
    """The limits concern the jobs of all groups together (spec.md, L11)."""
    handler = JanitorHandler(Shard(1, 2), ManualClock(), lambda *_: None, JobSubmission(historyLimit=1))
    handler.request_snapshot("request")
    handler.on_snapshot_end()
    assert handler.next_wakeup() is None


def test_a_deleted_job_has_no_deadline() -> None:
    """Its command would be sent forever, because it could never have an effect."""
    janitor = Janitor()
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=5)
    janitor.handler.on_fact(job, from_snapshot=True)
    gone = JobGone(uid=job.uid, name=job.name, group=job.group, resource_version=job.resource_version + 1)
    janitor.handler.on_fact(gone, from_snapshot=False)
    assert janitor.commands_at(at(6)) == []


def test_nothing_remains_of_invented_groups() -> None:
    """Every user can submit a job to any name (spec.md, E3)."""
    janitor = Janitor()
    janitor.handler.on_snapshot_end()
    bounded = ("_tombstones", "_heap")
    before = collections(janitor.handler, without=bounded)
    for number in range(10_000):
        job = later(a_job(f"job-{number}", group=f"invented-{number}"), phase=Phase.FAILED, finish_time=START)
        janitor.handler.on_fact(job, from_snapshot=False)
        gone = JobGone(uid=job.uid, name=job.name, group=job.group, resource_version=job.resource_version + 1)
        janitor.handler.on_fact(gone, from_snapshot=False)
    assert collections(janitor.handler, without=bounded) == before


def test_a_finished_job_takes_little_memory() -> None:
    """Its pod stands for a week by default, so there may be 50,000 of them."""
    janitor, count = Janitor(), 500
    with measured_memory() as measured:
        for number in range(count):
            janitor.handler.on_fact(finished_job(number), from_snapshot=True)
        janitor.handler.on_snapshot_end()
    assert janitor.handler.debug_state()["timers"] == count
    assert measured[0] < count * MAX_FINISHED_BYTES
