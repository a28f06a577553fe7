"""`identity.poolLabels.requireGate`: no pod of the pool starts beside PhJob (spec.md, I10)."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.builders import a_gated_notebook, a_notebook
from tests.support.chart import Release
from tests.support.cluster import Object
from tests.support.waiting import eventually

REFUSED = "give it the scheduling gate primehub.io/admitted, which only PhJob removes"
REMOVE_GATE = json.dumps([{"op": "remove", "path": "/spec/schedulingGates/0"}])
LABEL = "primehub.io/group=escaped-x"


@pytest.fixture(scope="module")
def release(control_plane: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release that requires the gate, whose policy is in force."""
    release = Release(control_plane, f"gate-{secrets.token_hex(3)}", tmp_path_factory.mktemp("gate"))
    try:
        # The ClusterRoles of people belong to one release of a cluster.
        release.install("--set=identity.poolLabels.requireGate=true", "--set=people.create=false")
        eventually(
            lambda: REFUSED in create(release, a_notebook("probe", group="x", user="bob")), "it refuses"
        )
        yield release
    finally:
        release.uninstall()


def create(release: Release, pod: Object) -> str:
    """Create a pod as an administrator. Returns the answer."""
    done = release.kubectl("-n", release.namespace, "create", "-f", "-", input=json.dumps(pod))
    return done.stdout + done.stderr


def ungate(release: Release, name: str, *options: str) -> str:
    """Remove the gate of a pod. Returns the answer."""
    command = ("patch", "pod", name, "--type=json", "-p", REMOVE_GATE, *options)
    done = release.kubectl("-n", release.namespace, *command)
    return done.stdout + done.stderr


def test_a_pod_of_a_group_needs_the_gate_and_only_pod_manager_removes_it(release: Release) -> None:
    assert "created" in create(release, a_gated_notebook("jupyter-bob", group="x", user="bob"))
    assert REFUSED in ungate(release, "jupyter-bob")
    pod_manager = f"--as=system:serviceaccount:{release.namespace}:phjob-pod-manager"
    assert "patched" in ungate(release, "jupyter-bob", pod_manager)
    done = release.kubectl("-n", release.namespace, "label", "pod", "jupyter-bob", "note=x")
    assert done.returncode == 0, "a pod that PhJob has admitted can be edited"


def test_other_pods_are_free_but_cannot_join_a_group_later(release: Release) -> None:
    pod = a_notebook("other", group="x", user="bob")
    del pod["metadata"]["labels"]["primehub.io/group"]
    assert "created" in create(release, pod)
    done = release.kubectl("-n", release.namespace, "label", "pod", "other", LABEL)
    assert REFUSED in done.stderr
