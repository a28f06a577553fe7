"""The scheduler's process: wiring only."""

from scheduler.handlers import Handlers
from shared import runtime, topology
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.consumer import Consumer
from shared.settings import ServiceSettings


async def serve(service: runtime.Service, bus: Bus, clock: Clock, shard: int, shards: int) -> None:
    """Schedule the jobs of one of so many shards until the connection breaks."""
    consumer: Consumer
    handlers = Handlers(
        shard, shards, clock, bus.send,
        lambda why: consumer.ask(why),  # noqa: PLW0108 - made below
    )  # fmt: skip
    queue = topology.queue_of(topology.SCHEDULER, shard)
    consumer = Consumer(bus, queue, service.identity, clock, handlers)
    await service.follow(consumer)


def main() -> None:
    """Run the scheduler until it is told to stop."""
    settings = runtime.load(ServiceSettings)
    clock = SystemClock()
    runtime.main(
        topology.SCHEDULER,
        settings,
        lambda service, bus: serve(service, bus, clock, settings.shard, settings.shards),
    )


if __name__ == "__main__":
    main()
