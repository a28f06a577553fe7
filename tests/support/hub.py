"""A test's own corner of a running stack: its objects, their history, and what to show if it fails.

Tests share a stack; they meet neither by name nor by group. What a test does is what a user can do:
kubectl, or the same request to the API server.
"""

import itertools
import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import promises
from tests.support.api import Api
from tests.support.history import Event, History, StoredHistory
from tests.support.waiting import WITHIN, eventually

from dev.component import Component
from dev.kubectl import kubectl_path
from dev.stack import Stack
from shared.labels import GROUP_LABEL, label_value

Object = dict[str, Any]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]

NAMESPACE = "hub"
SERVICES = ("watcher", "scheduler", "pod-manager", "janitor")
TEST_LABEL = "test"
FINAL = ("Succeeded", "Failed", "Cancelled")
SHOWN_EVENTS = 400
SHOWN_LOG_LINES = 40


def kubectl_for(kubeconfig: object) -> Kubectl:
    """Kubectl of one cluster: its arguments, and `input`; a failure is an answer like any other."""

    def run(*args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002 - subprocess's
        command = [str(kubectl_path()), f"--kubeconfig={kubeconfig}", *args]
        return subprocess.run(command, input=input, capture_output=True, text=True, check=False)

    return run


class Hub:
    """The namespace `hub`, as one test sees it."""

    def __init__(self, stack: Stack, etcd: str = "") -> None:
        """Of a stack that is up; `etcd`: where its history is read, if not from the API server."""
        self.stack = stack
        self.id = secrets.token_hex(3)
        self.api = Api(stack.kubeconfig, NAMESPACE)
        self.kubectl = kubectl_for(stack.kubeconfig)
        self.history = StoredHistory(self.api, etcd) if etcd else History(self.api)
        self._groups: set[str] = set()
        self.everything = False
        """Whether to show also what this test did not create by itself."""
        self.meddled: set[str] = set()
        """Jobs whose status the test itself has written: for them nothing is promised."""
        self._numbers = itertools.count(1)
        self._log_starts = {name: self._size(name) for name in SERVICES}

    # --- what a test does ---

    def name(self, name: str) -> str:
        """A name that no other test has."""
        return f"{name}-{self.id}"

    def next_number(self) -> int:
        """A number that this test did not have yet."""
        return next(self._numbers)

    def create(self, *manifests: Object) -> list[str]:
        """Create them, one request each; their names."""
        return [self.api.create(self._ours(manifest))["metadata"]["name"] for manifest in manifests]

    def kubectl_create(self, *manifests: Object) -> list[str]:
        """Create them by one `kubectl create`; their names."""
        items = [self._ours(manifest) for manifest in manifests]
        listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        done = self.kubectl("-n", NAMESPACE, "create", "-f", "-", input=listing)
        assert done.returncode == 0, done.stderr
        return [item["metadata"]["name"] for item in items]

    def change(self, kind: str, name: str, **spec: Any) -> None:
        """Change these fields of an object's spec."""
        self.api.merge(kind, name, {"spec": spec})

    def cancel(self, name: str) -> None:
        """Ask for a job's cancellation."""
        self.change("PhJob", name, cancel=True)

    def service(self, name: str) -> Component:
        """The process of one of the services."""
        return self.stack.component(name)

    # --- what a test sees ---

    def job(self, name: str) -> Event:
        """The job as last seen; it must be there."""
        event = eventually(lambda: self.history.latest("PhJob", name), f"job {name} is there")
        assert not self.history.broken, self.history.broken
        return event

    def status(self, name: str) -> Object:
        """The job's status as last seen."""
        status: Object = self.job(name).object["status"]
        return status

    def pod(self, name: str) -> Event | None:
        """The pod as last seen; None if there is none."""
        return self.history.latest("Pod", name)

    def reaches(self, name: str, *phases: str, within: float = WITHIN) -> Object:
        """The job's status once it is in one of the phases."""
        eventually(
            lambda: self.job(name).phase in phases,
            f"job {name} is {' or '.join(phases)}",
            within=within,
            instead=lambda: self.status(name),
        )
        return self.status(name)

    def says(self, name: str, reason: str, message: str = "") -> Object:
        """The job's status once it has the reason, and a message with this in it."""

        def said() -> bool:
            status = self.status(name)
            return status.get("reason") == reason and message in status.get("message", "")

        eventually(said, f"job {name} says {reason}: {message}", instead=lambda: self.status(name))
        return self.status(name)

    def in_phase(self, group: str, *phases: str) -> list[str]:
        """The names of the group's jobs that are in one of the phases, as last seen."""
        assert not self.history.broken, self.history.broken
        jobs = self.history.all("PhJob")
        return [job.name for job in jobs if job.group == group and job.phase in phases]

    def phases(self, name: str) -> list[str]:
        """Every phase that the job was in, in order."""
        phases: list[str] = []
        for event in self.history.complete():
            if event.kind == "PhJob" and event.name == name and phases[-1:] != [event.phase]:
                phases.append(event.phase)
        return phases

    def story(self, name: str) -> str:
        """All that happened to a job and its pods, for a person."""
        return "\n".join(event.line() for event in self.history.events() if event.name == name)

    def pod_is_gone(self, name: str) -> None:
        """Wait until there was a pod of that name and is none."""
        eventually(lambda: self.pod(name) is None, f"pod {name} is gone")

    def log(self, name: str) -> str:
        """What the service has logged since the test began."""
        log = self.service(name).log
        return log.read_bytes()[self._log_starts[name] :].decode(errors="replace") if log.exists() else ""

    # --- its beginning and end ---

    def check(self) -> None:
        """Hold the history against the promises that no test may break."""
        events = [event for event in self.history.complete() if event.name not in self.meddled]
        assert not promises.against_state_diagram(events)
        assert not promises.against_one_pod_a_job(events)

    def clean(self) -> None:
        """Delete what the test has created."""
        ours = f"{TEST_LABEL}={self.id}"
        for kind in ("PhJob", "PhGroup", "InstanceType", "Image"):
            self.api.delete_all(kind, labelSelector=ours)
        self.api.delete_all("Pod", labelSelector=ours)
        for group in self._groups:
            self.api.delete_all("Pod", labelSelector=f"{GROUP_LABEL}={label_value(group)}")

    def report(self) -> list[tuple[str, str]]:
        """What a person needs to see why a test failed, as titles and texts."""
        events = [event for event in self.history.events() if self._is_ours(event)]
        lines = [event.line() for event in events]
        if len(lines) > SHOWN_EVENTS:
            lines = [f"... {len(lines) - SHOWN_EVENTS} before", *lines[-SHOWN_EVENTS:]]
        names = {event.name for event in events}
        said = [
            f"{event['involvedObject']['name']}: {event.get('reason')}: {event.get('message')}"
            for event in self.api.list("Event")["items"]
            if event["involvedObject"]["name"] in names
        ]
        tails = [
            (f"end of {name}.log", "\n".join(self.log(name).splitlines()[-SHOWN_LOG_LINES:]))
            for name in SERVICES
        ]
        return [("history", "\n".join(lines)), ("Kubernetes events", "\n".join(said[-SHOWN_EVENTS:])), *tails]

    def _ours(self, manifest: Object) -> Object:
        metadata = {**manifest["metadata"]}
        metadata["labels"] = {**metadata.get("labels", {}), TEST_LABEL: self.id}
        metadata["namespace"] = NAMESPACE
        if manifest["kind"] == "PhJob":
            self._groups.add(manifest["spec"]["groupName"])
        return {**manifest, "metadata": metadata}

    def _is_ours(self, event: Event) -> bool:
        groups = {*self._groups, *map(label_value, self._groups)}
        if self.everything:
            return True
        return event.object["metadata"].get("labels", {}).get(TEST_LABEL) == self.id or event.group in groups

    def _size(self, name: str) -> int:
        log = self.service(name).log
        return log.stat().st_size if log.exists() else 0


@contextmanager
def corner(stack: Stack, etcd: str = "") -> Iterator[Hub]:
    """A test's corner; at its end the history is held against what no test may break."""
    if not all(stack.component(name).is_current() for name in SERVICES):
        stack.up()  # Of another module's settings, or left dead by a test that failed.
    hub = Hub(stack, etcd)
    try:
        with hub.history:
            yield hub
            hub.check()
    finally:
        hub.clean()
