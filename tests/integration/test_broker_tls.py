"""RabbitMQ over TLS, as `broker.caKey` of the chart sets it up: the URL names the CA's file."""

import pytest
from tests.support.stacks import VHOST, LocalStack

from dev.pki import Pki
from dev.rabbitmq import amqps_url
from dev.site import Site
from shared.bus import connect
from shared.errors import UnreachableError
from shared.settings import ServiceSettings


def url(local: LocalStack, query: str = "") -> str:
    """The broker's TLS port, by the setting that a service gets."""
    local.broker()
    given = amqps_url(Site(local.state)) + VHOST + query
    return str(ServiceSettings.model_validate({"amqp_url": given}).amqp_url)


async def test_a_broker_with_a_ca_of_ones_own_is_reached(local_stack: LocalStack) -> None:
    """With everything that the bus does at its start."""
    ca = Pki(Site(local_stack.state).config / "pki").ca
    async with connect(url(local_stack, f"?cafile={ca}"), "tls", 1):
        pass


async def test_a_broker_whose_ca_is_not_known_is_not_trusted(local_stack: LocalStack) -> None:
    """Whoever listens there gets no password."""
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        async with connect(url(local_stack), "tls", 1):
            pass
