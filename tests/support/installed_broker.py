"""A virtual host of the local broker with the definitions of an installation, and a user for each service."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.broker import url_for_user
from tests.support.stacks import LocalStack

from phjob_runtime.amqp import topology
from phjob_runtime.amqp.definitions import definitions

SHARDS = 2
ALL_USERS = (*topology.SERVICES, topology.OPERATOR)


@dataclass(frozen=True)
class InstalledBroker:
    """A broker with the definitions of an installation of two shards."""

    vhost: str
    urls: dict[str, str]
    """The URLs of the services and the operator. The vhost is the prefix of their users."""
    root: str
    """The URL of an administrator, in an empty virtual host."""

    def user(self, service: str) -> str:
        """Return the name of the user of a service or of the operator."""
        return f"{self.vhost}-{service}"


@contextmanager
def installed_broker(local_stack: LocalStack) -> Iterator[InstalledBroker]:
    """Import the definitions into a virtual host with users of its own. Delete them afterwards."""
    url, vhost = local_stack.start_parts("rabbitmq").amqp_url, f"installed-{secrets.token_hex(4)}"
    urls = {
        service: url_for_user(url, f"{vhost}-{service}", secrets.token_urlsafe(), vhost)
        for service in ALL_USERS
    }
    management = local_stack.management()
    management.import_definitions(definitions(urls, SHARDS))
    management.create_vhost(f"{vhost}-empty")
    broker = InstalledBroker(vhost, urls, f"{url.rstrip('/')}/{vhost}-empty")
    yield broker
    for service in urls:
        management.delete("users", broker.user(service))
    for name in (vhost, f"{vhost}-empty"):
        management.delete("vhosts", name)
