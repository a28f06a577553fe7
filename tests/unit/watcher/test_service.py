"""The watcher during one term: its readiness, pools, and the answers to requests."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from tests.fakes.broker import FakeBus, FakeDelivery
from tests.fakes.many_facts import MAX_FINISHED_BYTES, measured_memory

from phjob_core.api import Object
from phjob_core.errors import UnreachableError
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import (
    CatalogRequest,
    CatalogSynced,
    HistoryPage,
    HistoryRequest,
    PodSeen,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRequest,
)
from phjob_core.resource import Resource
from phjob_core.stream import Envelope
from phjob_kube.port import Listing
from phjob_watcher.service import Watcher

T = TypeVar("T")


def an_object(name: str, kind: str, spec: Object, **metadata: Any) -> dict[str, Any]:
    defaults = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "5",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"kind": kind, "metadata": {**defaults, **metadata}, "spec": spec, "status": {"phase": "Pending"}}


def a_pod(name: str, group: str, owner: str = "") -> dict[str, Any]:
    """Return a pod with the group's label, controlled by a PhJob if it has an owner."""
    labels = {"primehub.io/group": label_value(group), "primehub.io/user": "lin"}
    controller = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "name": owner, "controller": True}
    owners = [{**controller, "uid": f"uid-{owner}"}] if owner else []
    spec = {"containers": [{"name": "main", "resources": {"limits": {"cpu": "2"}}}]}
    return an_object(name, "Pod", spec, labels=labels, ownerReferences=owners)


JOB = an_object(
    "train", "PhJob", {"groupName": "Vision", "userName": "lin", "image": "i", "instanceType": "t"}
)


class World:
    """The API server, the broker and the clock around one watcher."""

    def __init__(self) -> None:
        self.objects: dict[str, list[Object]] = {}
        self.watch_error: dict[str, Exception] = {}
        self.events: dict[str, list[Object]] = {}
        """By plural, the changed objects that a watch reports first."""
        self.is_listing_blocked = False
        self.bus = FakeBus()
        self.watcher = Watcher(self, self.bus, self, term=7, shards=1)  # type: ignore[arg-type]

    # The API server.

    namespace = "hub"

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        if self.is_listing_blocked:
            await asyncio.Event().wait()
        return Listing([project(item) for item in self.objects.get(resource.plural, ())], 10)

    async def pages(self, _: Resource) -> AsyncIterator[Sequence[Object]]:
        yield []

    async def watch(
        self, resource: Resource, _: int, opened: Callable[[], None]
    ) -> AsyncIterator[tuple[str, Object]]:
        if error := self.watch_error.get(resource.plural):
            raise error
        opened()
        for changed in self.events.get(resource.plural, ()):
            yield "MODIFIED", changed
        await asyncio.Event().wait()

    # The clock.

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, _: float) -> None:
        await asyncio.Event().wait()


def delivery_of(
    request: SnapshotRequest | CatalogRequest | HistoryRequest, publisher: str = ""
) -> FakeDelivery:
    """Return the delivery of a request to the watcher, by default of the service that gets the answer."""
    return FakeDelivery(Envelope(publisher or request.queue.partition(".")[0], "session", 0, request))


async def let_run() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Watcher]:
    task = asyncio.create_task(world.watcher.run())
    await let_run()
    try:
        yield world.watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world() -> World:
    """A cluster without objects, and a watcher that has not started."""
    return World()


async def test_the_watcher_is_ready_once_it_has_listed_everything(world: World) -> None:
    """Before, it cannot answer a request (spec.md, E4)."""
    world.is_listing_blocked = True
    async with running(world) as watcher:
        assert watcher.not_ready_reason() == "the first lists from the API server"
    world = World()
    async with running(world) as watcher:
        assert watcher.not_ready_reason() == ""


async def test_the_watcher_is_not_ready_while_a_watch_is_broken(world: World) -> None:
    """Consumers would not learn of changes. The reason names the kind."""
    world.watch_error["pods"] = UnreachableError("the API server does not answer")
    async with running(world) as watcher:
        assert watcher.not_ready_reason() == "the watch of pods: the API server does not answer"


