"""Each alert fires during the fault that it is for, and stops after it.

The product's rules are used, with shorter durations (`SHORTER`). Without this, the tests would take an hour.
"""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.support.broker import ManagementApi, credentials_of, set_memory_alarm
from tests.support.builders import an_instance_type
from tests.support.cluster import Object, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.prometheus import Prometheus
from tests.support.stacks import log_archive_settings
from tests.support.waiting import eventually

from dev.paths import StackPaths
from dev.prometheus import RULES
from dev.stack import PARTS, Stack
from phjob_core.labels import GROUP_LABEL, label_value

SHORTER = {
    **dict.fromkeys(("for: 5m", "for: 2m", "for: 1m", "for: 30s", "for: 15s"), "for: 3s"),
    "> 2400": "> 15",
    "[10m]": "[20s]",
    "[5m]": "[20s]",
    "[2m]": "[10s]",
    "[2m:15s]": "[20s:1s]",
}
"""Replacements in the text of the rules."""
ALERT_TIMEOUT_SECONDS = 180


class MonitoredStack(NamedTuple):
    """A stack, the Prometheus that scrapes it, its broker's management API and its log archive."""

    stack: Stack
    prometheus: Prometheus
    management: ManagementApi
    archive: Path

    def wait_until_firing(self, alert: str) -> None:
        """Wait until the alert fires."""
        firing = self.prometheus.firing_alerts
        eventually(
            lambda: alert in firing(), f"{alert} fires", within=ALERT_TIMEOUT_SECONDS, diagnostics=firing
        )

    def wait_until_resolved(self, alert: str) -> None:
        """Wait until the alert no longer fires."""
        eventually(
            lambda: alert not in self.prometheus.firing_alerts(),
            f"{alert} no longer fires",
            within=ALERT_TIMEOUT_SECONDS,
        )


@pytest.fixture(scope="module")
def monitored_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredStack]:
    """A stack of this module's own."""
    state, archive = tmp_path_factory.mktemp("alerts"), tmp_path_factory.mktemp("archive") / "logs"
    rules, settings = state / "rules.yaml", state / "settings.yaml"
    text = RULES.read_text()
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    rules.write_text(text)
    settings.write_text(log_archive_settings(archive) + "jobSubmission: {preparingTimeoutSeconds: 3}\n")
    with Stack(
        state,
        parts=(*PARTS, "prometheus"),
        settings=settings,
        capacity={"nvidia.com/gpu": "100"},
        rules=rules,
        scrape_seconds=1,
    ) as stack:
        management = ManagementApi(
            StackPaths(state).url("rabbitmq-management", "http"), credentials_of(stack.amqp_url)
        )
        yield MonitoredStack(stack, Prometheus.of_stack(state), management, archive)


@pytest.fixture
def monitored(monitored_stack: MonitoredStack) -> MonitoredStack:
    """The stack, when every component is up and no alert fires."""
    monitored_stack.stack.up()
    firing = monitored_stack.prometheus.firing_alerts
    eventually(lambda: not firing(), "no alert fires", within=ALERT_TIMEOUT_SECONDS, diagnostics=firing)
    return monitored_stack


Injector = Callable[[MonitoredStack], AbstractContextManager[None]]
"""A function that injects a fault. The fault is over when its context ends."""


@contextmanager
def paused_service(monitored: MonitoredStack) -> Iterator[None]:
    janitor = monitored.stack.component("janitor")
    janitor.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        janitor.kill(signal.SIGCONT)


@contextmanager
def unknown_message(monitored: MonitoredStack) -> Iterator[None]:
    monitored.management.publish("scheduler.0", "{}", type="Party", app_id="watcher", message_id="1 0")
    yield
    (dead,) = monitored.management.peek("phjob.dead")
    assert dead["properties"]["headers"]["reason"] == "unknown message kind 'Party'"
    monitored.management.purge("phjob.dead")


@contextmanager
def full_broker_memory(monitored: MonitoredStack) -> Iterator[None]:
    rabbitmq = monitored.stack.component("rabbitmq")
    set_memory_alarm(rabbitmq, on=True)
    try:
        yield
    finally:
        set_memory_alarm(rabbitmq, on=False)


@contextmanager
def stale_quota_count(monitored: MonitoredStack) -> Iterator[None]:
    with cluster_on(monitored.stack) as cluster, full_broker_memory(monitored):
        GroupFixture(cluster).create().start_notebook("jupyter", gpus=1)
        yield


@contextmanager
def forbidden_admission(monitored: MonitoredStack) -> Iterator[None]:
    with cluster_on(monitored.stack) as cluster:
        group = GroupFixture(cluster).create()
        manifests = json.dumps(policy_against_status_writes(group.name))
        assert cluster.kubectl("apply", "-f", "-", input=manifests).returncode == 0
        probe = group.submit("probe")
        change = '{"status":{"message":"x"}}'
        patch = ("-n", "hub", "patch", "phj", probe, "--subresource=status", "--type=merge", "-p", change)
        try:
            eventually(lambda: cluster.kubectl(*patch).returncode, "the policy is in force")
            job = group.submit("job")
            yield
        finally:
            assert cluster.kubectl("delete", "-f", "-", input=manifests).returncode == 0
        cluster.wait_for_phase(job, "Succeeded", within=ALERT_TIMEOUT_SECONDS)


