"""The chart's own RabbitMQ, with its configuration and its certificate: TLS only (spec.md, S8)."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import aio_pika
import pytest
from aio_pika.exceptions import AMQPError
from tests.support.chart import render
from tests.support.chart_broker import HOST, ChartBroker, resolve_locally

from phjob_core.errors import UnreachableError
from phjob_core.messages import Heartbeat
from phjob_core.stream import Envelope
from phjob_runtime.amqp import dead_letters, topology
from phjob_runtime.amqp.bus import connect
from phjob_runtime.settings import ServiceSettings

services = pytest.mark.parametrize("service", topology.SERVICES)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartBroker]:
    """A broker of the chart with its default values, in a pod with an IPv6 address."""
    broker = ChartBroker(tmp_path_factory.mktemp("chart-broker"), render(), pod_ip="::1")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(autouse=True)
def dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the chart's Service."""
    resolve_locally(monkeypatch)


@services
async def test_each_service_connects_over_tls_with_the_file_that_its_pod_has(
    broker: ChartBroker, tmp_path: Path, service: str
) -> None:
    """It verifies the name of the Service with the CA, and finds every exchange and queue."""
    file = tmp_path / "url"
    file.write_text(broker.url(service))
    url = ServiceSettings(amqp_url_file=file).broker_url()
    async with connect(url, service, 1, declare=False) as bus:
        queue = topology.queue_of(topology.RECIPIENTS[service][0])
        bus.send(queue, Envelope(service, "session", 0, Heartbeat()))


def test_the_metrics_are_at_the_address_of_the_pod(broker: ChartBroker) -> None:
    """Of either family: Prometheus connects to the address that Kubernetes reports."""
    with urlopen(f"http://[::1]:{broker.metrics_port}/metrics") as response:
        assert "rabbitmq_build_info" in response.read().decode()


async def test_the_operator_handles_dead_letters_over_tls(
    broker: ChartBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the URL that the runbook takes from the Secret."""
    assert await dead_letters.run(broker.url(topology.OPERATOR), "show", None, []) == 0
    assert capsys.readouterr().out.endswith("message(s) in phjob.dead\n")


async def test_an_impostor_gets_no_password(broker: ChartBroker, tmp_path: Path) -> None:
    """A service trusts only the CA of its own installation, and only for the name of the Service."""
    other = ChartBroker(tmp_path, render())
    url = broker.url("janitor")
    for wrong in (url.replace(str(broker.tls), str(other.tls)), url.replace(HOST, "localhost")):
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            async with connect(wrong, "janitor", 1, declare=False):
                pass


async def test_a_connection_without_tls_is_not_possible(broker: ChartBroker) -> None:
    """So no password and no message crosses the network in clear."""
    plain = broker.url("janitor").replace("amqps://", "amqp://").partition("?")[0]
    with pytest.raises((AMQPError, OSError)):
        await aio_pika.connect(plain, timeout=10)
    listeners = {listener["protocol"] for listener in broker.management().overview()["listeners"]}
    assert listeners == {"amqp/ssl", "clustering", "http", "http/prometheus"}


def test_only_kubectl_port_forward_reaches_the_management_page(broker: ChartBroker) -> None:
    """It has no TLS, and kubectl connects to 127.0.0.1 in the pod."""
    assert broker.management().overview()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", broker.management_port), timeout=10)


def test_the_certificate_passes_the_strict_checks_of_newer_pythons(broker: ChartBroker) -> None:
    """From 3.13 on they are the default. The base of the image may have any Python."""
    context = ssl.create_default_context(cafile=str(broker.tls / "ca.crt"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=HOST) as secured,
    ):
        assert secured.version() == "TLSv1.3"


async def test_no_log_of_the_broker_has_a_password(broker: ChartBroker) -> None:
    """Also not after a login with a wrong one."""
    url = broker.url("janitor")
    password = ServiceSettings.model_validate({"amqp_url": url}).amqp_url.password
    assert password
    with pytest.raises(UnreachableError, match="ACCESS_REFUSED") as error:
        async with connect(url.replace(password, "WRONG-PASSWORD"), "janitor", 1, declare=False):
            pass
    assert "WRONG-PASSWORD" not in str(error.value) + broker.log
    assert password not in broker.log
