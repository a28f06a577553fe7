"""The process of the janitor: wiring only."""

from phjob_janitor.handler import JanitorHandler
from phjob_runtime import service
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.clock import Clock, SystemClock
from phjob_runtime.consumer import Consumer
from phjob_runtime.settings import JobSubmission, ServiceSettings


async def serve(
    service: service.Service, bus: Bus, clock: Clock, shard: Shard, settings: JobSubmission
) -> None:
    """Enforce the time limits of one shard's jobs until the connection breaks."""
    handler = JanitorHandler(shard, clock, bus.send, settings)
    queue = topology.queue_of(topology.JANITOR, shard.index)
    await service.run_consumer(Consumer(bus, queue, service.identity, clock, handler, shards=shard.count))


def main() -> None:
    """Run the janitor until it receives SIGTERM or SIGINT."""
    settings = service.load_settings(ServiceSettings)
    job_submission = settings.file().job_submission
    shard = Shard(settings.shard, settings.shards)
    clock = SystemClock()
    service.main(
        topology.JANITOR, settings, lambda service, bus: serve(service, bus, clock, shard, job_submission)
    )


if __name__ == "__main__":
    main()
