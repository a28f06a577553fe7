"""The real broker and the real API server, as one test sees them: empty, and its own."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity
from tests.support.api import Api

from shared import kube as kubernetes
from shared import topology


async def _delete_queues(url: str) -> None:
    """Leave nothing of an earlier test; a broker in which somebody works is not for tests."""
    async with await aio_pika.connect(url) as connection:
        for name in (*(queue.name for queue in topology.queues(1)), topology.DEAD):
            channel = await connection.channel()
            try:
                queue = await channel.declare_queue(name, passive=True)
            except ChannelNotFoundEntity:
                continue
            if queue.declaration_result.consumer_count:
                pytest.fail(
                    f"somebody reads the queue {name} of AMQP_URL: give a broker that is for tests alone"
                )
            await queue.delete(if_unused=False, if_empty=False)


@pytest.fixture
async def broker(rabbitmq: str) -> AsyncIterator[str]:
    """The URL of a RabbitMQ without our queues; they are deleted again afterwards."""
    await _delete_queues(rabbitmq)
    yield rabbitmq
    await _delete_queues(rabbitmq)


@pytest.fixture
def api(control_plane: Path) -> Iterator[Api]:
    """The tests' own client, in a namespace of this test's own."""
    api = Api(control_plane, f"test-{secrets.token_hex(4)}")
    api.create_namespace()
    yield api
    api.delete_namespace()


@pytest.fixture
async def kube(control_plane: Path, api: Api) -> AsyncIterator[kubernetes.HttpKube]:
    """The product's client, in the same namespace."""
    async with kubernetes.connect(control_plane, api.namespace) as kube:
        yield kube
