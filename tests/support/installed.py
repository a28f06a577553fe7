"""The four services of a release of the chart, as local processes.

Each runs what its Deployment says, as its service account, with its RabbitMQ user, its settings file
and its environment; only addresses are the local ones. The broker has got the definitions that the
chart's init container makes.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.broker import as_user
from tests.support.chart import Object, Release
from tests.support.stacks import LocalStack

from dev.component import Component, Spec
from dev.probe import says_ok
from dev.site import Site


def environment(release: Release, container: Object) -> dict[str, str]:
    """A container's variables, with what they refer to."""
    env = {}
    for variable in container["env"]:
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            env[variable["name"]] = release.secret(reference["name"], reference["key"])
        else:
            env[variable["name"]] = variable["value"]
    return env


def settings_file(release: Release, pod: Object, path: Path) -> Path:
    """A copy of the file that a pod's ConfigMap puts at this path."""
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if path.is_relative_to(m["mountPath"]))
    (volume,) = (v for v in pod["volumes"] if v["name"] == mount["name"])
    content = release.get("configmap", volume["configMap"]["name"])["data"]
    copy = release.folder / path.name
    copy.write_text(content[str(path.relative_to(mount["mountPath"]))])
    return copy


class Installed:
    """A release whose services run beside the local stack's control plane, broker and node."""

    def __init__(self, local: LocalStack, release: Release) -> None:
        """Of a release that is installed; starts nothing yet."""
        self.release = release
        self._local = local
        self._site = Site(local.state)
        self._broker = local.parts("rabbitmq").amqp_url
        done = release.kubectl("-n", release.namespace, "get", "deployments", "-o", "json")
        self._deployments: list[Object] = json.loads(done.stdout)["items"]
        self.components = {
            d["metadata"]["labels"]["app.kubernetes.io/component"]: self._component(d)
            for d in self._deployments
        }

    def define(self) -> None:
        """Give the broker its definitions, made as the chart's StatefulSet makes them."""
        pod = self.release.get("statefulset", f"{self.release.name}-rabbitmq")["spec"]["template"]["spec"]
        (container,) = pod["initContainers"]
        module, _ = container["args"]
        file = self.release.folder / "definitions.json"
        command = [sys.executable, "-m", module, str(file)]
        subprocess.run(command, env=environment(self.release, container), check=True)
        self._local.management().import_definitions(json.loads(file.read_text()))

    def url(self, service: str) -> str:
        """The service's own AMQP URL, as the Secret has it, at the local broker's address."""
        return self._local_url(self.release.secret(f"{self.release.name}-broker", service))

    def start(self) -> None:
        """Start all four, and wait until they are ready."""
        for component in self.components.values():
            component.start()
        for component in self.components.values():
            component.wait_ready()

    def stop(self) -> None:
        """End them."""
        for component in self.components.values():
            component.stop()

    def _component(self, deployment: Object) -> Component:
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        name = f"{self.release.namespace}-{container['name']}"
        env = environment(self.release, container)
        env["AMQP_URL"] = self._local_url(env["AMQP_URL"])
        env |= {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(self._site.ports[name])}
        env["SETTINGS_FILE"] = str(settings_file(self.release, pod, Path(env["SETTINGS_FILE"])))
        if pod["automountServiceAccountToken"]:
            env["KUBECONFIG"] = str(self.release.as_account(pod["serviceAccountName"]))
        ready = f"{self._site.url(name, 'http')}/readyz"
        argv = [sys.executable, "-m", *container["args"]]
        return Component(self._site.state, Spec(name, argv, env=env, ready=lambda: says_ok(ready)))

    def _local_url(self, url: str) -> str:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return as_user(self._broker, user, password, unquote(parts.path.removeprefix("/")))
