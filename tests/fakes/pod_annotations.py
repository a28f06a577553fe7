"""Annotations by which a user could ask add-ons of a cluster for privileges, or pass as PhJob."""

ASKED_FOR = {
    "iam.amazonaws.com/role": "admin",
    "k8s.v1.cni.cncf.io/networks": "storage",
    "sidecar.istio.io/inject": "false",
    "traffic.sidecar.istio.io/excludeOutboundPorts": "443",
    "sidecar.istio.io/userVolume": "[]",
    "sidecar.istio.io/proxyImage": "evil",
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "1",
    "ad.datadoghq.com/main.checks": "{}",
    "co.elastic.logs/enabled": "false",
    "fluentbit.io/exclude": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
    "container.apparmor.security.beta.kubernetes.io/main": "unconfined",
    "primehub.io/usage": "{}",
    "primehub.io/fence": "another",
    "primehub.io/attempt": "9",
}
"""A cloud role, another network, no AppArmor, volumes in a sidecar, forged metrics, no log, kept nodes."""
