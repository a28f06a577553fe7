"""Simulated nodes: KWOK does what their kubelets would do. `kwok_stages.yaml` has the life of a pod."""

import json
from collections.abc import Mapping
from pathlib import Path

from dev.component import Spec
from dev.kubectl import Kubectl
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_healthy

STAGES = Path(__file__).with_name("kwok_stages.yaml")
POD_CIDR = "10.244.0.0/16"
CAPACITY = {
    "cpu": "1000",
    "memory": "4Ti",
    "ephemeral-storage": "1Pi",
    "pods": "100000",
    "nvidia.com/gpu": "0",
}
# The log of every simulated pod, in the format of a container runtime: time, stream, F for a full line, text.
LOG = (
    "2026-01-01T00:00:00Z stdout F No container ran here: KWOK simulates this pod, which has no other log.\n"
)


def kwok(paths: StackPaths, pki: Pki, programs: Path) -> Spec:
    """Return the spec of KWOK, which simulates all nodes of the cluster.

    It needs the API server.
    """
    port = paths.ports["kwok"]
    config, log = paths.config / "kwok.yaml", paths.config / "kwok-pod.log"
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
    argv = [f"{programs}/kwok", f"--kubeconfig={paths.kubeconfig}", f"--config={config}"]
    health = f"{paths.url('kwok', 'http')}/healthz"
    return Spec("kwok", argv, files={config: content, log: LOG}, ready=lambda: is_healthy(health))


def create_nodes(kubectl: Kubectl, count: int, capacity: Mapping[str, str]) -> None:
    """Create those of the nodes `kwok-0`, `kwok-1`, ... that do not exist."""
    existing = kubectl("get", "nodes", "--output=name").split()
    names = (f"kwok-{number}" for number in range(count))
    missing = [name for name in names if f"node/{name}" not in existing]
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
