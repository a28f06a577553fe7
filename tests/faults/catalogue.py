"""Everything that can break, each as what an operator would see happen: a context that lasts as long.

When the context is left the fault is over: what was down has been started again, though it may not be ready.
"""

import json
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from tests.faults.network import Link
from tests.faults.plant import API, BROKER, Plant
from tests.support.api import Api
from tests.support.broker import memory_alarm
from tests.support.hub import NAMESPACE, SERVICES
from tests.support.metrics import active
from tests.support.waiting import eventually

from dev.services import WITH_KUBERNETES
from shared import topology
from shared.bus import HEARTBEAT

Break = Callable[[Plant], AbstractContextManager[None]]

LONGER_THAN_HEARTBEAT = 2 * HEARTBEAT + 5
"""Seconds after which RabbitMQ has given a silent connection up."""
LASTS = 10
"""Seconds, of whatever needs no time of its own."""


@dataclass(frozen=True)
class Fault:
    """A cell of the matrix."""

    part: str
    what: str
    happens: Break
    replicas: int = 1
    """Of each service."""

    @property
    def name(self) -> str:
        """For a person, and to choose it by."""
        return f"{self.part}: {self.what}"


def of_service(name: str) -> list[Fault]:
    """What can happen to a service."""

    @contextmanager
    def replaced(plant: Plant) -> Iterator[None]:
        """The active replica is killed, and stays away until the next fault."""
        (working,) = eventually(lambda: active(plant.site.state, name), f"a replica of {name} is active")
        plant.part(working).kill(signal.SIGKILL)
        yield

    def stopped(seconds: float) -> Break:
        return lambda plant: frozen(plant, name, seconds)

    return [
        Fault(name, "SIGKILL", restarted(name, signal.SIGKILL)),
        Fault(name, "SIGTERM", restarted(name, signal.SIGTERM)),
        Fault(name, "SIGSTOP for 5 s", stopped(5)),
        Fault(name, f"SIGSTOP for {LONGER_THAN_HEARTBEAT} s", stopped(LONGER_THAN_HEARTBEAT)),
        Fault(name, "SIGKILL, two replicas", replaced, replicas=2),
    ]


@contextmanager
def frozen(plant: Plant, name: str, seconds: float) -> Iterator[None]:
    """A part does nothing for so long, and knows nothing of it."""
    plant.part(name).kill(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        plant.part(name).kill(signal.SIGCONT)


def lasting(seconds: float, begin: Break) -> Break:
    """That for so long."""

    @contextmanager
    def happens(plant: Plant) -> Iterator[None]:
        with begin(plant):
            time.sleep(seconds)
            yield

    return happens


def restarted(name: str, number: signal.Signals, away: float = 0) -> Break:
    """A part ends, and starts again so many seconds later."""

    @contextmanager
    def happens(plant: Plant) -> Iterator[None]:
        if number == signal.SIGKILL:
            plant.part(name).kill(number)
        else:
            plant.part(name).stop(grace=60)
        time.sleep(away)
        yield
        plant.part(name).start()

    return happens


@contextmanager
def wiped(plant: Plant) -> Iterator[None]:
    """RabbitMQ loses all that it has: messages, queues, users."""
    plant.part("rabbitmq").kill(signal.SIGKILL)
    shutil.rmtree(plant.site.data / "rabbitmq" / "mnesia")
    yield
    plant.part("rabbitmq").start()


@contextmanager
def purged(plant: Plant) -> Iterator[None]:
    """Whatever waits in the services' queues is gone."""
    management = plant.management()
    for _ in range(20):
        for queue in topology.queues(1):
            management.purge(queue.name)
        time.sleep(0.1)
    yield


@contextmanager
def blocked(plant: Plant) -> Iterator[None]:
    """RabbitMQ takes no messages."""
    memory_alarm(plant.part("rabbitmq"), on=True)
    try:
        yield
    finally:
        memory_alarm(plant.part("rabbitmq"), on=False)


def links(far: str, how: Callable[[Link], AbstractContextManager[None]], near: str = "") -> Break:
    """The links to a part, everybody's or one service's."""

    @contextmanager
    def happens(plant: Plant) -> Iterator[None]:
        chosen = [plant.links[near, far]] if near else plant.links_to(far)
        with ExitStack() as broken:
            for link in chosen:
                broken.enter_context(how(link))
            yield

    return happens


def answering(error: int) -> Break:
    """The API server answers every other request with an error."""

    @contextmanager
    def happens(plant: Plant) -> Iterator[None]:
        through = links(API, lambda link: link.instead(plant.front.port))
        with through(plant), plant.front.answers(error):
            yield

    return happens


@contextmanager
def expired(plant: Plant) -> Iterator[None]:
    """Etcd is compacted, and whoever watches has to begin anew."""
    api = Api(plant.stack.kubeconfig, NAMESPACE)
    revision = api.list("PhJob", limit="1")["metadata"]["resourceVersion"]
    compact = json.dumps({"revision": revision, "physical": True}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"{plant.etcd}/v3/kv/compaction", compact, timeout=60).close()
    through = links(API, lambda link: link.instead(plant.front.port))
    with plant.front.answers(410, watches=True), through(plant):
        yield


FAULTS = [
    *(fault for service in SERVICES for fault in of_service(service)),
    Fault(BROKER, "restarted", restarted("rabbitmq", signal.SIGTERM)),
    Fault(BROKER, "SIGKILL", restarted("rabbitmq", signal.SIGKILL)),
    Fault(BROKER, "data wiped", wiped),
    Fault(BROKER, "queues purged", purged),
    Fault(BROKER, f"all connections cut for {LASTS} s", lasting(LASTS, links(BROKER, Link.cut))),
    Fault(BROKER, f"memory alarm for {LASTS} s", lasting(LASTS, blocked)),
    Fault(API, "restarted", restarted("kube-apiserver", signal.SIGTERM)),
    Fault(API, "SIGKILL", restarted("kube-apiserver", signal.SIGKILL)),
    Fault(API, "away for 30 s", restarted("kube-apiserver", signal.SIGKILL, away=30)),
    Fault(API, f"429 to every other request for {LASTS} s", lasting(LASTS, answering(429))),
    Fault(API, f"500 to every other request for {LASTS} s", lasting(LASTS, answering(500))),
    Fault(API, "watches expired, etcd compacted", lasting(3, expired)),
    Fault(API, "5 s latency for 20 s", lasting(20, links(API, lambda link: link.slow(5)))),
    Fault("etcd", "SIGSTOP for 3 s", lambda plant: frozen(plant, "etcd", 3)),
    Fault("etcd", "SIGSTOP for 10 s", lambda plant: frozen(plant, "etcd", 10)),
    *(
        Fault(f"{near} to {far}", f"{what} for {LASTS} s", lasting(LASTS, links(far, how, near)))
        for near, far in [*((s, BROKER) for s in SERVICES), *((s, API) for s in WITH_KUBERNETES)]
        for what, how in {
            "cut": Link.cut,
            "1 s slower": lambda link: link.slow(1),
            "half-open": Link.half_open,
        }.items()
    ),
]
"""The whole matrix."""
