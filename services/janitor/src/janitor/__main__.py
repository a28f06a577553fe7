"""The janitor's process: wiring only."""

from janitor.handlers import Handlers
from shared import runtime, topology
from shared.bus import RabbitBus
from shared.clock import SystemClock
from shared.consumer import Consumer
from shared.settings import ServiceSettings


def main() -> None:
    """Run the janitor until it is told to stop."""
    settings = runtime.load(ServiceSettings)
    job_submission = settings.file().job_submission
    clock = SystemClock()

    async def role(service: runtime.Service, bus: RabbitBus) -> None:
        queue = topology.queue_of(topology.JANITOR, settings.shard)
        handlers = Handlers(settings.shard, settings.shards, clock, bus.send, job_submission)
        await service.follow(Consumer(bus, queue, service.identity, clock, handlers))

    runtime.main(topology.JANITOR, settings, role)


if __name__ == "__main__":
    main()
