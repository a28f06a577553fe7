import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.fakes.simulated_pod_manager import FENCE, SimulatedPodManager, an_admit, run_scenario

from phjob_core.api import API_VERSION
from phjob_core.lifecycle import Event
from phjob_core.messages import JobSeen
from phjob_core.planner import LogState
from phjob_core.projection import project_job, project_pod
from phjob_core.steps import ApplyEvent, DeletePod, HoldPod, MarkReclaimed, ReleasePod, Step
from phjob_pod_manager.job_writes import JobWriter
from phjob_pod_manager.preconditions import Preconditions
from phjob_pod_manager.store import JobStore

T = TypeVar("T")


@dataclass
class Fixture:
    """The preconditions over an empty store, and a cluster with an admitted job and its pod."""

    cluster: SimulatedPodManager
    store: JobStore
    preconditions: Preconditions

    def observe_job(self) -> JobSeen:
        """Record the job as it is in the cluster."""
        job = project_job(self.cluster.job())
        self.store.upsert_job(job)
        return job

    async def verify(self, step: Step, job: JobSeen) -> bool:
        """Return whether the step applies, planned from what the store has."""
        return await self.preconditions.verify(step, self.store.job_state(job, LogState(), admitting=False))


def a_fixture(cluster: SimulatedPodManager) -> Fixture:
    store = JobStore()
    jobs = JobWriter(cluster.api, cluster.retrier, store)
    return Fixture(cluster, store, Preconditions(cluster.api, cluster.retrier, store, jobs))


def run(scenario: Callable[[Fixture], Awaitable[T]]) -> T:
    """Run the scenario after the admission of a job. Returns its result."""

    async def run_after_admission(cluster: SimulatedPodManager) -> T:
        cluster.receive(FENCE, an_admit())
        await asyncio.sleep(10)
        return await scenario(a_fixture(cluster))

    return run_scenario(run_after_admission)


def test_a_step_that_relies_on_the_lack_of_a_pod_does_not_apply_if_there_is_one() -> None:
    """The watch of the pods may be behind that of the jobs. The job must not fail with `PodDeleted`."""

    async def scenario(fixture: Fixture) -> tuple[bool, object]:
        job = fixture.observe_job()
        applies = await fixture.verify(ApplyEvent(Event.POD_VANISHED), job)
        return applies, fixture.store.pod_of(job.uid)

    applies, pod = run(scenario)
    assert not applies
    assert pod, "the next step is planned with it"


def test_a_step_that_relies_on_the_lack_of_a_pod_applies_if_there_is_none() -> None:
    """The API server has confirmed it."""

    async def scenario(fixture: Fixture) -> bool:
        job = fixture.observe_job()
        fixture.cluster.store.remove("pods", "job-1")
        return await fixture.verify(ApplyEvent(Event.POD_VANISHED), job)

    assert run(scenario)


def test_a_stray_pod_changes_nothing_for_an_unfinished_job_and_keeps_a_finished_one() -> None:
    """It cannot be the named pod's return. But a job is not reclaimed while a pod of it exists."""

    async def scenario(fixture: Fixture) -> tuple[bool, bool]:
        fixture.cluster.store.remove("pods", "job-1")
        uid = fixture.cluster.job()["metadata"]["uid"]
        owner = {"apiVersion": API_VERSION, "kind": "PhJob", "name": "job-1", "uid": uid, "controller": True}
        stray = {"metadata": {"name": "job-1", "ownerReferences": [owner]}, "spec": {"containers": []}}
        fixture.cluster.store.create("pods", stray)
        unfinished = await fixture.verify(ApplyEvent(Event.POD_VANISHED), fixture.observe_job())
        fixture.cluster.store.patch(
            "phjobs", "job-1", [{"op": "add", "path": "/status/phase", "value": "Failed"}]
        )
        later = a_fixture(fixture.cluster)
        finished = await later.verify(MarkReclaimed(), later.observe_job())
        return unfinished, finished

    assert run(scenario) == (True, False)


def test_the_deletion_of_a_stray_pod_applies_only_if_the_job_is_unchanged() -> None:
    """The job may have named the pod since."""

    async def scenario(fixture: Fixture) -> tuple[bool, bool]:
        job = fixture.observe_job()
        step = DeletePod(project_pod(fixture.cluster.pod() or {}), stray=True)
        unchanged = await fixture.verify(step, job)
        fixture.cluster.store.edit("phjobs", "job-1", cancel=True)
        return unchanged, await fixture.verify(step, job)

    assert run(scenario) == (True, False)


def test_the_release_of_a_pod_applies_only_if_the_job_is_unchanged() -> None:
    """Without its finalizer, the pod's last state could be missed."""

    async def scenario(fixture: Fixture) -> tuple[bool, bool]:
        job = fixture.observe_job()
        step = ReleasePod(project_pod(fixture.cluster.pod() or {}))
        unchanged = await fixture.verify(step, job)
        fixture.cluster.store.remove("phjobs", "job-1")
        return unchanged, await fixture.verify(step, job)

    assert run(scenario) == (True, False)


def test_a_step_that_can_be_undone_is_not_verified() -> None:
    """That would cost a request for each."""

    async def scenario(fixture: Fixture) -> bool:
        job = fixture.observe_job()
        step = HoldPod(project_pod(fixture.cluster.pod() or {}))
        fixture.cluster.api_faults.down = True
        return await fixture.verify(step, job)

    assert run(scenario)
