"""Manifests for the tests of the custom resources, and helpers to write and read them with kubectl."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cluster import Kubectl

ROOT = Path(__file__).parents[3]
CRDS = ROOT / "k8s" / "chart" / "crds"
EXAMPLES = ROOT / "k8s" / "examples"
ERRORS = (ROOT / "docs" / "errors.md").read_text()

FINAL = ("Succeeded", "Failed", "Cancelled")
NEW_STATUS = {
    "phase": "Pending", "reason": "Queued", "reclaimed": False, "fence": "", "requeued": 0,
    "observedGeneration": 0, "retried": 0,
}  # fmt: skip


def example(name: str, namespace: str) -> str:
    """Return a file of k8s/examples for another namespace."""
    return (EXAMPLES / name).read_text().replace("namespace: hub", f"namespace: {namespace}")


def thing(kind: str, namespace: str, spec: dict[str, Any], name: str = "one") -> str:
    """Return the manifest of an object."""
    metadata = {"name": name, "namespace": namespace}
    return json.dumps(
        {"apiVersion": "primehub.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    )


def job(namespace: str, name: str = "job-1", **spec: object) -> str:
    """Return the manifest of a small PhJob."""
    smallest = {
        "command": "true",
        "userName": "jackpan",
        "groupName": "phusers",
        "image": "base-notebook",
        "instanceType": "cpu-tiny",
    }
    return thing("PhJob", namespace, {**smallest, **spec}, name)


def answer(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output that a user reads."""
    return (done.stderr + done.stdout).strip()


def read(kubectl: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """Return an object, such as `phj/job-1`, as the API server has stored it."""
    found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", name, "-o", "json").stdout)
    return found


def patch(
    kubectl: Kubectl, namespace: str, name: str, body: object, *more: str
) -> subprocess.CompletedProcess[str]:
    """Change an object by a merge patch."""
    return kubectl("-n", namespace, "patch", name, "--type", "merge", "-p", json.dumps(body), *more)


def set_phase(
    kubectl: Kubectl, namespace: str, name: str, phase: str | None
) -> subprocess.CompletedProcess[str]:
    """Write a job's phase, as pod-manager does."""
    return patch(kubectl, namespace, f"phj/{name}", {"status": {"phase": phase}}, "--subresource", "status")
