"""The local stack of a test session, and what may stand for parts of it.

Order, as everywhere in this project: a given endpoint, then a container where Docker can run one
(RabbitMQ only), then the local programs of `dev`.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.broker import Management, login_of

from dev.site import Site
from dev.stack import Part, Stack

GPUS = {"nvidia.com/gpu": "1000"}
"""What a KWOK node has besides its usual capacity."""
DOCKER_SOCKET = "/var/run/docker.sock"
RABBITMQ_IMAGE = "rabbitmq:3.13-alpine"
VHOST = "tests"
"""Of the local broker: beside `/`, in which the services work."""


class LocalStack:
    """One STATE whose parts start when they are wanted, and then stay."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def parts(self, *parts: Part) -> Stack:
        """A stack of which these parts are up, whatever else is."""
        stack = Stack(self.state, parts=parts)
        stack.up()
        return stack

    def without_services(self) -> Stack:
        """All that the services need: control plane, broker and KWOK's node."""
        parts: tuple[Part, ...] = ("control-plane", "rabbitmq", "node")
        stack = Stack(self.state, node="kwok", capacity=GPUS, parts=parts)
        stack.up()
        return stack

    def whole(self, settings: str = "", replicas: int = 1) -> Stack:
        """All of it, with KWOK's nodes, and the services with this in their settings file."""
        file = self.state / "settings.yaml" if settings else None
        if file:
            file.write_text(settings)
        stack = Stack(self.state, node="kwok", capacity=GPUS, settings=file, replicas=replicas)
        stack.up()
        return stack

    def management(self) -> Management:
        """The broker's management API; the broker is up."""
        url = Site(self.state).url("rabbitmq-management", "http")
        return Management(url, login_of(self.parts("rabbitmq").amqp_url))

    def broker(self) -> str:
        """A virtual host of the broker in which nobody else works."""
        url = self.parts("rabbitmq").amqp_url
        self.management().make_vhost(VHOST)
        return f"{url.rstrip('/')}/{VHOST}"


def archiving_in(folder: Path) -> str:
    """A settings file by which logs are archived in the folder."""
    return f"logArchive: {{url: 'file://{folder}'}}\n"


class RealNode:
    """One STATE with real containers, whose node is lost when it was silent for ten seconds."""

    SOON_LOST = ("--node-monitor-grace-period=10s", "--node-monitor-period=1s")

    def __init__(self, state: Path) -> None:
        self.state = state

    def whole(self, settings: str) -> Stack:
        """All of it, with this in the settings file."""
        file = self.state / "settings.yaml"
        file.write_text(settings)
        flags = {"kube-controller-manager": self.SOON_LOST}
        stack = Stack(self.state, node="real", settings=file, flags=flags)
        stack.up()
        return stack


def given(name: str) -> str | None:
    """An endpoint that the environment names."""
    return os.environ.get(name) or None


@contextmanager
def docker_broker() -> Iterator[str | None]:
    """A RabbitMQ in a container; None where Docker runs none. Costs nothing without a daemon."""
    if not _docker_answers():
        yield None
        return
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    testcontainers_config.ryuk_disabled = True  # It is stopped below.
    try:
        container = DockerContainer(RABBITMQ_IMAGE).with_exposed_ports(5672)
        container.waiting_for(LogMessageWaitStrategy("Server startup complete")).start()
    except DockerException:  # The daemon doesn't answer, or the image can't be pulled here.
        yield None
        return
    try:
        host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
        yield f"amqp://guest:guest@{host}:{port}/"
    finally:
        container.stop()


def _docker_answers() -> bool:
    host = os.environ.get("DOCKER_HOST", f"unix://{DOCKER_SOCKET}")
    if not host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(host.removeprefix("unix://")) == 0
