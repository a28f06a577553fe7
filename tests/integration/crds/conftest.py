"""The custom resources, installed on a real API server."""

import time
import uuid
from collections.abc import Iterator

import pytest
from tests.integration.crds.manifests import CRDS
from tests.support.cluster import Kubectl


@pytest.fixture(scope="package", autouse=True)
def _crds(kubectl: Kubectl) -> None:
    """Install the five kinds, and wait until the API server serves them."""
    assert kubectl("apply", "-f", str(CRDS)).returncode == 0
    assert kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS)).returncode == 0
    deadline = time.monotonic() + 30
    while kubectl("get", "phj,phg,instancetypes,images,datasets", "-A").returncode:
        assert time.monotonic() < deadline, "the API server must serve the kinds within 30 s"


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"crds-{uuid.uuid4().hex[:8]}"
    assert kubectl("create", "namespace", name).returncode == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