def policy_against_status_writes(group: str) -> Object:
    """Return a policy that denies every write to the status of the group's jobs."""
    return denying_policy("UPDATE", "primehub.io", "phjobs/status", f"object.spec.groupName != '{group}'")


def policy_against_pod_deletions(group: str) -> Object:
    """Return a policy that denies every deletion of the group's pods."""
    labels = "oldObject.metadata.labels"
    is_of_group = f"'{GROUP_LABEL}' in {labels} && {labels}['{GROUP_LABEL}'] == '{label_value(group)}'"
    return denying_policy("DELETE", "", "pods", f"!(has({labels}) && {is_of_group})")


def denying_policy(operation: str, api_group: str, resource: str, unless: str) -> Object:
    """Return a ValidatingAdmissionPolicy that denies the operation unless a CEL expression is true.

    Its binding is part of the list.
    """
    rule = {
        "apiGroups": [api_group],
        "apiVersions": ["*"],
        "operations": [operation],
        "resources": [resource],
    }
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "forbidden"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": unless, "reason": "Forbidden"}],
        },
    }
    binding = {
        **policy,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": "forbidden", "validationActions": ["Deny"]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}


@contextmanager
def undeletable_pod(monitored: MonitoredStack) -> Iterator[None]:
    with cluster_on(monitored.stack) as cluster:
        group = GroupFixture(cluster).create()
        notebook = group.start_notebook("notebook", gpus=1)
        manifests = json.dumps(policy_against_pod_deletions(group.name))
        assert cluster.kubectl("apply", "-f", "-", input=manifests).returncode == 0
        try:
            probe = ("-n", "hub", "delete", "pod", notebook, "--dry-run=server")
            eventually(lambda: cluster.kubectl(*probe).returncode, "the policy is in force")
            name = group.submit("job", start="never")
            yield
        finally:
            assert cluster.kubectl("delete", "-f", "-", input=manifests).returncode == 0
            eventually(lambda: cluster.kubectl(*probe).returncode == 0, "the policy is no longer in force")
        cluster.cancel(name)
        cluster.wait_for_phase(name, "Cancelled")


@contextmanager
def cluster_without_capacity(monitored: MonitoredStack) -> Iterator[None]:
    with cluster_on(monitored.stack) as cluster:
        group = GroupFixture(cluster).create()
        unschedulable = an_instance_type(
            cluster.unique_name("unschedulable"), {"nodeSelector": {"no-node": "has-this"}}
        )
        group.grant(instance_types=tuple(cluster.create(unschedulable)))
        for number in range(20):
            group.submit(f"job-{number}", instanceType=cluster.unique_name("unschedulable"))
        yield


@contextmanager
def broker_down(monitored: MonitoredStack) -> Iterator[None]:
    monitored.stack.component("rabbitmq").kill(signal.SIGKILL)
    try:
        yield
    finally:
        monitored.stack.up()


@contextmanager
def api_server_down(monitored: MonitoredStack) -> Iterator[None]:
    monitored.stack.component("kube-apiserver").kill(signal.SIGKILL)
    try:
        yield
    finally:
        monitored.stack.up()


@contextmanager
def unwritable_archive(monitored: MonitoredStack) -> Iterator[None]:
    with cluster_on(monitored.stack) as cluster:
        away = monitored.archive.with_suffix(".away")
        monitored.archive.rename(away)
        monitored.archive.touch()
        name = GroupFixture(cluster).create().submit("job")
        cluster.wait_for_phase(name, "Succeeded")
        try:
            yield
        finally:
            monitored.archive.unlink()
            away.rename(monitored.archive)
        eventually(
            lambda: cluster.status(name).get("logURL"), "the log is stored", within=ALERT_TIMEOUT_SECONDS
        )


FAULTS: dict[str, Injector] = {
    "PhJobNoActiveReplica": paused_service,
    "PhJobDeadLetters": unknown_message,
    "PhJobEventLag": full_broker_memory,
    "PhJobQuotaDrift": stale_quota_count,
    "PhJobHeadNotAdmitted": forbidden_admission,
    "PhJobPreparingStuck": undeletable_pod,
    "PhJobRequeueStorm": cluster_without_capacity,
    "PhJobArchiveFailing": unwritable_archive,
    "PhJobBrokerUnreachable": broker_down,
    "PhJobApiUnreachable": api_server_down,
}


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_during_its_fault_and_stops_after_it(monitored: MonitoredStack, alert: str) -> None:
    """A real Prometheus evaluates the rules. After the fault, a job succeeds again."""
    with FAULTS[alert](monitored):
        monitored.wait_until_firing(alert)
    monitored.wait_until_resolved(alert)
    with cluster_on(monitored.stack) as cluster:
        cluster.wait_for_phase(
            GroupFixture(cluster).create().submit("job"), "Succeeded", within=ALERT_TIMEOUT_SECONDS
        )


def test_every_alert_has_a_fault() -> None:
    """Otherwise nothing would show that the alert can fire."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert set(FAULTS) == {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
