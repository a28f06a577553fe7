"""The watcher between a real API server and a real broker: facts, snapshots and answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.api import Api
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.recording_consumer import RecordingConsumer

from phjob_core.api import Phase
from phjob_core.kinds import PHJOBS
from phjob_core.labels import label_value
from phjob_core.messages import (
    CatalogRequest,
    CatalogSynced,
    Fact,
    GroupSeen,
    Heartbeat,
    ImageSeen,
    InstanceTypeSeen,
    JobGone,
    JobSeen,
    Message,
    NodeSeen,
    PodGone,
    PodSeen,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRequest,
)
from phjob_core.stream import Envelope, StreamAction, StreamReader
from phjob_kube.config import connect
from phjob_runtime.amqp import bus, topology
from phjob_runtime.clock import SystemClock
from phjob_watcher.informer import Informer, WatchGapError
from phjob_watcher.service import Watcher

SCHEDULER = topology.queue_of(topology.SCHEDULER)
JANITOR = topology.queue_of(topology.JANITOR)
TERM = 7


class Reader:
    """A consumer of one queue that sends requests to the watcher."""

    def __init__(self, rabbit: bus.RabbitBus, queue: str) -> None:
        self._bus = rabbit
        self.queue = queue
        self.consumer = RecordingConsumer()
        self._sent = 0

    async def start(self) -> None:
        """Start to consume."""
        await self._bus.consume(self.queue, self.consumer.receive)

    def send(self, message: Message) -> None:
        """Send a request to the watcher, as the service that sends it for this queue."""
        service = topology.service_of(self.queue)
        sender = next(
            sender
            for sender, kinds in topology.SENDS.items()
            if type(message) in kinds and service in topology.REQUESTS_FOR.get(sender, ())
        )
        self._bus.send(topology.WATCHER, Envelope(sender, "session", self._sent, message))
        self._sent += 1

    async def snapshot(self, request: str) -> list[Message]:
        """Request a snapshot. Returns its messages, begin and end included."""
        self.send(SnapshotRequest(queue=self.queue, request=request))
        await self.consumer.wait_until(lambda e: any(x.message == SnapshotEnd(request=request) for x in e))
        received = self.received()
        begin = next(
            n for n, m in enumerate(received) if isinstance(m, SnapshotBegin) and m.request == request
        )
        return received[begin : received.index(SnapshotEnd(request=request)) + 1]

    async def fact(self, kind: type[Fact], number: int = 1, **fields: object) -> list[Fact]:
        """Wait for so many facts of the kind with these fields. Returns all of them."""

        def found(envelopes: list[Envelope]) -> list[Fact]:
            return [
                message
                for envelope in envelopes
                if isinstance(message := envelope.message, kind)
                and all(getattr(message, name) == value for name, value in fields.items())
            ]

        await self.consumer.wait_until(lambda envelopes: len(found(envelopes)) >= number)
        return found(self.consumer.envelopes)

    def received(self) -> list[Message]:
        """Return all received messages except heartbeats."""
        messages = [envelope.message for envelope in self.consumer.envelopes]
        return [message for message in messages if message and not isinstance(message, Heartbeat)]


@asynccontextmanager
async def reading(broker: str, queue: str) -> AsyncIterator[Reader]:
    """Start a reader on a connection of its own."""
    async with bus.connect(broker, "reader", 1) as rabbit:
        reader = Reader(rabbit, queue)
        await reader.start()
        yield reader


@asynccontextmanager
async def active_watcher(
    control_plane: Path, api: Api, broker: str, term: int = TERM
) -> AsyncIterator[Watcher]:
    """Run a watcher of the test's namespace."""
    async with (
        connect(control_plane, api.namespace) as client,
        bus.connect(broker, "watcher", 1) as rabbit,
    ):
        watcher = Watcher(client, rabbit, SystemClock(), term=term, shards=1)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task.exception()


@pytest.fixture
async def watcher(control_plane: Path, api: Api, broker: str) -> AsyncIterator[Watcher]:
    """An active watcher."""
    async with active_watcher(control_plane, api, broker) as watcher:
        yield watcher


