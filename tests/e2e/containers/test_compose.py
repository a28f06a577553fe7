"""`docker compose up --wait` with real containers, as in a user's first minutes with the stack."""

import json
from pathlib import Path

import pytest
import yaml
from tests.support.cluster import Kubectl, kubectl_for
from tests.support.compose import ROOT, Compose
from tests.support.prometheus import Prometheus
from tests.support.waiting import eventually

from dev.docker import Docker
from dev.probe import is_healthy

pytestmark = pytest.mark.real_node

SERVICES = {"watcher", "scheduler", "janitor", "pod-manager"}


@pytest.fixture(scope="module")
def kubectl(compose: Compose) -> Kubectl:
    """Return kubectl with the kubeconfig that the stack writes."""
    return kubectl_for(compose.kubeconfig)


def have_jobs_succeeded(kubectl: Kubectl) -> bool:
    """Return whether all jobs of the examples have succeeded."""
    jobs = json.loads(kubectl("-n", "hub", "get", "phj", "-o", "json").stdout)["items"]
    return len(jobs) == 3 and all(job["status"]["phase"] == "Succeeded" for job in jobs)


def test_a_job_runs_through_the_stack(compose: Compose, kubectl: Kubectl) -> None:
    """`kubectl apply` of the examples works from the host, as in the README."""
    done = kubectl("apply", "-f", str(ROOT / "k8s" / "examples"))
    assert done.returncode == 0, done.stderr
    eventually(
        lambda: have_jobs_succeeded(kubectl),
        "all jobs have succeeded",
        diagnostics=lambda: compose("logs", "--tail=30"),
    )


def test_prometheus_scrapes_all_services_and_the_broker(compose: Compose) -> None:
    """It has the metrics of the broker's queues, and evaluates PhJob's rules."""
    prometheus = Prometheus(f"http://127.0.0.1:{compose.ports['PROMETHEUS_PORT']}")

    def up() -> dict[str, str]:
        return {series["metric"]["job"]: series["value"][1] for series in prometheus.query("up")}

    all_up = dict.fromkeys({*SERVICES, "rabbitmq"}, "1")
    eventually(lambda: up() == all_up, "all targets are scraped", diagnostics=up)
    queue = 'rabbitmq_detailed_queue_messages{queue="scheduler.0"}'
    eventually(lambda: prometheus.query(queue), "the broker's queues are scraped")
    eventually(
        lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"},
        "every rule has been evaluated",
        diagnostics=prometheus.rules,
    )


def test_rabbitmqs_management_ui_accepts_the_documented_login(compose: Compose) -> None:
    """It is the login of .env."""
    url = f"http://127.0.0.1:{compose.ports['RABBITMQ_MANAGEMENT_PORT']}/api/overview"
    assert is_healthy(url, login=("phjob", "phjob"))


def test_the_runbooks_command_shows_the_dead_letters(compose: Compose) -> None:
    """It runs in a service's container, with the broker's URL of that service."""
    output = compose("exec", "-T", "janitor", "python", "-m", "phjob_runtime.amqp.dead_letters", "show")
    assert output == "0 message(s) in phjob.dead\n"


def test_a_second_replica_becomes_healthy(compose: Compose, docker: Docker) -> None:
    """`docker compose up --scale` starts it as a standby."""
    compose("up", "--wait", "--no-recreate", "--scale=scheduler=2", "scheduler")
    names = docker("ps", "--filter=health=healthy", "--format={{.Names}}").split()
    assert {"phjob-scheduler-1", "phjob-scheduler-2"} <= set(names)


def test_jobs_survive_down_and_up(compose: Compose, kubectl: Kubectl) -> None:
    """The kubeconfig stays valid, too."""
    before = compose.kubeconfig.read_text()
    compose("down", "--timeout=5")
    compose.up()
    assert compose.kubeconfig.read_text() == before
    assert have_jobs_succeeded(kubectl)


def test_all_ports_are_published_on_loopback_only(compose: Compose) -> None:
    """The passwords are in the repository, so nobody else may reach the ports."""
    config = yaml.safe_load(compose("config", files=("docker-compose.yml",)))
    ports = [port for service in config["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_users_own_cluster_can_replace_the_local_one(compose: Compose) -> None:
    """Only the two services that use the API server get its kubeconfig, and no local cluster starts."""
    files = ("docker-compose.yml", "docker-compose.own-cluster.yml")
    services = yaml.safe_load(compose("config", files=files))["services"]
    assert set(services) == {*SERVICES, "rabbitmq", "prometheus", "grafana"}
    for name in SERVICES:
        kubeconfig = services[name]["environment"].get("KUBECONFIG")
        mounted = {volume["target"] for volume in services[name]["volumes"]}
        assert kubeconfig == ("/own/kubeconfig" if name in ("watcher", "pod-manager") else None)
        assert kubeconfig is None or kubeconfig in mounted


def test_grafana_is_provisioned_with_the_data_source_and_the_dashboards(compose: Compose) -> None:
    """Its image is not available here, so the test compares its configuration with the stack."""
    services = yaml.safe_load(compose("config", files=("docker-compose.yml",)))["services"]
    mounted = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    provisioning = Path(mounted["/etc/grafana/provisioning"])
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert [port["target"] for port in services["prometheus"]["ports"]] == [9090]
    (provider,) = yaml.safe_load((provisioning / "dashboards/phjob.yaml").read_text())["providers"]
    assert Path(mounted[provider["options"]["path"]]) == ROOT / "k8s/chart/monitoring/dashboards"
