"""The Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

All of them listen on 127.0.0.1 only. `kwok` or `kubelet` adds the nodes.
"""

import json
from pathlib import Path

from dev.access import (
    ADMIN,
    CONTROLLER_MANAGER,
    SCHEDULER,
    SERVICES,
    kubeconfig,
    kubeconfig_file,
    tokens_csv,
)
from dev.component import Spec
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_healthy

SERVICE_CIDR = "10.0.0.0/24"
ISSUER = "https://kubernetes.default.svc"

# The controllers that jobs, quotas and other pods need. Any other one would only use memory.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "taint-eviction-controller",
)
# The limits of requests to the API server: per second, and in a burst. The defaults would delay the creation
# of hundreds of pods at once.
QPS, BURST = 300, 600


def etcd(paths: StackPaths, programs: Path) -> Spec:
    """Return the spec of etcd, which stores all objects.

    It skips fsync, so a crash of the machine can lose data. `down` deletes the data anyway.
    """
    client, peer = paths.url("etcd", "http"), paths.url("etcd-peer", "http")
    argv = [
        f"{programs}/etcd",
        f"--data-dir={paths.data / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync=true",
        "--log-level=warn",
    ]
    return Spec("etcd", argv, ready=lambda: is_healthy(f"{client}/health"))


def apiserver(paths: StackPaths, pki: Pki, programs: Path) -> Spec:
    """Return the spec of the API server, with RBAC. It needs etcd."""
    tokens = paths.config / "tokens.csv"
    argv = [
        f"{programs}/kube-apiserver",
        f"--etcd-servers={paths.url('etcd', 'http')}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={paths.ports['kube-apiserver']}",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--tls-cert-file={pki.server_cert}",
        f"--tls-private-key-file={pki.server_key}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={tokens}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki.service_account_public}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        f"--kubelet-certificate-authority={pki.ca}",
        f"--kubelet-client-certificate={pki.client_cert}",
        f"--kubelet-client-key={pki.client_key}",
        "--kubelet-preferred-address-types=Hostname",
        "--allow-privileged=true",
        # With this plugin, which OpenShift has and most clusters have not, an owner reference needs a right.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        "--profiling=false",
    ]
    files = {tokens: tokens_csv(paths)}
    files |= {
        kubeconfig_file(paths, user): kubeconfig(paths, pki, user)
        for user in (ADMIN, CONTROLLER_MANAGER, SCHEDULER, *SERVICES)
    }
    url = f"{paths.url('kube-apiserver')}/readyz"
    return Spec(
        "kube-apiserver", argv, files=files, ready=lambda: is_healthy(url, ca=pki.ca), ready_within=120
    )


def controller_manager(paths: StackPaths, pki: Pki, programs: Path) -> Spec:
    """Return the spec of the controller manager, with `CONTROLLERS` only.

    It needs the API server.
    """
    config = kubeconfig_file(paths, CONTROLLER_MANAGER)
    argv = [
        f"{programs}/kube-controller-manager",
        f"--kubeconfig={config}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials=true",
        f"--root-ca-file={pki.ca}",
        f"--kube-api-qps={QPS}",
        f"--kube-api-burst={BURST}",
        "--leader-elect=false",
        *_serving(paths, pki, "kube-controller-manager"),
        "--profiling=false",
    ]
    url = f"{paths.url('kube-controller-manager')}/healthz"
    return Spec("kube-controller-manager", argv, ready=lambda: is_healthy(url, ca=pki.ca))


def scheduler(paths: StackPaths, pki: Pki, programs: Path) -> Spec:
    """Return the spec of kube-scheduler, which assigns pods to nodes.

    It needs the API server.
    """
    config = paths.config / "kube-scheduler.json"
    content = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {
            "kubeconfig": str(kubeconfig_file(paths, SCHEDULER)),
            "qps": QPS,
            "burst": BURST,
        },
        "leaderElection": {"leaderElect": False},
        "enableProfiling": False,
    }
    argv = [f"{programs}/kube-scheduler", f"--config={config}", *_serving(paths, pki, "kube-scheduler")]
    url = f"{paths.url('kube-scheduler')}/healthz"
    return Spec(
        "kube-scheduler",
        argv,
        files={config: json.dumps(content, indent=2)},
        ready=lambda: is_healthy(url, ca=pki.ca),
    )


def _serving(paths: StackPaths, pki: Pki, name: str) -> list[str]:
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={paths.ports[name]}",
        f"--tls-cert-file={pki.server_cert}",
        f"--tls-private-key-file={pki.server_key}",
    ]
