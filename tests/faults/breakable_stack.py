"""A stack whose parts can all be broken: the services reach RabbitMQ and the API server through links."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.network import ApiProxy, Link, Network
from tests.support.broker import ManagementApi, credentials_of
from tests.support.cluster import NAMESPACE
from tests.support.stacks import NODE_GPUS

from dev import rabbitmq
from dev.access import service_kubeconfig
from dev.component import Component
from dev.paths import StackPaths
from dev.pki import Pki
from dev.rights import WITH_KUBERNETES
from dev.services import replicas, service_of
from dev.stack import PARTS, Stack

BROKER, API = "RabbitMQ", "kube-apiserver"
SETTINGS = {"preparingTimeoutSeconds": 10}
NODES = 2
"""The number of nodes. Jobs run on the other one while a fault drains or deletes one."""
CAPACITY = {**NODE_GPUS, "cpu": "64", "memory": "256Gi"}
"""The capacity of a node. With more of it, kube-scheduler would use only one of the nodes."""
AS_JSON = {"kube-apiserver": ["--storage-media-type=application/json"]}
"""The API server's flag by which tests can read the objects in etcd."""


@dataclass
class BreakableStack:
    """The stack of one test module, with its links."""

    site: StackPaths
    stacks: dict[int, Stack]
    """The stack, by the number of replicas of each service."""
    links: dict[tuple[str, str], Link]
    """The links, by service and destination."""
    api_proxy: ApiProxy

    @property
    def stack(self) -> Stack:
        """The stack with one replica of each service."""
        return self.stacks[1]

    def component(self, name: str) -> Component:
        """Return a component of the stack."""
        return self.stacks[2].component(name)

    def management(self) -> ManagementApi:
        """Return a client of RabbitMQ's management API."""
        return ManagementApi(
            self.site.url("rabbitmq-management", "http"), credentials_of(self.stack.amqp_url)
        )

    @property
    def etcd_url(self) -> str:
        """The URL of etcd."""
        return self.site.url("etcd", "http")

    def links_to(self, destination: str) -> list[Link]:
        """Return the links of all services to a destination."""
        return [link for (_, far), link in self.links.items() if far == destination]


Injector = Callable[[BreakableStack], AbstractContextManager[None]]
"""A function that injects a fault. The fault is over when its context ends."""


@contextmanager
def breakable_stack(state: Path, **settings: int) -> Iterator[BreakableStack]:
    """Provide a stack with links. Its control plane, broker and nodes are up.

    `settings`: more values for the section `jobSubmission` of the settings file.
    """
    site = StackPaths(state)
    file = state / "settings.yaml"
    file.write_text(json.dumps({"jobSubmission": {**SETTINGS, **settings}}))
    common = {"capacity": CAPACITY, "nodes": NODES, "flags": AS_JSON}
    with ExitStack() as cleanup:
        base = Stack(state, parts=("control-plane", "rabbitmq", "node"), **common)  # type: ignore[arg-type]
        cleanup.callback(base.down)
        base.up()
        network = cleanup.enter_context(Network())
        services = replicas(1)
        links = {(name, BROKER): network.new_link(site.ports["rabbitmq"]) for name in services}
        links |= {(name, API): network.new_link(site.ports["kube-apiserver"]) for name in WITH_KUBERNETES}
        env = {name: _environment(site, service_of(name) or name, links) for name in replicas(2)}
        pki = Pki(site.config / "pki")
        server = str(pki.server_cert), str(pki.server_key)
        rejected_tokens = {401: ["unknown"], 403: _tokens_without_rights(base)}
        api_proxy = ApiProxy(network, site.ports["kube-apiserver"], server, str(pki.ca), rejected_tokens)
        stacks = {
            count: Stack(state, parts=PARTS, settings=file, env=env, replicas=count, **common)  # type: ignore[arg-type]
            for count in (1, 2)
        }
        yield BreakableStack(site, stacks, links, api_proxy)


def _tokens_without_rights(stack: Stack) -> list[str]:
    """Return the tokens of two accounts without rights, for the two forms of RBAC's 403.

    An API server whose RBAC caches are not synchronized gives the same answers. The answer to an account
    with a binding to a missing role ends with `: RBAC: role "..." not found`.
    """
    in_namespace = f"--namespace={NAMESPACE}"
    binding = ("--role=not-there", f"--serviceaccount={NAMESPACE}:bound-stranger")
    stack.kubectl(in_namespace, "create", "rolebinding", "bound-stranger", *binding)
    tokens = []
    for account in ("stranger", "bound-stranger"):
        stack.kubectl(in_namespace, "create", "serviceaccount", account)
        token = stack.kubectl(in_namespace, "create", "token", account, "--duration=24h")
        tokens.append(token.strip())
    return tokens


def _environment(site: StackPaths, service: str, links: dict[tuple[str, str], Link]) -> dict[str, str]:
    """Return the environment variables that make a service use its links."""
    port = links[service, BROKER].port
    env = {"AMQP_URL": rabbitmq.amqp_url(site).replace(f":{site.ports['rabbitmq']}/", f":{port}/")}
    if service in WITH_KUBERNETES:
        config = json.loads(service_kubeconfig(site, service).read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{links[service, API].port}"
        file = site.config / f"{service}.kubeconfig"
        file.write_text(json.dumps(config))
        env["KUBECONFIG"] = str(file)
    return env
