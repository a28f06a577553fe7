"""The janitor's process: wiring only."""

from janitor.handlers import Handlers
from shared import runtime, topology
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.consumer import Consumer
from shared.settings import JobSubmission, ServiceSettings


async def serve(
    service: runtime.Service, bus: Bus, clock: Clock, part: tuple[int, int], settings: JobSubmission
) -> None:
    """Keep the times of one shard's jobs until the connection breaks; `part`: which shard, of how many."""
    shard, shards = part
    handlers = Handlers(shard, shards, clock, bus.send, settings)
    queue = topology.queue_of(topology.JANITOR, shard)
    await service.follow(Consumer(bus, queue, service.identity, clock, handlers))


def main() -> None:
    """Run the janitor until it is told to stop."""
    settings = runtime.load(ServiceSettings)
    job_submission = settings.file().job_submission
    part = settings.shard, settings.shards
    clock = SystemClock()
    runtime.main(
        topology.JANITOR, settings, lambda service, bus: serve(service, bus, clock, part, job_submission)
    )


if __name__ == "__main__":
    main()
