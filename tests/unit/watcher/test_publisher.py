"""The publisher: which queues get a fact, and what a snapshot consists of."""

from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, at, later

from phjob_core.api import Phase, PodPhase
from phjob_core.kinds import PHJOBS
from phjob_core.messages import (
    CatalogSynced,
    FinishedJob,
    Heartbeat,
    HistoryPage,
    JobGone,
    Message,
    NodeSeen,
    SnapshotBegin,
    SnapshotEnd,
)
from phjob_core.stream import Envelope
from phjob_runtime.amqp.topology import JANITOR, POD_MANAGER, SCHEDULER, shard_of_group
from phjob_watcher.publisher import Publisher, is_relevant

SHARDS = 3
TERM = 7


class Queues:
    """A publisher, and the messages in each queue."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Envelope]] = []
        self.publisher = Publisher(TERM, SHARDS, lambda queue, envelope: self.sent.append((queue, envelope)))

    def of(self, queue: str) -> list[Message | None]:
        return [envelope.message for name, envelope in self.sent if name == queue]

    def names(self) -> set[str]:
        return {name for name, _ in self.sent}


def test_the_scheduler_needs_only_changes_of_a_pods_charge() -> None:
    """Its gate, its limits and its end are such changes. Its node and its start are not."""
    gated = a_pod(a_job(), gated=True)
    ungated = gated.model_copy(update={"gated": False})
    bound = ungated.model_copy(update={"node": "node-1"})
    running = bound.model_copy(update={"phase": PodPhase.RUNNING, "start_time": START})
    ended = running.model_copy(update={"phase": PodPhase.FAILED, "finish_time": at(1), "exit_code": 1})
    assert is_relevant(SCHEDULER, gated, None)
    assert is_relevant(SCHEDULER, ungated, gated)
    assert not is_relevant(SCHEDULER, bound, ungated)
    assert is_relevant(POD_MANAGER, bound, ungated)
    assert not is_relevant(SCHEDULER, running, bound)
    assert is_relevant(SCHEDULER, ended, running)
    assert is_relevant(SCHEDULER, bound.model_copy(update={"limits": {"cpu": 1}}), bound)


def test_the_janitor_needs_no_fact_about_a_job_that_stays_pending() -> None:
    """It has no deadline. The janitor must learn of a requeue, which ends one."""
    pending, requeued = a_job(), a_job(requeued=1)
    preparing = a_job(phase=Phase.PREPARING)
    assert not is_relevant(JANITOR, pending, None)
    assert not is_relevant(JANITOR, requeued, pending)
    assert is_relevant(JANITOR, preparing, pending)
    assert is_relevant(JANITOR, requeued, preparing)
    assert is_relevant(SCHEDULER, pending, None)


def test_a_job_is_published_to_its_groups_shard_only() -> None:
    """Other shards would spend memory on it."""
    queues = Queues()
    job = a_job(phase=Phase.RUNNING)
    queues.publisher.publish(job)
    shard = shard_of_group(job.group, SHARDS)
    assert queues.names() == {f"{service}.{shard}" for service in (SCHEDULER, JANITOR, POD_MANAGER)}


def test_a_pod_is_published_to_the_shard_of_its_job() -> None:
    """A pod has only the label value of the group."""
    queues = Queues()
    job = a_job()
    queues.publisher.publish(a_pod(job))
    shard = shard_of_group(job.group, SHARDS)
    assert queues.names() == {f"{SCHEDULER}.{shard}", f"{POD_MANAGER}.{shard}"}


def test_the_catalog_is_published_to_every_shard() -> None:
    """But only to the services that subscribe to the kind."""
    queues = Queues()
    queues.publisher.publish(an_image())
    assert queues.names() == {f"{s}.{n}" for s in (SCHEDULER, POD_MANAGER) for n in range(SHARDS)}


def test_a_later_term_has_a_greater_session() -> None:
    """Sessions are compared as text, also where the number of digits differs."""

    def ignore(_: str, __: Envelope) -> None:
        pass

    assert Publisher(99, 1, ignore).session < Publisher(100, 1, ignore).session


def test_every_consumer_gets_a_heartbeat_about_its_own_request() -> None:
    """A consumer waits longer for a snapshot that is in progress."""
    queues = Queues()
    queues.publisher.publish_heartbeats(START, {"janitor.1": "me/1"}, 42)
    assert queues.of("janitor.1") == [Heartbeat(sent=START, answering="me/1", told={"pods": 42})]
    assert queues.of("janitor.0") == [Heartbeat(sent=START, told={"pods": 42})]
    assert len(queues.names()) == 3 * SHARDS
    assert "watcher" not in queues.names()


def test_a_snapshot_contains_what_its_consumer_needs() -> None:
    """Of its shard and its kinds, between a begin and an end with the id of the request."""
    queues = Queues()
    running = a_job("running", phase=Phase.RUNNING)
    shard = shard_of_group(running.group, SHARDS)
    other = next(f"g{n}" for n in range(100) if shard_of_group(f"g{n}", SHARDS) != shard)
    node = NodeSeen(uid="n", name="node-1", resource_version=1)
    facts = [
        running,
        a_job("pending"),
        a_job("elsewhere", group=other, phase=Phase.RUNNING),
        a_pod(running),
        a_group(),
        an_image(),
        node,
    ]
    queue = f"janitor.{shard}"
    queues.publisher.publish_snapshot(queue, "me/1", {PHJOBS.plural: 9}, facts)
    begin, *inside, end = queues.of(queue)
    assert isinstance(begin, SnapshotBegin)
    assert (begin.request, begin.revisions, begin.shards) == ("me/1", {PHJOBS.plural: 9}, SHARDS)
    assert inside == [running, facts[4], node]
    assert end == SnapshotEnd(request="me/1")
    assert queues.names() == {queue}


def test_a_later_snapshot_has_a_greater_place() -> None:
    """The reports of a group's status are ordered by it."""
    queues = Queues()
    for _ in range(11):
        queues.publisher.publish_snapshot("janitor.0", "me/1", {}, [])
    places = [message.place for message in queues.of("janitor.0") if isinstance(message, SnapshotBegin)]
    assert places == sorted(places)
    assert len(set(places)) == 11


