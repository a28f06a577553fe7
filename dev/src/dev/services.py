"""The four services of PhJob. Each is a Python module, which the environment configures."""

import os
import sys
from pathlib import Path

from dev.access import service_kubeconfig
from dev.cluster import NAMESPACE
from dev.component import Spec
from dev.errors import DevError
from dev.paths import StackPaths
from dev.probe import is_healthy
from dev.rights import WITH_KUBERNETES

SERVICES = ("watcher", "scheduler", "pod-manager", "janitor")
# The prefixes of the variables with the credentials and the endpoint of the log archive, by provider.
ARCHIVE_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_")


def service_of(name: str) -> str | None:
    """Return the service that a component is a replica of, or None."""
    base, _, number = name.rpartition("-")
    service = base if number.isdecimal() else name
    return service if service in SERVICES else None


def replicas(count: int) -> list[str]:
    """Return the names of all components: `janitor`, `janitor-2` and so on."""
    return [f"{name}-{number}" if number > 1 else name for number in range(1, count + 1) for name in SERVICES]


def services(
    paths: StackPaths, amqp_url: str, settings: Path | None, count: int, *, own_cluster: bool = True
) -> list[Spec]:
    """Return the specs of `count` replicas of each service, which start in any order.

    In the local cluster, each service has an account of its own, with the chart's rights (`rights`). In the
    user's cluster, where this module grants no rights, they use the kubeconfig that the user gave.

    Raises:
        DevError: the settings file does not exist.

    """
    if settings and not settings.is_file():
        raise DevError(f"the settings file {settings} does not exist")
    return [_service(paths, name, amqp_url, settings, own_cluster=own_cluster) for name in replicas(count)]


def _service(
    paths: StackPaths, name: str, amqp_url: str, settings: Path | None, *, own_cluster: bool
) -> Spec:
    """Return the spec of one replica."""
    service = service_of(name) or name
    env = {"AMQP_URL": amqp_url, "NAMESPACE": NAMESPACE, "HTTP_PORT": str(paths.ports[name])}
    files = {}
    if service in WITH_KUBERNETES:
        env["KUBECONFIG"] = str(service_kubeconfig(paths, service) if own_cluster else paths.kubeconfig)
    if service == "pod-manager":
        env |= {key: value for key, value in os.environ.items() if key.startswith(ARCHIVE_VARIABLES)}
    if settings:
        copy = paths.config / "settings.yaml"
        files[copy] = settings.read_text()
        env["SETTINGS_FILE"] = str(copy)
    ready = f"{paths.url(name, 'http')}/readyz"
    argv = [sys.executable, "-m", f"phjob_{service.replace('-', '_')}"]
    return Spec(name, argv, env=env, files=files, ready=lambda: is_healthy(ready))