@pytest.fixture
async def scheduler(broker: str, watcher: Watcher) -> AsyncIterator[Reader]:
    """A consumer of the scheduler's queue, to which the watcher already publishes every change."""
    async with reading(broker, SCHEDULER) as reader:
        await reader.snapshot("first")
        reader.consumer.deliveries.clear()
        yield reader


async def test_a_snapshot_is_followed_by_facts_without_a_gap(scheduler: Reader, api: Api) -> None:
    """A consumer that follows the session protocol needs no second snapshot."""
    for number in range(20):
        api.create(a_job(f"old-{number}"))
    stream = StreamReader("me")
    request = stream.new_request()
    await scheduler.snapshot(request)
    for number in range(20):
        api.create(a_job(f"new-{number}"))
    await scheduler.fact(JobSeen, name="new-19")

    envelopes = scheduler.consumer.envelopes
    numbers = [envelope.sequence for envelope in envelopes]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {(envelope.publisher, int(envelope.session)) for envelope in envelopes} == {("watcher", TERM)}
    begin = next(n for n, envelope in enumerate(envelopes) if isinstance(envelope.message, SnapshotBegin))
    actions = [stream.receive(envelope) for envelope in envelopes[begin:]]
    assert actions[0] is StreamAction.BEGIN
    assert stream.synced
    assert set(actions[1:]) == {StreamAction.APPLY, StreamAction.END}


async def test_a_snapshot_contains_what_its_consumer_needs(scheduler: Reader, api: Api) -> None:
    """Jobs, pods and the catalog for the scheduler, with the revision of each LIST."""
    job, pod = (
        api.create(a_job("job", group="Group A")),
        api.create(a_notebook("nb", group="Group A", user="bob")),
    )
    for manifest in (a_group("group"), an_image(), an_instance_type()):
        api.create(manifest)
    api.create({**a_notebook("stranger", group="", user=""), "metadata": {"name": "stranger"}})
    begin, *facts, end = await scheduler.snapshot("me/1")
    assert isinstance(begin, SnapshotBegin)
    assert end == SnapshotEnd(request="me/1")
    assert [type(fact) for fact in facts] == [JobSeen, PodSeen, GroupSeen, InstanceTypeSeen, ImageSeen]
    seen_job, seen_pod, *_ = facts
    assert isinstance(seen_job, JobSeen)
    assert isinstance(seen_pod, PodSeen)
    assert (seen_job.uid, seen_job.group, seen_job.phase) == (
        job["metadata"]["uid"],
        "Group A",
        Phase.PENDING,
    )
    assert seen_job.revision == int(job["metadata"]["resourceVersion"])
    assert (seen_pod.uid, seen_pod.group) == (pod["metadata"]["uid"], "escaped--47roup-20-41")
    for kind in ("phjobs", "pods"):
        assert begin.revisions[kind] >= seen_pod.resource_version


async def test_a_snapshot_contains_no_reclaimed_jobs(scheduler: Reader, api: Api) -> None:
    """A hundred thousand of them cost the services nothing."""
    api.create(a_job("done"))
    api.merge_patch("PhJob", "done", {"status": {"phase": "Failed", "reclaimed": True}}, subresource="status")
    api.create(a_job("waiting"))
    facts = await scheduler.snapshot("me/1")
    assert [fact.name for fact in facts if isinstance(fact, JobSeen)] == ["waiting"]


async def test_a_snapshot_contains_what_was_written_before_its_request(scheduler: Reader, api: Api) -> None:
    """The watcher lists again, because its watch may be behind."""
    for number in range(30):
        api.create(a_job(f"job-{number}"))
        facts = await scheduler.snapshot(f"me/{number}")
        names = {fact.name for fact in facts if isinstance(fact, JobSeen)}
        assert names == {f"job-{n}" for n in range(number + 1)}


