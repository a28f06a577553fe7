"""Services that start before their dependencies: they log it, keep running, and recover by themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import SERVICES, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually

from dev.component import Component, write_private
from dev.paths import StackPaths
from dev.pki import Pki
from dev.stack import Stack

ATTEMPTS = 3


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Prepare a separate stack whose addresses are known, but in which nothing runs."""
    stack = Stack(tmp_path / "stack", node="kwok")
    site = StackPaths(tmp_path / "stack")
    site.make()
    Pki(site.config / "pki").make()
    for path, content in stack.component("kube-apiserver").spec.files.items():
        write_private(path, content)
    yield stack
    stack.down()


def wait_for_log(service: Component, text: str, times: int = ATTEMPTS) -> None:
    """Wait until the service has logged the text this often.

    It has to be alive, and not ready.
    """
    eventually(
        lambda: service.log.read_text().count(text) >= times,
        f"{service.name} has logged {times} times: {text}",
        diagnostics=lambda: service.log.read_text()[-3000:],
    )
    assert service.pid is not None
    assert not service.spec.ready()


def test_services_wait_for_the_broker_and_the_api_server_and_then_work(stack: Stack) -> None:
    """None of the four has to be restarted."""
    services = [stack.component(name) for name in SERVICES]
    for service in services:
        service.start()
    for service in services:
        wait_for_log(service, "RabbitMQ is not reachable")
    pids = [service.pid for service in services]

    for name in ("epmd", "rabbitmq"):
        stack.component(name).start()
        stack.component(name).wait_ready()
    for name in ("watcher", "pod-manager"):
        wait_for_log(stack.component(name), "the API server does not answer")
    for service in services:
        assert not service.spec.ready()

    stack.up()
    assert all(service.spec.ready() for service in services)
    assert [service.pid for service in services] == pids
    with cluster_on(stack) as cluster:
        cluster.wait_for_phase(GroupFixture(cluster).create().submit("job"), "Succeeded")
