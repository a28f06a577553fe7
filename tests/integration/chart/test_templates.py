"""The objects that the chart renders: pods, their number, network policies and monitoring."""

from typing import Any

import pytest
import yaml
from tests.support.chart import ROOT, Object, find_object, of_kind, render

SERVICES = {"watcher", "scheduler", "janitor", "pod-manager"}
MONITORING = ROOT / "k8s" / "monitoring"
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
    """Each has the key of its name from the Secret, and does not declare queues."""
    for name, pod in pods(rendered).items():
        service = pod["containers"][0]["name"]
        if service in SERVICES:
            variables = environment(pod)
            assert variables["AMQP_URL"] == {"secretKeyRef": {"name": "phjob-broker", "key": service}}, name
            assert variables["AMQP_DECLARE"] == "false"


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
        assert environment(pod)["AMQP_URL"]["secretKeyRef"]["name"] == "our-broker"
        (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "broker-ca")
        (volume,) = (v for v in pod["volumes"] if v["name"] == "broker-ca")
        assert mount["mountPath"] == "/etc/phjob-broker"
        items = [{"key": "tls-ca.crt", "path": "ca.crt"}]
        assert volume["secret"] == {"secretName": "our-broker", "items": items}


def test_the_charts_broker_can_use_the_passwords_of_an_existing_secret() -> None:
    """Without a cluster, as in GitOps, helm cannot keep generated passwords."""
    objects = render("--set=broker.secret=ours")
    assert not list(of_kind(objects, "Secret"))
    (definitions,) = pods(objects)["phjob-rabbitmq"]["initContainers"]
    secrets = {v["valueFrom"]["secretKeyRef"]["name"] for v in definitions["env"] if "valueFrom" in v}
    assert secrets == {"ours"}


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
        labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def test_network_policies_allow_only_the_needed_connections(rendered: list[Object]) -> None:
    """All services reach the broker, two of them Kubernetes, and the broker reaches nothing."""
    assert allowed_ports(rendered) == {
        "phjob-watcher": ({"http"}, {53, "amqp", 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, "amqp"}),
        "phjob-janitor-0": ({"http"}, {53, "amqp"}),
        "phjob-pod-manager-0": ({"http"}, {53, "amqp", 443, 6443}),
        "phjob-rabbitmq": ({"amqp", "metrics"}, set()),
    }


def test_only_the_services_reach_the_broker(rendered: list[Object]) -> None:
    """The jobs' pods in the same namespace do not."""
    ingress = find_object(rendered, "NetworkPolicy", "phjob-rabbitmq")["spec"]["ingress"]
    (amqp,) = (rule["from"] for rule in ingress if rule["ports"][0]["port"] == "amqp")
    (peer,) = amqp
    for workload in of_kind(rendered, "Deployment"):
        assert selects(peer["podSelector"], workload["spec"]["template"]["metadata"]["labels"])
    assert not selects(peer["podSelector"], {"app": "primehub-job"})


def test_network_policies_allow_an_existing_broker_and_the_log_archive() -> None:
    """The values name their ports."""
    own = "rabbitmq.install=false,broker.secret=ours,networkPolicy.brokerPorts={5671}"
    archive = '[{"ports":[{"port":9000}]}]'
    objects = render(f"--set={own}", f"--set-json=networkPolicy.podManagerEgress={archive}")
    assert allowed_ports(objects) == {
        "phjob-watcher": ({"http"}, {53, 5671, 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, 5671}),
        "phjob-janitor-0": ({"http"}, {53, 5671}),
        "phjob-pod-manager-0": ({"http"}, {53, 5671, 443, 6443, 9000}),
    }


def test_service_monitors_are_installed_if_the_cluster_has_the_kind(rendered: list[Object]) -> None:
    """Each selects its Service by labels, and the Service selects the pods with the named port."""
    assert not list(of_kind(rendered, "ServiceMonitor"))
    objects = render(WITH_PROMETHEUS_OPERATOR, "--set=monitoring.labels.release=prometheus")
    monitors = list(of_kind(objects, "ServiceMonitor"))
    assert {monitor["metadata"]["name"] for monitor in monitors} == {"phjob", "phjob-rabbitmq"}
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
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
    """They are those of k8s/monitoring: a PrometheusRule, and ConfigMaps for Grafana's sidecar."""
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
