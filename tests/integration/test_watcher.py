"""The watcher's mirror and publisher between a real API server and a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.api import Api
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.inbox import Inbox

from shared import bus, kube, topology
from shared.clock import SystemClock
from shared.messages import (
    CatalogListed,
    CatalogWanted,
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
    SnapshotWanted,
)
from shared.phjob import Phase
from shared.session import Envelope, Follower, Verdict
from watcher.handlers import KINDS, Watcher
from watcher.mirror import HistoryLostError, Mirror

SCHEDULER = topology.queue_of(topology.SCHEDULER)
JANITOR = topology.queue_of(topology.JANITOR)
EPOCH = 7


class Reader:
    """Reads one queue, as a service does, and asks the watcher."""

    def __init__(self, rabbit: bus.RabbitBus, queue: str) -> None:
        self._bus = rabbit
        self.queue = queue
        self.inbox = Inbox()
        self._sent = 0

    async def start(self) -> None:
        """Consume."""
        await self._bus.consume(self.queue, self.inbox.receive)

    def ask(self, message: Message) -> None:
        """Send the watcher a request."""
        self._bus.send(topology.WATCHER, Envelope("test", "session", self._sent, message))
        self._sent += 1

    async def snapshot(self, request: str) -> list[Message]:
        """Everything that the answer to a request holds, its frames included."""
        self.ask(SnapshotWanted(queue=self.queue, request=request))
        await self.inbox.until(lambda e: any(x.message == SnapshotEnd(request=request) for x in e))
        told = self.told()
        begin = next(n for n, m in enumerate(told) if isinstance(m, SnapshotBegin) and m.request == request)
        return told[begin : told.index(SnapshotEnd(request=request)) + 1]

    async def fact(self, kind: type[Fact], number: int = 1, **fields: object) -> list[Fact]:
        """All facts of the kind with these fields, once there are so many."""

        def found(envelopes: list[Envelope]) -> list[Fact]:
            return [
                message
                for envelope in envelopes
                if isinstance(message := envelope.message, kind)
                and all(getattr(message, name) == value for name, value in fields.items())
            ]

        await self.inbox.until(lambda envelopes: len(found(envelopes)) >= number)
        return found(self.inbox.envelopes)

    def told(self) -> list[Message]:
        """All messages but heartbeats."""
        messages = [envelope.message for envelope in self.inbox.envelopes]
        return [message for message in messages if message and not isinstance(message, Heartbeat)]


@asynccontextmanager
async def reading(broker: str, queue: str) -> AsyncIterator[Reader]:
    """A reader on a connection of its own."""
    async with bus.connect(broker, "reader", 1) as rabbit:
        reader = Reader(rabbit, queue)
        await reader.start()
        yield reader


@asynccontextmanager
async def reigning(control_plane: Path, api: Api, broker: str, epoch: int = EPOCH) -> AsyncIterator[Watcher]:
    """A watcher of the test's namespace."""
    async with (
        kube.connect(control_plane, api.namespace) as client,
        bus.connect(broker, "watcher", 1) as rabbit,
    ):
        watcher = Watcher(client, rabbit, SystemClock(), epoch=epoch, shards=1)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task.exception()


@pytest.fixture
async def watcher(control_plane: Path, api: Api, broker: str) -> AsyncIterator[Watcher]:
    """A watcher that reigns."""
    async with reigning(control_plane, api, broker) as watcher:
        yield watcher


@pytest.fixture
async def scheduler(broker: str, watcher: Watcher) -> AsyncIterator[Reader]:
    """Who reads the scheduler's queue; the watcher tells every change by now."""
    async with reading(broker, SCHEDULER) as reader:
        await reader.snapshot("first")
        reader.inbox.deliveries.clear()
        yield reader


