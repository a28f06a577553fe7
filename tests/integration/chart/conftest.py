"""A release of the chart on a real API server, for all tests of this folder."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.chart import Release

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
TRUSTED = "primehub-graphql"
"""The service account of PrimeHub's web server."""


@pytest.fixture(scope="session")
def release(control_plane: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release that helm has installed, in a namespace that enforces PodSecurity `restricted`."""
    namespace = f"chart-{secrets.token_hex(3)}"
    release = Release(control_plane, namespace, tmp_path_factory.mktemp("release"))
    try:
        assert release.kubectl("create", "namespace", namespace).returncode == 0
        assert release.kubectl("label", "namespace", namespace, RESTRICTED).returncode == 0
        assert release.kubectl("-n", namespace, "create", "serviceaccount", TRUSTED).returncode == 0
        trusted = f"identity.trusted={{system:serviceaccount:{namespace}:{TRUSTED}}}"
        release.install("--set", trusted)
        yield release
    finally:
        release.uninstall()
