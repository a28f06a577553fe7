"""The four services of a release of the chart, as local processes.

Each has the arguments, environment and settings file of its Deployment, its service account, and its
RabbitMQ user. Only the addresses are local ones. The broker gets the definitions that the chart's init
container writes.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.broker import url_for_user
from tests.support.chart import Object, Release
from tests.support.stacks import LocalStack

from dev.component import Component, Spec
from dev.paths import StackPaths
from dev.probe import is_healthy


def container_environment(release: Release, container: Object) -> dict[str, str]:
    """Return a container's environment variables, with the values of Secrets."""
    env = {}
    for variable in container["env"]:
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            env[variable["name"]] = release.secret(reference["name"], reference["key"])
        else:
            env[variable["name"]] = variable["value"]
    return env


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

    def __init__(self, local: LocalStack, release: Release) -> None:
        """Prepare the services of a release that is installed, without starting them."""
        self.release = release
        self._local = local
        self._site = StackPaths(local.state)
        self._broker = local.start_parts("rabbitmq").amqp_url
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
        command = [sys.executable, "-m", module, str(file)]
        subprocess.run(command, env=container_environment(self.release, container), check=True)
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
        env = container_environment(self.release, container)
        env["AMQP_URL"] = self._local_url(env["AMQP_URL"])
        env |= {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(self._site.ports[name])}
        env["SETTINGS_FILE"] = str(copy_settings_file(self.release, pod, Path(env["SETTINGS_FILE"])))
        if pod["automountServiceAccountToken"]:
            env["KUBECONFIG"] = str(self.release.kubeconfig_of(pod["serviceAccountName"]))
        ready = f"{self._site.url(name, 'http')}/readyz"
        argv = [sys.executable, "-m", *container["args"]]
        return Component(self._site.state, Spec(name, argv, env=env, ready=lambda: is_healthy(ready)))

    def _local_url(self, url: str) -> str:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return url_for_user(self._broker, user, password, unquote(parts.path.removeprefix("/")))
