"""What the chart makes of its values: pods, how they are kept, who reaches whom, and monitoring."""

from typing import Any

import pytest
import yaml
from tests.support.chart import ROOT, Object, of_kind, one, render

SERVICES = {"watcher", "scheduler", "janitor", "pod-manager"}
MONITORING = ROOT / "k8s" / "monitoring"
OPERATOR = "--api-versions=monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def rendered() -> list[Object]:
    """The chart as it is by default."""
    return render()


def pods(objects: list[Object]) -> dict[str, Object]:
    """Every pod's spec, by its Deployment or StatefulSet."""
    return {
        o["metadata"]["name"]: o["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet")
        for o in of_kind(objects, kind)
    }


def environment(pod: Object) -> dict[str, Any]:
    """The pod's first container's variables."""
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in pod["containers"][0]["env"]
    }


def test_two_replicas_of_each_service_one_of_the_broker(rendered: list[Object]) -> None:
    """One works, one stands by; and no voluntary disruption takes both."""
    replicas = {o["metadata"]["name"]: o["spec"]["replicas"] for o in of_kind(rendered, "Deployment")}
    names = {"phjob-watcher", "phjob-scheduler-0", "phjob-janitor-0", "phjob-pod-manager-0"}
    assert replicas == dict.fromkeys(names, 2)
    for name in names:
        deployment = one(rendered, "Deployment", name)
        budget = one(rendered, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["spec"]["selector"]
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [constraint["labelSelector"] for constraint in spread] == [deployment["spec"]["selector"]] * 2
    assert one(rendered, "StatefulSet", "phjob-rabbitmq")["spec"]["replicas"] == 1


def test_no_selector_takes_another_ones_pods(rendered: list[Object]) -> None:
    """Of the workloads, by the labels of their pods."""
    workloads = [*of_kind(rendered, "Deployment"), *of_kind(rendered, "StatefulSet")]
    for workload in workloads:
        wanted = workload["spec"]["selector"]["matchLabels"].items()
        taken = [o for o in workloads if wanted <= o["spec"]["template"]["metadata"]["labels"].items()]
        assert taken == [workload]


def test_only_who_speaks_to_kubernetes_has_a_token(rendered: list[Object]) -> None:
    """The scheduler, the janitor and the broker have none; neither by their pod nor by their account."""
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(rendered).items()}
    assert {name for name, has in tokens.items() if has} == {"phjob-watcher", "phjob-pod-manager-0"}
    assert not any(account["automountServiceAccountToken"] for account in of_kind(rendered, "ServiceAccount"))


def test_every_container_has_a_memory_limit_and_the_services_512_mi(rendered: list[Object]) -> None:
    """design.md, Scale."""
    for name, pod in pods(rendered).items():
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            limits = container["resources"]["limits"]
            assert limits["memory"] == ("512Mi" if container["name"] in SERVICES else limits["memory"]), name


def test_the_services_have_their_probes(rendered: list[Object]) -> None:
    """Alive is not ready."""
    for name, pod in pods(rendered).items():
        (container,) = pod["containers"]
        if container["name"] in SERVICES:
            assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}, name
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}, name


def test_a_service_gets_its_own_way_to_the_broker_and_no_other(rendered: list[Object]) -> None:
    """Each has the key of its name from the Secret, and may declare nothing."""
    for name, pod in pods(rendered).items():
        service = pod["containers"][0]["name"]
        if service in SERVICES:
            variables = environment(pod)
            assert variables["AMQP_URL"] == {"secretKeyRef": {"name": "phjob-broker", "key": service}}, name
            assert variables["AMQP_DECLARE"] == "false"


def test_shards_are_a_deployment_each_and_the_watcher_has_none() -> None:
    """And all know how many there are."""
    sharded = pods(render("--set=shards=2"))
    assert set(sharded) == {
        "phjob-watcher",
        "phjob-rabbitmq",
        *(f"phjob-{service}-{shard}" for service in SERVICES - {"watcher"} for shard in range(2)),
    }
    for name, pod in sharded.items():
        if name != "phjob-rabbitmq":
            variables = environment(pod)
            assert variables["SHARDS"] == "2"
            assert variables["SHARD"] == ("1" if name.endswith("-1") else "0")
    (definitions,) = sharded["phjob-rabbitmq"]["initContainers"]
    assert {"name": "SHARDS", "value": "2"} in definitions["env"]


