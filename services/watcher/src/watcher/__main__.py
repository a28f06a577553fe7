"""The watcher's process: wiring only."""

import asyncio

from shared import kube, runtime, topology
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.kube import Kube
from shared.metrics import active
from watcher import metrics
from watcher.handlers import Watcher
from watcher.lease import Lease
from watcher.settings import WatcherSettings


async def serve(service: runtime.Service, bus: Bus, api: Kube, clock: Clock, shards: int) -> None:
    """Tell what happens in Kubernetes, once this replica has the Lease, until it is lost."""
    lease = Lease(api, clock, service.name)
    service.health.waiting_for = lambda: "the API server"
    active(topology.WATCHER, False)  # noqa: FBT003 - a gauge's value
    epoch = await lease.acquire(standing_by=service.stand_by)
    watcher = Watcher(api, bus, clock, epoch=epoch, shards=shards)
    service.health.waiting_for = watcher.waiting_for
    active(topology.WATCHER, True)  # noqa: FBT003 - a gauge's value
    try:
        with metrics.counting(watcher.held):
            async with lease.released_at_end(), asyncio.TaskGroup() as tasks:
                tasks.create_task(lease.keep())
                tasks.create_task(watcher.run())
    finally:
        active(topology.WATCHER, False)  # noqa: FBT003 - a gauge's value


def main() -> None:
    """Run the watcher until it is told to stop."""
    settings = runtime.load(WatcherSettings)
    clock = SystemClock()

    async def role(service: runtime.Service, bus: Bus) -> None:
        async with kube.connect(settings.kubeconfig, settings.namespace) as api:
            await serve(service, bus, api, clock, settings.shards)

    runtime.main(topology.WATCHER, settings, role)


if __name__ == "__main__":
    main()
