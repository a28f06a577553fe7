"""The chart in other clusters: OpenShift, namespaces that assign ids, IPv6, other DNS servers."""

import ipaddress
from typing import Any

import pytest
from tests.support.chart import Object, find_object, of_kind, render

IDS = ("runAsUser", "runAsGroup", "fsGroup")
NO_IDS = ",".join(f"{part}podSecurityContext.{name}=null" for part in ("", "rabbitmq.") for name in IDS)
"""The values for a namespace that assigns ids."""
DNS_PORTS = {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}
SERVICES, JOBS = "phjob-services", "phjob-jobs"


def pods(objects: list[Object]) -> list[Object]:
    """Return the spec of every pod, with that of `helm test`."""
    workloads = [*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")]
    return [
        *(workload["spec"]["template"]["spec"] for workload in workloads),
        *(pod["spec"] for pod in of_kind(objects, "Pod")),
    ]


def secret_modes(pod: Object) -> set[int]:
    """Return the modes of the files of the pod's Secrets."""
    volumes = pod.get("volumes", ())
    secrets = [volume["secret"] for volume in volumes if "secret" in volume]
    return {
        source["defaultMode"] for source in (*secrets, *(v["projected"] for v in volumes if "projected" in v))
    }


def test_no_pod_names_an_id_where_the_namespace_assigns_them() -> None:
    """OpenShift's restricted-v2 refuses any other id. It accepts the rest of the security contexts."""
    found = pods(render(f"--set={NO_IDS}"))
    assert len(found) == 6
    for pod in found:
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_user_of_a_pod_can_read_its_secrets_with_and_without_a_group() -> None:
    """A file of a Secret is of root, and of the fsGroup if the pod has one."""
    with_group, without = pods(render()), pods(render(f"--set={NO_IDS}"))
    assert set[int]().union(*map(secret_modes, with_group)) == {0o440}
    assert set[int]().union(*map(secret_modes, without)) == {0o444}
    for pod in with_group:
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"] > 0


def test_the_services_listen_on_every_address_of_both_families() -> None:
    """The kubelet's probes use the first address of the pod, which may be an IPv6 one (spec.md, S7)."""
    for deployment in of_kind(render(), "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"name": "HTTP_HOST", "value": "::"} in container["env"]


def test_the_services_are_found_in_clusters_of_either_family() -> None:
    """No Service of the chart asks for a family, so that it gets the one that the cluster has."""
    for service in of_kind(render(), "Service"):
        assert not {"ipFamilies", "ipFamilyPolicy"} & service["spec"].keys()


@pytest.mark.parametrize("policy", [SERVICES, JOBS])
@pytest.mark.parametrize("namespace", ["kube-system", "openshift-dns"])
def test_the_dns_servers_of_the_cluster_are_reached(policy: str, namespace: str) -> None:
    """On port 53, and on 5353, where OpenShift's pods listen."""
    rule = dns_rule(render(), policy)
    selectors = [peer["namespaceSelector"] for peer in rule["to"] if "namespaceSelector" in peer]
    (expression,) = selectors[0]["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
    assert namespace in expression["values"]
    assert {(port["port"], port["protocol"]) for port in rule["ports"]} == DNS_PORTS


@pytest.mark.parametrize("policy", [SERVICES, JOBS])
def test_nodelocal_dns_is_reached_although_link_local_addresses_are_denied(policy: str) -> None:
    """Its address is a link-local one, which a job may otherwise not reach. A policy's rules only add."""
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns_rule(render(), policy)["to"]
    denied = [block for block in blocks(render(), JOBS) if "169.254.0.0/16" in block.get("except", ())]
    assert len(denied) == 1


@pytest.mark.parametrize(("policy", "value"), [(SERVICES, "networkPolicy"), (JOBS, "jobs.networkPolicy")])
def test_other_dns_servers_and_ports_are_values(policy: str, value: str) -> None:
    """An address, and ports, of a DNS server outside of the cluster."""
    own = f'--set-json={value}.dnsTo=[{{"ipBlock":{{"cidr":"fd00:10::53/128"}}}}]'
    rule = dns_rule(render(own, f"--set={value}.dnsPorts={{5300}}"), policy)
    assert rule["to"] == [{"ipBlock": {"cidr": "fd00:10::53/128"}}]
    assert rule["ports"] == [{"port": 5300, "protocol": "UDP"}, {"port": 5300, "protocol": "TCP"}]


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # AWS, Google, Azure, and others
        "169.254.170.2",  # AWS, credentials of tasks
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS, over IPv6
        "fd20:ce::254",  # Google, over IPv6
        "fe80::a9fe:a9fe",  # link-local, over IPv6
    ],
)
def test_a_job_cannot_reach_where_clouds_keep_credentials(address: str) -> None:
    """In either family. Other addresses of both are reached."""
    assert not is_reached(address)
    assert is_reached("192.0.2.1")
    assert is_reached("2001:db8::1")


def dns_rule(objects: list[Object], policy: str) -> dict[str, Any]:
    """Return the rule about DNS of a policy, which is its first one for outgoing connections."""
    rule: dict[str, Any] = find_object(objects, "NetworkPolicy", policy)["spec"]["egress"][0]
    return rule


def blocks(objects: list[Object], policy: str) -> list[dict[str, Any]]:
    """Return the blocks of addresses that the policy permits on every port."""
    rules = find_object(objects, "NetworkPolicy", policy)["spec"]["egress"]
    peers = [peer for rule in rules if "ports" not in rule for peer in rule["to"]]
    return [peer["ipBlock"] for peer in peers if "ipBlock" in peer]


def is_reached(address: str) -> bool:
    """Return whether a job may connect to the address, on any port."""
    wanted = ipaddress.ip_address(address)

    def contains(cidr: str) -> bool:
        network = ipaddress.ip_network(cidr)
        return network.version == wanted.version and wanted in network

    return any(
        contains(block["cidr"]) and not any(map(contains, block.get("except", ())))
        for block in blocks(render(), JOBS)
    )
