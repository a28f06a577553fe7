"""The kubelet of the real node. It registers the node, runs its pods and serves their logs."""

import json
import os
from pathlib import Path

from dev import containerd
from dev.access import NODE, NODE_NAME, kubeconfig, kubeconfig_file
from dev.component import Spec
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_healthy

CLUSTER_DNS = "10.0.0.10"
# A developer's disk may be nearly full. Without these thresholds, the kubelet would evict pods.
SIGNALS = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
NO_EVICTION = dict.fromkeys(SIGNALS, "0%")


def kubelet(paths: StackPaths, pki: Pki, programs: Path) -> Spec:
    """Return the spec of the kubelet. It needs the API server and containerd.

    The kubelet does not change the firewall of the host. Like every kubelet, it sets a few sysctls, such as
    `vm.overcommit_memory` and `kernel.panic`, and does not restore them.
    """
    config, access = paths.config / "kubelet.json", kubeconfig_file(paths, NODE)
    health_port = paths.ports["kubelet-health"]
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": paths.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": health_port,
        "tlsCertFile": str(pki.server_cert),
        "tlsPrivateKeyFile": str(pki.server_key),
        # Only the API server has a client certificate of the stack's CA, so only it may call the kubelet.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(pki.ca)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{containerd.socket(paths)}",
        "podLogsDir": str(paths.node_data / "pod-logs"),
        "volumePluginDir": str(paths.node_data / "volume-plugins"),
        # No DNS server has this address. Without the setting, each pod would get a warning Event.
        "clusterDNS": [CLUSTER_DNS],
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "evictionHard": NO_EVICTION,
        # The images cannot be pulled again, so the kubelet must not delete them.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        # The kubelet renews its Lease every two seconds, so that a lost node is noticed soon.
        "nodeLeaseDurationSeconds": 8,
        # `kubectl logs` returns only the newest file of a log, and so does the log archive.
        "containerLogMaxSize": "200Mi",
    }
    argv = [
        f"{programs}/kubelet",
        f"--config={config}",
        f"--kubeconfig={access}",
        f"--hostname-override={NODE_NAME}",
        f"--root-dir={paths.node_data / 'kubelet'}",
        f"--cert-dir={paths.node_data / 'kubelet-pki'}",
    ]
    files = {config: json.dumps(content, indent=2), access: kubeconfig(paths, pki, NODE)}
    env = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return Spec(
        "kubelet",
        argv,
        env=env,
        files=files,
        ready=lambda: is_healthy(f"http://127.0.0.1:{health_port}/healthz"),
    )
