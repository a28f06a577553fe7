"""The catalogue of faults: everything that can break, with the name that an operator would give it.

Each fault is a context. At its end the fault is over: a process that was down has been started again,
although it may not be ready yet.
"""

import json
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from tests.faults import third_parties
from tests.faults.breakable_stack import API, BROKER, BreakableStack, Injector
from tests.faults.network import Link
from tests.support.api import Api
from tests.support.broker import set_memory_alarm
from tests.support.cluster import NAMESPACE, SERVICES
from tests.support.metrics import active_replicas
from tests.support.waiting import eventually

from dev.rights import WITH_KUBERNETES
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.bus import HEARTBEAT_SECONDS

BROKEN_CONNECTION_SECONDS = 2 * HEARTBEAT_SECONDS + 5
"""The time after which RabbitMQ has closed a connection without heartbeats."""
FAULT_SECONDS = 10
"""The duration of each fault that needs no duration of its own."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    component: str
    """The component, the connection or the kind of object that breaks."""
    description: str
    inject: Injector
    replicas: int = 1
    """The number of replicas of each service."""
    deletes_pods: bool = False
    """True if a third party deletes jobs' pods."""
    without_pod_manager: bool = False
    """True if no pod-manager runs meanwhile that could see every revision of these pods."""

    @property
    def name(self) -> str:
        """The name in the results, by which a test is selected."""
        return f"{self.component}: {self.description}"


def service_faults(name: str) -> list[Fault]:
    """Return the faults of one service's processes."""

    @contextmanager
    def kill_active(target: BreakableStack) -> Iterator[None]:
        """Kill the active replica. It stays down until the next fault."""
        (active_replica,) = eventually(
            lambda: active_replicas(target.site.state, name), f"a replica of {name} is active"
        )
        target.component(active_replica).kill(signal.SIGKILL)
        yield

    def pause_for(seconds: float) -> Injector:
        return lambda target: pause(target, name, seconds)

    return [
        Fault(name, "SIGKILL", restart(name, signal.SIGKILL)),
        Fault(name, "SIGTERM", restart(name, signal.SIGTERM)),
        Fault(name, "SIGSTOP for 5 s", pause_for(5)),
        Fault(name, f"SIGSTOP for {BROKEN_CONNECTION_SECONDS} s", pause_for(BROKEN_CONNECTION_SECONDS)),
        Fault(name, "SIGKILL, two replicas", kill_active, replicas=2),
    ]