async def test_a_snapshot_is_followed_by_live_facts_without_a_gap(scheduler: Reader, api: Api) -> None:
    """A consumer that follows the session protocol takes every message, and never has to ask again."""
    for number in range(20):
        api.create(a_job(f"old-{number}"))
    follower = Follower("me")
    request = follower.ask()
    await scheduler.snapshot(request)
    for number in range(20):
        api.create(a_job(f"new-{number}"))
    await scheduler.fact(JobSeen, name="new-19")

    envelopes = scheduler.inbox.envelopes
    numbers = [envelope.number for envelope in envelopes]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {(envelope.publisher, int(envelope.session)) for envelope in envelopes} == {("watcher", EPOCH)}
    begin = next(n for n, envelope in enumerate(envelopes) if isinstance(envelope.message, SnapshotBegin))
    verdicts = [follower.receive(envelope) for envelope in envelopes[begin:]]
    assert verdicts[0] is Verdict.BEGIN
    assert follower.whole
    assert set(verdicts[1:]) == {Verdict.APPLY, Verdict.END}


async def test_a_snapshot_holds_all_that_concerns_the_reader(scheduler: Reader, api: Api) -> None:
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


async def test_a_snapshot_leaves_out_what_needs_nothing_any_more(scheduler: Reader, api: Api) -> None:
    """A hundred thousand finished jobs cost nobody anything."""
    api.create(a_job("done"))
    api.merge("PhJob", "done", {"status": {"phase": "Failed", "reclaimed": True}}, subresource="status")
    api.create(a_job("waiting"))
    facts = await scheduler.snapshot("me/1")
    assert [fact.name for fact in facts if isinstance(fact, JobSeen)] == ["waiting"]


async def test_a_snapshot_holds_what_was_written_before_it_was_asked_for(scheduler: Reader, api: Api) -> None:
    """It is a LIST of its own, not what the watch has brought by then."""
    for number in range(30):
        api.create(a_job(f"job-{number}"))
        facts = await scheduler.snapshot(f"me/{number}")
        names = {fact.name for fact in facts if isinstance(fact, JobSeen)}
        assert names == {f"job-{n}" for n in range(number + 1)}


async def test_a_change_is_told_only_if_somebody_needs_it(scheduler: Reader, api: Api) -> None:
    """A label, an annotation: no fact. A cancel: one."""
    api.create(a_job("job"))
    await scheduler.fact(JobSeen, name="job")
    api.merge("PhJob", "job", {"metadata": {"labels": {"colour": "blue"}}})
    api.merge("PhJob", "job", {"metadata": {"annotations": {"mood": "blue"}}})
    api.merge("PhJob", "job", {"spec": {"cancel": True}})
    seen = await scheduler.fact(JobSeen, 2, name="job")
    assert [getattr(fact, "cancel", None) for fact in seen] == [False, True]


async def test_a_jobs_revision_at_creation_is_kept_through_its_changes(scheduler: Reader, api: Api) -> None:
    """It is the job's place in its queue."""
    created = int(api.create(a_job("job"))["metadata"]["resourceVersion"])
    api.merge("PhJob", "job", {"spec": {"cancel": True}})
    first, second = (await scheduler.fact(JobSeen, 2, name="job"))[:2]
    assert isinstance(first, JobSeen)
    assert isinstance(second, JobSeen)
    assert (first.revision, second.revision) == (created, created)
    assert second.resource_version > first.resource_version == created


async def test_what_is_deleted_or_reclaimed_is_told_as_gone(scheduler: Reader, api: Api) -> None:
    """With its uid and group, at the revision of its end."""
    deleted, done = api.create(a_job("deleted")), api.create(a_job("done"))
    pod = api.create(a_notebook("nb", group="phusers", user="bob"))
    await scheduler.fact(PodSeen)
    await scheduler.fact(JobSeen, 2)
    api.delete("PhJob", "deleted")
    api.merge("PhJob", "done", {"status": {"phase": "Failed", "reclaimed": True}}, subresource="status")
    api.delete("Pod", "nb", gracePeriodSeconds="0")
    (pod_gone,) = await scheduler.fact(PodGone)
    jobs_gone = await scheduler.fact(JobGone, 2)
    assert [fact.uid for fact in jobs_gone] == [deleted["metadata"]["uid"], done["metadata"]["uid"]]
    assert pod_gone.uid == pod["metadata"]["uid"]
    assert jobs_gone[1].resource_version > jobs_gone[0].resource_version
    assert jobs_gone[0].resource_version > int(done["metadata"]["resourceVersion"])


