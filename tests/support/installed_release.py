"""The four services of a release of the chart, as local processes.

Each has the arguments, environment and settings file of its Deployment, its service account, and its
RabbitMQ user. Only the addresses are local ones. The broker gets the definitions that the chart's init
container writes.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.broker import url_for_user
from tests.support.chart import Object, Release
from tests.support.memory_groups import MemoryGroup
from tests.support.stacks import LocalStack

from dev.component import Component, Spec
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_healthy
from dev.rabbitmq import amqps_url
from phjob_core import quantities

BROKER_FOLDER = "/etc/phjob-broker"
"""The folder of a container with what it needs to log in to RabbitMQ."""


def container_environment(container: Object) -> dict[str, str]:
    """Return a container's environment variables."""
    return {variable["name"]: variable["value"] for variable in container["env"]}


def copy_broker_folder(release: Release, pod: Object, container: Object) -> Path:
    """Copy the files of the Secrets that a container has in `BROKER_FOLDER`.

    Returns the folder of the copies.
    """
    (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == BROKER_FOLDER)
    (volume,) = (v for v in pod["volumes"] if v["name"] == mount["name"])
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    folder = release.folder / f"broker-of-{container['name']}"
    folder.mkdir(exist_ok=True)
    for source in (source["secret"] for source in sources):
        data = release.get("secret", source.get("name") or source["secretName"])["data"]
        for item in source.get("items") or [{"key": key, "path": key} for key in data]:
            (folder / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))
    return folder


def copy_settings_file(release: Release, pod: Object, path: Path) -> Path:
    """Copy the file that a pod's ConfigMap mounts at this path.

    Returns the path of the copy.
    """
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if path.is_relative_to(m["mountPath"]))
    (volume,) = (v for v in pod["volumes"] if v["name"] == mount["name"])
    content = release.get("configmap", volume["configMap"]["name"])["data"]
    copy = release.folder / path.name
    copy.write_text(content[str(path.relative_to(mount["mountPath"]))])
    return copy


class InstalledRelease:
    """A release whose services use the local stack's control plane, broker and node."""

    def __init__(self, local: LocalStack, release: Release, *, limit_memory: bool = False) -> None:
        """Prepare the services of a release that is installed, without starting them.

        With `limit_memory`, each service runs under the memory limit of its container, which needs root.
        """
        self.release = release
        self.memory_groups: dict[str, MemoryGroup] = {}
        """The memory group of each service, if memory is limited."""
        self._limit_memory = limit_memory
        self._local = local
        self._site = StackPaths(local.state)
        local.start_parts("rabbitmq")
        done = release.kubectl("-n", release.namespace, "get", "deployments", "-o", "json")
        self._deployments: list[Object] = json.loads(done.stdout)["items"]
        self.components = {
            d["metadata"]["labels"]["app.kubernetes.io/component"]: self._component(d)
            for d in self._deployments
        }

    def import_broker_definitions(self) -> None:
        """Import the definitions that the init container of RabbitMQ's StatefulSet writes."""
        pod = self.release.get("statefulset", f"{self.release.name}-rabbitmq")["spec"]["template"]["spec"]
        (container,) = pod["initContainers"]
        module, _ = container["args"]
        file = self.release.folder / "definitions.json"
        folder = copy_broker_folder(self.release, pod, container)
        env = {
            name: value.replace(BROKER_FOLDER, str(folder))
            for name, value in container_environment(container).items()
        }
        subprocess.run([sys.executable, "-m", module, str(file)], env=env, check=True)
        self._local.management().import_definitions(json.loads(file.read_text()))

    def url(self, service: str) -> str:
        """Return the AMQP URL of a service from the Secret, with the local address."""
        return self._local_url(self.release.secret(f"{self.release.name}-broker", service))

    def start(self) -> None:
        """Start all services, and wait until they are ready."""
        for component in self.components.values():
            component.start()
        for component in self.components.values():
            component.wait_ready()

    def stop(self) -> None:
        """Stop all services."""
        for component in self.components.values():
            component.stop()

    def _component(self, deployment: Object) -> Component:
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        name = f"{self.release.namespace}-{container['name']}"
        env = container_environment(container)
        file = copy_broker_folder(self.release, pod, container) / Path(env["AMQP_URL_FILE"]).name
        file.write_text(self._local_url(file.read_text()))
        env["AMQP_URL_FILE"] = str(file)
        env |= {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(self._site.ports[name])}
        env["SETTINGS_FILE"] = str(copy_settings_file(self.release, pod, Path(env["SETTINGS_FILE"])))
        if pod["automountServiceAccountToken"]:
            env["KUBECONFIG"] = str(self.release.kubeconfig_of(pod["serviceAccountName"]))
        ready = f"{self._site.url(name, 'http')}/readyz"
        argv = [sys.executable, "-m", *container["args"]]
        if self._limit_memory:
            limit = quantities.parse(quantities.MEMORY, container["resources"]["limits"]["memory"])
            group = MemoryGroup(self._site, name, limit)
            self.memory_groups[container["name"]] = group
            argv = group.command(argv)
        return Component(self._site.state, Spec(name, argv, env=env, ready=lambda: is_healthy(ready)))

    def _local_url(self, url: str) -> str:
        """Return the URL with the address and the CA of the local broker, which has TLS, too."""
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        vhost = unquote(parts.path.removeprefix("/"))
        ca = Pki(self._site.config / "pki").ca
        return f"{url_for_user(amqps_url(self._site), user, password, vhost)}?cafile={ca}"
