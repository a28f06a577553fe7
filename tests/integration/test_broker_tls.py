"""RabbitMQ over TLS, as the chart's `broker.caKey` configures it: the URL names the file of the CA."""

import pytest
from tests.support.stacks import TEST_VHOST, LocalStack

from dev.paths import StackPaths
from dev.pki import Pki
from dev.rabbitmq import amqps_url
from phjob_core.errors import UnreachableError
from phjob_runtime.amqp.bus import connect
from phjob_runtime.settings import ServiceSettings


def url(local: LocalStack, query: str = "") -> str:
    """Return the URL of the broker's TLS port, as a service reads it from its settings."""
    local.vhost_url()
    given = amqps_url(StackPaths(local.state)) + TEST_VHOST + query
    return str(ServiceSettings.model_validate({"amqp_url": given}).amqp_url)


async def test_a_broker_with_a_private_ca_is_reachable(local_stack: LocalStack) -> None:
    """Including everything that the bus does at its start."""
    ca = Pki(StackPaths(local_stack.state).config / "pki").ca
    async with connect(url(local_stack, f"?cafile={ca}"), "tls", 1):
        pass


async def test_a_broker_with_an_unknown_ca_is_not_trusted(local_stack: LocalStack) -> None:
    """An impostor gets no password."""
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        async with connect(url(local_stack), "tls", 1):
            pass
