"""RabbitMQ in a container: as the tests' fixtures start it, and as the chart does."""

from pathlib import Path

import pytest
from tests.support.chart import one, render
from tests.support.stacks import RABBITMQ_IMAGE, docker_broker
from tests.support.waiting import eventually

from dev import docker_images
from dev.docker import Docker
from dev.site import Site
from shared import bus, topology
from shared.definitions import url_variable

pytestmark = pytest.mark.real_node


async def test_testcontainers_give_a_broker_where_docker_runs(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixtures' second way, after a given endpoint: everything that the bus needs is in it."""
    docker("tag", docker_images.RABBITMQ, RABBITMQ_IMAGE)
    monkeypatch.setenv("DOCKER_HOST", docker.host)
    # Ports are published on loopback; on a machine that seems to be a container, it would not look there.
    monkeypatch.setenv("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    with docker_broker() as url:
        assert url
        async with bus.connect(url, "testcontainers", 1):
            pass
    assert not docker("ps", "--quiet")


async def test_the_charts_broker_starts_with_its_definitions(
    docker: Docker, image: str, tmp_path: Path
) -> None:
    """What the StatefulSet says, with a root file system that is read-only: the services' users are in it."""
    rendered = render()
    pod = one(rendered, "StatefulSet", "phjob-rabbitmq")["spec"]["template"]["spec"]
    config = one(rendered, "ConfigMap", "phjob-rabbitmq")["data"]
    (makes_definitions,), (container,) = pod["initContainers"], pod["containers"]
    port = str(Site(tmp_path).ports["amqp"])
    urls = {service: f"amqp://{service}:{service}@127.0.0.1:{port}/phjob" for service in topology.SERVICES}

    # A folder for each of the pod's volumes, as open as an emptyDir.
    mounts = []
    for mount in container["volumeMounts"]:
        folder = tmp_path / mount["name"] / mount.get("subPath", "")
        if mount["name"] == "config":
            folder.parent.mkdir(exist_ok=True)
            folder.write_text(config[mount["subPath"]])
        else:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
        mounts.append(f"--volume={folder}:{mount['mountPath']}")
    confined = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    environment = [f"--env={url_variable(service)}={url}" for service, url in urls.items()]
    docker(
        "run", "--rm", *confined, *environment, f"--volume={tmp_path / 'definitions'}:/definitions",
        image, *makes_definitions["args"],
    )  # fmt: skip
    name = docker(
        "run", "--detach", *confined, *mounts, f"--publish=127.0.0.1:{port}:5672", docker_images.RABBITMQ
    ).strip()
    try:
        eventually(
            lambda: "Server startup complete" in docker.logs(name),
            "RabbitMQ is up",
            instead=lambda: docker.logs(name),
        )
        for service, url in urls.items():
            async with bus.connect(url, service, 1, declare=False):
                pass
    finally:
        docker("rm", "--force", "--volumes", name)
