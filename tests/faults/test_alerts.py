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
from tests.support.broker import Broker
from tests.support.builders import an_instance_type
from tests.support.hub import Hub, corner
from tests.support.prometheus import Prometheus
from tests.support.scene import Scene
from tests.support.stacks import archiving_in
from tests.support.waiting import eventually

from dev.prometheus import RULES
from dev.stack import PARTS, Stack

SHORTER = {
    "for: 5m": "for: 3s", "for: 2m": "for: 3s", "for: 1m": "for: 3s", "for: 30s": "for: 3s", "for: 15s": "for: 3s",
    "> 600": "> 15", "[5m]": "[20s]", "[2m]": "[10s]", "[10m]": "[20s]", "[2m:15s]": "[20s:1s]",
}  # fmt: skip
LONG = 180


class Plant(NamedTuple):
    """What is broken, and who watches it."""

    hub: Hub
    prometheus: Prometheus
    broker: Broker
    archive: Path

    def fires(self, alert: str) -> None:
        """Wait until it does."""
        eventually(
            lambda: alert in self.prometheus.firing(),
            f"{alert} fires",
            within=LONG,
            instead=self.prometheus.firing,
        )

    def is_quiet(self, alert: str) -> None:
        """Wait until it fires no more."""
        eventually(lambda: alert not in self.prometheus.firing(), f"{alert} is over", within=LONG)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Stack]]:
    """A monitored stack of its own: its STATE, and its archive."""
    state, archive = tmp_path_factory.mktemp("alerts"), tmp_path_factory.mktemp("archive") / "logs"
    rules = RULES.read_text()
    for long, short in SHORTER.items():
        rules = rules.replace(long, short)
    (state / "rules.yaml").write_text(rules)
    (state / "settings.yaml").write_text(
        archiving_in(archive) + "jobSubmission: {preparingTimeoutSeconds: 3}\n"
    )
    with Stack(
        state,
        parts=(*PARTS, "prometheus"),
        settings=state / "settings.yaml",
        capacity={"nvidia.com/gpu": "100"},
        rules=state / "rules.yaml",
        scrape_seconds=1,
    ) as stack:
        yield state, archive, stack


@pytest.fixture
def plant(stack: tuple[Path, Path, Stack]) -> Iterator[Plant]:
    """This test's corner of it, in which nothing fires."""
    state, archive, up = stack
    up.up()
    prometheus = Prometheus(state)
    with corner(up) as hub:
        eventually(lambda: not prometheus.firing(), "nothing fires", within=LONG, instead=prometheus.firing)
        yield Plant(hub, prometheus, Broker(state, up), archive)


Fault = Callable[[Plant], AbstractContextManager[None]]


@contextmanager
def a_service_that_hangs(plant: Plant) -> Iterator[None]:
    plant.hub.service("janitor").kill(signal.SIGSTOP)
    try:
        yield
    finally:
        plant.hub.service("janitor").kill(signal.SIGCONT)


@contextmanager
def a_message_that_nobody_understands(plant: Plant) -> Iterator[None]:
    plant.broker.publish("scheduler.0", "{}", type="Party", app_id="somebody", message_id="1 0")
    yield
    (dead,) = plant.broker.take("phjob.dead")
    assert dead["properties"]["headers"]["reason"] == "unknown message kind 'Party'"
    plant.broker.purge("phjob.dead")


@contextmanager
def a_broker_whose_memory_is_full(plant: Plant) -> Iterator[None]:
    plant.broker.alarm(on=True)
    try:
        yield
    finally:
        plant.broker.alarm(on=False)


@contextmanager
def a_count_that_is_behind(plant: Plant) -> Iterator[None]:
    with a_broker_whose_memory_is_full(plant):
        Scene(plant.hub, "drift").make().notebook("jupyter", gpus=1)
        yield


@contextmanager
def a_policy_that_forbids_the_admission(plant: Plant) -> Iterator[None]:
    scene = Scene(plant.hub, "forbidden").make()
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "forbidden"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["primehub.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                        "resources": ["phjobs/status"],
                    }
                ]
            },
            "validations": [{"expression": f"object.spec.groupName != '{scene.group}'", "reason": "Forbidden"}],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "forbidden"},
        "spec": {"policyName": "forbidden", "validationActions": ["Deny"]},
    }
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
    assert plant.hub.kubectl("apply", "-f", "-", input=documents).returncode == 0
    probe = scene.job("probe")
    plant.hub.create(probe)

    def is_forbidden() -> bool:
        change = '{"status":{"message":"x"}}'
        name = probe["metadata"]["name"]
        return plant.hub.kubectl("-n", "hub", "patch", "phj", name, "--subresource=status", "--type=merge", "-p", change).returncode != 0  # fmt: skip

    try:
        eventually(is_forbidden, "the policy is in force")
        name = scene.submit("job")
        yield
    finally:
        assert plant.hub.kubectl("delete", "-f", "-", input=documents).returncode == 0
    plant.hub.reaches(name, "Succeeded", within=LONG)


@contextmanager
def a_pod_that_cannot_be_deleted(plant: Plant) -> Iterator[None]:
    name = Scene(plant.hub, "stuck").make().submit("job", start="never")
    eventually(lambda: plant.hub.pod(name), "its pod is there")
    plant.hub.api.merge("Pod", name, {"metadata": {"finalizers": ["example.com/hold"]}})
    yield
    plant.hub.api.merge("Pod", name, {"metadata": {"finalizers": []}})
    plant.hub.cancel(name)
    plant.hub.reaches(name, "Cancelled")


@contextmanager
def a_cluster_without_room(plant: Plant) -> Iterator[None]:
    scene = Scene(plant.hub, "storm").make()
    nowhere = an_instance_type(plant.hub.name("nowhere"), {"nodeSelector": {"no-node": "has-this"}})
    scene.grants(instance_types=tuple(plant.hub.create(nowhere)))
    names = [scene.submit(f"job-{n}", instanceType=plant.hub.name("nowhere")) for n in range(20)]
    yield
    for name in names:
        plant.hub.cancel(name)


@contextmanager
def a_broker_that_is_gone(plant: Plant) -> Iterator[None]:
    plant.hub.service("rabbitmq").kill(signal.SIGKILL)
    try:
        yield
    finally:
        plant.hub.stack.up()


@contextmanager
def an_api_server_that_is_gone(plant: Plant) -> Iterator[None]:
    plant.hub.service("kube-apiserver").kill(signal.SIGKILL)
    try:
        yield
    finally:
        plant.hub.stack.up()


@contextmanager
def an_archive_that_takes_nothing(plant: Plant) -> Iterator[None]:
    away = plant.archive.with_suffix(".away")
    plant.archive.rename(away)
    plant.archive.touch()
    name = Scene(plant.hub, "archive").make().submit("job")
    plant.hub.reaches(name, "Succeeded")
    try:
        yield
    finally:
        plant.archive.unlink()
        away.rename(plant.archive)
    eventually(lambda: plant.hub.status(name).get("logURL"), "the log is stored", within=LONG)


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
    plant.hub.reaches(Scene(plant.hub, "after").make().submit("job"), "Succeeded", within=LONG)
