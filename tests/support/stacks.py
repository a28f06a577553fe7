"""The local stack of a test session, and the endpoints that can replace parts of it.

A test uses the endpoint in the environment if there is one. Otherwise, and for RabbitMQ only, it uses a
container if Docker runs. Otherwise it uses the local programs of `dev`.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.broker import ManagementApi, credentials_of

from dev.paths import StackPaths
from dev.stack import Part, Stack

NODE_GPUS = {"nvidia.com/gpu": "1000"}
"""The GPUs of a KWOK node, in addition to its usual capacity."""
DOCKER_SOCKET = "/var/run/docker.sock"
RABBITMQ_IMAGE = "rabbitmq:3.13-alpine"
TEST_VHOST = "tests"
"""A virtual host of the local broker. The services use `/`."""


class LocalStack:
    """A stack in one state folder. Its parts start when a test first needs them, and keep running."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def start_parts(self, *parts: Part) -> Stack:
        """Start these parts. Others may already run. Returns the stack."""
        stack = Stack(self.state, parts=parts)
        stack.up()
        return stack

    def start_dependencies(self) -> Stack:
        """Start everything that the services need: control plane, broker and a KWOK node."""
        parts: tuple[Part, ...] = ("control-plane", "rabbitmq", "node")
        stack = Stack(self.state, node="kwok", capacity=NODE_GPUS, parts=parts)
        stack.up()
        return stack

    def start(self, settings: str = "", replicas: int = 1) -> Stack:
        """Start all parts, with a KWOK node, and with this content of the settings file."""
        file = self.state / "settings.yaml" if settings else None
        if file:
            file.write_text(settings)
        stack = Stack(self.state, node="kwok", capacity=NODE_GPUS, settings=file, replicas=replicas)
        stack.up()
        return stack

    def management(self) -> ManagementApi:
        """Start the broker. Returns its management API."""
        url = StackPaths(self.state).url("rabbitmq-management", "http")
        return ManagementApi(url, credentials_of(self.start_parts("rabbitmq").amqp_url))

    def vhost_url(self) -> str:
        """Create a virtual host that no service uses. Returns its AMQP URL."""
        url = self.start_parts("rabbitmq").amqp_url
        self.management().create_vhost(TEST_VHOST)
        return f"{url.rstrip('/')}/{TEST_VHOST}"


def log_archive_settings(folder: Path) -> str:
    """Return the content of a settings file that archives logs in the folder."""
    return f"logArchive: {{url: 'file://{folder}'}}\n"


class RealNode:
    """A stack with real containers. Kubernetes counts its node as lost after ten seconds of silence."""

    NODE_LOST_FLAGS = ("--node-monitor-grace-period=10s", "--node-monitor-period=1s")

    def __init__(self, state: Path) -> None:
        self.state = state

    def start(self, settings: str) -> Stack:
        """Start all parts, with this content of the settings file."""
        file = self.state / "settings.yaml"
        file.write_text(settings)
        flags = {"kube-controller-manager": self.NODE_LOST_FLAGS}
        stack = Stack(self.state, node="real", settings=file, flags=flags)
        stack.up()
        return stack


def endpoint_from_environment(name: str) -> str | None:
    """Return the endpoint in this environment variable, or None."""
    return os.environ.get(name) or None


@contextmanager
def docker_broker() -> Iterator[str | None]:
    """Run RabbitMQ in a container, and yield its URL, or None if Docker cannot run it.

    Without a daemon, this takes no time.
    """
    if not _has_docker():
        yield None
        return
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    testcontainers_config.ryuk_disabled = True  # The container is stopped below.
    try:
        container = DockerContainer(RABBITMQ_IMAGE).with_exposed_ports(5672)
        container.waiting_for(LogMessageWaitStrategy("Server startup complete")).start()
    except DockerException:  # The daemon does not answer, or the image cannot be pulled.
        yield None
        return
    try:
        host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
        yield f"amqp://guest:guest@{host}:{port}/"
    finally:
        container.stop()


def _has_docker() -> bool:
    host = os.environ.get("DOCKER_HOST", f"unix://{DOCKER_SOCKET}")
    if not host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(host.removeprefix("unix://")) == 0
