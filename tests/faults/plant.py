"""A stack whose parts can all be broken: the services reach RabbitMQ and the API server through links."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.network import ApiFront, Link, Network
from tests.support.broker import Management, login_of
from tests.support.stacks import GPUS

from dev import rabbitmq
from dev.component import Component
from dev.pki import Pki
from dev.services import WITH_KUBERNETES, replicas, service_of
from dev.site import Site
from dev.stack import PARTS, Stack

BROKER, API = "RabbitMQ", "kube-apiserver"
SETTINGS = {"preparingTimeoutSeconds": 10}
AS_JSON = {"kube-apiserver": ["--storage-media-type=application/json"]}
"""So that a history can be read from etcd."""


@dataclass
class Plant:
    """The stack of one test session, and its links by the two parts that they join."""

    site: Site
    stacks: dict[int, Stack]
    """By the number of replicas of each service."""
    links: dict[tuple[str, str], Link]
    front: ApiFront

    @property
    def stack(self) -> Stack:
        """With one replica of each service."""
        return self.stacks[1]

    def part(self, name: str) -> Component:
        """A component of the stack."""
        return self.stacks[2].component(name)

    def management(self) -> Management:
        """RabbitMQ's management API."""
        return Management(self.site.url("rabbitmq-management", "http"), login_of(self.stack.amqp_url))

    @property
    def etcd(self) -> str:
        """The URL of its clients."""
        return self.site.url("etcd", "http")

    def links_to(self, part: str) -> list[Link]:
        """Everybody's link to it."""
        return [link for (_, far), link in self.links.items() if far == part]


@contextmanager
def plant(state: Path, **settings: int) -> Iterator[Plant]:
    """The stack with links in between; inside, its control plane and broker are up.

    `settings` are more of `jobSubmission`.
    """
    site = Site(state)
    file = state / "settings.yaml"
    file.write_text(json.dumps({"jobSubmission": {**SETTINGS, **settings}}))
    common = {"capacity": GPUS, "flags": AS_JSON}
    with ExitStack() as ends:
        base = Stack(state, parts=("control-plane", "rabbitmq", "node"), **common)  # type: ignore[arg-type]
        ends.callback(base.down)
        base.up()
        network = ends.enter_context(Network())
        services = replicas(1)
        links = {(name, BROKER): network.link(site.ports["rabbitmq"]) for name in services}
        links |= {(name, API): network.link(site.ports["kube-apiserver"]) for name in WITH_KUBERNETES}
        env = {name: _environment(site, service_of(name) or name, links) for name in replicas(2)}
        pki = Pki(site.config / "pki")
        served = str(pki.server_cert), str(pki.server_key)
        front = ApiFront(network, site.ports["kube-apiserver"], served, str(pki.ca))
        stacks = {
            count: Stack(state, parts=PARTS, settings=file, env=env, replicas=count, **common)  # type: ignore[arg-type]
            for count in (1, 2)
        }
        yield Plant(site, stacks, links, front)


def _environment(site: Site, service: str, links: dict[tuple[str, str], Link]) -> dict[str, str]:
    """By which a service takes its links."""
    port = links[service, BROKER].port
    env = {"AMQP_URL": rabbitmq.amqp_url(site).replace(f":{site.ports['rabbitmq']}/", f":{port}/")}
    if service in WITH_KUBERNETES:
        config = json.loads(site.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{links[service, API].port}"
        file = site.config / f"{service}.kubeconfig"
        file.write_text(json.dumps(config))
        env["KUBECONFIG"] = str(file)
    return env