async def test_the_pod_of_a_job_counts_in_its_jobs_group(world: World) -> None:
    """Otherwise anybody who may edit its labels could take it out of the group's quota."""
    world.objects = {"phjobs": [JOB], "pods": [a_pod("train", group="other", owner="train")]}
    async with running(world):
        world.bus.receive(delivery_of(SnapshotRequest(queue="scheduler.0", request="me/1")))
        await let_run()
    (pod,) = world.bus.messages("scheduler.0", PodSeen)
    assert pod.group == label_value("Vision")


async def test_a_finished_job_takes_little_memory_also_while_a_snapshot_is_sent(world: World) -> None:
    """The bus holds the snapshot until RabbitMQ has confirmed it, here until the end."""
    count = 300
    times = {"preparingTime": "2026-01-01T00:00:01Z", "startTime": "2026-01-01T00:00:02Z"}
    status = {"phase": "Succeeded", "fence": "scheduler@host-1.1/1#1", "message": "exit code 0", **times}
    jobs = [an_object(f"job-{n}", "PhJob", JOB["spec"]) for n in range(count)]
    pods = [a_pod(f"job-{n}", "Vision", owner=f"job-{n}") for n in range(count)]
    world.objects = {
        "phjobs": [{**job, "status": {**status, "podUID": f"uid-{n}"}} for n, job in enumerate(jobs)],
        "pods": [{**pod, "status": {"phase": "Succeeded"}} for pod in pods],
    }
    with measured_memory() as measured:
        async with running(world):
            for queue in ("scheduler.0", "pod-manager.0"):
                world.bus.receive(delivery_of(SnapshotRequest(queue=queue, request="me/1")))
            await let_run()
            assert len(world.bus.messages("pod-manager.0", PodSeen)) == count
            measured.append(tracemalloc.get_traced_memory()[0])
    assert measured[0] < count * (MAX_FINISHED_BYTES + 4 * 200)


async def test_a_pod_outside_all_pools_is_not_published(world: World) -> None:
    """It has neither a group's label nor a job."""
    unrelated = an_object("unrelated", "Pod", {"containers": []})
    world.objects = {"pods": [unrelated, a_pod("nb", group="Vision")]}
    async with running(world):
        world.bus.receive(delivery_of(SnapshotRequest(queue="scheduler.0", request="me/1")))
        await let_run()
    assert [pod.name for pod in world.bus.messages("scheduler.0", PodSeen)] == ["nb"]


async def test_the_pod_of_a_job_is_published_without_any_group(world: World) -> None:
    """Its label was removed, and its job is gone. Without this, pod-manager could not delete it."""
    orphan = a_pod("train", group="Vision")
    orphan["metadata"]["labels"] = {"primehub.io/phjob": "train", "primehub.io/phjob-uid": "gone"}
    world.objects = {"pods": [orphan]}
    async with running(world):
        world.bus.receive(delivery_of(SnapshotRequest(queue="pod-manager.0", request="me/1")))
        await let_run()
    (pod,) = world.bus.messages("pod-manager.0", PodSeen)
    assert (pod.name, pod.group, pod.job_uid, pod.orphaned) == ("train", "", "gone", True)


async def test_the_first_deletion_of_a_pod_counts(world: World) -> None:
    """The kubelet's deletion at the end has a later time, after the end of the container (spec.md, L7)."""
    pod = a_pod("train", "Vision")
    for second, grace, phase in ((40, 30, "Running"), (12, 0, "Failed")):
        deletion = {
            "deletionTimestamp": f"2026-01-01T00:00:{second}Z",
            "deletionGracePeriodSeconds": grace,
            "resourceVersion": str(20 + second - grace),
        }
        changed = {**pod, "metadata": {**pod["metadata"], **deletion}, "status": {"phase": phase}}
        world.events.setdefault("pods", []).append(changed)
    async with running(world):
        await let_run()
    first, last = (pod.deleted_at for pod in world.bus.messages("pod-manager.0", PodSeen))
    assert first == last == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)


