"""The objects that the chart renders: pods, their number, network policies and monitoring."""

import base64
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.support.chart import CHART, Object, find_object, of_kind, render

SERVICES = {"watcher", "scheduler", "janitor", "pod-manager"}
MONITORING = CHART / "monitoring"
WITH_PROMETHEUS_OPERATOR = "--api-versions=monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def rendered() -> list[Object]:
    """The objects with the default values."""
    return render()


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the spec of every pod, by its Deployment or StatefulSet."""
    return {
        o["metadata"]["name"]: o["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet")
        for o in of_kind(objects, kind)
    }


def broker_sources(pod: Object) -> list[tuple[str, str, str]]:
    """Return the Secret, the key and the file name of each file in the folder of the service's login."""
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == "/etc/phjob-broker")
    (volume,) = (v for v in pod["volumes"] if v["name"] == mount["name"])
    return [
        (source["secret"]["name"], item["key"], item["path"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    ]


def environment(pod: Object) -> dict[str, Any]:
    """Return the environment variables of the pod's first container."""
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in pod["containers"][0]["env"]
    }


def test_each_service_has_two_replicas_and_the_broker_one(rendered: list[Object]) -> None:
    """A voluntary disruption never ends both replicas (spec.md, S8)."""
    replicas = {o["metadata"]["name"]: o["spec"]["replicas"] for o in of_kind(rendered, "Deployment")}
    names = {"phjob-watcher", "phjob-scheduler-0", "phjob-janitor-0", "phjob-pod-manager-0"}
    assert replicas == dict.fromkeys(names, 2)
    for name in names:
        deployment = find_object(rendered, "Deployment", name)
        budget = find_object(rendered, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["spec"]["selector"]
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [constraint["labelSelector"] for constraint in spread] == [deployment["spec"]["selector"]] * 2
    assert find_object(rendered, "StatefulSet", "phjob-rabbitmq")["spec"]["replicas"] == 1


def test_each_workload_selects_only_its_own_pods(rendered: list[Object]) -> None:
    """Otherwise two Deployments would scale each other's pods."""
    workloads = [*of_kind(rendered, "Deployment"), *of_kind(rendered, "StatefulSet")]
    for workload in workloads:
        selector = workload["spec"]["selector"]["matchLabels"].items()
        selected = [o for o in workloads if selector <= o["spec"]["template"]["metadata"]["labels"].items()]
        assert selected == [workload]


def test_only_the_services_with_access_to_kubernetes_have_a_token(rendered: list[Object]) -> None:
    """Scheduler, janitor and broker get none, neither by their pod nor by their account (spec.md, I4)."""
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(rendered).items()}
    assert {name for name, has in tokens.items() if has} == {"phjob-watcher", "phjob-pod-manager-0"}
    assert not any(account["automountServiceAccountToken"] for account in of_kind(rendered, "ServiceAccount"))


def test_every_container_has_a_memory_limit(rendered: list[Object]) -> None:
    """The limit of the services is 512 MiB (spec.md, S8)."""
    for name, pod in pods(rendered).items():
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            limits = container["resources"]["limits"]
            assert limits["memory"] == ("512Mi" if container["name"] in SERVICES else limits["memory"]), name


def test_the_services_have_a_liveness_and_a_readiness_probe(rendered: list[Object]) -> None:
    """A service that waits for a snapshot is alive, but not ready."""
    for name, pod in pods(rendered).items():
        (container,) = pod["containers"]
        if container["name"] in SERVICES:
            assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}, name
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}, name


def test_a_service_gets_only_its_own_login_of_the_broker(rendered: list[Object]) -> None:
    """Each has a file with the key of its name from the Secret, and does not declare queues."""
    for name, pod in pods(rendered).items():
        service = pod["containers"][0]["name"]
        if service in SERVICES:
            variables = environment(pod)
            assert variables["AMQP_URL_FILE"] == "/etc/phjob-broker/url"
            assert variables["AMQP_DECLARE"] == "false"
            ca = ("phjob-rabbitmq-tls", "ca.crt", "ca.crt")
            assert broker_sources(pod) == [("phjob-broker", service, "url"), ca], name


def test_no_container_has_a_password_in_its_environment(rendered: list[Object]) -> None:
    """Other processes of the node may read it, it stays in crash dumps, and it cannot change."""
    for pod in pods(rendered).values():
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert not [v for v in container.get("env", ()) if "secretKeyRef" in v.get("valueFrom", {})]


