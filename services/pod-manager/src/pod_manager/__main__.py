"""The pod-manager's process: wiring only."""

import asyncio

from pod_manager.handlers import Handlers
from pod_manager.jobs import PHJOBS, Jobs
from pod_manager.orders import Orders
from pod_manager.settings import PodManagerSettings
from pod_manager.writes import Writer
from shared import kube, runtime, topology
from shared.bus import RabbitBus
from shared.clock import SystemClock
from shared.consumer import Consumer
from shared.session import Stream


def main() -> None:
    """Run the pod-manager until it is told to stop."""
    settings = runtime.load(PodManagerSettings)
    job_submission = settings.job_submission()

    async def role(service: runtime.Service, bus: RabbitBus) -> None:
        clock = SystemClock()
        async with kube.connect(settings.kubeconfig, settings.namespace) as api:
            service.health.waiting_for = lambda: "the API server"
            await api.get(PHJOBS, "any")  # Whoever can't reach it says so and takes no orders.
            writer = Writer(clock)
            stream = Stream(topology.POD_MANAGER, service.identity, bus.send)
            jobs = Jobs(api, clock, writer, job_submission)
            orders = Orders(api, clock, writer, jobs, stream, settings.shard)
            handlers = Handlers(jobs, orders, stream, settings.shard)
            queue = topology.queue_of(topology.POD_MANAGER, settings.shard)
            consumer = Consumer(bus, queue, service.identity, clock, handlers)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(orders.run())
                    tasks.create_task(service.follow(consumer, lambda: writer.failing))
            finally:
                await orders.close()
                await jobs.close()

    runtime.main(topology.POD_MANAGER, settings, role)


if __name__ == "__main__":
    main()
