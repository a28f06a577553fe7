"""The answers of a service's HTTP port, and the reasons that /readyz gives."""

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from phjob_core.errors import SettingsError
from phjob_runtime.readiness import MetricsRenderer, Readiness, listen, serve

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - the tests listen there for a moment


@pytest.fixture
def readiness() -> Readiness:
    """The readiness of a service that has just started."""
    return Readiness()


@pytest.fixture
async def url(readiness: Readiness) -> AsyncIterator[str]:
    """The URL of the service's HTTP port."""
    port = free_port()
    async with serve(readiness, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """Return a port on which nothing listens, neither over IPv4 nor over IPv6."""
    with listen("::", 0) as free:
        port: int = free.getsockname()[1]
        return port


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_service_is_not_ready_before_it_has_started(readiness: Readiness, url: str) -> None:
    """Kubernetes must not count it as available yet (spec.md, E4)."""
    assert readiness.reason
    assert await get(f"{url}/readyz") == (503, "waiting for the service to start\n")


async def test_readyz_gives_the_reason_until_the_service_is_ready(readiness: Readiness, url: str) -> None:
    """Operators read it (spec.md, E4)."""
    readiness.set_waiting("the API server")
    assert await get(f"{url}/readyz") == (503, "waiting for the API server\n")
    readiness.set_ready()
    assert await get(f"{url}/readyz") == (200, "ok\n")


async def test_a_service_is_healthy_even_if_it_is_not_ready(readiness: Readiness, url: str) -> None:
    """Kubernetes would restart it otherwise, and the wait would start again."""
    readiness.set_waiting("RabbitMQ")
    assert await get(f"{url}/healthz") == (200, "ok\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_every_address_is_reached_over_ipv4_and_over_ipv6(readiness: Readiness, host: str) -> None:
    """The kubelet's probes use the family of the pod's first address (spec.md, S7)."""
    port = free_port()
    async with serve(readiness, "::", port):
        assert await get(f"http://{host}:{port}/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [("127.0.0.1", "127.0.0.1", "[::1]"), ("::1", "[::1]", "127.0.0.1"), (ANY_IPV4, "127.0.0.1", "[::1]")],
)
async def test_one_address_is_reached_over_its_own_family_only(
    readiness: Readiness, host: str, reached: str, unreached: str
) -> None:
    """Outside of a container, nobody else may read the metrics."""
    port = free_port()
    async with serve(readiness, host, port):
        assert await get(f"http://{reached}:{port}/healthz") == (200, "ok\n")
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(f"http://{unreached}:{port}/healthz")


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_every_address_is_every_ipv4_address(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A kernel may have no IPv6, or have it disabled."""
    create_server = socket.create_server

    def create(address: Any, **options: Any) -> socket.socket:
        if options["family"] is socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return create_server(address, **options)

    monkeypatch.setattr(socket, "create_server", create)
    with listen("::", 0) as server:
        assert server.getsockname()[0] == ANY_IPV4


@pytest.mark.parametrize("host", ["::", "127.0.0.1", "192.0.2.1", "no-such-host.invalid"])
def test_an_address_on_which_nothing_can_listen_is_named(host: str) -> None:
    """An operator corrects the setting, or ends what listens there (spec.md, S6)."""
    with listen("::", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"HTTP_HOST '{host}', HTTP_PORT {port}: nothing can listen"):
            listen(host, port)


async def test_metrics_are_served_in_prometheus_format(url: str) -> None:
    """Prometheus scrapes the same port."""
    status, text = await get(f"{url}/metrics")
    assert status == 200
    assert "# TYPE phjob_broker_connected gauge" in text


def test_a_check_decides_at_each_request(readiness: Readiness) -> None:
    """The reason of a consumer changes without a call of a setter."""
    reasons = ["a snapshot from the watcher", ""]
    readiness.set_check(lambda: reasons.pop(0))
    assert readiness.reason == "a snapshot from the watcher"
    assert readiness.reason == ""
    readiness.set_waiting("the service to stop")
    assert readiness.reason == "the service to stop"


def test_an_extra_check_counts_while_its_context_lasts(readiness: Readiness) -> None:
    """A stalled connection makes a service unready that would be ready otherwise."""
    readiness.set_ready()
    with readiness.extra_check(lambda: "RabbitMQ to accept messages"):
        assert readiness.reason == "RabbitMQ to accept messages"
        readiness.set_waiting("the API server")
        assert readiness.reason == "the API server"
        readiness.set_ready()
    assert readiness.reason == ""


async def test_metrics_are_rendered_beside_the_service_and_one_scrape_at_a_time() -> None:
    """A slow scrape delays nothing, and scrapes cannot pile up."""
    begun, proceed, rendered = threading.Event(), threading.Event(), 0

    def render() -> bytes:
        nonlocal rendered
        begun.set()
        assert proceed.wait(30)
        rendered += 1
        return str(rendered).encode()

    renderer = MetricsRenderer(render)
    scrapes = [asyncio.create_task(renderer.text()) for _ in range(5)]
    await asyncio.to_thread(begun.wait, 30)
    assert not any(scrape.done() for scrape in scrapes), "the event loop goes on meanwhile"
    scrapes.append(asyncio.create_task(renderer.text()))
    scrapes[0].cancel()
    await asyncio.sleep(0)
    proceed.set()
    assert await asyncio.gather(*scrapes[1:]) == [b"1"] * 5
    assert await renderer.text() == b"2"


async def test_a_scrape_that_fails_does_not_end_the_next() -> None:
    """An error in one collector may be over a moment later."""
    answers: list[bytes] = []
    renderer = MetricsRenderer(answers.pop)
    with pytest.raises(IndexError):
        await renderer.text()
    answers.append(b"ok")
    assert await renderer.text() == b"ok"
