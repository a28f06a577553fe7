"""The permissions of each service's own user on a real RabbitMQ: its part, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from tests.support.broker import rabbitmqctl
from tests.support.installed_broker import ALL_USERS, SHARDS, InstalledBroker
from tests.support.recording_consumer import DELIVERY_TIMEOUT_SECONDS, RecordingConsumer
from tests.support.stacks import LocalStack

from dev.rabbitmq import USER
from phjob_core.errors import UnreachableError
from phjob_core.messages import Heartbeat
from phjob_core.stream import Envelope
from phjob_runtime.amqp import bus, dead_letters, definitions, topology
from phjob_runtime.amqp.definitions import url_variable
from phjob_runtime.amqp.topology import OPERATOR

ALL_QUEUES = [*(queue.name for queue in topology.queues(SHARDS)), "phjob.dead"]
ALL_EXCHANGES = ["phjob.watcher", "phjob.scheduler", "phjob.janitor", "phjob.pod-manager", "phjob.dead"]
MAY_READ = {
    "watcher": {"watcher"},
    "scheduler": {"scheduler.0", "scheduler.1"},
    "janitor": {"janitor.0", "janitor.1"},
    "pod-manager": {"pod-manager.0", "pod-manager.1"},
    "operator": {"phjob.dead"},
}
MAY_WRITE = {
    "watcher": {"phjob.scheduler", "phjob.janitor", "phjob.pod-manager", "phjob.dead"},
    "scheduler": {"phjob.watcher", "phjob.scheduler", "phjob.pod-manager", "phjob.dead"},
    "janitor": {"phjob.watcher", "phjob.janitor", "phjob.pod-manager", "phjob.dead"},
    "pod-manager": {"phjob.watcher", "phjob.scheduler", "phjob.pod-manager", "phjob.dead"},
    "operator": {"phjob.watcher", "phjob.scheduler", "phjob.janitor", "phjob.pod-manager"},
}
services = pytest.mark.parametrize("service", topology.SERVICES)
users = pytest.mark.parametrize("service", ALL_USERS)


@pytest.fixture
async def connection(installed: InstalledBroker, service: str) -> AsyncIterator[AbstractConnection]:
    """The service's connection."""
    async with await aio_pika.connect(installed.urls[service]) as connection:
        yield connection


async def ignore(_: object) -> None:
    """Leave a message unacknowledged."""


async def is_refused(connection: AbstractConnection, what: str, name: str) -> bool:
    """Return whether the broker refuses the operation. A refusal closes the channel."""
    channel: AbstractChannel = await connection.channel()
    try:
        if what == "read":
            queue = await channel.declare_queue(name, passive=True)
            await queue.cancel(await queue.consume(ignore))
        elif what == "write":
            exchange = await channel.get_exchange(name)
            await exchange.publish(aio_pika.Message(b""), "nobody", mandatory=False)
        elif what == "declare":
            await channel.declare_queue(name, durable=True)
        elif what == "delete":
            await channel.queue_delete(name)
    except ChannelAccessRefused:
        return True
    except ChannelPreconditionFailed:
        return False
    await channel.close()
    return False


@users
async def test_a_service_reads_only_its_own_queues(connection: AbstractConnection, service: str) -> None:
    """Of all queues of the installation."""
    may = {name for name in ALL_QUEUES if not await is_refused(connection, "read", name)}
    assert may == MAY_READ[service]


@users
async def test_a_service_publishes_only_to_its_recipients(
    connection: AbstractConnection, service: str
) -> None:
    """Of all exchanges. The default exchange, which reaches any queue, is not permitted."""
    may = {name for name in ALL_EXCHANGES if not await is_refused(connection, "write", name)}
    assert may == MAY_WRITE[service]
    default = (await connection.channel()).default_exchange
    with pytest.raises(ChannelAccessRefused):
        await default.publish(aio_pika.Message(b""), f"{service}.0")


@users
async def test_a_service_declares_and_deletes_nothing(connection: AbstractConnection, service: str) -> None:
    """Not even its own queue."""
    queue = topology.DEAD_LETTER_QUEUE if service == OPERATOR else topology.queue_of(service)
    assert await is_refused(connection, "declare", queue)
    assert await is_refused(connection, "delete", queue)
    assert await is_refused(connection, "declare", "another")


