"""PhJob takes over a cluster of PrimeHub: its CRDs, and the jobs that its controller has left.

The CRDs and the objects are those of PrimeHub 3 and 4 (`support/primehub.py`), on a real API server.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support import primehub
from tests.support.api import Api, ApiError
from tests.support.builders import RUN_FOR, a_group, an_image, an_instance_type
from tests.support.cluster import NAMESPACE, Kubectl, kubectl_for
from tests.support.primehub import a_left_job, a_left_pod, minutes_ago
from tests.support.waiting import eventually

from dev.paths import StackPaths
from dev.stack import Stack

CRDS = Path(__file__).parents[2] / "k8s" / "chart" / "crds"
OURS = ("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
"""The command of docs/primehub.md."""
TEXT = "the custom resource phjobs.primehub.io in the cluster is not PhJob's, or of another release"
FOREVER = {RUN_FOR: "1h"}
LEFT_JOBS: dict[str, dict[str, Any]] = {
    "succeeded": {"phase": "Succeeded", "reason": "PodSucceeded"},
    "timed-out": {"phase": "Failed", "reason": "OverActivateDeadline", "message": "Job over its deadline"},
    "cancelled": {"phase": "Cancelled", "reason": "Cancelled"},
    "running": {"phase": "Running", "reason": "PodRunning"},
    "running-gone": {"phase": "Running", "reason": "PodRunning"},
    "preparing": {"phase": "Preparing", "reason": "PodPending"},
    "preparing-gone": {"phase": "Preparing", "reason": "PodPending"},
    "unknown": {"phase": "Unknown", "reason": "PodUnknown"},
    "unknown-gone": {"phase": "Unknown", "reason": "PodUnknown"},
    "unknown-cancel": {"phase": "Unknown", "reason": "PodUnknown"},
    "queued": {"phase": "Pending", "reason": "OverQuota", "message": "Insufficient group quota"},
    "nobody": {"phase": "Pending", "reason": "OverQuota", "message": "Insufficient user quota"},
    "nobody-running": {"phase": "Running", "reason": "PodRunning"},
    "nobody-succeeded": {"phase": "Succeeded", "reason": "PodSucceeded"},
}
"""The jobs of the group `vision`, by name. Those that have run to an end have times."""
WITHOUT_USER = ("nobody", "nobody-running", "nobody-succeeded")
"""The jobs without a user, which PrimeHub 3 permitted."""
PODS = {"running": {}, "preparing": {}, "unknown": {}, "unknown-cancel": FOREVER, "nobody-running": {}}
"""The jobs that have a pod, with its annotations. Their pods stay for one second after the end."""
FINAL = {
    "succeeded": ("Succeeded", "PodSucceeded"),
    "timed-out": ("Failed", "OverActivateDeadline"),
    "cancelled": ("Cancelled", "Cancelled"),
    "running": ("Succeeded", "Completed"),
    "running-gone": ("Failed", "PodDeleted"),
    "preparing": ("Succeeded", "Completed"),
    "preparing-gone": ("Failed", "PodCreationFailed"),
    "unknown": ("Succeeded", "Completed"),
    "unknown-gone": ("Failed", "PodDeleted"),
    "unknown-cancel": ("Cancelled", "Cancelled"),
    "nobody": ("Failed", "InvalidSpec"),
    "nobody-running": ("Succeeded", "Completed"),
    "nobody-succeeded": ("Succeeded", "PodSucceeded"),
}
"""The phase and the reason with which each job ends; `queued` waits."""


class Takeover:
    """A cluster of PrimeHub, to which PhJob comes later."""

    def __init__(self, state: Path) -> None:
        """Start a cluster with PhJob's CRDs, without its services."""
        self._stack = Stack(state, node="kwok", parts=("control-plane", "rabbitmq", "node"))
        self._stack.up()
        self.complete = Stack(state, node="kwok")
        self._paths = StackPaths(state)
        self.api = Api(self._stack.kubeconfig, NAMESPACE)
        self.kubectl: Kubectl = kubectl_for(self._stack.kubeconfig)

    def become_primehubs(self) -> None:
        """Replace all CRDs by those of PrimeHub 3."""
        self.apply_primehubs_crds(primehub.REQUIRED_3)
        eventually(self._accepts_phase_unknown, "PrimeHub's CRDs are in force")

    def age(self, release: int) -> None:
        """Let the CRDs be as in a cluster with this release that has had PrimeHub 3 once."""
        if release == 4:
            self.apply_primehubs_crds()
            return
        for crd in self.crds():
            primehub.store_as_v1beta1(self._paths.url("etcd", "http"), crd)

    def apply_primehubs_crds(self, required: Sequence[str] = primehub.REQUIRED_4) -> None:
        """Apply PrimeHub's CRDs over all others, as its installer does."""
        crds = json.dumps({"apiVersion": "v1", "kind": "List", "items": primehub.crds(required)})
        command = ("apply", "--server-side", "--force-conflicts", "--field-manager=primehub-install")
        done = self.kubectl(*command, "-f", "-", input=crds)
        assert done.returncode == 0, done.stderr

    def crds(self) -> list[dict[str, Any]]:
        """Return the CRDs that PrimeHub has, too, as stored."""
        names = [crd["metadata"]["name"] for crd in primehub.crds()]
        done = self.kubectl("get", "crds", *names, "-o", "json")
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found

    def _accepts_phase_unknown(self) -> bool:
        """Return whether the API server validates jobs by PrimeHub's CRD."""
        probe = "probe"
        if self.api.get("PhJob", probe) is None:
            self.api.create(a_left_job(probe, group="vision"))
        try:
            self.api.merge_patch("PhJob", probe, {"status": {"phase": "Unknown"}}, subresource="status")
        except ApiError:
            return False
        self.api.delete("PhJob", probe)
        return True

    def leave_job(
        self, name: str, user: str | None = "bob", ttl: int | None = None, **status: Any
    ) -> dict[str, Any]:
        """Create a job with this status. Returns it as stored."""
        job = a_left_job(name, group="vision", user=user, **status)
        if ttl is not None:
            job["spec"]["ttlSecondsAfterFinished"] = ttl
        stored = self.api.create(job)
        if status:
            return self.api.merge_patch("PhJob", name, {"status": status}, subresource="status")
        return stored

    def job(self, name: str) -> dict[str, Any]:
        """Return a job as it is now."""
        found = self.api.get("PhJob", name)
        assert found
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a job as it is now."""
        status: dict[str, Any] = self.job(name)["status"]
        return status

    def apply_our_crds(self) -> None:
        """Run the command that the documentation has."""
        done = self.kubectl(*OURS)
        assert done.returncode == 0, done.stderr

    def watcher_reason(self) -> str:
        """Return what the watcher answers at /readyz; empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"{self._paths.url('watcher', 'http')}/readyz") as response:  # noqa: S310
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""