def test_the_messages_to_a_queue_are_numbered() -> None:
    """A missing number shows the consumer that a message was lost."""
    queues = Queues()
    queues.publisher.publish(JobGone(uid="u", name="job", group="phusers", resource_version=1))
    queue = f"scheduler.{shard_of_group('phusers', SHARDS)}"
    queues.publisher.publish_catalog_synced(queue, request=1, revision=9)
    queues.publisher.publish_history_page("janitor.0", request=2, total=0, over_limit=[])
    envelopes = [envelope for name, envelope in queues.sent if name == queue]
    assert [envelope.sequence for envelope in envelopes] == [0, 1]
    assert {envelope.publisher for envelope in envelopes} == {"watcher"}
    assert queues.of(queue)[1] == CatalogSynced(request=1, revision=9)


def test_the_history_is_published_to_its_requester() -> None:
    """The number of all reclaimed jobs, and the oldest jobs over a limit."""
    queues = Queues()
    jobs = [FinishedJob(uid="u", name="job", group="phusers", finish_time=START)]
    queues.publisher.publish_history_page("janitor.0", request=2, total=5, over_limit=jobs)
    assert queues.of("janitor.0") == [HistoryPage(request=2, total=5, over_limit=tuple(jobs))]


def test_the_scheduler_needs_no_edit_of_a_jobs_times() -> None:
    """Such edits in a loop would otherwise occupy it. The other services use them."""
    job = later(a_job())
    for field in ("active_deadline_seconds", "ttl_seconds_after_finished", "requeue_limit"):
        edited = later(job, **{field: 60})
        assert not is_relevant(SCHEDULER, edited, job)
        assert is_relevant(POD_MANAGER, edited, job)
    assert is_relevant(SCHEDULER, later(job, cancel=True), job)


def test_the_scheduler_needs_the_first_edit_of_a_job_whose_revision_is_not_recorded() -> None:
    """It then records the revision, which only this session of the watcher knows (spec.md, Q1)."""
    job = a_job(ttl_seconds_after_finished=5)
    edited = job.model_copy(update={"resource_version": job.revision + 1, "ttl_seconds_after_finished": 6})
    again = edited.model_copy(update={"resource_version": job.revision + 2, "ttl_seconds_after_finished": 7})
    assert is_relevant(SCHEDULER, edited, job)
    assert not is_relevant(SCHEDULER, again, edited)
