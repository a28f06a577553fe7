"""The process of pod-manager: wiring only."""

import asyncio

from phjob_core.kinds import PHJOBS
from phjob_core.stream import StreamWriter
from phjob_kube import config
from phjob_kube.port import Kube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.catalog_cache import CatalogCache
from phjob_pod_manager.command_writes import CommandWriter
from phjob_pod_manager.commands import CommandExecutor
from phjob_pod_manager.events import EventRecorder
from phjob_pod_manager.gated_pods import GatedPodWriter
from phjob_pod_manager.group_status import GroupStatusWriter
from phjob_pod_manager.handler import PodManagerHandler
from phjob_pod_manager.log_archive.archiver import LogArchiver
from phjob_pod_manager.log_archive.store import Archive
from phjob_pod_manager.pod_creator import PodCreator
from phjob_pod_manager.reconciler import Reconciler
from phjob_runtime import service
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.clock import Clock, SteadyClock, SystemClock
from phjob_runtime.consumer import Consumer
from phjob_runtime.metrics import api_request
from phjob_runtime.settings import ClusterSettings, SettingsFile


async def serve(  # noqa: PLR0913 - everything that it is wired from
    service: service.Service,
    bus: Bus,
    api: Kube,
    clock: Clock,
    *,
    shard: Shard,
    file: SettingsFile,
    archive: Archive | None,
) -> None:
    """Run the pod-manager of one shard until the connection breaks."""
    service.readiness.set_waiting("the API server")
    await api.get(PHJOBS.resource, "any")  # Without this, it would take commands before it can write.
    retrier = ApiRetrier(clock)
    stream = StreamWriter(topology.POD_MANAGER, service.identity, bus.send)
    catalog = CatalogCache(api)
    pods = PodCreator(api, clock, retrier, catalog, file.job_submission)
    logs = LogArchiver(api, SteadyClock(clock), archive, file.log_archive.max_bytes)
    events = EventRecorder(api, clock)
    cap = file.job_submission.max_requeues
    reconciler = Reconciler(api, clock, retrier, catalog, logs, events, max_requeues=cap)
    writer = CommandWriter(api, clock, retrier, pods, reconciler, events, max_requeues=cap)
    gated_pods = GatedPodWriter(api, clock, retrier, events)
    executor = CommandExecutor(clock, writer, reconciler, gated_pods, stream=stream, shard=shard.index)
    group_status = GroupStatusWriter(api, retrier)
    handler = PodManagerHandler(reconciler, executor, group_status, stream, shard.index)
    queue = topology.queue_of(topology.POD_MANAGER, shard.index)
    consumer = Consumer(bus, queue, service.identity, clock, handler, shards=shard.count)

    def failing() -> str:
        return retrier.failure and f"a definite answer: {retrier.failure}"

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(executor.run())
            tasks.create_task(service.run_consumer(consumer, failing))
    finally:
        await executor.close()
        await reconciler.close()
        await group_status.close()
        await events.close()


def main() -> None:
    """Run the pod-manager until it receives SIGTERM or SIGINT."""
    settings = service.load_settings(ClusterSettings)
    file = settings.file()
    archive = service.exit_on_bad_setting(lambda: Archive(file.log_archive)) if file.log_archive.url else None
    clock = SystemClock()
    shard = Shard(settings.shard, settings.shards)

    async def role(service: service.Service, bus: Bus) -> None:
        async with config.connect(settings.kubeconfig, settings.namespace, observe=api_request) as api:
            await serve(service, bus, api, clock, shard=shard, file=file, archive=archive)

    service.main(topology.POD_MANAGER, settings, role)


if __name__ == "__main__":
    main()