@pytest.fixture(scope="module", params=[3, 4], ids=["primehub-3", "primehub-4"])
def takeover(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Takeover]:
    """A cluster of PrimeHub with jobs in every phase. The catalog is there, but no PhGroup."""
    state = tmp_path_factory.mktemp("takeover")
    try:
        takeover = Takeover(state)
        takeover.become_primehubs()
        takeover.api.create(an_image())
        takeover.api.create(an_instance_type())
        times = {"startTime": minutes_ago(9), "finishTime": minutes_ago(8)}
        for name, status in LEFT_JOBS.items():
            has_times = status["phase"] in ("Succeeded", "Failed")
            user = None if name in WITHOUT_USER else "bob"
            ttl = 1 if name in PODS else None
            job = takeover.leave_job(name, user, ttl, **(times if has_times else {}), **status)
            if name in PODS:
                takeover.api.create(a_left_pod(job, **PODS[name]))
        takeover.age(request.param)
        yield takeover
    finally:
        Stack(state).down()


@pytest.fixture(scope="module")
def waiting_watcher(takeover: Takeover) -> str:
    """What the watcher says while the CRDs are PrimeHub's. Afterwards they are PhJob's."""
    watcher = takeover.complete.component("watcher")
    watcher.start()
    reason = eventually(
        lambda: takeover.watcher_reason() if TEXT in takeover.watcher_reason() else "",
        "the watcher says whose the CRDs are",
        diagnostics=lambda: watcher.log.read_text()[-3000:],
    )
    assert "crds_unusable" in watcher.log.read_text()
    assert "Traceback" not in watcher.log.read_text()
    takeover.apply_our_crds()
    takeover.complete.up()
    return reason


