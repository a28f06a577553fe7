from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from tests.fakes.simulated_pod_manager import SimulatedPodManager, run_scenario

from phjob_core.messages import JobSeen
from phjob_core.projection import project_job
from phjob_pod_manager import status_patches
from phjob_pod_manager.job_writes import JobWriter
from phjob_pod_manager.progress import WriteRejectedError
from phjob_pod_manager.store import JobStore

T = TypeVar("T")


@dataclass
class Fixture:
    """A job writer over a store, and a cluster with one job, as the store has it."""

    cluster: SimulatedPodManager
    store: JobStore
    writer: JobWriter
    job: JobSeen

    @property
    def cached(self) -> JobSeen | None:
        """The job in the store."""
        return self.store.jobs.get(self.job.uid)

    async def write_url(self) -> bool:
        """Write a log URL. Returns whether it was written."""
        return await self.writer.write_status(
            self.job, status_patches.set_log_url(self.job, "file:///x"), "set log URL"
        )


def run(scenario: Callable[[Fixture], Awaitable[T]]) -> T:
    """Run the scenario. Returns its result."""

    async def with_store(cluster: SimulatedPodManager) -> T:
        store = JobStore()
        job = project_job(cluster.job())
        store.upsert_job(job)
        return await scenario(Fixture(cluster, store, JobWriter(cluster.api, cluster.retrier, store), job))

    return run_scenario(with_store)


def test_a_written_status_is_in_the_store_at_once() -> None:
    """The next step is planned from it, before the watch reports it."""

    async def scenario(fixture: Fixture) -> tuple[bool, str]:
        is_written = await fixture.write_url()
        return is_written, fixture.cached.log_url if fixture.cached else ""

    assert run(scenario) == (True, "file:///x")


def test_a_write_to_a_job_that_has_changed_is_rejected_and_the_store_has_the_change() -> None:
    """The fence shows that another pod-manager has written it."""

    async def scenario(fixture: Fixture) -> tuple[bool, str, str]:
        fixture.cluster.store.patch(
            "phjobs", "job-1", [{"op": "add", "path": "/status/fence", "value": "s#2"}]
        )
        is_written = await fixture.write_url()
        cached = fixture.cached
        assert cached
        return is_written, cached.fence, cached.log_url

    assert run(scenario) == (False, "s#2", "")


def test_a_rejection_although_the_job_is_unchanged_is_an_error() -> None:
    """A policy does that, and an operator may lift it. The job's worker tries again later."""

    async def scenario(fixture: Fixture) -> None:
        fixture.cluster.reject_patches("phjobs")
        with pytest.raises(WriteRejectedError, match="job-1"):
            await fixture.write_url()

    run(scenario)


def test_a_rejection_of_a_job_that_the_watch_has_meanwhile_reported_is_no_error() -> None:
    """The change is in the store already, so a read brings nothing new."""

    async def scenario(fixture: Fixture) -> bool:
        store = fixture.cluster.store
        store.patch("phjobs", "job-1", [{"op": "add", "path": "/status/fence", "value": "s#2"}])
        fixture.store.upsert_job(project_job(fixture.cluster.job()))
        return await fixture.write_url()

    assert not run(scenario)


def test_a_job_that_is_deleted_or_reclaimed_leaves_the_store() -> None:
    """It needs nothing more."""

    async def reclaimed(fixture: Fixture) -> tuple[bool, object]:
        patch = [{"op": "add", "path": "/status/reclaimed", "value": True}]
        fixture.cluster.store.patch("phjobs", "job-1", patch)
        return await fixture.writer.refresh(fixture.job), fixture.cached

    async def deleted(fixture: Fixture) -> tuple[bool, object]:
        fixture.cluster.store.remove("phjobs", "job-1")
        return await fixture.writer.refresh(fixture.job), fixture.cached

    assert run(reclaimed) == (True, None)
    assert run(deleted) == (True, None)


def test_a_record_is_deleted_by_its_uid() -> None:
    """A new job of the same name stays."""

    async def scenario(fixture: Fixture) -> list[str]:
        await fixture.writer.delete_record("phjobs-9", "job-1")
        names = [job["metadata"]["name"] for job in fixture.cluster.store.all("phjobs")]
        await fixture.writer.delete_record(fixture.job.uid, "job-1")
        return [*names, *(job["metadata"]["name"] for job in fixture.cluster.store.all("phjobs"))]

    assert run(scenario) == ["job-1"]


def test_the_message_of_a_job_is_read_from_the_job() -> None:
    """The store has it only while the job is Pending (spec.md, E7)."""

    async def scenario(fixture: Fixture) -> list[str]:
        status = {**fixture.cluster.job()["status"], "phase": "Failed", "message": "exit code 1"}
        fixture.cluster.store.set_status("phjobs", "job-1", status)
        messages = [await fixture.writer.read_message(fixture.job)]
        fixture.cluster.store.remove("phjobs", "job-1")
        messages.append(await fixture.writer.read_message(fixture.job))
        return messages

    assert run(scenario) == ["exit code 1", ""]
