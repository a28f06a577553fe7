"""The real broker without queues, and the real API server with a namespace for each test."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity
from tests.support.api import Api
from tests.support.installed_broker import InstalledBroker, installed_broker
from tests.support.stacks import LocalStack

from phjob_kube.config import connect
from phjob_kube.http import HttpKube
from phjob_runtime.amqp import topology


async def _delete_queues(url: str) -> None:
    """Delete PhJob's queues. A queue with a consumer fails the test, because a PhJob may be at work there."""
    async with await aio_pika.connect(url) as connection:
        for name in (*(queue.name for queue in topology.queues(1)), topology.DEAD_LETTER_QUEUE):
            channel = await connection.channel()
            try:
                queue = await channel.declare_queue(name, passive=True)
            except ChannelNotFoundEntity:
                continue
            if queue.declaration_result.consumer_count:
                pytest.fail(
                    f"queue {name} of the broker in AMQP_URL has a consumer: use a broker that only tests use"
                )
            await queue.delete(if_unused=False, if_empty=False)


@pytest.fixture
async def broker(rabbitmq: str) -> AsyncIterator[str]:
    """The URL of a RabbitMQ without PhJob's queues. They are deleted again after the test."""
    await _delete_queues(rabbitmq)
    yield rabbitmq
    await _delete_queues(rabbitmq)


@pytest.fixture(scope="module")
def installed(local_stack: LocalStack) -> Iterator[InstalledBroker]:
    """The local broker with the definitions of an installation, for this module alone."""
    with installed_broker(local_stack) as installed:
        yield installed


@pytest.fixture
def api(control_plane: Path) -> Iterator[Api]:
    """The tests' own client, for a namespace of this test's own."""
    api = Api(control_plane, f"test-{secrets.token_hex(4)}")
    api.create_namespace()
    yield api
    api.delete_namespace()


@pytest.fixture
async def kube(control_plane: Path, api: Api) -> AsyncIterator[HttpKube]:
    """The product's client, for the same namespace."""
    async with connect(control_plane, api.namespace) as kube:
        yield kube
