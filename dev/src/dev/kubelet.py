"""The real node's kubelet: registers the node, runs the pods that it is given, serves their logs."""

import json
import os
from pathlib import Path

from dev import containerd
from dev.access import NODE, NODE_NAME, kubeconfig, kubeconfig_file
from dev.component import Spec
from dev.pki import Pki
from dev.probe import says_ok
from dev.site import Site

CLUSTER_DNS = "10.0.0.10"
# A developer's disk may be nearly full: no pressure, no eviction for it.
SIGNALS = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
NO_EVICTION = dict.fromkeys(SIGNALS, "0%")


def kubelet(site: Site, pki: Pki, programs: Path) -> Spec:
    """Needs the API server and containerd.

    It leaves the host's firewall alone, but not a few of its sysctls (`vm.overcommit_memory`,
    `kernel.panic`, ...): every kubelet sets them, and nothing sets them back.
    """
    config, access = site.config / "kubelet.json", kubeconfig_file(site, NODE)
    health_port = site.ports["kubelet-health"]
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": site.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": health_port,
        "tlsCertFile": str(pki.server_cert),
        "tlsPrivateKeyFile": str(pki.server_key),
        # Only the API server has a certificate of our CA.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(pki.ca)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{containerd.socket(site)}",
        "podLogsDir": str(site.node_data / "pod-logs"),
        "volumePluginDir": str(site.node_data / "volume-plugins"),
        # Nothing answers there; without it each pod would get a warning event.
        "clusterDNS": [CLUSTER_DNS],
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "evictionHard": NO_EVICTION,
        # Our images can't be pulled again: never collect them.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        # A sign of life every two seconds, so that a node that is lost is soon known to be.
        "nodeLeaseDurationSeconds": 8,
        # `kubectl logs`, and so the log archive, has no more of a log than its newest file.
        "containerLogMaxSize": "200Mi",
    }
    argv = [
        f"{programs}/kubelet",
        f"--config={config}",
        f"--kubeconfig={access}",
        f"--hostname-override={NODE_NAME}",
        f"--root-dir={site.node_data / 'kubelet'}",
        f"--cert-dir={site.node_data / 'kubelet-pki'}",
    ]
    files = {config: json.dumps(content, indent=2), access: kubeconfig(site, pki, NODE)}
    env = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return Spec(
        "kubelet",
        argv,
        env=env,
        files=files,
        ready=lambda: says_ok(f"http://127.0.0.1:{health_port}/healthz"),
    )
