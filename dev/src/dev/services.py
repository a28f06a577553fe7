"""The four services of PhJob, as they run anywhere: a module each, configured by the environment."""

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


def services(site: Site, amqp_url: str, settings: Path | None) -> list[Spec]:
    """All four; they wait for each other and for the rest by themselves."""
    if settings and not settings.is_file():
        raise DevError(f"no settings file {settings}")
    return [_service(site, name, amqp_url, settings) for name in MODULES]


def _service(site: Site, name: str, amqp_url: str, settings: Path | None) -> Spec:
    env = {"AMQP_URL": amqp_url, "NAMESPACE": NAMESPACE, "HTTP_PORT": str(site.ports[name])}
    files = {}
    if name in WITH_KUBERNETES:
        env["KUBECONFIG"] = str(site.kubeconfig)
    if settings:
        copy = site.config / "settings.yaml"
        files[copy] = settings.read_text()
        env["SETTINGS_FILE"] = str(copy)
    ready = f"{site.url(name, 'http')}/readyz"
    argv = [sys.executable, "-m", MODULES[name]]
    return Spec(name, argv, env=env, files=files, ready=lambda: says_ok(ready))
