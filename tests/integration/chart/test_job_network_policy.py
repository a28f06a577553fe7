"""The network policy of jobs: what it permits, evaluated as a network plugin evaluates it."""

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from tests.support.chart import Object, Release, find_object, of_kind, render

Peer = str | dict[str, dict[str, str]]
"""An address outside of the cluster, or a pod: its labels, and those of its namespace."""

PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]
STORE = {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 2049}]}


def policy_of(**values: Any) -> Object:
    """Return the spec of the policy with these values of `jobs.networkPolicy`."""
    options = [f"--set-json=jobs.networkPolicy.{key}={json.dumps(value)}" for key, value in values.items()]
    spec: Object = find_object(render(*options), "NetworkPolicy", "phjob-jobs")["spec"]
    return spec


def a_pod(namespace: str = "hub", **labels: str) -> Peer:
    """Return a pod as a peer."""
    return {"labels": labels, "namespace": {"kubernetes.io/metadata.name": namespace}}


KUBE_DNS = a_pod("kube-system", app="kube-dns")


def may_reach(policy: Object, peer: Peer, port: int = 443, protocol: str = "TCP") -> bool:
    """Return whether the policy permits the connection.

    An `ipBlock` selects no pod here, as in Cilium. Other plugins apply it to the addresses of pods as well.
    """
    return any(
        (not rule.get("ports") or any(_permits_port(p, port, protocol) for p in rule["ports"]))
        and any(_permits_peer(to, peer) for to in rule["to"])
        for rule in policy["egress"]
    )


def _permits_port(permitted: Object, port: int, protocol: str) -> bool:
    return (permitted.get("protocol", "TCP"), permitted["port"]) == (protocol, port)


def _permits_peer(to: Object, peer: Peer) -> bool:
    if isinstance(peer, dict):
        return "namespaceSelector" in to and (
            _selects(to["namespaceSelector"], peer["namespace"])
            and _selects(to.get("podSelector", {}), peer["labels"])
        )
    block = to.get("ipBlock", {"cidr": "255.255.255.255/32"})
    address = ip_address(peer)
    excepted = any(address in ip_network(network) for network in block.get("except", ()))
    return address in ip_network(block["cidr"]) and not excepted


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", ())
    assert {expression["operator"] for expression in expressions} <= {"In", "NotIn"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        (labels.get(expression["key"]) in expression["values"]) is (expression["operator"] == "In")
        for expression in expressions
    )


@pytest.mark.parametrize(
    ("peer", "port", "permitted"),
    [
        ("93.184.215.14", 443, True),
        ("2606:2800:21f:cb07::1", 443, True),
        ("10.1.2.3", 2049, True),
        (a_pod("default", app="mlflow"), 5000, True),
        ("169.254.169.254", 80, False),
        ("169.254.170.2", 80, False),
        ("169.254.169.254", 53, False),
        ("168.63.129.16", 80, False),
        ("100.100.100.200", 80, False),
        ("fe80::1", 80, False),
        ("fd00:ec2::254", 80, False),
        ("fd20:ce::254", 80, False),
        ("169.254.20.10", 80, False),
    ],
)
def test_jobs_reach_everything_but_what_has_the_credentials_of_the_node(
    peer: Peer, port: int, *, permitted: bool
) -> None:
    """They are at link-local addresses, and at those of some clouds (spec.md, P14)."""
    assert may_reach(policy_of(), peer, port) is permitted


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_jobs_reach_every_usual_kind_of_dns_server(protocol: str) -> None:
    """NodeLocal DNSCache has a link-local address, and the pods of OpenShift another port."""
    for policy in (policy_of(), policy_of(pods=False, deniedAddresses=PRIVATE)):
        assert may_reach(policy, KUBE_DNS, 53, protocol)
        assert may_reach(policy, "169.254.20.10", 53, protocol)
    openshift = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}]
    assert may_reach(policy_of(dnsTo=openshift, pods=False), a_pod("openshift-dns"), 5353, protocol)


def test_jobs_reach_no_pod_of_phjob() -> None:
    """Its own network policies reject them, too, where a plugin applies `ipBlock` to pods."""
    objects = render()
    workloads = [*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")]
    assert len(workloads) == 5
    for workload in workloads:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        for port in (5672, 8080, 15672):
            assert not may_reach(policy_of(), a_pod(**labels), port), workload["metadata"]["name"]


def test_a_stricter_policy_permits_the_internet_and_named_exceptions_only() -> None:
    """As the comments of the values say."""
    policy = policy_of(pods=False, deniedAddresses=["169.254.0.0/16", *PRIVATE], egress=[STORE])
    assert may_reach(policy, "93.184.215.14")
    assert may_reach(policy, "10.1.2.3", 2049)
    assert not may_reach(policy, "10.1.2.3", 22)
    assert not may_reach(policy, "192.168.1.1")
    assert not may_reach(policy, "fd12::1")
    assert not may_reach(policy, a_pod("default", app="mlflow"), 5000)


def test_nobody_reaches_a_job_unless_a_value_permits_it() -> None:
    """Both directions are restricted, of the pods that PhJob makes and of no others."""
    policy = policy_of()
    assert (policy["policyTypes"], policy["ingress"]) == (["Ingress", "Egress"], [])
    assert policy["podSelector"] == {
        "matchExpressions": [{"key": "primehub.io/phjob-uid", "operator": "Exists"}]
    }
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "tensorboard"}}}], "ports": [{"port": 6006}]}
    assert policy_of(ingress=[rule])["ingress"] == [rule]


def test_the_policy_is_in_the_namespace_of_jobs_and_can_be_left_out() -> None:
    """The release may be in another one."""
    policy = find_object(render("--set=jobNamespace=jobs"), "NetworkPolicy", "phjob-jobs")
    assert policy["metadata"]["namespace"] == "jobs"
    names = {
        o["metadata"]["name"]
        for o in of_kind(render("--set=jobs.networkPolicy.enabled=false"), "NetworkPolicy")
    }
    assert names
    assert "phjob-jobs" not in names


def test_the_api_server_accepts_the_policy_with_every_value(release: Release) -> None:
    """It checks each network, and that an exception is within its block."""
    stored = release.get("networkpolicy", "phjob-jobs")["spec"]
    assert {"ingress": [], **stored} == policy_of()
    rule: Object = {"from": [{"namespaceSelector": {}}]}
    values = {"pods": False, "deniedAddresses": PRIVATE, "egress": [STORE], "ingress": [rule]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "strict"},
        "spec": policy_of(**values),
    }
    for spec in (policy, {**policy, "spec": policy_of(deniedAddresses=[])}):
        done = release.kubectl(
            "-n", release.namespace, "create", "--dry-run=server", "-f", "-", input=json.dumps(spec)
        )
        assert done.returncode == 0, done.stderr