@contextmanager
def pause(target: BreakableStack, name: str, seconds: float) -> Iterator[None]:
    """Pause a component's process, which does not notice it."""
    target.component(name).kill(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        target.component(name).kill(signal.SIGCONT)


def lasting(seconds: float, injector: Injector) -> Injector:
    """Return an injector whose fault lasts for a time."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        with injector(target):
            time.sleep(seconds)
            yield

    return inject


def restart(name: str, number: signal.Signals, down_seconds: float = 0) -> Injector:
    """Return an injector that ends a component, and starts it again after a time."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        if number == signal.SIGKILL:
            target.component(name).kill(number)
        else:
            target.component(name).stop(grace=60)
        time.sleep(down_seconds)
        yield
        target.component(name).start()

    return inject


@contextmanager
def wipe_broker(target: BreakableStack) -> Iterator[None]:
    """Delete all data of RabbitMQ: messages, queues and users."""
    target.component("rabbitmq").kill(signal.SIGKILL)
    shutil.rmtree(target.site.data / "rabbitmq" / "mnesia")
    yield
    target.component("rabbitmq").start()


@contextmanager
def purge_queues(target: BreakableStack) -> Iterator[None]:
    """Delete the messages that wait in the services' queues, again and again for 2 s."""
    management = target.management()
    for _ in range(20):
        for queue in topology.queues(1):
            management.purge(queue.name)
        time.sleep(0.1)
    yield


@contextmanager
def block_publishers(target: BreakableStack) -> Iterator[None]:
    """Set off RabbitMQ's memory alarm, so that it accepts no messages."""
    set_memory_alarm(target.component("rabbitmq"), on=True)
    try:
        yield
    finally:
        set_memory_alarm(target.component("rabbitmq"), on=False)


def break_links(
    destination: str, how: Callable[[Link], AbstractContextManager[None]], service: str = ""
) -> Injector:
    """Return an injector that breaks the links to a destination, of all services or of one."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        chosen = [target.links[service, destination]] if service else target.links_to(destination)
        with ExitStack() as broken:
            for link in chosen:
                broken.enter_context(how(link))
            yield

    return inject


def fail_requests(error: int, service: str = "") -> Injector:
    """Return an injector that answers every other API request with an error, of all services or of one."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        through_proxy = break_links(API, lambda link: link.redirect(target.api_proxy.port), service)
        with through_proxy(target), target.api_proxy.fail(error):
            yield

    return inject


@contextmanager
def expire_watches(target: BreakableStack) -> Iterator[None]:
    """Compact etcd, and answer each watch with 410, so that every watch has to start over."""
    api = Api(target.stack.kubeconfig, NAMESPACE)
    revision = api.list("PhJob", limit="1")["metadata"]["resourceVersion"]
    compact = json.dumps({"revision": revision, "physical": True}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"{target.etcd_url}/v3/kv/compaction", compact, timeout=60).close()
    through_proxy = break_links(API, lambda link: link.redirect(target.api_proxy.port))
    with target.api_proxy.fail(410, watches=True), through_proxy(target):
        yield


INDEFINITE_ANSWERS = {401: "401", 403: "403", 404: "404 with a web page"}
"""Descriptions, by status, of answers that are no decision about the request.

An API server gives them while its caches are not synchronized, and a load balancer if it has no API server.
"""


def third_party_faults() -> list[Fault]:
    """Return the faults that third parties cause.

    A drain in an upgrade of Kubernetes evicts pod-manager, too. Its successor then has to decide about pods
    that ended unobserved.
    """
    drain = third_parties.drain_nodes(FAULT_SECONDS)
    collect = third_parties.collect_finished_pods(FAULT_SECONDS)
    faults = {
        ("node", f"drained for {FAULT_SECONDS} s"): drain,
        ("node", f"deleted for {FAULT_SECONDS} s"): third_parties.delete_node(FAULT_SECONDS),
        ("pods", f"finished ones garbage-collected for {FAULT_SECONDS} s"): collect,
        ("pods", f"deleted by hand for {FAULT_SECONDS} s"): third_parties.delete_pods(
            FAULT_SECONDS, forced=False
        ),
        ("pods", f"deleted by force for {FAULT_SECONDS} s"): third_parties.delete_pods(
            FAULT_SECONDS, forced=True
        ),
    }
    without_pod_manager = {
        ("node", f"drained for {FAULT_SECONDS} s, pod-manager away"): while_down("pod-manager", drain),
        ("pods", f"finished ones garbage-collected for {FAULT_SECONDS} s, pod-manager away"): while_down(
            "pod-manager", collect
        ),
    }
    return [
        *(
            Fault(component, description, inject, deletes_pods=True)
            for (component, description), inject in faults.items()
        ),
        *(
            Fault(component, description, inject, deletes_pods=True, without_pod_manager=True)
            for (component, description), inject in without_pod_manager.items()
        ),
    ]


def while_down(name: str, injector: Injector) -> Injector:
    """Return an injector whose fault happens while a component is down. The component starts at the end."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        with restart(name, signal.SIGKILL)(target), injector(target):
            yield

    return inject


FAULTS = [
    *(fault for service in SERVICES for fault in service_faults(service)),
    Fault(BROKER, "restarted", restart("rabbitmq", signal.SIGTERM)),
    Fault(BROKER, "SIGKILL", restart("rabbitmq", signal.SIGKILL)),
    Fault(BROKER, "data wiped", wipe_broker),
    Fault(BROKER, "queues purged", purge_queues),
    Fault(
        BROKER,
        f"all connections cut for {FAULT_SECONDS} s",
        lasting(FAULT_SECONDS, break_links(BROKER, Link.cut)),
    ),
    Fault(BROKER, f"memory alarm for {FAULT_SECONDS} s", lasting(FAULT_SECONDS, block_publishers)),
    Fault(API, "restarted", restart("kube-apiserver", signal.SIGTERM)),
    Fault(API, "SIGKILL", restart("kube-apiserver", signal.SIGKILL)),
    Fault(API, "away for 30 s", restart("kube-apiserver", signal.SIGKILL, down_seconds=30)),
    Fault(
        API,
        f"429 to every other request for {FAULT_SECONDS} s",
        lasting(FAULT_SECONDS, fail_requests(429)),
    ),
    Fault(
        API,
        f"500 to every other request for {FAULT_SECONDS} s",
        lasting(FAULT_SECONDS, fail_requests(500)),
    ),
    *(
        Fault(
            f"{service} to {API}" if service else API,
            f"{answer} to every other request for {FAULT_SECONDS} s",
            lasting(FAULT_SECONDS, fail_requests(error, service)),
        )
        for service in ("", *WITH_KUBERNETES)
        for error, answer in INDEFINITE_ANSWERS.items()
    ),
    *(
        Fault(
            "RBAC",
            f"the rights of {service} taken away for {FAULT_SECONDS} s",
            third_parties.revoke_rights(service, FAULT_SECONDS),
        )
        for service in WITH_KUBERNETES
    ),
    Fault(API, "watches expired, etcd compacted", lasting(3, expire_watches)),
    Fault(API, "5 s latency for 20 s", lasting(20, break_links(API, lambda link: link.delay(5)))),
    Fault("etcd", "SIGSTOP for 3 s", lambda target: pause(target, "etcd", 3)),
    Fault("etcd", "SIGSTOP for 10 s", lambda target: pause(target, "etcd", 10)),
    *third_party_faults(),
    *(
        Fault(
            f"{service} to {destination}",
            f"{description} for {FAULT_SECONDS} s",
            lasting(FAULT_SECONDS, break_links(destination, how, service)),
        )
        for service, destination in [*((s, BROKER) for s in SERVICES), *((s, API) for s in WITH_KUBERNETES)]
        for description, how in {
            "cut": Link.cut,
            "1 s slower": lambda link: link.delay(1),
            "half-open": Link.half_open,
        }.items()
    ),
]
"""All faults, in the order of the results."""