@services
async def test_a_service_works_with_the_definitions(installed: InstalledBroker, service: str) -> None:
    """The bus publishes to each recipient, dead-letters, and consumes its own queue."""
    consumer = RecordingConsumer(acks=False)
    async with bus.connect(installed.urls[service], service, SHARDS, declare=False) as rabbit:
        await rabbit.consume(topology.queue_of(service), consumer.receive)
        for other in topology.RECIPIENTS[service]:
            rabbit.send(topology.queue_of(other), Envelope(service, "session", 0, Heartbeat()))
        if service in topology.RECIPIENTS[service]:
            await consumer.wait_for_count(1)
            consumer.deliveries[0].dead_letter("as a test")
        sent = asyncio.Event()
        rabbit.when_confirmed(sent.set)
        async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
            await asyncio.wait(
                (asyncio.create_task(sent.wait()), rabbit.broken), return_when="FIRST_COMPLETED"
            )
            await asyncio.gather(*rabbit._tasks)
        assert not rabbit.broken.done(), rabbit.broken.exception()


async def test_the_operator_replays_dead_letters(installed: InstalledBroker) -> None:
    """With no other right. The error for a service's user names the operator."""
    consumer = RecordingConsumer(acks=False)
    async with bus.connect(installed.urls["janitor"], "janitor", SHARDS, declare=False) as rabbit:
        await rabbit.consume("janitor.1", consumer.receive)
        rabbit.send("janitor.1", Envelope("janitor", "session", 0, Heartbeat()))
        await consumer.wait_for_count(1)
        consumer.deliveries[0].dead_letter("as a test")
        await asyncio.gather(*rabbit._tasks)
        with pytest.raises(UnreachableError, match="the operator may"):
            await dead_letters.run(installed.urls["janitor"], "show", None, [])
        assert await dead_letters.run(installed.urls[OPERATOR], "replay", "janitor.1", []) == 0
        await consumer.wait_for_count(2)
        consumer.deliveries[1].ack()
        await asyncio.gather(*rabbit._tasks)


async def test_a_service_that_may_not_declare_reports_the_remedy(installed: InstalledBroker) -> None:
    """AMQP_DECLARE is true by default (spec.md, S7)."""
    with pytest.raises(UnreachableError, match="import the definitions and set AMQP_DECLARE=false"):
        async with bus.connect(installed.urls["janitor"], "janitor", SHARDS):
            pass


async def test_a_broker_without_definitions_is_reported_with_what_is_missing(
    installed: InstalledBroker,
) -> None:
    """And with the number of shards that the definitions need."""
    with pytest.raises(UnreachableError, match=r"definitions for SHARDS=2: .*no exchange 'phjob\.dead'"):
        async with bus.connect(installed.root, "janitor", SHARDS, declare=False):
            pass


async def test_definitions_for_fewer_shards_are_reported_with_the_first_missing_queue(
    installed: InstalledBroker,
) -> None:
    """These definitions are for two shards."""
    with pytest.raises(UnreachableError, match=r"definitions for SHARDS=3: .*no queue 'scheduler\.2'"):
        async with bus.connect(installed.urls["janitor"], "janitor", 3, declare=False):
            pass


def test_an_operator_sees_what_differs_from_the_definitions(
    local_stack: LocalStack, installed: InstalledBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the export of rabbitmqctl: nothing after an import, then a policy and a user of somebody else."""
    rabbitmq = local_stack.start_parts("rabbitmq").component("rabbitmq")
    environment = {url_variable(service): url for service, url in installed.urls.items()}
    environment["SHARDS"] = str(SHARDS)
    export, in_vhost = tmp_path / "export.json", ("-p", installed.vhost)

    def compare() -> int:
        rabbitmqctl(rabbitmq, "export_definitions", str(export))
        return definitions.main(environment, "--compare", str(export))

    rabbitmqctl(rabbitmq, "clear_permissions", *in_vhost, USER)  # Those with which other tests look into it.
    assert compare() == 0
    rabbitmqctl(rabbitmq, "set_policy", *in_vhost, "small", "^janitor", '{"max-length": 5}')
    rabbitmqctl(rabbitmq, "set_permissions", *in_vhost, USER, ".*", ".*", ".*")
    try:
        assert compare() == 1
    finally:
        rabbitmqctl(rabbitmq, "clear_policy", *in_vhost, "small")
        rabbitmqctl(rabbitmq, "clear_permissions", *in_vhost, USER)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        f"the permission of the user {USER!r} is not PhJob's",
        "the policy 'small' changes janitor.0, janitor.1: {\"max-length\": 5}",
    ]
    assert compare() == 0