def test_the_watcher_waits_for_phjobs_crds_and_says_so(waiting_watcher: str) -> None:
    """It starts to work when they are applied, without a restart (spec.md, E8)."""
    assert waiting_watcher.startswith(f"waiting for the custom resources: {TEXT}: it lacks ")
    assert "kubectl apply --server-side --force-conflicts -f k8s/chart/crds" in waiting_watcher


@pytest.mark.usefixtures("waiting_watcher")
def test_crds_of_primehub_do_not_preserve_unknown_fields_any_more(takeover: Takeover) -> None:
    """Those of PrimeHub 3 did, with which the API server refuses defaults."""
    crds = takeover.crds()
    assert len(crds) == 4
    assert not [crd for crd in crds if crd["spec"].get("preserveUnknownFields")]


@pytest.mark.usefixtures("waiting_watcher")
@pytest.mark.parametrize("name", FINAL)
def test_a_job_of_primehub_is_read_finished_and_cleaned(takeover: Takeover, name: str) -> None:
    """In every phase, with every reason (spec.md, E9). Its command is not started again."""
    if name == "unknown-cancel":
        takeover.api.merge_patch("PhJob", name, {"spec": {"cancel": True}})

    def has_ended() -> bool:
        return (takeover.status(name)["phase"], takeover.status(name)["reason"]) == FINAL[name]

    eventually(has_ended, f"{name} has ended", diagnostics=lambda: takeover.job(name))
    assert takeover.status(name).get("requeued", 0) == 0
    eventually(
        lambda: takeover.status(name)["reclaimed"], f"{name} is reclaimed",
        diagnostics=lambda: takeover.job(name),
    )  # fmt: skip
    assert takeover.api.get("Pod", name) is None


@pytest.mark.usefixtures("waiting_watcher")
def test_a_job_that_waits_for_primehub_waits_for_its_phgroup_and_then_runs(takeover: Takeover) -> None:
    """It is younger than a minute, but it was accepted before PhJob came (spec.md, Q4)."""

    def waits() -> bool:
        status = takeover.status("queued")
        text = status.get("message")
        return (status["phase"], status["reason"], text) == (
            "Pending", "InvalidSpec", "group 'vision' does not exist",
        )  # fmt: skip

    eventually(waits, "the job says which PhGroup it waits for", diagnostics=lambda: takeover.job("queued"))
    takeover.api.create(a_group("vision"))
    eventually(
        lambda: takeover.status("queued")["phase"] == "Succeeded", "the job has run",
        diagnostics=lambda: takeover.job("queued"),
    )  # fmt: skip


@pytest.mark.usefixtures("waiting_watcher")
def test_primehubs_installer_can_be_undone(takeover: Takeover) -> None:
    """It applies its CRDs at each upgrade. PhJob then says so, and goes on when its own are back."""
    takeover.apply_primehubs_crds()
    log = takeover.complete.component("watcher").log
    eventually(
        lambda: TEXT in takeover.watcher_reason(), "the watcher says whose the CRDs are",
        diagnostics=lambda: log.read_text()[-3000:],
    )  # fmt: skip
    takeover.apply_our_crds()
    eventually(
        lambda: takeover.watcher_reason() == "ok\n", "the watcher works again",
        diagnostics=lambda: log.read_text()[-3000:],
    )  # fmt: skip
    takeover.leave_job("after")
    eventually(
        lambda: takeover.status("after")["phase"] == "Succeeded", "a new job runs",
        diagnostics=lambda: takeover.job("after"),
    )  # fmt: skip
    assert "Traceback" not in log.read_text()
