"""What pods count, compared with a ResourceQuota: the API server's own sum of the same pods."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.cluster import Kubectl
from tests.support.waiting import eventually

from phjob_core.pod_limits import RESOURCE_CLAIMS, pod_limits, total
from phjob_core.quantities import parse

OVERHEAD = {"cpu": "250m", "memory": "120Mi"}
COUNTED = {
    "limits.cpu": "cpu",
    "limits.memory": "memory",
    "requests.nvidia.com/gpu": "nvidia.com/gpu",
    RESOURCE_CLAIMS: RESOURCE_CLAIMS,
}
"""The keys of the ResourceQuota, with the resource of a pod that each sums up."""


def limits(cpu: str, memory: str, **more: str) -> dict[str, Any]:
    return {"limits": {"cpu": cpu, "memory": memory, **more}}


def container(name: str, resources: Any = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "x", "resources": resources or {}, **fields}


SMALL = limits("100m", "64Mi")
PODS: dict[str, dict[str, Any]] = {
    "sum": {
        "containers": [container("a", SMALL), container("b", limits("1", "1G", **{"nvidia.com/gpu": "1"}))]
    },
    "init": {
        "initContainers": [container("i", limits("3", "64Mi"))],
        "containers": [container("a", limits("1", "1Gi"))],
    },
    "sidecar": {
        "initContainers": [
            container("before", limits("2", "64Mi")),
            container("sidecar", limits("1", "128Mi"), restartPolicy="Always"),
            container("after", limits("2", "64Mi")),
        ],
        "containers": [container("a", SMALL)],
    },
    "pod-level": {"resources": limits("8", "32Gi"), "containers": [container("a"), container("b", SMALL)]},
    "overhead": {"runtimeClassName": "", "containers": [container("a", limits("1", "1Gi"))]},
    "pod-level-overhead": {
        "runtimeClassName": "",
        "resources": limits("2", "2Gi"),
        "containers": [container("a")],
    },
    "claims": {
        "resourceClaims": [
            {"name": "gpu", "resourceClaimName": "one-gpu"},
            {"name": "nic", "resourceClaimName": "one-nic"},
        ],
        "containers": [container("a", SMALL)],
    },
}
"""The spec of each pod. An empty RuntimeClass is the one with overhead."""


@pytest.fixture(scope="module")
def runtime_class(kubectl: Kubectl) -> Iterator[str]:
    """Create a RuntimeClass with overhead. Yields its name."""
    name = f"overhead-{secrets.token_hex(4)}"
    manifest = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name},
        "handler": "runc",
        "overhead": {"podFixed": OVERHEAD},
    }
    assert kubectl("create", "-f", "-", input=json.dumps(manifest)).returncode == 0
    yield name
    kubectl("delete", "runtimeclass", name)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """Create a namespace with a ResourceQuota that nothing exceeds. Yields its name."""
    name = f"counting-{secrets.token_hex(4)}"
    assert kubectl("create", "namespace", name).returncode == 0
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "all"},
        "spec": {"hard": dict.fromkeys(COUNTED, "1E")},
    }
    assert kubectl("-n", name, "create", "-f", "-", input=json.dumps(quota)).returncode == 0
    eventually(lambda: used(kubectl, name).keys() == COUNTED.keys(), "the ResourceQuota counts")
    eventually(
        lambda: kubectl("-n", name, "get", "serviceaccount", "default").returncode == 0,
        "pods can be created",
    )
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def used(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    """Return what the ResourceQuota counts."""
    quota = json.loads(kubectl("-n", namespace, "get", "resourcequota", "all", "-o", "json").stdout)
    found: dict[str, str] = quota.get("status", {}).get("used", {})
    return found


def counted_by_kubernetes(kubectl: Kubectl, namespace: str) -> dict[str, int]:
    """Return what the ResourceQuota counts, by the names of the pods' resources."""
    amounts = {
        COUNTED[key]: parse(COUNTED[key], quantity) for key, quantity in used(kubectl, namespace).items()
    }
    return {resource: amount for resource, amount in amounts.items() if amount}


def counted_by_phjob(kubectl: Kubectl, namespace: str) -> dict[str, int]:
    """Return what PhJob counts."""
    pods = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json").stdout)["items"]
    return total(pod_limits(pod["spec"], pod["status"]) for pod in pods)


def create(kubectl: Kubectl, namespace: str, name: str, spec: Any) -> None:
    """Create a pod that no node runs."""
    spec = {"schedulingGates": [{"name": "example.com/never"}], **spec}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    done = kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(pod))
    assert done.returncode == 0, done.stderr


def create_claim(kubectl: Kubectl, namespace: str, name: str) -> None:
    """Create a claim of a device, which Kubernetes itself would make from a template."""
    request = {"name": "device", "exactly": {"deviceClassName": "example.com"}}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [request]}},
    }
    done = kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(claim))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PODS)
def test_a_pod_counts_what_kubernetes_counts(
    kubectl: Kubectl, namespace: str, runtime_class: str, name: str
) -> None:
    """The API server has stored it, and has added the overhead of its RuntimeClass (spec.md, S4)."""
    spec = dict(PODS[name])
    if "runtimeClassName" in spec:
        spec["runtimeClassName"] = runtime_class
    for claim in spec.get("resourceClaims", ()):
        create_claim(kubectl, namespace, claim["resourceClaimName"])
    create(kubectl, namespace, name, spec)
    counted = counted_by_phjob(kubectl, namespace)
    assert counted
    eventually(
        lambda: counted_by_kubernetes(kubectl, namespace) == counted,
        f"the ResourceQuota counts {counted}",
    )


def test_a_pod_that_is_resized_counts_its_new_limits_at_once(kubectl: Kubectl, namespace: str) -> None:
    """A notebook may grow while it runs (spec.md, S4)."""
    resources = {**limits("1", "1Gi"), "requests": {"cpu": "100m", "memory": "64Mi"}}
    create(kubectl, namespace, "notebook", {"containers": [container("a", resources)]})
    change = {"spec": {"containers": [{"name": "a", "resources": limits("2", "1Gi")}]}}
    done = kubectl(
        "-n", namespace, "patch", "pod", "notebook", "--subresource=resize", "-p", json.dumps(change)
    )
    assert done.returncode == 0, done.stderr
    assert counted_by_phjob(kubectl, namespace) == {"cpu": 2000, "memory": 2**30}
    eventually(
        lambda: counted_by_kubernetes(kubectl, namespace) == {"cpu": 2000, "memory": 2**30},
        "the ResourceQuota counts the new limit",
    )
