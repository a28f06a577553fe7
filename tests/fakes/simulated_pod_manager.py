"""A pod-manager on the simulated API server and clock, for tests of its parts together."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

from tests.simulation.kube import ApiConditions, SimulatedKube
from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import Process, ProcessClock
from tests.simulation.store import Object, Store
from tests.support.builders import a_job, an_image, an_instance_type

from phjob_core.errors import DeniedError
from phjob_core.kinds import KINDS
from phjob_core.messages import Admit, Fence, GroupSeen, JobGone, Message, PodGone
from phjob_core.projection import project_job, project_pod
from phjob_core.stream import Envelope, StreamWriter
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.catalog_cache import CatalogCache
from phjob_pod_manager.command_writes import CommandWriter
from phjob_pod_manager.commands import CommandExecutor
from phjob_pod_manager.events import EventRecorder
from phjob_pod_manager.gated_pods import GatedPodWriter
from phjob_pod_manager.log_archive.archiver import LogArchiver
from phjob_pod_manager.pod_creator import PodCreator
from phjob_pod_manager.reconciler import Reconciler
from phjob_runtime.settings import JobSubmission

T = TypeVar("T")
SESSION = "scheduler/1"
FENCE = Fence(session=SESSION, queue="scheduler.0")
REVISIONS = dict.fromkeys((kind.plural for kind in KINDS), 0)
"""The revisions of a snapshot that contains everything."""
MAX_LOG_BYTES = 1000
RESOURCES = {"cpu": 500, "memory": 256 * 2**20}


class SimulatedPodManager:
    """The parts of a pod-manager, and the cluster that they write to."""

    def __init__(self, store: Store, archive: Any = None) -> None:
        self.store = store
        self.api_faults = ApiConditions(Random(1))  # noqa: S311 - each run has to be the same
        process = Process("pod-manager", "pod-manager-1")
        self.clock = clock = ProcessClock(process)
        self.api = api = SimulatedKube(store, self.api_faults, process)
        self.retrier = retrier = ApiRetrier(clock)
        catalog, events = CatalogCache(api), EventRecorder(api, clock)
        self.pods = pods = PodCreator(api, clock, retrier, catalog, JobSubmission())
        self.logs = logs = LogArchiver(api, clock, archive, MAX_LOG_BYTES)
        self.reconciler = Reconciler(api, clock, retrier, catalog, logs, events)
        self.writer = writer = CommandWriter(api, clock, retrier, pods, self.reconciler, events)
        self.sent: list[tuple[str, Message]] = []
        """The messages that it has sent, each with its queue."""
        stream = StreamWriter("pod-manager", "1", self._on_sent)
        gated_pods = GatedPodWriter(api, clock, retrier, events)
        self.executor = CommandExecutor(clock, writer, self.reconciler, gated_pods, stream=stream, shard=0)
        self.acknowledged: list[int] = []
        """The sequence numbers of the acknowledged messages."""
        self._sequence = 0

    def receive(self, *messages: Message, redelivered: bool = False) -> None:
        """Receive messages of the scheduler, in this order."""
        for message in messages:
            sequence = self._sequence
            envelope = Envelope("scheduler", SESSION, sequence, message, redelivered)
            self.executor.receive(envelope, lambda _="", n=sequence: self.acknowledged.append(n))
            self._sequence += 1

    def skip(self) -> None:
        """Lose the scheduler's next message."""
        self._sequence += 1

    def job(self, name: str = "job-1") -> Object:
        """Return the job as it is in the cluster."""
        job = self.store.get("phjobs", name)
        assert job
        return job

    def pod(self, name: str = "job-1") -> Object | None:
        """Return the job's pod as it is in the cluster."""
        return self.store.get("pods", name)

    def is_pod_deleted(self, name: str = "job-1") -> bool:
        """Return whether the deletion of the job's pod was requested, or the pod is gone."""
        pod = self.pod(name)
        return pod is None or "deletionTimestamp" in pod["metadata"]

    def reject_patches(self, kind: str, *, times: int | None = None) -> None:
        """Let a webhook reject patches of this kind of objects: all, or the first ones."""
        patch, left = self.store.patch, itertools.repeat(0) if times is None else iter(range(times))

        def reject(plural: str, name: str, operations: Sequence[Object]) -> Object:
            if plural == kind and next(left, None) is not None:
                raise DeniedError(422, "Invalid", 'admission webhook "policy" denied the request')
            return patch(plural, name, operations)

        self.store.patch = reject  # type: ignore[method-assign]

    def observe_group(self, group: GroupSeen) -> None:
        """Let the watch report a group."""
        self.reconciler.on_fact(group, from_snapshot=False)

    def observe_pod(self, name: str = "job-1") -> None:
        """Let the watch report the pod as it is in the cluster."""
        pod = self.pod(name)
        assert pod
        self.reconciler.on_fact(project_pod(pod), from_snapshot=False)

    def observe_pod_gone(self, pod: Object) -> None:
        """Let the watch report that the pod is gone; `pod` is its last state."""
        last = project_pod(pod)
        gone = PodGone(
            uid=last.uid, name=last.name, resource_version=self.store.revision, group=last.group,
            job_uid=last.job_uid, never_started=last.never_started,
        )  # fmt: skip
        self.reconciler.on_fact(gone, from_snapshot=False)

    def observe_job_gone(self, job: Object) -> None:
        """Let the watch report that the job is gone or reclaimed."""
        seen = project_job(job)
        gone = JobGone(uid=seen.uid, name=seen.name, resource_version=self.store.revision, group=seen.group)
        self.reconciler.on_fact(gone, from_snapshot=False)

    def _on_sent(self, queue: str, envelope: Envelope) -> None:
        assert envelope.message
        self.sent.append((queue, envelope.message))


def run_scenario(
    scenario: Callable[[SimulatedPodManager], Awaitable[T]], *, jobs: int = 1, archive: Any = None
) -> T:
    """Run the scenario in a cluster with that many jobs of one group. Returns its result.

    Inside, `asyncio.sleep` takes simulated time only. `archive` takes the place of the log archive.
    """
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    store = Store(loop.time)
    for number in range(1, jobs + 1):
        store.create("phjobs", a_job(f"job-{number}"))
    store.create("images", an_image())
    store.create("instancetypes", an_instance_type())

    async def run() -> T:
        pod_manager = SimulatedPodManager(store, archive)
        pod_manager.reconciler.on_snapshot_begin(REVISIONS)
        for job in store.all("phjobs"):
            pod_manager.reconciler.on_fact(project_job(job), from_snapshot=True)
        pod_manager.reconciler.on_snapshot_end()
        running = asyncio.ensure_future(pod_manager.executor.run())
        try:
            return await scenario(pod_manager)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await pod_manager.executor.close()
            await pod_manager.reconciler.close()

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


def an_admit(name: str = "job-1", number: int = 1, **fields: Any) -> Admit:
    """Return the scheduler's nth command of the session, to admit a job as it was created."""
    uid = f"phjobs-{name.removeprefix('job-')}"
    token = f"{SESSION}#{number}"
    defaults: dict[str, Any] = {"uid": uid, "fence": "", "revision": 1, "group": "phusers"}
    return Admit(name=name, token=token, resources=RESOURCES, **{**defaults, **fields})
