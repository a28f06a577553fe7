"""What each service may do on a real RabbitMQ with its own user: its part, and nothing else.

The table is the design's: who reads what, and who writes to whom (ARCHITECTURE.md).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from tests.support.broker import as_user
from tests.support.inbox import SECONDS, Inbox
from tests.support.stacks import LocalStack

from shared import bus, dead, topology
from shared.definitions import OPERATOR, definitions
from shared.errors import UnreachableError
from shared.messages import Heartbeat
from shared.session import Envelope

SHARDS = 2
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
users = pytest.mark.parametrize("service", [*topology.SERVICES, OPERATOR])


@dataclass(frozen=True)
class Installed:
    """A broker that has got the definitions of an installation."""

    urls: dict[str, str]
    """Each service's, and the operator's."""
    root: str
    """An administrator's, in a virtual host that has nothing."""


@pytest.fixture(scope="module")
def installed(local_stack: LocalStack) -> Iterator[Installed]:
    """Virtual host and users of this module's own, on the local broker."""
    url, vhost = local_stack.parts("rabbitmq").amqp_url, f"installed-{secrets.token_hex(4)}"
    urls = {
        service: as_user(url, f"{vhost}-{service}", secrets.token_urlsafe(), vhost)
        for service in (*topology.SERVICES, OPERATOR)
    }
    management = local_stack.management()
    management.import_definitions(definitions(urls, SHARDS))
    management.make_vhost(f"{vhost}-empty")
    yield Installed(urls, f"{url.rstrip('/')}/{vhost}-empty")
    for service in urls:
        management.delete("users", f"{vhost}-{service}")
    for name in (vhost, f"{vhost}-empty"):
        management.delete("vhosts", name)


@pytest.fixture
async def connection(installed: Installed, service: str) -> AsyncIterator[AbstractConnection]:
    """The service's connection."""
    async with await aio_pika.connect(installed.urls[service]) as connection:
        yield connection


async def ignore(_: object) -> None:
    """Leave a message where it is."""


async def refused(connection: AbstractConnection, what: str, name: str) -> bool:
    """Whether the broker refuses that; a refusal costs the channel."""
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
async def test_a_service_reads_its_own_queues_alone(connection: AbstractConnection, service: str) -> None:
    """Of every queue there is."""
    may = {name for name in ALL_QUEUES if not await refused(connection, "read", name)}
    assert may == MAY_READ[service]


@users
async def test_a_service_writes_to_its_addressees_alone(connection: AbstractConnection, service: str) -> None:
    """Of every exchange there is; the default one, which reaches any queue, is not among them."""
    may = {name for name in ALL_EXCHANGES if not await refused(connection, "write", name)}
    assert may == MAY_WRITE[service]
    default = (await connection.channel()).default_exchange
    with pytest.raises(ChannelAccessRefused):
        await default.publish(aio_pika.Message(b""), f"{service}.0")


@users
async def test_a_service_makes_and_deletes_nothing(connection: AbstractConnection, service: str) -> None:
    """Not even its own queue."""
    queue = topology.DEAD if service == OPERATOR else topology.queue_of(service)
    assert await refused(connection, "declare", queue)
    assert await refused(connection, "delete", queue)
    assert await refused(connection, "declare", "another")


@services
async def test_a_service_works_with_what_the_definitions_made(installed: Installed, service: str) -> None:
    """The bus sends to each addressee, the dead letters included, and reads its own queue."""
    inbox = Inbox(acks=False)
    async with bus.connect(installed.urls[service], service, SHARDS, declare=False) as rabbit:
        await rabbit.consume(topology.queue_of(service), inbox.receive)
        for other in topology.WRITES[service]:
            rabbit.send(topology.queue_of(other), Envelope(service, "session", 0, Heartbeat()))
        if service in topology.WRITES[service]:
            await inbox.count(1)
            inbox.deliveries[0].bury("as a test")
        sent = asyncio.Event()
        rabbit.when_sent(sent.set)
        async with asyncio.timeout(SECONDS):
            await asyncio.wait(
                (asyncio.create_task(sent.wait()), rabbit.broken), return_when="FIRST_COMPLETED"
            )
            await asyncio.gather(*rabbit._tasks)
        assert not rabbit.broken.done(), rabbit.broken.exception()


async def test_the_operator_sends_dead_letters_back(installed: Installed) -> None:
    """With no other right than his; a service's user is told who may."""
    inbox = Inbox(acks=False)
    async with bus.connect(installed.urls["janitor"], "janitor", SHARDS, declare=False) as rabbit:
        await rabbit.consume("janitor.1", inbox.receive)
        rabbit.send("janitor.1", Envelope("janitor", "session", 0, Heartbeat()))
        await inbox.count(1)
        inbox.deliveries[0].bury("as a test")
        await asyncio.gather(*rabbit._tasks)
        with pytest.raises(UnreachableError, match="the operator may"):
            await dead.run(installed.urls["janitor"], "show", None, [])
        assert await dead.run(installed.urls[OPERATOR], "replay", "janitor.1", []) == 0
        await inbox.count(2)
        inbox.deliveries[1].ack()
        await asyncio.gather(*rabbit._tasks)


async def test_a_service_that_may_declare_nothing_says_what_to_do(installed: Installed) -> None:
    """It was told to declare."""
    with pytest.raises(UnreachableError, match="import the definitions and set AMQP_DECLARE=false"):
        async with bus.connect(installed.urls["janitor"], "janitor", SHARDS):
            pass


async def test_a_broker_without_definitions_is_told_by_what_it_lacks(installed: Installed) -> None:
    """With the number of shards that they are to be made for."""
    with pytest.raises(UnreachableError, match=r"definitions for SHARDS=2: .*no exchange 'phjob\.dead'"):
        async with bus.connect(installed.root, "janitor", SHARDS, declare=False):
            pass


async def test_too_few_shards_are_told_by_the_first_queue_that_lacks(installed: Installed) -> None:
    """The definitions were made for two."""
    with pytest.raises(UnreachableError, match=r"definitions for SHARDS=3: .*no queue 'scheduler\.2'"):
        async with bus.connect(installed.urls["janitor"], "janitor", 3, declare=False):
            pass