def test_a_broker_of_ones_own_by_secret_with_its_ca() -> None:
    """Nothing of RabbitMQ is installed, and the CA is where the URLs name it."""
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


def test_passwords_of_ones_own_for_the_charts_broker() -> None:
    """For those who render without a cluster: the broker's users are made from the same Secret."""
    objects = render("--set=broker.secret=ours")
    assert not list(of_kind(objects, "Secret"))
    (definitions,) = pods(objects)["phjob-rabbitmq"]["initContainers"]
    secrets = {v["valueFrom"]["secretKeyRef"]["name"] for v in definitions["env"] if "valueFrom" in v}
    assert secrets == {"ours"}


def policies(objects: list[Object]) -> dict[str, tuple[set[Any], set[Any]]]:
    """Every service's and the broker's ports: those that are let in, those that are let out."""
    ports: dict[str, tuple[set[Any], set[Any]]] = {}
    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        let_in, let_out = set[Any](), set[Any]()
        denied = set[str]()
        for policy in of_kind(objects, "NetworkPolicy"):
            if selects(policy["spec"]["podSelector"], labels):
                denied |= set(policy["spec"]["policyTypes"])
                let_in |= {p["port"] for r in policy["spec"].get("ingress", ()) for p in r["ports"]}
                let_out |= {p["port"] for r in policy["spec"].get("egress", ()) for p in r["ports"]}
        assert denied == {"Ingress", "Egress"}
        ports[workload["metadata"]["name"]] = let_in, let_out
    return ports


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod with these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def test_who_reaches_whom(rendered: list[Object]) -> None:
    """The design's table: all four the broker, two of them Kubernetes, and the broker nobody."""
    assert policies(rendered) == {
        "phjob-watcher": ({"http"}, {53, "amqp", 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, "amqp"}),
        "phjob-janitor-0": ({"http"}, {53, "amqp"}),
        "phjob-pod-manager-0": ({"http"}, {53, "amqp", 443, 6443}),
        "phjob-rabbitmq": ({"amqp", "metrics"}, set()),
    }


def test_only_the_services_reach_the_broker(rendered: list[Object]) -> None:
    """Not the jobs' pods in the same namespace."""
    ingress = one(rendered, "NetworkPolicy", "phjob-rabbitmq")["spec"]["ingress"]
    (amqp,) = (rule["from"] for rule in ingress if rule["ports"][0]["port"] == "amqp")
    (peer,) = amqp
    for workload in of_kind(rendered, "Deployment"):
        assert selects(peer["podSelector"], workload["spec"]["template"]["metadata"]["labels"])
    assert not selects(peer["podSelector"], {"app": "primehub-job"})


def test_the_way_to_a_broker_of_ones_own_and_to_the_log_archive() -> None:
    """Peers narrow it; without any, the port alone does."""
    own = "rabbitmq.install=false,broker.secret=ours,networkPolicy.brokerPorts={5671}"
    archive = '[{"ports":[{"port":9000}]}]'
    objects = render(f"--set={own}", f"--set-json=networkPolicy.podManagerEgress={archive}")
    assert policies(objects) == {
        "phjob-watcher": ({"http"}, {53, 5671, 443, 6443}),
        "phjob-scheduler-0": ({"http"}, {53, 5671}),
        "phjob-janitor-0": ({"http"}, {53, 5671}),
        "phjob-pod-manager-0": ({"http"}, {53, 5671, 443, 6443, 9000}),
    }


def test_service_monitors_where_the_cluster_knows_them(rendered: list[Object]) -> None:
    """Each finds its Service by labels, and the Service the pods whose port it names."""
    assert not list(of_kind(rendered, "ServiceMonitor"))
    objects = render(OPERATOR, "--set=monitoring.labels.release=prometheus")
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
    """The labels of a workload's pods."""
    (workload,) = (
        o
        for kind in ("Deployment", "StatefulSet")
        for o in of_kind(objects, kind)
        if o["metadata"]["name"] == name
    )
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def test_rules_and_dashboards_are_installed() -> None:
    """From k8s/monitoring, to which the chart links: as a PrometheusRule, and for Grafana's sidecar."""
    objects = render(OPERATOR)
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
