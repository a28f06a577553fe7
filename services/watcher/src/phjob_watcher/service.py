"""The watcher's work during one term: run the informers, publish facts, and answer requests."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import structlog

from phjob_core import catalog_projection, projection
from phjob_core.api import Object
from phjob_core.errors import ExpiredError, UnreachableError
from phjob_core.gpus import GpuResources
from phjob_core.groups import UNKNOWN_GROUP
from phjob_core.kinds import KINDS, PHGROUPS, PHJOBS, PODS, SCHEDULING_CATALOG
from phjob_core.labels import label_value
from phjob_core.messages import (
    CatalogRequest,
    Fact,
    HistoryLimits,
    HistoryRequest,
    JobSeen,
    PodSeen,
    SnapshotRequest,
)
from phjob_core.quantities import Amounts
from phjob_core.stream import Envelope
from phjob_kube.port import Kube
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus, Delivery
from phjob_runtime.clock import Clock
from phjob_watcher import history
from phjob_watcher.informer import Informer
from phjob_watcher.publisher import Publisher
from phjob_watcher.snapshot_requests import Request, SnapshotRequests

HEARTBEAT_SECONDS = 1.0
"""The time between two heartbeats to a queue. A replica may learn that late that it has to take over."""
SNAPSHOT_RETRY_SECONDS = 1.0
"""The time before a snapshot is listed again, after the API server did not answer."""
_REQUESTS = (SnapshotRequest, CatalogRequest, HistoryRequest)
_MAX_QUEUE_NAME_CHARS = 64
"""The length of an unknown queue's name in a dead letter's reason."""

_log = structlog.get_logger()


class Watcher:
    """The watcher during one term, from the acquisition of the Lease to its loss."""

    def __init__(self, kube: Kube, bus: Bus, clock: Clock, *, term: int, shards: int) -> None:
        self._kube = kube
        self._bus = bus
        self._clock = clock
        self._publisher = Publisher(term, shards, bus.send)
        self._requests: asyncio.Queue[Delivery] = asyncio.Queue()
        self._history_requests: asyncio.Queue[Delivery] = asyncio.Queue()
        project: Mapping[str, Callable[[Object, Any], Fact | None]] = {PODS.plural: self._project_pod}
        relative: Mapping[str, Callable[[Any], Fact | None]] = {
            PHJOBS.plural: lambda job: self._informers[PODS.plural].get(job.pod_uid),
            PODS.plural: lambda pod: self._informers[PHJOBS.plural].get(pod.job_uid),
        }
        self._informers: dict[str, Informer[Any]] = {
            kind.plural: Informer(
                kube,
                clock,
                kind,
                self._publisher.publish,
                project.get(kind.plural),
                relative.get(kind.plural, lambda _: None),
            )
            for kind in KINDS
        }
        self._queues = {queue.name for queue in topology.queues(shards)} - {topology.WATCHER}
        self._is_started = False
        self._answering: Mapping[str, str] = {}
        """The snapshot request that is or will be answered, by queue."""

    def pod_usage(self, gpus: GpuResources) -> Mapping[str, Amounts]:
        """Return the usage of the unfinished pods of each group, counted now. `gpus` count as `gpu`.

        The keys are the names of the groups; `UNKNOWN_GROUP` for all groups without a PhGroup together.
        Another thread may call this, so it iterates over copies.
        """
        names = {label_value(group.group): group.group for group in list(self._facts(PHGROUPS.plural))}
        return catalog_projection.pod_usage(
            list(self._facts(PODS.plural)), lambda label: names.get(label, UNKNOWN_GROUP), gpus
        )

    def not_ready_reason(self) -> str:
        """Return why the watcher cannot publish everything now; empty if it can."""
        if not self._is_started:
            return "the first lists from the API server"
        failing = (informer for informer in self._informers.values() if informer.unreachable_reason)
        informer = next(failing, None)
        return f"the watch of {informer.plural}: {informer.unreachable_reason}" if informer else ""

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the watcher holds for objects, for tests and debugging.

        Its only key is `objects`: the names of the objects with a fact, by the plural of their kind.
        """
        return {
            "objects": {
                plural: [fact.name for fact in informer.facts()]
                for plural, informer in self._informers.items()
            }
        }

    async def run(self) -> None:
        """Publish until cancelled.

        Raises:
            WatchGapError: a watch missed changes, in an ExceptionGroup.

        """
        for informer in self._informers.values():
            await informer.start()
        self._is_started = True
        _log.info("term_started", session=self._publisher.session)
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                tasks.create_task(informer.run())
            tasks.create_task(self._answer_requests())
            tasks.create_task(self._answer_history_requests())
            await self._bus.consume(topology.WATCHER, self._receive)
            while True:
                pods_revision = self._informers[PODS.plural].revision
                self._publisher.publish_heartbeats(self._clock.now(), self._answering, pods_revision)
                await self._clock.sleep(HEARTBEAT_SECONDS)

    def _facts(self, plural: str) -> Any:
        return self._informers[plural].facts()

    def _project_pod(self, item: Object, known: PodSeen | None) -> PodSeen | None:
        """Return the fact about a pod of a pool; None for any other pod.

        A job's pod belongs to the job's group and user, whatever its labels are now. Without a label and
        without its job, it still has to be deleted.
        """
        pod = projection.project_pod(item)
        if pod.job_uid:
            job: JobSeen | None = self._informers[PHJOBS.plural].get(pod.job_uid)
            if job and job.name != pod.name:
                job = None  # It claims to be that job's pod, but a job's pod has the job's name.
            owner = (label_value(job.group), label_value(job.user)) if job else (pod.group, pod.user)
            if job is None and known:
                owner = known.group, known.user
            if owner != (pod.group, pod.user):
                pod = pod.model_copy(update={"group": owner[0], "user": owner[1]})
        if known and known.deleted_at and pod.deleted_at and known.deleted_at < pod.deleted_at:
            # The kubelet's last deletion, without a grace period, moves `deletionTimestamp` to that time. The
            # container would seem to have ended before its deletion (registry/rest/delete.go, BeforeDelete).
            pod = pod.model_copy(update={"deleted_at": known.deleted_at})
        return pod if pod.group or pod.job_uid else None

    def _receive(self, delivery: Delivery) -> None:
        """Queue a request.

        Requests for the history wait in a queue of their own, because they take long. A service with more
        shards than the watcher may request an answer to a queue without a consumer. It is dead-lettered, and
        so is a request for the queue of another service.
        """
        message = delivery.envelope.message
        if isinstance(message, _REQUESTS) and (problem := self._problem(message.queue, delivery.envelope)):
            delivery.dead_letter(problem)
            return
        queue = self._history_requests if isinstance(message, HistoryRequest) else self._requests
        queue.put_nowait(delivery)

    def _problem(self, queue: str, envelope: Envelope) -> str:
        """Return why a request for an answer to the queue is rejected; empty if it is not."""
        name = repr(queue[:_MAX_QUEUE_NAME_CHARS])
        if queue not in self._queues:
            return f"there is no queue {name} to answer to"
        if topology.service_of(queue) not in topology.REQUESTS_FOR.get(envelope.publisher, ()):
            return f"{envelope.publisher} may not request an answer to the queue {name}"
        return ""

    async def _answer_history_requests(self) -> None:
        """Answer the newest of the waiting requests for the history, until cancelled."""
        while True:
            delivery = await self._history_requests.get()
            message = delivery.envelope.message
            if isinstance(message, HistoryRequest) and self._history_requests.empty():
                await self._answer_history_request(message)
            self._bus.when_confirmed(delivery.ack)

    async def _answer_history_request(self, request: HistoryRequest) -> None:
        """Publish the jobs that are over a limit. Without an answer, the janitor repeats its request."""
        limits = request.limits or HistoryLimits()
        try:
            groups = {group.group for group in self._facts(PHGROUPS.plural)}
            total, jobs = await history.jobs_over_limit(
                self._kube, lambda: self._facts(PHJOBS.plural), groups, limits, request.most
            )
        except (UnreachableError, ExpiredError) as error:
            _log.warning("history_not_listed", error=str(error))
        else:
            self._publisher.publish_history_page(request.queue, request.request, total, jobs)

    async def _answer_requests(self) -> None:
        """Answer requests one at a time, until cancelled.

        A newer request supersedes the older ones of its requester.
        """
        requests = SnapshotRequests()
        while True:
            while not requests or not self._requests.empty():
                delivery = await self._requests.get()
                if isinstance(delivery.envelope.message, Request):
                    requests.add(delivery.envelope.message, delivery)
                else:
                    self._bus.when_confirmed(delivery.ack)
            self._answering = requests.snapshots()
            match requests.first():
                case SnapshotRequest() as request:
                    await self._publish_snapshot_with_retries(request)
                case CatalogRequest() as request:
                    revisions = [await self._informers[kind.plural].relist() for kind in SCHEDULING_CATALOG]
                    self._publisher.publish_catalog_synced(request.queue, request.request, min(revisions))
            for delivery in requests.pop_answered():
                self._bus.when_confirmed(delivery.ack)
            self._answering = requests.snapshots()

    async def _publish_snapshot(self, request: SnapshotRequest) -> None:
        """List the objects, and publish them as a snapshot.

        The list is a new one, because a snapshot contains everything written before its request.
        """
        service = request.queue.partition(".")[0]
        # One snapshot at a time: those of all queues together could exceed the outbox.
        await self._wait_for_confirms()
        # Jobs before pods (`KINDS`): if an admission is listed, its pod is listed, too.
        listings = {
            kind.plural: await self._informers[kind.plural].list()
            for kind in KINDS
            if service in kind.subscribers
        }
        # No `await` from here to the end of the snapshot. Otherwise a fact published in between would precede
        # the snapshot without being in it.
        merged = {
            plural: self._informers[plural].merge_with_listing(listing)
            for plural, listing in listings.items()
        }
        revisions = {plural: listing.revision for plural, listing in merged.items()}
        facts = chain.from_iterable(listing.items for listing in merged.values())
        sent = self._publisher.publish_snapshot(request.queue, request.request, revisions, facts)
        _log.info("snapshot_published", queue=request.queue, request=request.request, facts=sent)

    async def _wait_for_confirms(self) -> None:
        """Wait until RabbitMQ has confirmed everything published up to now."""
        confirmed = asyncio.Event()
        self._bus.when_confirmed(confirmed.set)
        await confirmed.wait()

    async def _publish_snapshot_with_retries(self, request: SnapshotRequest) -> None:
        while True:
            try:
                await self._publish_snapshot(request)
            except UnreachableError as error:
                _log.warning("snapshot_delayed", queue=request.queue, error=str(error))
                await self._clock.sleep(SNAPSHOT_RETRY_SECONDS)
            else:
                return
