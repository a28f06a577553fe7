"""Services that start before what they need: each says so, stays alive, and gets going by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hub import SERVICES, corner
from tests.support.scene import Scene
from tests.support.waiting import eventually

from dev.component import Component, write_private
from dev.pki import Pki
from dev.site import Site
from dev.stack import Stack

TRIES = 3


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, in which nothing runs, but every address is known."""
    stack = Stack(tmp_path / "stack", node="kwok")
    site = Site(tmp_path / "stack")
    site.make()
    Pki(site.config / "pki").make()
    for path, content in stack.component("kube-apiserver").spec.files.items():
        write_private(path, content)
    yield stack
    stack.down()


def says(service: Component, what: str, times: int = TRIES) -> None:
    """Wait until the service has said so that often; it is alive then, and does not claim to be ready."""
    eventually(
        lambda: service.log.read_text().count(what) >= times,
        f"{service.name} says {times} times: {what}",
        instead=lambda: service.log.read_text()[-3000:],
    )
    assert service.pid is not None
    assert not service.spec.ready()


def test_services_wait_for_the_broker_then_for_the_api_server_and_then_work(stack: Stack) -> None:
    """None of the four has to be started again."""
    services = [stack.component(name) for name in SERVICES]
    for service in services:
        service.start()
    for service in services:
        says(service, "RabbitMQ is not reachable")
    pids = [service.pid for service in services]

    for name in ("epmd", "rabbitmq"):
        stack.component(name).start()
        stack.component(name).wait_ready()
    for name in ("watcher", "pod-manager"):
        says(stack.component(name), "the API server does not answer")
    for service in services:
        assert not service.spec.ready()

    stack.up()
    assert all(service.spec.ready() for service in services)
    assert [service.pid for service in services] == pids
    with corner(stack) as hub:
        hub.reaches(Scene(hub).make().submit("job"), "Succeeded")
