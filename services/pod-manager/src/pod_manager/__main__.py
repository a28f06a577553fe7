"""The pod-manager's process: wiring only."""

import asyncio

from pod_manager.archive import Archive
from pod_manager.events import Events
from pod_manager.handlers import Handlers
from pod_manager.jobs import PHJOBS, Jobs
from pod_manager.logs import Logs
from pod_manager.orders import Orders
from pod_manager.pods import Pods
from pod_manager.reports import Reports
from pod_manager.settings import PodManagerSettings
from pod_manager.writes import Writer
from shared import kube, runtime, topology
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.consumer import Consumer
from shared.kube import Kube
from shared.session import Stream
from shared.settings import File


async def serve(  # noqa: PLR0913 - all that it is made of
    service: runtime.Service,
    bus: Bus,
    api: Kube,
    clock: Clock,
    *,
    shard: int,
    file: File,
    archive: Archive | None,
) -> None:
    """Write what one shard's jobs need until the connection breaks."""
    service.health.waiting_for = lambda: "the API server"
    await api.get(PHJOBS, "any")  # Whoever can't reach it says so and takes no orders.
    writer = Writer(clock)
    stream = Stream(topology.POD_MANAGER, service.identity, bus.send)
    pods = Pods(api, clock, writer, file.job_submission)
    logs = Logs(api, clock, archive, file.log_archive.max_bytes)
    events = Events(api, clock)
    jobs = Jobs(api, clock, writer, pods, logs, events)
    orders = Orders(api, clock, writer, jobs, stream, shard)
    reports = Reports(api, writer)
    handlers = Handlers(jobs, orders, reports, stream, shard)
    queue = topology.queue_of(topology.POD_MANAGER, shard)
    consumer = Consumer(bus, queue, service.identity, clock, handlers)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(orders.run())
            tasks.create_task(service.follow(consumer, lambda: writer.failing))
    finally:
        await orders.close()
        await jobs.close()
        await reports.close()
        await events.close()


def main() -> None:
    """Run the pod-manager until it is told to stop."""
    settings = runtime.load(PodManagerSettings)
    file = settings.file()
    archive = runtime.read(lambda: Archive(file.log_archive)) if file.log_archive.url else None
    clock = SystemClock()

    async def role(service: runtime.Service, bus: Bus) -> None:
        async with kube.connect(settings.kubeconfig, settings.namespace) as api:
            await serve(service, bus, api, clock, shard=settings.shard, file=file, archive=archive)

    runtime.main(topology.POD_MANAGER, settings, role)


if __name__ == "__main__":
    main()
