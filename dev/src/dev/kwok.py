"""Fake nodes: KWOK plays their kubelets, and what pods do on them is in `kwok_stages.yaml`."""

import json
from collections.abc import Mapping
from pathlib import Path

from dev.component import Spec
from dev.kubectl import Kubectl
from dev.pki import Pki
from dev.probe import says_ok
from dev.site import Site

STAGES = Path(__file__).with_name("kwok_stages.yaml")
POD_CIDR = "10.244.0.0/16"
CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "100000", "nvidia.com/gpu": "0"}
# In the format of a container runtime: time, stream, whole line or part of one.
LOG = (
    "2026-01-01T00:00:00Z stdout F No container ran here: KWOK plays this pod's life; it has no other log.\n"
)


def kwok(site: Site, pki: Pki, programs: Path) -> Spec:
    """The program that plays all nodes of the cluster; needs the API server."""
    port = site.ports["kwok"]
    config, log = site.config / "kwok.yaml", site.config / "kwok-pod.log"
    options = {
        "manageAllNodes": True,
        "cidr": POD_CIDR,
        "nodeIP": "127.0.0.1",
        "nodePort": port,
        "serverAddress": f"127.0.0.1:{port}",
        "tlsCertFile": str(pki.server_cert),
        "tlsPrivateKeyFile": str(pki.server_key),
        "enableDebuggingHandlers": True,
        "podPlayStageParallelism": 8,
        "nodePlayStageParallelism": 4,
        "nodeLeaseParallelism": 4,
        "nodeLeaseDurationSeconds": 40,
    }
    documents = [
        {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options},
        {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterLogs",
            "metadata": {"name": "simulated"},
            "spec": {"logs": [{"logsFile": str(log), "follow": False}]},
        },
    ]
    content = (
        "".join(f"---\n{json.dumps(document, indent=2)}\n" for document in documents)
        + f"---\n{STAGES.read_text()}"
    )
    argv = [f"{programs}/kwok", f"--kubeconfig={site.kubeconfig}", f"--config={config}"]
    health = f"{site.url('kwok', 'http')}/healthz"
    return Spec("kwok", argv, files={config: content, log: LOG}, ready=lambda: says_ok(health))


def create_nodes(kubectl: Kubectl, count: int, capacity: Mapping[str, str]) -> None:
    """Create `kwok-0`, `kwok-1`, ... as far as they are missing."""
    there = kubectl("get", "nodes", "--output=name").split()
    missing = [name for name in (f"kwok-{number}" for number in range(count)) if f"node/{name}" not in there]
    if missing:
        nodes = [_node(name, {**CAPACITY, **capacity}) for name in missing]
        kubectl(
            "create", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
        )


def _node(name: str, capacity: Mapping[str, str]) -> dict[str, object]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
