"""The chart's own RabbitMQ as a local process: with its configuration, its certificate and its definitions.

Only the paths and the ports are local ones. It listens on 127.0.0.1, and with its metrics on the
address of its pod.
"""

import base64
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.broker import ManagementApi
from tests.support.chart import Object, find_object

from dev.component import Component
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_listening
from dev.rabbitmq import epmd, rabbitmq

HOST = "phjob-rabbitmq.hub.svc"
"""The name of the chart's Service. A cluster's DNS resolves it."""
_ERLANG = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"


def write_secret(objects: list[Object], name: str, folder: Path) -> None:
    """Write the files of a Secret, as a kubelet mounts it."""
    folder.mkdir(parents=True)
    for key, value in find_object(objects, "Secret", name)["data"].items():
        (folder / key).write_bytes(base64.b64decode(value))


class ChartBroker:
    """A RabbitMQ node with the objects that the chart has rendered for the namespace hub."""

    def __init__(self, state: Path, objects: list[Object], pod_ip: str = "127.0.0.1") -> None:
        """Write all files. Start nothing."""
        self._paths = paths = StackPaths(state)
        paths.make()
        folder = paths.config / "chart"
        self.tls, self.logins = folder / "tls", folder / "logins"
        write_secret(objects, "phjob-rabbitmq-tls", self.tls)
        write_secret(objects, "phjob-broker", self.logins)
        pod = find_object(objects, "StatefulSet", "phjob-rabbitmq")["spec"]["template"]["spec"]
        self._write_definitions(pod["initContainers"][0], folder / "definitions.json")
        given = find_object(objects, "ConfigMap", "phjob-rabbitmq")["data"]["phjob.conf"]
        self.port = paths.ports["rabbitmq-tls"]
        self.management_port = paths.ports["rabbitmq-management"]
        spec = rabbitmq(paths, Pki(folder))
        config, plugins = spec.files
        content = self._with_local_ports(given).replace("/etc/rabbitmq/tls", str(self.tls))
        content = content.replace("/definitions/definitions.json", str(folder / "definitions.json"))
        # The local stack's own port would add a listener without TLS.
        env = {key: value for key, value in spec.env.items() if key != "RABBITMQ_NODE_PORT"}
        self.metrics_port = paths.ports["rabbitmq-prometheus"]
        env[_ERLANG] = f"{env[_ERLANG]} {self._erlang_arguments(pod['containers'][0], pod_ip)}"
        spec = replace(
            spec,
            env=env,
            files={config: content, plugins: spec.files[plugins]},
            ready=lambda: is_listening(self.port),
        )
        self._components = [Component(paths.state, epmd(paths)), Component(paths.state, spec)]

    def start(self) -> None:
        """Start RabbitMQ, and wait until it accepts connections."""
        for component in self._components:
            component.start()
            component.wait_ready()

    def stop(self) -> None:
        """Stop RabbitMQ."""
        for component in reversed(self._components):
            component.stop()

    @property
    def log(self) -> str:
        """RabbitMQ's log."""
        return self._components[-1].log.read_text()

    def management(self) -> ManagementApi:
        """Return the management API, as the administrator of the Secret."""
        password = (self.logins / "admin-password").read_text()
        return ManagementApi(self._paths.url("rabbitmq-management", "http"), f"admin:{password}")

    def url(self, service: str) -> str:
        """Return the URL of a service from the Secret, with the local port and the local file of the CA."""
        given = (self.logins / service).read_text()
        local = given.replace(f"{HOST}:5671", f"{HOST}:{self.port}")
        return local.replace("/etc/phjob-broker/ca.crt", str(self.tls / "ca.crt"))

    def _write_definitions(self, container: Object, file: Path) -> None:
        """Run the init container, with the mounted Secret in its local folder."""
        module, _ = container["args"]
        environment = {
            variable["name"]: variable["value"].replace("/etc/phjob-broker", str(self.logins))
            for variable in container["env"]
        }
        command = [sys.executable, "-m", module, str(file)]
        subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, check=True)

    def _erlang_arguments(self, container: Object, pod_ip: str) -> str:
        """Return the container's arguments of Erlang as a kubelet expands them, with the local port."""
        (given,) = (variable["value"] for variable in container["env"] if variable["name"] == _ERLANG)
        assert "{port,15692}" in given
        expanded = str(given).replace("$(POD_IP)", pod_ip)
        return expanded.replace("15692", str(self.metrics_port))

    def _with_local_ports(self, config: str) -> str:
        given, local = "listeners.ssl.default = 5671", f"listeners.ssl.default = 127.0.0.1:{self.port}"
        assert given in config
        config = config.replace(given, local)
        given = "management.tcp.port = 15672"
        assert given in config
        return config.replace(given, f"management.tcp.port = {self.management_port}")


def resolve_locally(patch: pytest.MonkeyPatch) -> None:
    """Let this process resolve the name of the chart's Service to 127.0.0.1, in place of a cluster's DNS."""
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return original("127.0.0.1" if host == HOST else host, *args, **kwargs)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
