"""spec.suspend, spec.retry, and what the status says of them, on a real API server."""

import json
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.crds.manifests import answer, job, patch, read, thing
from tests.support.cluster import Kubectl
from tests.support.kstatus import kstatus

from phjob_core.api import PodPhase
from phjob_core.lifecycle import Event, Transition, transition
from phjob_core.messages import Admit, PodSeen
from phjob_core.projection import project_job
from phjob_core.retry import RetryCause
from phjob_core.steps import ApplyEvent
from phjob_pod_manager import status_patches
from phjob_pod_manager.attempts import MAX_ATTEMPTS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write_status(kubectl: Kubectl, namespace: str, operations: status_patches.Patch) -> None:
    """Write a JSON Patch to the status of job-1, as pod-manager does."""
    options = ("--subresource", "status", "--type", "json", "-p", json.dumps(operations))
    done = kubectl("-n", namespace, "patch", "phj", "job-1", *options)
    assert done.returncode == 0, done.stderr


class Driver:
    """Writes the transitions of job-1 by pod-manager's own patches."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._attempts = 0

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = read(self._kubectl, self._namespace, "phj/job-1")["status"]
        return status

    def admit(self) -> None:
        """Write Preparing, for another pod each time."""
        self._attempts += 1
        seen = project_job(read(self._kubectl, self._namespace, "phj/job-1"))
        command = Admit(
            uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence, token=f"s#{self._attempts}",
            resources={"cpu": 500}, revision=seen.revision,
        )  # fmt: skip
        observed = status_patches.Observed.of(seen)
        operations = status_patches.admit(command, f"pod-{self._attempts}", NOW, observed)
        write_status(self._kubectl, self._namespace, operations)

    def apply(self, event: Event, *, retry: RetryCause | None = None) -> None:
        """Write the transition of an event of the current pod."""
        seen = project_job(read(self._kubectl, self._namespace, "phj/job-1"))
        change = transition(seen.phase, event)
        assert isinstance(change, Transition)
        pod = PodSeen(
            uid=seen.pod_uid, name=seen.name, resource_version=1, group="g", user="u", node="node-1",
            phase=PodPhase.FAILED, start_time=NOW, finish_time=NOW, exit_code=1, reason="Error",
        )  # fmt: skip
        step = ApplyEvent(event, "why", retry=retry)
        write_status(self._kubectl, self._namespace, status_patches.apply_event(seen, step, change, pod, NOW))


@pytest.fixture
def driver(kubectl: Kubectl, namespace: str) -> Driver:
    """Create job-1, with the permission to retry it."""
    retry = {"limit": 10, "on": ["Failure"]}
    assert kubectl("create", "-f", "-", input=job(namespace, retry=retry)).returncode == 0
    return Driver(kubectl, namespace)


def is_waiting_for(kubectl: Kubectl, namespace: str, condition: str) -> subprocess.CompletedProcess[str]:
    return kubectl("-n", namespace, "wait", f"--for=condition={condition}", "--timeout=1s", "phj/job-1")


def test_kubectl_and_kstatus_see_the_end_of_a_job_in_its_conditions(
    driver: Driver, kubectl: Kubectl, namespace: str
) -> None:
    """A new job is in progress without a write. An edit before the end does not matter (spec.md, A16)."""
    assert kstatus(read(kubectl, namespace, "phj/job-1")) == "InProgress"
    driver.admit()
    driver.apply(Event.POD_RUNNING)
    assert kstatus(read(kubectl, namespace, "phj/job-1")) == "InProgress"
    assert driver.status()["observedGeneration"] == 1
    assert patch(kubectl, namespace, "phj/job-1", {"spec": {"displayName": "x"}}).returncode == 0
    assert is_waiting_for(kubectl, namespace, "Complete").returncode == 1
    driver.apply(Event.POD_SUCCEEDED)
    done = is_waiting_for(kubectl, namespace, "Complete")
    assert answer(done) == "phjob.primehub.io/job-1 condition met"
    assert kstatus(read(kubectl, namespace, "phj/job-1")) == "Current"
    assert driver.status()["observedGeneration"] == 2


def test_a_failed_job_has_failed_for_kubectl_and_kstatus(
    driver: Driver, kubectl: Kubectl, namespace: str
) -> None:
    """`kubectl wait --for=condition=Failed` ends (spec.md, A16)."""
    driver.admit()
    driver.apply(Event.POD_FAILED)
    assert is_waiting_for(kubectl, namespace, "Failed").returncode == 0
    assert kstatus(read(kubectl, namespace, "phj/job-1")) == "Failed"


def test_a_retry_keeps_the_last_five_attempts(driver: Driver) -> None:
    """The API server accepts each write, also the one that drops the oldest attempt (spec.md, L17, L18)."""
    for number in range(1, MAX_ATTEMPTS + 3):
        driver.admit()
        driver.apply(Event.POD_RUNNING)
        assert driver.status()["startTime"]
        driver.apply(Event.POD_FAILED, retry=RetryCause.FAILURE)
        status = driver.status()
        assert (status["phase"], status["reason"], status["retried"]) == ("Pending", "Retried", number)
        assert "startTime" not in status
    uids = [attempt["podUID"] for attempt in driver.status()["attempts"]]
    assert uids == [f"pod-{number}" for number in range(3, MAX_ATTEMPTS + 3)]


@pytest.mark.parametrize("key", ["on", '"on"', "'on'"])
def test_the_causes_of_a_retry_can_be_written_with_and_without_quotes(
    kubectl: Kubectl, namespace: str, key: str
) -> None:
    """Kubectl reads YAML 1.1, for which `on` is a boolean (spec.md, L17)."""
    manifest = json.loads(job(namespace))
    spec = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in manifest["spec"].items())
    text = (
        "apiVersion: primehub.io/v1alpha1\nkind: PhJob\n"
        f"metadata: {{name: job-1, namespace: {namespace}}}\nspec:\n{spec}\n"
        f"  retry:\n    limit: 2\n    {key}: [Disruption, NodeLost]\n"
    )
    assert answer(kubectl("create", "-f", "-", input=text)) == "phjob.primehub.io/job-1 created"
    seen = project_job(read(kubectl, namespace, "phj/job-1"))
    assert (seen.retry_limit, seen.retry_on) == (2, ("Disruption", "NodeLost"))


@pytest.mark.parametrize(
    ("retry", "problem"),
    [
        ({"limit": 1}, "spec.retry.on is required: the causes to retry for"),
        ({"on": ["Failure"]}, "spec.retry.limit: Required value"),
        ({"limit": 11, "on": ["Failure"]}, "spec.retry.limit: Invalid value: 11"),
        ({"limit": -1, "on": ["Failure"]}, "spec.retry.limit: Invalid value: -1"),
        ({"limit": 1, "on": []}, "spec.retry.on: Invalid value: 0"),
        ({"limit": 1, "on": ["Failure", "Failure"]}, "spec.retry.on[1]: Duplicate value"),
        ({"limit": 1, "on": ["Always"]}, 'spec.retry.on[0]: Unsupported value: "Always"'),
        ({"limit": 1, "on": ["Failure"], "true": ["Failure"]}, "spec.retry.on is required"),
    ],
)
def test_a_retry_names_its_limit_and_its_causes(
    kubectl: Kubectl, namespace: str, retry: dict[str, Any], problem: str
) -> None:
    """The answer names the field (spec.md, A2)."""
    done = kubectl("create", "-f", "-", input=job(namespace, retry=retry))
    assert done.returncode == 1
    assert problem in answer(done)


def test_suspend_and_retry_can_be_changed_at_any_time(kubectl: Kubectl, namespace: str) -> None:
    """spec.md, A3."""
    assert kubectl("create", "-f", "-", input=job(namespace)).returncode == 0
    found = read(kubectl, namespace, "phj/job-1")
    assert found["spec"]["suspend"] is False
    assert "retry" not in found["spec"]
    for change in (
        {"suspend": True, "retry": {"limit": 1, "on": ["Failure"]}},
        {"suspend": False, "retry": {"limit": 0}},
        {"retry": None},
    ):
        assert patch(kubectl, namespace, "phj/job-1", {"spec": change}).returncode == 0


def test_a_group_has_a_time_to_start_of_its_own(kubectl: Kubectl, namespace: str) -> None:
    """0 would requeue every job at once (spec.md, Q5)."""
    spec = {"users": ["*"], "preparingTimeoutSeconds": 0}
    done = kubectl("create", "-f", "-", input=thing("PhGroup", namespace, spec))
    assert "spec.preparingTimeoutSeconds: Invalid value: 0" in answer(done)
    spec["preparingTimeoutSeconds"] = 900
    assert kubectl("create", "-f", "-", input=thing("PhGroup", namespace, spec)).returncode == 0