async def test_a_change_is_published_only_if_it_changes_the_projection(scheduler: Reader, api: Api) -> None:
    """The first edit does, because the job's revision must be recorded then. A further one does not."""
    api.create(a_job("job"))
    await scheduler.fact(JobSeen, name="job")
    api.merge_patch("PhJob", "job", {"metadata": {"labels": {"colour": "blue"}}})
    api.merge_patch("PhJob", "job", {"metadata": {"annotations": {"mood": "blue"}}})
    api.merge_patch("PhJob", "job", {"spec": {"cancel": True}})
    seen = [fact for fact in await scheduler.fact(JobSeen, 3, name="job") if isinstance(fact, JobSeen)]
    assert [(fact.lacks_revision, fact.cancel) for fact in seen] == [
        (False, False),
        (True, False),
        (True, True),
    ]


async def test_a_jobs_revision_at_creation_is_kept_through_its_changes(scheduler: Reader, api: Api) -> None:
    """It decides about the job's position in its queue (spec.md, Q1)."""
    created = int(api.create(a_job("job"))["metadata"]["resourceVersion"])
    api.merge_patch("PhJob", "job", {"spec": {"cancel": True}})
    first, second = (await scheduler.fact(JobSeen, 2, name="job"))[:2]
    assert isinstance(first, JobSeen)
    assert isinstance(second, JobSeen)
    assert (first.revision, second.revision) == (created, created)
    assert second.resource_version > first.resource_version == created


async def test_a_deleted_or_reclaimed_object_is_published_as_gone(scheduler: Reader, api: Api) -> None:
    """With its uid and group, at the revision of that change."""
    deleted, done = api.create(a_job("deleted")), api.create(a_job("done"))
    pod = api.create(a_notebook("nb", group="phusers", user="bob"))
    await scheduler.fact(PodSeen)
    await scheduler.fact(JobSeen, 2)
    api.delete("PhJob", "deleted")
    api.merge_patch("PhJob", "done", {"status": {"phase": "Failed", "reclaimed": True}}, subresource="status")
    api.delete("Pod", "nb", gracePeriodSeconds="0")
    (pod_gone,) = await scheduler.fact(PodGone)
    jobs_gone = await scheduler.fact(JobGone, 2)
    assert [fact.uid for fact in jobs_gone] == [deleted["metadata"]["uid"], done["metadata"]["uid"]]
    assert pod_gone.uid == pod["metadata"]["uid"]
    assert jobs_gone[1].resource_version > jobs_gone[0].resource_version
    assert jobs_gone[0].resource_version > int(done["metadata"]["resourceVersion"])


async def test_a_jobs_pod_counts_for_its_jobs_group_whatever_its_labels_say(
    scheduler: Reader, api: Api
) -> None:
    """Otherwise anybody who may edit a pod's labels could take it out of its group's quota."""
    job = api.create(a_job("job", group="vision", user="lin"))
    await scheduler.fact(JobSeen)
    pod = a_notebook("job", group="vision", user="lin")
    controller = {"kind": "PhJob", "name": "job", "uid": job["metadata"]["uid"], "controller": True}
    pod["metadata"]["ownerReferences"] = [{"apiVersion": job["apiVersion"], **controller}]
    api.create(pod)
    labels = {"primehub.io/group": None, "primehub.io/user": "somebody-else"}
    api.merge_patch("Pod", "job", {"metadata": {"labels": labels}})
    published = await scheduler.fact(PodSeen, name="job")
    listed = [fact for fact in await scheduler.snapshot("me/1") if isinstance(fact, PodSeen)]
    for known in (*published, *listed):
        assert isinstance(known, PodSeen)
        assert (known.group, known.user) == (label_value("vision"), label_value("lin"))
    assert len(listed) == 1


async def test_a_notebook_that_changes_its_group_leaves_the_old_one(scheduler: Reader, api: Api) -> None:
    """The old group may be of another shard, which gets no facts about the new one."""
    api.create(a_notebook("nb", group="vision", user="lin"))
    await scheduler.fact(PodSeen, name="nb")
    api.merge_patch("Pod", "nb", {"metadata": {"labels": {"primehub.io/group": "speech"}}})
    (gone,) = await scheduler.fact(PodGone, name="nb")
    assert isinstance(gone, PodGone)
    assert gone.group == label_value("vision")
    await scheduler.fact(PodSeen, name="nb", group="speech")


