"""A running stack as one test uses it: the test's own objects, their history, and a report if it fails.

Tests share a stack. Their objects have unique names, and their jobs belong to unique groups. A test does
only what a user can do: it runs kubectl, or sends requests to the API server.
"""

import itertools
import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support import promises
from tests.support.api import Api
from tests.support.history import EtcdHistory, History, WatchEvent
from tests.support.waiting import TIMEOUT_SECONDS, eventually

from dev.component import Component
from dev.kubectl import kubectl_path
from dev.stack import Stack
from phjob_core.labels import GROUP_LABEL, label_value

Object = dict[str, Any]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]

NAMESPACE = "hub"
SERVICES = ("watcher", "scheduler", "pod-manager", "janitor")
TEST_LABEL = "test"
FINAL_PHASES = ("Succeeded", "Failed", "Cancelled")
MAX_REPORTED_EVENTS = 400
MAX_REPORTED_LOG_LINES = 40


def kubectl_for(kubeconfig: object) -> Kubectl:
    """Return a function that runs kubectl with its arguments and `input`.

    It never raises.
    """

    def run(*args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002 - subprocess's
        command = [str(kubectl_path()), f"--kubeconfig={kubeconfig}", *args]
        return subprocess.run(command, input=input, capture_output=True, text=True, check=False)

    return run


class Cluster:
    """The namespace `hub` of a stack, with the objects of one test."""

    def __init__(self, stack: Stack, etcd: str = "") -> None:
        """Use a stack that is up.

        `etcd`: the URL from which to read the history, instead of from the API server.
        """
        self.stack = stack
        self.test_id = secrets.token_hex(3)
        self.api = Api(stack.kubeconfig, NAMESPACE)
        self.kubectl = kubectl_for(stack.kubeconfig)
        self.history = EtcdHistory(self.api, etcd) if etcd else History(self.api)
        self._groups: set[str] = set()
        self.reports_all_objects = False
        """True if the failure report includes the objects of others, such as applied examples."""
        self.tampered_jobs: set[str] = set()
        """Jobs whose status the test has written. The promises do not hold for them."""
        self._numbers = itertools.count(1)
        self._log_starts = {name: self._log_size(name) for name in SERVICES}

    # --- actions ---

    def unique_name(self, name: str) -> str:
        """Return a name that no other test uses."""
        return f"{name}-{self.test_id}"

    def next_number(self) -> int:
        """Return a number that this test has not used yet."""
        return next(self._numbers)

    def create(self, *manifests: Object) -> list[str]:
        """Create the objects with a request each. Returns their names."""
        return [
            self.api.create(self._with_test_label(manifest))["metadata"]["name"] for manifest in manifests
        ]

    def kubectl_create(self, *manifests: Object) -> list[str]:
        """Create the objects with one `kubectl create`. Returns their names."""
        items = [self._with_test_label(manifest) for manifest in manifests]
        listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        done = self.kubectl("-n", NAMESPACE, "create", "-f", "-", input=listing)
        assert done.returncode == 0, done.stderr
        return [item["metadata"]["name"] for item in items]

    def patch_spec(self, kind: str, name: str, **spec: Any) -> None:
        """Change these fields of an object's spec."""
        self.api.merge_patch(kind, name, {"spec": spec})

    def cancel(self, name: str) -> None:
        """Request the cancellation of a job."""
        self.patch_spec("PhJob", name, cancel=True)

    def service(self, name: str) -> Component:
        """Return the process of a service."""
        return self.stack.component(name)

    # --- observations ---

    def job(self, name: str) -> WatchEvent:
        """Return the job as last observed, once it exists."""
        event = eventually(lambda: self.history.current("PhJob", name), f"job {name} exists")
        assert not self.history.incomplete_reason, self.history.incomplete_reason
        return event

    def status(self, name: str) -> Object:
        """Return the job's status as last observed."""
        status: Object = self.job(name).object["status"]
        return status

    def pod(self, name: str) -> WatchEvent | None:
        """Return the pod as last observed, or None if it does not exist."""
        return self.history.current("Pod", name)

    def wait_for_bound_pod(self, name: str) -> WatchEvent:
        """Wait until the pod has a node.

        Its deletion needs the node only from then on. Returns the pod.
        """

        def bound_pod() -> WatchEvent | None:
            pod = self.pod(name)
            return pod if pod and pod.object["spec"].get("nodeName") else None

        return eventually(bound_pod, f"pod {name} has a node", diagnostics=lambda: self.pod(name))

    def wait_for_phase(self, name: str, *phases: str, within: float = TIMEOUT_SECONDS) -> Object:
        """Wait until the job is in one of the phases. Returns its status."""
        eventually(
            lambda: self.job(name).phase in phases,
            f"job {name} is {' or '.join(phases)}",
            within=within,
            diagnostics=lambda: self.status(name),
        )
        return self.status(name)

    def wait_for_reason(self, name: str, reason: str, message: str = "") -> Object:
        """Wait until the job has the reason, and the text in its message.

        Returns the status of the job.
        """

        def has_reason() -> bool:
            status = self.status(name)
            return status.get("reason") == reason and message in status.get("message", "")

        description = f"job {name} has the reason {reason}: {message}"
        eventually(has_reason, description, diagnostics=lambda: self.status(name))
        return self.status(name)

    def jobs_in_phase(self, group: str, *phases: str) -> list[str]:
        """Return the names of the group's jobs that are in one of the phases now."""
        assert not self.history.incomplete_reason, self.history.incomplete_reason
        jobs = self.history.all_current("PhJob")
        return [job.name for job in jobs if job.group == group and job.phase in phases]

    def phases(self, name: str) -> list[str]:
        """Return all phases of the job up to now, in order."""
        phases: list[str] = []
        for event in self.history.complete_events():
            if event.kind == "PhJob" and event.name == name and phases[-1:] != [event.phase]:
                phases.append(event.phase)
        return phases

    def describe_job(self, name: str) -> str:
        """Return all revisions of a job and its pods as text, a line each."""
        return "\n".join(event.describe() for event in self.history.events() if event.name == name)

    def wait_for_pod_deletion(self, name: str) -> None:
        """Wait until no pod of this name exists."""
        eventually(lambda: self.pod(name) is None, f"pod {name} is gone")

    def events(self, name: str) -> list[Object]:
        """Return the Kubernetes Events of the job."""
        chosen = f"involvedObject.kind=PhJob,involvedObject.name={name}"
        return list(self.api.list("Event", fieldSelector=chosen)["items"])

    def wait_for_event(self, name: str, reason: str, count: int = 1) -> Object:
        """Wait until the only Event of the job with this reason has this count.

        Returns the Event.
        """

        def counted_event() -> Object | None:
            same = [event for event in self.events(name) if event["reason"] == reason]
            assert len(same) <= 1
            return same[0] if same and same[0]["count"] >= count else None

        description = f"{name} has an event {reason}"
        return eventually(counted_event, description, diagnostics=lambda: self.events(name))

    def service_log(self, name: str) -> str:
        """Return what the service has logged since the test began."""
        log = self.service(name).log
        return log.read_bytes()[self._log_starts[name] :].decode(errors="replace") if log.exists() else ""

    # --- end of the test ---

    def check_promises(self) -> None:
        """Check the history against the promises that hold in every test."""
        events = [event for event in self.history.complete_events() if event.name not in self.tampered_jobs]
        assert not promises.state_diagram_violations(events)
        assert not promises.single_pod_violations(events)

    def delete_objects(self) -> None:
        """Delete everything that the test has created, and all pods of its groups."""
        selector = f"{TEST_LABEL}={self.test_id}"
        for kind in ("PhJob", "PhGroup", "InstanceType", "Image", "Dataset"):
            self.api.delete_all(kind, labelSelector=selector)
        self.api.delete_all("Pod", labelSelector=selector)
        for group in self._groups:
            self.api.delete_all("Pod", labelSelector=f"{GROUP_LABEL}={label_value(group)}")

    def failure_report(self) -> list[tuple[str, str]]:
        """Return what explains a failed test, as titles and texts."""
        names = {event.name for event in self._events()}
        kubernetes_events = []
        with suppress(OSError):  # The stack may have ended.
            kubernetes_events = [
                f"{event['involvedObject']['name']}: {event.get('reason')}: {event.get('message')}"
                for event in self.api.list("Event")["items"]
                if event["involvedObject"]["name"] in names
            ]
        log_ends = [
            (
                f"end of {name}.log",
                "\n".join(self.service_log(name).splitlines()[-MAX_REPORTED_LOG_LINES:]),
            )
            for name in SERVICES
        ]
        return [
            ("history", self.describe_history()),
            ("Kubernetes events", "\n".join(kubernetes_events[-MAX_REPORTED_EVENTS:])),
            *log_ends,
        ]

    def describe_history(self) -> str:
        """Return the last changes of the test's objects, a line each."""
        lines = [event.describe() for event in self._events()]
        if len(lines) > MAX_REPORTED_EVENTS:
            lines = [f"... {len(lines) - MAX_REPORTED_EVENTS} before", *lines[-MAX_REPORTED_EVENTS:]]
        return "\n".join(lines)

    def _events(self) -> list[WatchEvent]:
        return [event for event in self.history.events() if self._belongs_to_test(event)]

    def _with_test_label(self, manifest: Object) -> Object:
        metadata = {**manifest["metadata"]}
        metadata["labels"] = {**metadata.get("labels", {}), TEST_LABEL: self.test_id}
        metadata["namespace"] = NAMESPACE
        if manifest["kind"] == "PhJob":
            self._groups.add(manifest["spec"]["groupName"])
        return {**manifest, "metadata": metadata}

    def _belongs_to_test(self, event: WatchEvent) -> bool:
        groups = {*self._groups, *map(label_value, self._groups)}
        if self.reports_all_objects:
            return True
        labels = event.object["metadata"].get("labels", {})
        return labels.get(TEST_LABEL) == self.test_id or event.group in groups

    def _log_size(self, name: str) -> int:
        log = self.service(name).log
        return log.stat().st_size if log.exists() else 0


@contextmanager
def cluster_on(stack: Stack, etcd: str = "") -> Iterator[Cluster]:
    """Yield a cluster on the stack.

    Afterwards check the promises and delete the objects.
    """
    if not all(stack.component(name).is_current() for name in SERVICES):
        stack.up()  # Another module has used other settings, or a failed test has left a service dead.
    cluster = Cluster(stack, etcd)
    try:
        with cluster.history:
            yield cluster
            cluster.check_promises()
    finally:
        cluster.delete_objects()
