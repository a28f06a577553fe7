"""The pod-manager's settings: those of every service, and where the cluster is."""

from pathlib import Path

from shared.settings import ServiceSettings


class PodManagerSettings(ServiceSettings):
    """What pod-manager takes from its environment."""

    kubeconfig: Path | None = None
    """The cluster's kubeconfig; none: the cluster that the process runs in."""