async def test_a_pod_that_claims_a_job_of_another_name_keeps_its_own_group(world: World) -> None:
    """Otherwise it would count for a group that it does not belong to."""
    forged = a_pod("forged", group="other")
    forged["metadata"]["labels"] |= {
        "primehub.io/phjob": "forged",
        "primehub.io/phjob-uid": JOB["metadata"]["uid"],
    }
    world.objects = {"phjobs": [JOB], "pods": [forged]}
    async with running(world):
        world.bus.receive(delivery_of(SnapshotRequest(queue="scheduler.0", request="me/1")))
        await let_run()
    (pod,) = world.bus.messages("scheduler.0", PodSeen)
    assert pod.group == label_value("other")


async def test_pod_usage_is_by_the_name_of_the_group(world: World) -> None:
    """All groups without a PhGroup are one (spec.md, E3)."""
    group = an_object("vision", "PhGroup", {"groupName": "Vision"})
    pods: list[Object] = [a_pod("nb", "Vision"), a_pod("nb2", "gone"), a_pod("nb3", "invented")]
    world.objects = {"phgroups": [group], "pods": pods}
    async with running(world) as watcher:
        assert watcher.pod_usage(GpuResources()) == {"Vision": {"cpu": 2000}, "unknown": {"cpu": 4000}}


async def test_a_request_is_acknowledged_after_its_answer(world: World) -> None:
    """If the watcher stops before, RabbitMQ redelivers the request to its successor."""
    delivery = delivery_of(SnapshotRequest(queue="janitor.0", request="me/1"))
    async with running(world):
        world.is_listing_blocked = True
        world.bus.receive(delivery)
        await let_run()
        assert delivery.acks == 0
    world = World()
    async with running(world):
        world.bus.receive(delivery)
        await let_run()
        assert delivery.acks == 1
    assert len(world.bus.messages("janitor.0", SnapshotBegin)) == 1
    assert world.bus.messages("janitor.0", SnapshotEnd) == [SnapshotEnd(request="me/1")]


async def test_the_catalog_and_the_history_are_answered_too(world: World) -> None:
    """Each to the queue that the request names."""
    catalog = delivery_of(CatalogRequest(queue="scheduler.0", request=3))
    past = delivery_of(HistoryRequest(queue="janitor.0", request=4, most=5))
    async with running(world):
        world.bus.receive(catalog)
        world.bus.receive(past)
        await let_run()
    assert world.bus.messages("scheduler.0", CatalogSynced) == [CatalogSynced(request=3, revision=10)]
    assert world.bus.messages("janitor.0", HistoryPage) == [HistoryPage(request=4, total=0)]
    assert catalog.acks == 1
    assert past.acks == 1


async def test_only_the_newest_request_for_the_history_is_answered(world: World) -> None:
    """Each answer costs a list of all reclaimed jobs."""
    deliveries = [delivery_of(HistoryRequest(queue="janitor.0", request=n, most=5)) for n in range(3)]
    async with running(world):
        for delivery in deliveries:
            world.bus.receive(delivery)
        await let_run()
    assert world.bus.messages("janitor.0", HistoryPage) == [HistoryPage(request=2, total=0)]
    assert all(delivery.acks == 1 for delivery in deliveries)


async def test_a_request_for_an_unknown_queue_is_dead_lettered(world: World) -> None:
    """A service with more shards than the watcher sent it."""
    delivery = delivery_of(SnapshotRequest(queue="scheduler.7", request="me/1"))
    async with running(world):
        world.bus.receive(delivery)
        await let_run()
    assert delivery.dead_letter_reason == "there is no queue 'scheduler.7' to answer to"
    assert not world.bus.messages("scheduler.7", SnapshotBegin)


async def test_a_request_for_the_queue_of_another_service_is_dead_lettered(world: World) -> None:
    """Otherwise a stolen janitor could make the scheduler start over again and again (spec.md, E6)."""
    delivery = delivery_of(SnapshotRequest(queue="scheduler.0", request="me/1"), publisher="janitor")
    async with running(world):
        world.bus.receive(delivery)
        await let_run()
    assert delivery.dead_letter_reason == "janitor may not request an answer to the queue 'scheduler.0'"
    assert not world.bus.messages("scheduler.0", SnapshotBegin)
