"""The preparation of a cluster for PhJob: the CRDs and the namespace."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.errors import DevError
from dev.kubectl import Kubectl

NAMESPACE = "hub"
CRDS = Path(__file__).parents[3] / "k8s" / "chart" / "crds"
TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.1


def prepare(kubectl: Kubectl) -> None:
    """Apply the CRDs and the namespace; safe to repeat."""
    crds = [f"--filename={file}" for file in sorted(CRDS.glob("*.yaml"))]
    if crds:
        kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=phjob-dev", *crds)
        kubectl("wait", "--for=condition=Established", f"--timeout={TIMEOUT_SECONDS}s", *crds)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kubectl(
        "apply", "--server-side", "--field-manager=phjob-dev", "--filename=-", given=json.dumps(namespace)
    )
    # No pod can be created in a namespace before its default service account exists.
    account = ("get", "serviceaccount", "default", f"--namespace={NAMESPACE}", "--ignore-not-found")
    _wait(lambda: kubectl(*account), f"the namespace {NAMESPACE} has no default service account")


def wait_nodes(kubectl: Kubectl, count: int) -> None:
    """Wait until that many nodes are Ready."""

    def are_ready() -> bool:
        nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
        return sum(map(_is_ready, nodes)) >= count

    _wait(are_ready, f"fewer than {count} nodes are Ready")


def _is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))


def _wait(done: Callable[[], object], problem: str) -> None:
    """Wait until `done` returns something true.

    Raises:
        DevError: it did not within `TIMEOUT_SECONDS`. `problem` is the state that lasted.

    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise DevError(f"{problem} after {TIMEOUT_SECONDS} s")
        time.sleep(POLL_SECONDS)