async def test_each_service_is_told_what_concerns_it(scheduler: Reader, broker: str, api: Api) -> None:
    """The janitor gets jobs, groups and nodes (if there are any), but no pods, images and instance types."""
    async with reading(broker, JANITOR) as janitor:
        await janitor.snapshot("first")
        for manifest in (an_image(), an_instance_type(), a_notebook("nb", group="g", user="u"), a_job("job")):
            api.create(manifest)
        api.create(a_group("last"))
        await janitor.fact(GroupSeen)
        await janitor.fact(JobSeen)
        await scheduler.fact(GroupSeen)
        await scheduler.fact(ImageSeen)
        told = await janitor.snapshot("janitor/1")
        kinds = {JobSeen, GroupSeen, SnapshotBegin, SnapshotEnd}
        assert {type(message) for message in janitor.told()} - {NodeSeen} == kinds
        listed = [type(message) for message in told if not isinstance(message, NodeSeen)]
        assert listed == [SnapshotBegin, JobSeen, GroupSeen, SnapshotEnd]


async def test_a_listed_catalog_is_told_before_it_is_said_to_be(scheduler: Reader, api: Api) -> None:
    """Every fact up to the revision has gone before, so a job that names it can be judged."""
    for number in range(10):
        group = api.create(a_group(f"group-{number}"))
        scheduler.ask(CatalogWanted(queue=SCHEDULER, request=number))
        await scheduler.inbox.until(lambda e, n=number: any(_answers(x.message, n) for x in e))  # type: ignore[misc]
        told = scheduler.told()
        at = next(n for n, message in enumerate(told) if _answers(message, number))
        listed = told[at]
        assert isinstance(listed, CatalogListed)
        assert listed.revision >= int(group["metadata"]["resourceVersion"])
        assert f"group-{number}" in [fact.name for fact in told[:at] if isinstance(fact, GroupSeen)]


async def test_a_successor_opens_a_new_session_and_its_consumers_ask_anew(
    broker: str, control_plane: Path, api: Api
) -> None:
    """Its epoch is greater, so what a predecessor still says is dropped."""
    follower = Follower("me")
    async with reading(broker, SCHEDULER) as reader:
        async with reigning(control_plane, api, broker):
            await reader.snapshot(follower.ask())
        before = [follower.receive(envelope) for envelope in reader.inbox.envelopes]
        assert follower.whole
        api.create(a_job("between"))
        async with reigning(control_plane, api, broker, EPOCH + 1):
            seen = len(before)
            await reader.inbox.count(seen + 1)
            assert follower.receive(reader.inbox.envelopes[seen]) is Verdict.ASK
            facts = await reader.snapshot(follower.ask())
    assert [fact.name for fact in facts if isinstance(fact, JobSeen)] == ["between"]


async def test_a_mirror_whose_revision_has_expired_ends_the_reign(control_plane: Path, api: Api) -> None:
    """After a real 410: something may have come and gone unseen."""
    kind = KINDS["phjobs"]
    async with kube.connect(control_plane, api.namespace) as client:
        mirror = Mirror(client, SystemClock(), kind.resource, kind.translate, kind.end, lambda _: None)
        await mirror.start()
        mirror.revision = 1
        with pytest.raises(HistoryLostError, match="phjobs"):
            await mirror.follow()


def _answers(message: Message | None, request: int) -> bool:
    return isinstance(message, CatalogListed) and message.request == request
