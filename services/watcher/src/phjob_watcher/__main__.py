"""The process of the watcher: wiring only."""

import asyncio

from phjob_core.gpus import GpuResources
from phjob_kube import config
from phjob_kube.port import Kube
from phjob_runtime import service
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus
from phjob_runtime.clock import Clock, SystemClock
from phjob_runtime.metrics import api_request, set_active, set_standby
from phjob_runtime.settings import ClusterSettings
from phjob_watcher import metrics
from phjob_watcher.crd_check import wait_until_usable
from phjob_watcher.lease import Lease
from phjob_watcher.service import Watcher


async def serve(
    service: service.Service, bus: Bus, api: Kube, clock: Clock, shards: int, gpus: GpuResources
) -> None:
    """Wait for the Lease, then publish facts until the Lease is lost."""
    lease = Lease(api, clock, service.name)
    service.readiness.set_waiting("the API server")
    set_standby(topology.WATCHER)
    term = await lease.acquire(on_standby=service.mark_standby)
    watcher = Watcher(api, bus, clock, term=term, shards=shards)
    service.readiness.set_check(watcher.not_ready_reason)
    set_active(topology.WATCHER)
    try:
        with metrics.exporting_pod_usage(lambda: watcher.pod_usage(gpus)):
            async with lease.release_on_exit(), asyncio.TaskGroup() as tasks:
                tasks.create_task(lease.renew_forever())
                tasks.create_task(watcher.run())
    finally:
        set_standby(topology.WATCHER)


def main() -> None:
    """Run the watcher until it receives SIGTERM or SIGINT."""
    settings = service.load_settings(ClusterSettings)
    gpus = settings.file().job_submission.gpus
    clock = SystemClock()

    async def role(service: service.Service, bus: Bus) -> None:
        async with config.connect(settings.kubeconfig, settings.namespace, observe=api_request) as api:
            service.readiness.set_waiting("the API server")
            await wait_until_usable(api, clock, service.readiness)
            await serve(service, bus, api, clock, settings.shards, gpus)

    service.main(topology.WATCHER, settings, role)


if __name__ == "__main__":
    main()