def test_the_charts_broker_has_a_certificate_for_its_host(rendered: list[Object]) -> None:
    """For ten years, signed by a CA whose key nobody has. The URLs name both."""
    secret = find_object(rendered, "Secret", "phjob-rabbitmq-tls")
    assert secret["type"] == "kubernetes.io/tls"
    data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
    assert set(data) == {"ca.crt", "tls.crt", "tls.key"}
    ca, certificate = (x509.load_pem_x509_certificate(data[key]) for key in ("ca.crt", "tls.crt"))
    certificate.verify_directly_issued_by(ca)
    key = serialization.load_pem_private_key(data["tls.key"], password=None)
    assert key.public_key() == certificate.public_key()
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=3650)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for service in (*SERVICES, "operator"):
        url = base64.b64decode(find_object(rendered, "Secret", "phjob-broker")["data"][service]).decode()
        assert re.fullmatch(
            rf"amqps://{service}:\w{{32}}@(.+):5671/phjob\?cafile=/etc/phjob-broker/ca\.crt", url
        )
        assert urlsplit(url).hostname in names.get_values_for_type(x509.DNSName)


def test_the_charts_broker_can_use_a_certificate_of_cert_manager() -> None:
    """Its Secret has the same layout."""
    objects = render("--set=rabbitmq.tls.secret=ours")
    assert [secret["metadata"]["name"] for secret in of_kind(objects, "Secret")] == ["phjob-broker"]
    volumes = {volume["name"]: volume for volume in pods(objects)["phjob-rabbitmq"]["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == "ours"
    assert ("ours", "ca.crt", "ca.crt") in broker_sources(pods(objects)["phjob-watcher"])


def test_each_shard_has_its_own_deployments_and_the_watcher_only_one() -> None:
    """Every service gets the number of shards."""
    sharded_pods = pods(render("--set=shards=2"))
    assert set(sharded_pods) == {
        "phjob-watcher",
        "phjob-rabbitmq",
        *(f"phjob-{service}-{shard}" for service in SERVICES - {"watcher"} for shard in range(2)),
    }
    for name, pod in sharded_pods.items():
        if name != "phjob-rabbitmq":
            variables = environment(pod)
            assert variables["SHARDS"] == "2"
            assert variables["SHARD"] == ("1" if name.endswith("-1") else "0")
    (definitions,) = sharded_pods["phjob-rabbitmq"]["initContainers"]
    assert {"name": "SHARDS", "value": "2"} in definitions["env"]


def test_with_an_existing_broker_no_rabbitmq_is_installed() -> None:
    """Its Secret has the URLs, and the CA is mounted where the URLs expect it."""
    objects = render("--set=rabbitmq.install=false,broker.secret=our-broker,broker.caKey=tls-ca.crt")
    assert not list(of_kind(objects, "StatefulSet"))
    assert not list(of_kind(objects, "Secret"))
    for pod in pods(objects).values():
        url, ca = broker_sources(pod)
        assert url == ("our-broker", pod["containers"][0]["name"], "url")
        assert ca == ("our-broker", "tls-ca.crt", "ca.crt")
    without_ca = render("--set=rabbitmq.install=false,broker.secret=our-broker")
    assert all(len(broker_sources(pod)) == 1 for pod in pods(without_ca).values())


def test_the_charts_broker_can_use_the_passwords_of_an_existing_secret() -> None:
    """Without a cluster, as in GitOps, helm cannot keep generated passwords."""
    objects = render("--set=broker.secret=ours,rabbitmq.tls.secret=our-certificate")
    assert not list(of_kind(objects, "Secret"))
    volumes = {volume["name"]: volume for volume in pods(objects)["phjob-rabbitmq"]["volumes"]}
    assert volumes["logins"]["secret"]["secretName"] == "ours"
    (definitions,) = pods(objects)["phjob-rabbitmq"]["initContainers"]
    (mount,) = (m for m in definitions["volumeMounts"] if m["name"] == "logins")
    files = [v["value"] for v in definitions["env"] if v["name"].endswith("_FILE")]
    assert {file.rpartition("/")[0] for file in files} == {mount["mountPath"]}
    assert {file.rpartition("/")[2] for file in files} == {*SERVICES, "operator", "admin-password"}


def allowed_ports(objects: list[Object]) -> dict[str, tuple[set[Any], set[Any]]]:
    """Return the ports that the network policies allow for each workload: incoming, and outgoing ones."""
    ports: dict[str, tuple[set[Any], set[Any]]] = {}
    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        incoming, outgoing = set[Any](), set[Any]()
        denied = set[str]()
        for policy in of_kind(objects, "NetworkPolicy"):
            if selects(policy["spec"]["podSelector"], labels):
                denied |= set(policy["spec"]["policyTypes"])
                incoming |= {p["port"] for r in policy["spec"].get("ingress", ()) for p in r["ports"]}
                outgoing |= {p["port"] for r in policy["spec"].get("egress", ()) for p in r["ports"]}
        assert denied == {"Ingress", "Egress"}
        ports[workload["metadata"]["name"]] = incoming, outgoing
    return ports


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a label selector matches a pod with these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        expression["key"] in labels
        if expression["operator"] == "Exists"
        else labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def test_network_policies_allow_only_the_needed_connections(rendered: list[Object]) -> None:
    """All services reach the broker, two of them Kubernetes, and the broker reaches nothing."""
    assert allowed_ports(rendered) == {
        "phjob-watcher": ({"http"}, {53, 5353, "amqps", 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, 5353, "amqps"}),
        "phjob-janitor-0": ({"http"}, {53, 5353, "amqps"}),
        "phjob-pod-manager-0": ({"http"}, {53, 5353, "amqps", 443, 6443}),
        "phjob-rabbitmq": ({"amqps", "metrics"}, set()),
    }


def test_only_the_services_reach_the_broker(rendered: list[Object]) -> None:
    """The jobs' pods in the same namespace do not."""
    ingress = find_object(rendered, "NetworkPolicy", "phjob-rabbitmq")["spec"]["ingress"]
    (amqps,) = (rule["from"] for rule in ingress if rule["ports"][0]["port"] == "amqps")
    (peer,) = amqps
    for workload in of_kind(rendered, "Deployment"):
        assert selects(peer["podSelector"], workload["spec"]["template"]["metadata"]["labels"])
    assert not selects(peer["podSelector"], {"app": "primehub-job"})


def test_network_policies_allow_an_existing_broker_and_the_log_archive() -> None:
    """The values name their ports."""
    own = "rabbitmq.install=false,broker.secret=ours,networkPolicy.brokerPorts={5671}"
    archive = '[{"ports":[{"port":9000}]}]'
    objects = render(f"--set={own}", f"--set-json=networkPolicy.podManagerEgress={archive}")
    assert allowed_ports(objects) == {
        "phjob-watcher": ({"http"}, {53, 5353, 5671, 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, 5353, 5671}),
        "phjob-janitor-0": ({"http"}, {53, 5353, 5671}),
        "phjob-pod-manager-0": ({"http"}, {53, 5353, 5671, 443, 6443, 9000}),
    }


def test_service_monitors_are_installed_if_the_cluster_has_the_kind(rendered: list[Object]) -> None:
    """Each selects its Service by labels, and the Service selects the pods with the named port."""
    assert not list(of_kind(rendered, "ServiceMonitor"))
    objects = render(WITH_PROMETHEUS_OPERATOR, "--set=monitoring.labels.release=prometheus")
    monitors = list(of_kind(objects, "ServiceMonitor"))
    assert {monitor["metadata"]["name"] for monitor in monitors} == {"phjob", "phjob-rabbitmq"}
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert (monitor["spec"]["sampleLimit"], monitor["spec"]["labelLimit"]) == (200000, 32)
        (service,) = (
            s
            for s in of_kind(objects, "Service")
            if selects(monitor["spec"]["selector"], s["metadata"]["labels"])
        )
        (endpoint,) = monitor["spec"]["endpoints"]
        (port,) = (p for p in service["spec"]["ports"] if p["name"] == endpoint["port"])
        scraped = {
            name
            for name, pod in pods(objects).items()
            if service["spec"]["selector"].items() <= template_labels(objects, name).items()
            and any(p["name"] == port["targetPort"] for p in pod["containers"][0]["ports"])
        }
        broker = {"phjob-rabbitmq"}
        assert scraped == (broker if monitor["metadata"]["name"] in broker else set(pods(objects)) - broker)


def template_labels(objects: list[Object], name: str) -> dict[str, str]:
    """Return the labels of a workload's pods."""
    (workload,) = (
        o
        for kind in ("Deployment", "StatefulSet")
        for o in of_kind(objects, kind)
        if o["metadata"]["name"] == name
    )
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def test_rules_and_dashboards_are_installed() -> None:
    """They are those of k8s/chart/monitoring: a PrometheusRule, and ConfigMaps for Grafana's sidecar."""
    objects = render(WITH_PROMETHEUS_OPERATOR)
    (rules,) = of_kind(objects, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((MONITORING / "rules" / "phjob.yaml").read_text())
    dashboards = [
        configmap
        for configmap in of_kind(objects, "ConfigMap")
        if configmap["metadata"]["labels"].get("grafana_dashboard")
    ]
    assert {name: text for configmap in dashboards for name, text in configmap["data"].items()} == {
        file.name: file.read_text() for file in (MONITORING / "dashboards").glob("*.json")
    }
