"""The four services of PhJob, as they run anywhere: a module each, configured by the environment."""

import os
import sys
from pathlib import Path

from dev.cluster import NAMESPACE
from dev.component import Spec
from dev.errors import DevError
from dev.probe import says_ok
from dev.site import Site

MODULES = {"watcher": "watcher", "scheduler": "scheduler", "pod-manager": "pod_manager", "janitor": "janitor"}
# The others have no credentials, and need none.
WITH_KUBERNETES = ("watcher", "pod-manager")
# The log archive's credentials and endpoint, by the providers' own names.
OF_ARCHIVE = ("AWS_", "AZURE_", "GOOGLE_")


def service_of(name: str) -> str | None:
    """The service that a component is a replica of; None if it is something else."""
    base, _, number = name.rpartition("-")
    service = base if number.isdecimal() else name
    return service if service in MODULES else None


def replicas(count: int) -> list[str]:
    """The names of all components: `janitor`, and `janitor-2` for its second replica."""
    return [f"{name}-{number}" if number > 1 else name for number in range(1, count + 1) for name in MODULES]


def services(site: Site, amqp_url: str, settings: Path | None, count: int) -> list[Spec]:
    """So many replicas of all four; they wait for each other and for the rest by themselves."""
    if settings and not settings.is_file():
        raise DevError(f"no settings file {settings}")
    return [_service(site, name, amqp_url, settings) for name in replicas(count)]


def _service(site: Site, name: str, amqp_url: str, settings: Path | None) -> Spec:
    service = service_of(name) or name
    env = {"AMQP_URL": amqp_url, "NAMESPACE": NAMESPACE, "HTTP_PORT": str(site.ports[name])}
    files = {}
    if service in WITH_KUBERNETES:
        env["KUBECONFIG"] = str(site.kubeconfig)
    if service == "pod-manager":
        env |= {key: value for key, value in os.environ.items() if key.startswith(OF_ARCHIVE)}
    if settings:
        copy = site.config / "settings.yaml"
        files[copy] = settings.read_text()
        env["SETTINGS_FILE"] = str(copy)
    ready = f"{site.url(name, 'http')}/readyz"
    argv = [sys.executable, "-m", MODULES[service]]
    return Spec(name, argv, env=env, files=files, ready=lambda: says_ok(ready))
