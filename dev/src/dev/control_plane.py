"""A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

All on 127.0.0.1, each with the flags that a small machine needs. The nodes are `kwok`'s or `kubelet`'s.
"""

import json
from pathlib import Path

from dev.access import ADMIN, CONTROLLER_MANAGER, SCHEDULER, kubeconfig, kubeconfig_file, tokens_csv
from dev.component import Spec
from dev.pki import Pki
from dev.probe import says_ok
from dev.site import Site

SERVICE_CIDR = "10.0.0.0/24"
ISSUER = "https://kubernetes.default.svc"

# What jobs, quotas and pods by hand need; the rest would only watch and wait.
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
# Requests per second to the API server; the defaults would hold back hundreds of pods at once.
QPS, BURST = 300, 600


def etcd(site: Site, programs: Path) -> Spec:
    """The store. It skips fsync: only a crash of the machine loses data, and `down` deletes it anyway."""
    client, peer = site.url("etcd", "http"), site.url("etcd-peer", "http")
    argv = [
        f"{programs}/etcd",
        f"--data-dir={site.data / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync=true",
        "--log-level=warn",
    ]
    return Spec("etcd", argv, ready=lambda: says_ok(f"{client}/health"))


def apiserver(site: Site, pki: Pki, programs: Path) -> Spec:
    """The API, with RBAC; needs etcd."""
    tokens = site.config / "tokens.csv"
    argv = [
        f"{programs}/kube-apiserver",
        f"--etcd-servers={site.url('etcd', 'http')}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={site.ports['kube-apiserver']}",
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
        # Stricter than most clusters, as OpenShift is: an owner reference takes a right of its own.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        "--profiling=false",
    ]
    files = {tokens: tokens_csv(site)}
    files |= {
        kubeconfig_file(site, user): kubeconfig(site, pki, user)
        for user in (ADMIN, CONTROLLER_MANAGER, SCHEDULER)
    }
    url = f"{site.url('kube-apiserver')}/readyz"
    return Spec("kube-apiserver", argv, files=files, ready=lambda: says_ok(url, ca=pki.ca), ready_within=120)


def controller_manager(site: Site, pki: Pki, programs: Path) -> Spec:
    """The controllers named above; needs the API server."""
    config = kubeconfig_file(site, CONTROLLER_MANAGER)
    argv = [
        f"{programs}/kube-controller-manager",
        f"--kubeconfig={config}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials=true",
        f"--root-ca-file={pki.ca}",
        f"--kube-api-qps={QPS}",
        f"--kube-api-burst={BURST}",
        "--leader-elect=false",
        *_serving(site, pki, "kube-controller-manager"),
        "--profiling=false",
    ]
    url = f"{site.url('kube-controller-manager')}/healthz"
    return Spec("kube-controller-manager", argv, ready=lambda: says_ok(url, ca=pki.ca))


def scheduler(site: Site, pki: Pki, programs: Path) -> Spec:
    """Kubernetes' own scheduler, which gives pods to nodes; needs the API server."""
    config = site.config / "kube-scheduler.json"
    content = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig_file(site, SCHEDULER)), "qps": QPS, "burst": BURST},
        "leaderElection": {"leaderElect": False},
        "enableProfiling": False,
    }
    argv = [f"{programs}/kube-scheduler", f"--config={config}", *_serving(site, pki, "kube-scheduler")]
    url = f"{site.url('kube-scheduler')}/healthz"
    return Spec(
        "kube-scheduler",
        argv,
        files={config: json.dumps(content, indent=2)},
        ready=lambda: says_ok(url, ca=pki.ca),
    )


def _serving(site: Site, pki: Pki, name: str) -> list[str]:
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={site.ports[name]}",
        f"--tls-cert-file={pki.server_cert}",
        f"--tls-private-key-file={pki.server_key}",
    ]
