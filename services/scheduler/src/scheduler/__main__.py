"""The scheduler's process: wiring only."""

from scheduler.handlers import Handlers
from shared import runtime, topology
from shared.bus import RabbitBus
from shared.clock import SystemClock
from shared.consumer import Consumer
from shared.settings import ServiceSettings


def main() -> None:
    """Run the scheduler until it is told to stop."""
    settings = runtime.load(ServiceSettings)
    clock = SystemClock()

    async def role(service: runtime.Service, bus: RabbitBus) -> None:
        queue = topology.queue_of(topology.SCHEDULER, settings.shard)
        consumer: Consumer
        handlers = Handlers(
            settings.shard, settings.shards, clock, bus.send,
            lambda why: consumer.ask(why),  # noqa: PLW0108 - made below
        )  # fmt: skip
        consumer = Consumer(bus, queue, service.identity, clock, handlers)
        await service.follow(consumer)

    runtime.main(topology.SCHEDULER, settings, role)


if __name__ == "__main__":
    main()