async def test_each_service_gets_the_facts_that_it_needs(scheduler: Reader, broker: str, api: Api) -> None:
    """The janitor gets groups, nodes and jobs that are not Pending, but no pods, images or instance types."""
    async with reading(broker, JANITOR) as janitor:
        await janitor.snapshot("first")
        for manifest in (an_image(), an_instance_type(), a_notebook("nb", group="g", user="u"), a_job("job")):
            api.create(manifest)
        api.create(a_job("waits"))
        prepared = {"phase": Phase.PREPARING, "reason": "Admitted", "fence": "scheduler/1#1"}
        api.merge_patch("PhJob", "job", {"status": prepared}, subresource="status")
        api.create(a_group("last"))
        await janitor.fact(GroupSeen)
        assert [seen.name for seen in await janitor.fact(JobSeen)] == ["job"]
        await scheduler.fact(GroupSeen)
        await scheduler.fact(ImageSeen)
        snapshot = await janitor.snapshot("janitor/1")
        kinds = {JobSeen, GroupSeen, SnapshotBegin, SnapshotEnd}
        assert {type(message) for message in janitor.received()} - {NodeSeen} == kinds
        listed = [type(message) for message in snapshot if not isinstance(message, NodeSeen)]
        assert listed == [SnapshotBegin, JobSeen, GroupSeen, SnapshotEnd]


async def test_the_catalog_is_published_before_its_answer(scheduler: Reader, api: Api) -> None:
    """Every fact up to the revision comes first, so the scheduler can check a job (spec.md, Q8)."""
    for number in range(10):
        group = api.create(a_group(f"group-{number}"))
        scheduler.send(CatalogRequest(queue=SCHEDULER, request=number))
        await scheduler.consumer.wait_until(lambda e, n=number: any(_answers(x.message, n) for x in e))  # type: ignore[misc]
        received = scheduler.received()
        at = next(n for n, message in enumerate(received) if _answers(message, number))
        listed = received[at]
        assert isinstance(listed, CatalogSynced)
        assert listed.revision >= int(group["metadata"]["resourceVersion"])
        assert f"group-{number}" in [fact.name for fact in received[:at] if isinstance(fact, GroupSeen)]


async def test_a_successor_starts_a_new_session_and_its_consumers_resync(
    broker: str, control_plane: Path, api: Api
) -> None:
    """Its term is greater, so consumers ignore the messages of its predecessor."""
    stream = StreamReader("me")
    async with reading(broker, SCHEDULER) as reader:
        async with active_watcher(control_plane, api, broker):
            await reader.snapshot(stream.new_request())
        before = [stream.receive(envelope) for envelope in reader.consumer.envelopes]
        assert stream.synced
        api.create(a_job("between"))
        async with active_watcher(control_plane, api, broker, TERM + 1):
            seen = len(before)
            await reader.consumer.wait_for_count(seen + 1)
            assert stream.receive(reader.consumer.envelopes[seen]) is StreamAction.RESYNC
            facts = await reader.snapshot(stream.new_request())
    assert [fact.name for fact in facts if isinstance(fact, JobSeen)] == ["between"]


async def test_an_informer_whose_revision_has_expired_ends_the_term(control_plane: Path, api: Api) -> None:
    """After a real 410, because an object may have come and gone unobserved."""
    async with connect(control_plane, api.namespace) as client:
        informer: Informer[JobSeen] = Informer(client, SystemClock(), PHJOBS, lambda *_: None)
        await informer.start()
        informer.revision = 1
        with pytest.raises(WatchGapError, match="phjobs"):
            await informer.run()


def _answers(message: Message | None, request: int) -> bool:
    return isinstance(message, CatalogSynced) and message.request == request
