"""`docker compose up --wait`, for real: a person's first minutes with the stack."""

import json
from pathlib import Path

import pytest
import yaml
from tests.support.compose import ROOT, Compose
from tests.support.hub import Kubectl, kubectl_for
from tests.support.prometheus import Prometheus
from tests.support.waiting import eventually

from dev.docker import Docker
from dev.probe import says_ok

pytestmark = pytest.mark.real_node

SERVICES = {"watcher", "scheduler", "janitor", "pod-manager"}


@pytest.fixture(scope="module")
def kubectl(compose: Compose) -> Kubectl:
    """Kubectl with the kubeconfig that the stack leaves."""
    return kubectl_for(compose.kubeconfig)


def succeeded(kubectl: Kubectl) -> bool:
    """Whether all jobs of the examples have."""
    jobs = json.loads(kubectl("-n", "hub", "get", "phj", "-o", "json").stdout)["items"]
    return len(jobs) == 3 and all(job["status"]["phase"] == "Succeeded" for job in jobs)


def test_a_job_runs_through_the_stack(compose: Compose, kubectl: Kubectl) -> None:
    """The examples of the README, by kubectl from the host."""
    done = kubectl("apply", "-f", str(ROOT / "k8s" / "examples"))
    assert done.returncode == 0, done.stderr
    eventually(lambda: succeeded(kubectl), "the jobs succeed", instead=lambda: compose("logs", "--tail=30"))


def test_prometheus_scrapes_everything_that_runs(compose: Compose) -> None:
    """Each service by its name, and the broker's queues; our rules can be evaluated."""
    prometheus = Prometheus(f"http://127.0.0.1:{compose.ports['PROMETHEUS_PORT']}")

    def up() -> dict[str, str]:
        return {series["metric"]["job"]: series["value"][1] for series in prometheus.query("up")}

    everything = dict.fromkeys({*SERVICES, "rabbitmq"}, "1")
    eventually(lambda: up() == everything, "everything is scraped", instead=up)
    queue = 'rabbitmq_detailed_queue_messages{queue="scheduler.0"}'
    eventually(lambda: prometheus.query(queue), "the broker's queues are scraped")
    eventually(
        lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"},
        "every rule has been evaluated",
        instead=prometheus.rules,
    )


def test_rabbitmqs_page_is_there(compose: Compose) -> None:
    """With the login of .env."""
    page = f"http://127.0.0.1:{compose.ports['RABBITMQ_MANAGEMENT_PORT']}/api/overview"
    assert says_ok(page, login=("phjob", "phjob"))


def test_the_dead_letters_are_shown(compose: Compose) -> None:
    """By the command of the runbook, in a service's container, with its own way to the broker."""
    said = compose("exec", "-T", "janitor", "python", "-m", "shared.dead", "show")
    assert said == "0 message(s) in phjob.dead\n"


def test_a_second_replica_stands_by(compose: Compose, docker: Docker) -> None:
    """`docker compose up --scale`."""
    compose("up", "--wait", "--no-recreate", "--scale=scheduler=2", "scheduler")
    names = docker("ps", "--filter=health=healthy", "--format={{.Names}}").split()
    assert {"phjob-scheduler-1", "phjob-scheduler-2"} <= set(names)


def test_what_was_stored_survives(compose: Compose, kubectl: Kubectl) -> None:
    """`down` and `up` again: the jobs are as they were, by the same kubeconfig."""
    before = compose.kubeconfig.read_text()
    compose("down", "--timeout=5")
    compose.up()
    assert compose.kubeconfig.read_text() == before
    assert succeeded(kubectl)


def test_nothing_is_published_but_on_loopback(compose: Compose) -> None:
    """The passwords stand in the repository."""
    config = yaml.safe_load(compose("config", files=("docker-compose.yml",)))
    ports = [port for service in config["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_a_cluster_of_ones_own_takes_the_fake_ones_place(compose: Compose) -> None:
    """Its kubeconfig goes to the two services that speak to it, and nothing waits for the fake one."""
    files = ("docker-compose.yml", "docker-compose.own-cluster.yml")
    services = yaml.safe_load(compose("config", files=files))["services"]
    assert set(services) == {*SERVICES, "rabbitmq", "prometheus", "grafana"}
    for name in SERVICES:
        kubeconfig = services[name]["environment"].get("KUBECONFIG")
        mounted = {volume["target"] for volume in services[name]["volumes"]}
        assert kubeconfig == ("/own/kubeconfig" if name in ("watcher", "pod-manager") else None)
        assert kubeconfig is None or kubeconfig in mounted


def test_grafana_finds_its_data_and_its_dashboards(compose: Compose) -> None:
    """Its image can't be had here: what it is provisioned with fits the stack that it would be part of."""
    services = yaml.safe_load(compose("config", files=("docker-compose.yml",)))["services"]
    mounted = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    provisioning = Path(mounted["/etc/grafana/provisioning"])
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert [port["target"] for port in services["prometheus"]["ports"]] == [9090]
    (provider,) = yaml.safe_load((provisioning / "dashboards/phjob.yaml").read_text())["providers"]
    assert Path(mounted[provider["options"]["path"]]) == ROOT / "k8s/monitoring/dashboards"
