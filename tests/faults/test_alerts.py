"""Each alert, made to fire by the real fault behind it, and to stop when the fault is over.

The rules are those of the product with their times shortened (`SHORTER`), else it would take an hour.
"""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.support.broker import Management, login_of, memory_alarm
from tests.support.builders import an_instance_type
from tests.support.hub import Object, corner
from tests.support.prometheus import Prometheus
from tests.support.scene import Scene
from tests.support.stacks import archiving_in
from tests.support.waiting import eventually

from dev.prometheus import RULES
from dev.site import Site
from dev.stack import PARTS, Stack

SHORTER = {
    **dict.fromkeys(("for: 5m", "for: 2m", "for: 1m", "for: 30s", "for: 15s"), "for: 3s"),
    "> 600": "> 15",
    "[10m]": "[20s]",
    "[5m]": "[20s]",
    "[2m]": "[10s]",
    "[2m:15s]": "[20s:1s]",
}
LONG = 180


class Plant(NamedTuple):
    """What is broken, and who watches it."""

    stack: Stack
    prometheus: Prometheus
    management: Management
    archive: Path

    def fires(self, alert: str) -> None:
        """Wait until it does."""
        firing = self.prometheus.firing
        eventually(lambda: alert in firing(), f"{alert} fires", within=LONG, instead=firing)

    def is_quiet(self, alert: str) -> None:
        """Wait until it fires no more."""
        eventually(lambda: alert not in self.prometheus.firing(), f"{alert} is over", within=LONG)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A stack of its own."""
    state, archive = tmp_path_factory.mktemp("alerts"), tmp_path_factory.mktemp("archive") / "logs"
    rules, settings = state / "rules.yaml", state / "settings.yaml"
    text = RULES.read_text()
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    rules.write_text(text)
    settings.write_text(archiving_in(archive) + "jobSubmission: {preparingTimeoutSeconds: 3}\n")
    with Stack(
        state,
        parts=(*PARTS, "prometheus"),
        settings=settings,
        capacity={"nvidia.com/gpu": "100"},
        rules=rules,
        scrape_seconds=1,
    ) as stack:
        management = Management(Site(state).url("rabbitmq-management", "http"), login_of(stack.amqp_url))
        yield Plant(stack, Prometheus.of(state), management, archive)


@pytest.fixture
def plant(monitored: Plant) -> Plant:
    """All of it is up, and nothing fires."""
    monitored.stack.up()
    firing = monitored.prometheus.firing
    eventually(lambda: not firing(), "nothing fires", within=LONG, instead=firing)
    return monitored


Fault = Callable[[Plant], AbstractContextManager[None]]


@contextmanager
def a_service_that_hangs(plant: Plant) -> Iterator[None]:
    janitor = plant.stack.component("janitor")
    janitor.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        janitor.kill(signal.SIGCONT)


@contextmanager
def a_message_that_nobody_understands(plant: Plant) -> Iterator[None]:
    plant.management.publish("scheduler.0", "{}", type="Party", app_id="somebody", message_id="1 0")
    yield
    (dead,) = plant.management.look_into("phjob.dead")
    assert dead["properties"]["headers"]["reason"] == "unknown message kind 'Party'"
    plant.management.purge("phjob.dead")


@contextmanager
def a_broker_whose_memory_is_full(plant: Plant) -> Iterator[None]:
    rabbitmq = plant.stack.component("rabbitmq")
    memory_alarm(rabbitmq, on=True)
    try:
        yield
    finally:
        memory_alarm(rabbitmq, on=False)


@contextmanager
def a_count_that_is_behind(plant: Plant) -> Iterator[None]:
    with corner(plant.stack) as hub, a_broker_whose_memory_is_full(plant):
        Scene(hub).make().notebook("jupyter", gpus=1)
        yield


@contextmanager
def a_policy_that_forbids_the_admission(plant: Plant) -> Iterator[None]:
    with corner(plant.stack) as hub:
        scene = Scene(hub).make()
        documents = json.dumps(no_status_for(scene.group))
        assert hub.kubectl("apply", "-f", "-", input=documents).returncode == 0
        probe = scene.submit("probe")
        change = '{"status":{"message":"x"}}'
        patch = ("-n", "hub", "patch", "phj", probe, "--subresource=status", "--type=merge", "-p", change)
        try:
            eventually(lambda: hub.kubectl(*patch).returncode, "the policy is in force")
            job = scene.submit("job")
            yield
        finally:
            assert hub.kubectl("delete", "-f", "-", input=documents).returncode == 0
        hub.reaches(job, "Succeeded", within=LONG)


def no_status_for(group: str) -> Object:
    """A ValidatingAdmissionPolicy that forbids every write of the status of this group's jobs."""
    rule = {
        "apiGroups": ["primehub.io"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["phjobs/status"],
    }
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "forbidden"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": f"object.spec.groupName != '{group}'", "reason": "Forbidden"}],
        },
    }
    binding = {
        **policy,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": "forbidden", "validationActions": ["Deny"]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}


@contextmanager
def a_pod_that_cannot_be_deleted(plant: Plant) -> Iterator[None]:
    with corner(plant.stack) as hub:
        name = Scene(hub).make().submit("job", start="never")
        eventually(lambda: hub.pod(name), "its pod is there")
        hub.api.merge("Pod", name, {"metadata": {"finalizers": ["example.com/hold"]}})
        yield
        hub.api.merge("Pod", name, {"metadata": {"finalizers": []}})
        hub.cancel(name)
        hub.reaches(name, "Cancelled")


@contextmanager
def a_cluster_without_room(plant: Plant) -> Iterator[None]:
    with corner(plant.stack) as hub:
        scene = Scene(hub).make()
        nowhere = an_instance_type(hub.name("nowhere"), {"nodeSelector": {"no-node": "has-this"}})
        scene.grants(instance_types=tuple(hub.create(nowhere)))
        for number in range(20):
            scene.submit(f"job-{number}", instanceType=hub.name("nowhere"))
        yield


@contextmanager
def a_broker_that_is_gone(plant: Plant) -> Iterator[None]:
    plant.stack.component("rabbitmq").kill(signal.SIGKILL)
    try:
        yield
    finally:
        plant.stack.up()


@contextmanager
def an_api_server_that_is_gone(plant: Plant) -> Iterator[None]:
    plant.stack.component("kube-apiserver").kill(signal.SIGKILL)
    try:
        yield
    finally:
        plant.stack.up()


@contextmanager
def an_archive_that_takes_nothing(plant: Plant) -> Iterator[None]:
    with corner(plant.stack) as hub:
        away = plant.archive.with_suffix(".away")
        plant.archive.rename(away)
        plant.archive.touch()
        name = Scene(hub).make().submit("job")
        hub.reaches(name, "Succeeded")
        try:
            yield
        finally:
            plant.archive.unlink()
            away.rename(plant.archive)
        eventually(lambda: hub.status(name).get("logURL"), "the log is stored", within=LONG)


FAULTS: dict[str, Fault] = {
    "PhJobNoActiveReplica": a_service_that_hangs,
    "PhJobDeadLetters": a_message_that_nobody_understands,
    "PhJobEventLag": a_broker_whose_memory_is_full,
    "PhJobQuotaDrift": a_count_that_is_behind,
    "PhJobHeadNotAdmitted": a_policy_that_forbids_the_admission,
    "PhJobPreparingStuck": a_pod_that_cannot_be_deleted,
    "PhJobRequeueStorm": a_cluster_without_room,
    "PhJobArchiveFailing": an_archive_that_takes_nothing,
    "PhJobBrokerUnreachable": a_broker_that_is_gone,
    "PhJobApiUnreachable": an_api_server_that_is_gone,
}


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_with_its_fault_and_ends_with_it(plant: Plant, alert: str) -> None:
    """Seen by a real Prometheus. Afterwards a job runs as ever."""
    with FAULTS[alert](plant):
        plant.fires(alert)
    plant.is_quiet(alert)
    with corner(plant.stack) as hub:
        hub.reaches(Scene(hub).make().submit("job"), "Succeeded", within=LONG)


def test_every_alert_has_its_fault() -> None:
    """No rule is left out."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert set(FAULTS) == {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
