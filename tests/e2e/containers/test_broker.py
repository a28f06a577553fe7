"""RabbitMQ in a container, as the tests' fixtures and the chart start it."""

from pathlib import Path

import pytest
from tests.support.chart import find_object, render
from tests.support.chart_broker import resolve_locally, write_secret
from tests.support.installed_release import container_environment
from tests.support.stacks import RABBITMQ_IMAGE, docker_broker
from tests.support.waiting import eventually

from dev import docker_images
from dev.docker import Docker
from dev.paths import StackPaths
from phjob_runtime.amqp import bus, topology

pytestmark = pytest.mark.real_node


async def test_the_fixtures_start_a_broker_in_a_container_if_docker_runs(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has everything that the bus needs."""
    docker("tag", docker_images.RABBITMQ, RABBITMQ_IMAGE)
    monkeypatch.setenv("DOCKER_HOST", docker.host)
    # Without this, testcontainers would not use the loopback ports on a machine that seems to be a container.
    monkeypatch.setenv("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    with docker_broker() as url:
        assert url
        async with bus.connect(url, "testcontainers", 1):
            pass
    assert not docker("ps", "--quiet")


async def test_the_charts_broker_starts_with_its_definitions(
    docker: Docker, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs as its StatefulSet describes, with a read-only root, TLS, and the services' users."""
    resolve_locally(monkeypatch)
    rendered = render()
    pod = find_object(rendered, "StatefulSet", "phjob-rabbitmq")["spec"]["template"]["spec"]
    config = find_object(rendered, "ConfigMap", "phjob-rabbitmq")["data"]
    (init_container,), (container,) = pod["initContainers"], pod["containers"]
    port = str(StackPaths(tmp_path).ports["amqp"])
    write_secret(rendered, "phjob-broker", tmp_path / "logins")
    write_secret(rendered, "phjob-rabbitmq-tls", tmp_path / "tls")

    # A folder for each of the pod's volumes, writable for all users as an emptyDir is.
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
    restrictions = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    environment = [f"--env={name}={value}" for name, value in container_environment(init_container).items()]
    folders = [f"--volume={tmp_path / m['name']}:{m['mountPath']}" for m in init_container["volumeMounts"]]
    docker("run", "--rm", *restrictions, *environment, *folders, image, *init_container["args"])
    name = docker(
        "run", "--detach", *restrictions, *mounts, f"--publish=127.0.0.1:{port}:5671", docker_images.RABBITMQ
    ).strip()
    try:
        eventually(
            lambda: "Server startup complete" in docker.logs(name),
            "RabbitMQ is up",
            diagnostics=lambda: docker.logs(name),
        )
        for service in topology.SERVICES:
            url = (tmp_path / "logins" / service).read_text().replace(":5671/", f":{port}/")
            url = url.replace("/etc/phjob-broker/ca.crt", str(tmp_path / "tls" / "ca.crt"))
            async with bus.connect(url, service, 1, declare=False):
                pass
    finally:
        docker("rm", "--force", "--volumes", name)
