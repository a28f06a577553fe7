"""The watcher's process: wiring only."""

import asyncio

from shared import kube, runtime, topology
from shared.bus import RabbitBus
from shared.clock import SystemClock
from watcher import metrics
from watcher.handlers import Watcher
from watcher.lease import Lease
from watcher.settings import WatcherSettings


def main() -> None:
    """Run the watcher until it is told to stop."""
    settings = runtime.load(WatcherSettings)
    clock = SystemClock()

    async def role(service: runtime.Service, bus: RabbitBus) -> None:
        async with kube.connect(settings.kubeconfig, settings.namespace) as api:
            lease = Lease(api, clock, service.identity)
            service.health.waiting_for = lambda: "the API server"
            epoch = await lease.acquire(standing_by=service.stand_by)
            watcher = Watcher(api, bus, clock, epoch=epoch, shards=settings.shards)
            service.health.waiting_for = watcher.waiting_for
            metrics.leading(True)  # noqa: FBT003 - a gauge's value
            try:
                async with lease.released_at_end(), asyncio.TaskGroup() as tasks:
                    tasks.create_task(lease.keep())
                    tasks.create_task(watcher.run())
            finally:
                metrics.leading(False)  # noqa: FBT003 - a gauge's value

    runtime.main(topology.WATCHER, settings, role)


if __name__ == "__main__":
    main()
