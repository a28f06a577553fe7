"""Fixtures of the tests with containers: a Docker daemon of their own, and images that it builds."""

from collections.abc import Iterator

import pytest
from tests.support.compose import IMAGE, Compose

from dev import docker_images
from dev.docker import Docker
from dev.options import default_node


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Start a Docker daemon that has the base images, but none of PhJob's."""
    if default_node() != "real":
        pytest.skip("a Docker daemon needs Linux and root")
    with Docker(tmp_path_factory.mktemp("docker")) as docker:
        docker_images.load(docker, docker_images.ENVIRONMENT.values())
        yield docker


@pytest.fixture(scope="session")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the services' image as docker-compose does. Returns its name."""
    Compose(docker, tmp_path_factory.mktemp("image"))("build", "--quiet", "watcher")
    return IMAGE


@pytest.fixture(scope="session")
def compose(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Start the stack of docker-compose.yml."""
    compose = Compose(docker, tmp_path_factory.mktemp("compose"))
    try:
        compose.up()
        yield compose
    finally:
        compose("down", "--volumes", "--timeout=5")
