"""Manifests for the tests of the custom resources, and how to write and read them with kubectl."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.hub import Kubectl

ROOT = Path(__file__).parents[3]
CRDS = ROOT / "k8s" / "crds"
EXAMPLES = ROOT / "k8s" / "examples"
ERRORS = (ROOT / "docs" / "errors.md").read_text()

FINAL = ("Succeeded", "Failed", "Cancelled")
NEW = {"phase": "Pending", "reason": "Queued", "reclaimed": False, "fence": "", "requeued": 0}


def example(name: str, namespace: str) -> str:
    """One file of k8s/examples, moved to another namespace."""
    return (EXAMPLES / name).read_text().replace("namespace: hub", f"namespace: {namespace}")


def thing(kind: str, namespace: str, spec: dict[str, Any], name: str = "one") -> str:
    """A manifest."""
    metadata = {"name": name, "namespace": namespace}
    return json.dumps(
        {"apiVersion": "primehub.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    )


def job(namespace: str, name: str = "job-1", **spec: object) -> str:
    """A small PhJob's manifest."""
    smallest = {
        "command": "true",
        "userName": "jackpan",
        "groupName": "phusers",
        "image": "base-notebook",
        "instanceType": "cpu-tiny",
    }
    return thing("PhJob", namespace, {**smallest, **spec}, name)


def answer(done: subprocess.CompletedProcess[str]) -> str:
    """What a person reads."""
    return (done.stderr + done.stdout).strip()


def read(kubectl: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """An object ("phj/job-1") as the server gives it."""
    found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", name, "-o", "json").stdout)
    return found


def patch(
    kubectl: Kubectl, namespace: str, name: str, what: object, *more: str
) -> subprocess.CompletedProcess[str]:
    """A merge patch."""
    return kubectl("-n", namespace, "patch", name, "--type", "merge", "-p", json.dumps(what), *more)


def set_phase(
    kubectl: Kubectl, namespace: str, name: str, phase: str | None
) -> subprocess.CompletedProcess[str]:
    """What pod-manager does: write a job's phase."""
    return patch(kubectl, namespace, f"phj/{name}", {"status": {"phase": phase}}, "--subresource", "status")
