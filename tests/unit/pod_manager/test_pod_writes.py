import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from tests.fakes.simulated_pod_manager import SimulatedPodManager, run_scenario

from phjob_core.api import API_VERSION, GATE, REQUEUE_FINALIZER, Object
from phjob_core.errors import RejectedError
from phjob_core.messages import PodSeen
from phjob_core.pod_reading import Quotes
from phjob_core.projection import project_pod
from phjob_pod_manager.pod_writes import PodWriter
from phjob_pod_manager.progress import Progress, WriteRejectedError
from phjob_pod_manager.store import JobStore

T = TypeVar("T")
FOREIGN_GATE = "example.com/quota"


@dataclass
class Fixture:
    """A pod writer over an empty store, and a cluster with one gated pod of a job."""

    cluster: SimulatedPodManager
    store: JobStore
    writer: PodWriter

    @property
    def pod(self) -> PodSeen:
        """The pod as it is in the cluster."""
        return project_pod(self.manifest)

    @property
    def manifest(self) -> Object:
        """The whole pod as it is in the cluster."""
        found = self.cluster.pod()
        assert found
        return found

    def edit(self, path: str, value: object) -> None:
        """Change the pod behind the writer's back."""
        self.cluster.store.patch("pods", "job-1", [{"op": "add", "path": path, "value": value}])


def run(scenario: Callable[[Fixture], Awaitable[T]]) -> T:
    """Run the scenario. Returns its result."""

    async def with_pod(cluster: SimulatedPodManager) -> T:
        uid = cluster.job()["metadata"]["uid"]
        owner = {"apiVersion": API_VERSION, "kind": "PhJob", "name": "job-1", "uid": uid, "controller": True}
        gates = [{"name": FOREIGN_GATE}, {"name": GATE}]
        pod = {
            "metadata": {"name": "job-1", "ownerReferences": [owner]},
            "spec": {"containers": [], "schedulingGates": gates},
        }
        cluster.store.create("pods", pod)
        store = JobStore()
        return await scenario(Fixture(cluster, store, PodWriter(cluster.api, cluster.retrier, store)))

    return run_scenario(with_pod)


def test_only_phjobs_own_gate_is_removed() -> None:
    """An admission plugin may have put its gate before it."""

    async def scenario(fixture: Fixture) -> tuple[Progress, object]:
        progress = await fixture.writer.ungate(fixture.pod)
        assert fixture.store.pods.get(fixture.pod.uid) == fixture.pod
        return progress, fixture.manifest["spec"]["schedulingGates"]

    assert run(scenario) == (Progress.REPLAN, [{"name": FOREIGN_GATE}])


def test_the_gate_of_another_pod_of_the_same_name_stays() -> None:
    """Without that, a late write would start a pod that no job names."""

    async def scenario(fixture: Fixture) -> tuple[Progress, int]:
        old = fixture.pod
        body = {**fixture.manifest, "metadata": {"name": "job-1"}}
        fixture.cluster.store.remove("pods", "job-1")
        fixture.cluster.store.create("pods", body)
        progress = await fixture.writer.ungate(old)
        return progress, len(fixture.manifest["spec"]["schedulingGates"])

    assert run(scenario) == (Progress.WAIT, 2)


def test_a_gate_that_cannot_be_removed_is_an_error() -> None:
    """The job's worker tries again later."""

    async def scenario(fixture: Fixture) -> None:
        fixture.cluster.reject_patches("pods")
        with pytest.raises(WriteRejectedError, match="job-1"):
            await fixture.writer.ungate(fixture.pod)

    run(scenario)


def test_a_pod_is_held_only_if_it_is_unchanged() -> None:
    """Otherwise the step was planned from an old state."""

    async def scenario(fixture: Fixture) -> tuple[Progress, bool, Progress, bool]:
        old = fixture.pod
        fixture.edit("/metadata/labels", {"edited": "yes"})
        first, was_held = await fixture.writer.hold(old), fixture.pod.held
        return first, was_held, await fixture.writer.hold(fixture.pod), fixture.pod.held

    assert run(scenario) == (Progress.REPLAN, False, Progress.REPLAN, True)


def test_a_release_keeps_the_finalizers_of_other_programs() -> None:
    """Each program removes its own."""

    async def scenario(fixture: Fixture) -> tuple[Progress, object]:
        fixture.edit("/metadata/finalizers", ["example.com/audit", REQUEUE_FINALIZER])
        progress = await fixture.writer.release(fixture.pod)
        return progress, fixture.manifest["metadata"]["finalizers"]

    assert run(scenario) == (Progress.REPLAN, ["example.com/audit"])


def test_a_pod_that_has_changed_is_not_deleted_at_its_old_revision() -> None:
    """It may have started since."""

    async def scenario(fixture: Fixture) -> tuple[Progress, bool, Progress, object]:
        old = fixture.pod
        fixture.edit("/metadata/labels", {"edited": "yes"})
        first = await fixture.writer.delete(old, revision=old.resource_version)
        still_there = fixture.cluster.pod() is not None
        second = await fixture.writer.delete(fixture.pod, revision=fixture.pod.resource_version)
        await asyncio.sleep(60)
        return first, still_there, second, fixture.cluster.pod()

    assert run(scenario) == (Progress.REPLAN, True, Progress.WAIT, None)


def test_a_pod_that_is_gone_needs_no_write() -> None:
    """The watch reports its end."""

    async def scenario(fixture: Fixture) -> set[Progress]:
        gone = fixture.pod
        fixture.cluster.store.remove("pods", "job-1")
        writes = (
            fixture.writer.ungate(gone), fixture.writer.hold(gone), fixture.writer.release(gone),
            fixture.writer.delete(gone),
        )  # fmt: skip
        return {await write for write in writes}

    assert run(scenario) == {Progress.WAIT}


def test_the_message_of_a_pod_is_read_from_the_pod() -> None:
    """Its last lines are for its user, so no fact has them (spec.md, E7)."""

    async def scenario(fixture: Fixture) -> list[tuple[str, Quotes]]:
        pod, found = fixture.pod, []

        async def read() -> None:
            found.append((await fixture.writer.read_message(pod), await fixture.writer.read_quotes(pod)))

        await read()
        fixture.edit("/status", {"phase": "Failed", "reason": "Evicted", "message": " low on memory\n"})
        await read()
        fixture.cluster.store.remove("pods", "job-1")
        await read()
        return found

    assert run(scenario) == [("", Quotes()), ("low on memory", Quotes("low on memory")), ("", Quotes())]


def test_a_pod_that_may_not_be_read_has_no_message() -> None:
    """The end of a job does not wait for a text."""

    async def scenario(fixture: Fixture) -> tuple[str, Quotes]:
        async def refuse(*_: object, **__: object) -> Object | None:
            raise RejectedError(405, "MethodNotAllowed", "no")

        fixture.cluster.api.get = refuse  # type: ignore[method-assign]
        pod = fixture.pod
        return await fixture.writer.read_message(pod), await fixture.writer.read_quotes(pod)

    assert run(scenario) == ("", Quotes())
