"""The process of the scheduler: wiring only."""

from phjob_runtime import service
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.clock import Clock, SystemClock
from phjob_runtime.consumer import Consumer
from phjob_runtime.settings import JobSubmission, ServiceSettings
from phjob_scheduler.handler import SchedulerHandler


async def serve(
    service: service.Service, bus: Bus, clock: Clock, shard: Shard, settings: JobSubmission
) -> None:
    """Schedule the jobs of one shard until the connection breaks."""

    def request_session(reason: str) -> None:
        consumer.resync(reason)

    handler = SchedulerHandler(shard, clock, bus.send, request_session, settings)
    queue = topology.queue_of(topology.SCHEDULER, shard.index)
    consumer = Consumer(bus, queue, service.identity, handler.clock, handler, shards=shard.count)
    await service.run_consumer(consumer)


def main() -> None:
    """Run the scheduler until it receives SIGTERM or SIGINT."""
    settings = service.load_settings(ServiceSettings)
    job_submission = settings.file().job_submission
    shard = Shard(settings.shard, settings.shards)
    clock = SystemClock()
    service.main(
        topology.SCHEDULER, settings, lambda service, bus: serve(service, bus, clock, shard, job_submission)
    )


if __name__ == "__main__":
    main()
