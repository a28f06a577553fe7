"""A retry and its attempts, on the simulated API server. `test_status_patches` has the single writes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.fakes.simulated_pod_manager import FENCE, SimulatedPodManager, an_admit, run_scenario

from phjob_core.messages import JobSeen, PodSeen
from phjob_core.projection import project_job
from phjob_pod_manager.attempts import MAX_ATTEMPTS

FAILED: dict[str, Any] = {
    "exitCode": 1, "reason": "Error",
    "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:20Z",
}  # fmt: skip


class MemoryArchive:
    """An archive whose URLs are those of the real one."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        """Return the URL of this pod's log."""
        return f"memory://{job.name}/{job.uid}/attempt-{pod.attempt}.log"

    async def put(self, job: JobSeen, pod: PodSeen, chunks: AsyncIterator[bytes]) -> None:
        """Read the log, and record that it is stored."""
        async for _ in chunks:
            pass
        self.stored.append(self.url(job, pod))


async def run_and_fail(pod_manager: SimulatedPodManager, number: int) -> None:
    """Admit the job for the nth time, let its command fail, and let the watch report that."""
    job = pod_manager.job()
    command = an_admit(uid=job["metadata"]["uid"], number=number).model_copy(
        update={"fence": job["status"]["fence"]}
    )
    pod_manager.receive(*([FENCE] if number == 1 else []), command)
    await asyncio.sleep(10)
    pod_manager.observe_pod()
    await asyncio.sleep(1)
    pod_manager.store.bind("job-1", "node-1")
    container = {"name": "main", "state": {"terminated": FAILED}}
    pod_manager.store.set_status("pods", "job-1", {"phase": "Failed", "containerStatuses": [container]})
    pod_manager.observe_pod()
    await asyncio.sleep(20)
    if (pod := pod_manager.pod()) is None:
        last = [change for change in pod_manager.store.changes if change.plural == "pods"][-1]
        pod_manager.observe_pod_gone(last.object)
    else:
        assert pod["status"]["phase"] == "Failed"


def permit(pod_manager: SimulatedPodManager, **retry: Any) -> None:
    """Let the user permit retries, and let the watch report that."""
    pod_manager.store.edit("phjobs", "job-1", retry=retry)
    pod_manager.reconciler.on_fact(project_job(pod_manager.job()), from_snapshot=False)


def test_a_command_that_fails_runs_again_as_often_as_its_user_permits() -> None:
    """Each attempt has a pod, a log and an entry of its own, and the next begins after the last pod."""
    archive = MemoryArchive()

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[list[str], dict[str, Any]]:
        permit(pod_manager, limit=2, on=["Failure"])
        outcomes = []
        for number in (1, 2, 3):
            await run_and_fail(pod_manager, number)
            status = pod_manager.job()["status"]
            outcomes.append(f"{status['phase']}, {status['reason']}: {status['message']}")
            assert (pod_manager.pod() is None) == (status["phase"] == "Pending")
        return outcomes, {**pod_manager.job()["status"]}

    outcomes, status = run_scenario(scenario, archive=archive)
    assert outcomes == [
        "Pending, Retried: retry 1 of 2 (Failure): exit code 1 (Error)",
        "Pending, Retried: retry 2 of 2 (Failure): exit code 1 (Error)",
        "Failed, Error: exit code 1 (Error)",
    ]
    urls = [f"memory://job-1/phjobs-1/attempt-{number}.log" for number in (1, 2, 3)]
    assert archive.stored == urls
    assert [attempt["logURL"] for attempt in status["attempts"]] == urls
    assert len({attempt["podUID"] for attempt in status["attempts"]}) == 3
    assert status["attempts"][0] == {
        "podUID": status["attempts"][0]["podUID"], "nodeName": "node-1", "exitCode": 1, "reason": "Error",
        "startTime": "2026-01-01T00:00:10Z", "finishTime": "2026-01-01T00:00:20Z", "logURL": urls[0],
    }  # fmt: skip
    assert (status["retried"], status["requeued"], status["logURL"]) == (2, 0, urls[2])


def test_a_job_keeps_its_last_five_attempts() -> None:
    """A job may have eleven."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[int, int]:
        permit(pod_manager, limit=6, on=["Failure"])
        uids = []
        for number in range(1, 8):
            await run_and_fail(pod_manager, number)
            uids.append(pod_manager.job()["status"]["attempts"][-1]["podUID"])
        attempts = pod_manager.job()["status"]["attempts"]
        assert [attempt["podUID"] for attempt in attempts] == uids[-MAX_ATTEMPTS:]
        return len(attempts), pod_manager.job()["status"]["retried"]

    assert run_scenario(scenario) == (5, 6)


def test_a_permission_that_is_withdrawn_before_the_write_counts() -> None:
    """The watch has not reported it yet, so the write tests the generation (spec.md, L17)."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        permit(pod_manager, limit=2, on=["Failure"])
        pod_manager.store.edit("phjobs", "job-1", retry={"limit": 0, "on": ["Failure"]})
        await run_and_fail(pod_manager, 1)
        status = pod_manager.job()["status"]
        return status["phase"], status["reason"]

    assert run_scenario(scenario) == ("Failed", "Error")


def test_an_edit_of_another_field_does_not_keep_a_job_from_its_retry() -> None:
    """The job is read again, and the retry written with its new generation."""

    async def scenario(pod_manager: SimulatedPodManager) -> str:
        permit(pod_manager, limit=2, on=["Failure"])
        pod_manager.store.edit("phjobs", "job-1", displayName="better")
        await run_and_fail(pod_manager, 1)
        return str(pod_manager.job()["status"]["reason"])

    assert run_scenario(scenario) == "Retried"
