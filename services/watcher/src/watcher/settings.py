"""The watcher's settings: those of every service, and where the cluster is."""

from pathlib import Path

from shared.settings import ServiceSettings


class WatcherSettings(ServiceSettings):
    """What the watcher takes from its environment."""

    kubeconfig: Path | None = None
    """The cluster's kubeconfig; none: the cluster that the process runs in."""
