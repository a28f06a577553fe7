import asyncio

from structlog.testing import capture_logs
from tests.fakes.simulated_pod_manager import FENCE, SimulatedPodManager, an_admit, run_scenario

from phjob_core.api import Object
from phjob_core.messages import SetPendingReason
from phjob_pod_manager.command_writes import ADMISSION_RETRY_SECONDS, MAX_ADMISSION_ATTEMPTS

SECONDS_OF_RETRIES = ADMISSION_RETRY_SECONDS * MAX_ADMISSION_ATTEMPTS


def test_an_admission_that_a_policy_always_rejects_blocks_its_group_for_a_moment_only() -> None:
    """The job of the next command has no such policy."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        pod_manager.reject_patches("phjobs", times=MAX_ADMISSION_ATTEMPTS)
        pod_manager.receive(FENCE, an_admit("job-1", 1), an_admit("job-2", 2))
        await asyncio.sleep(SECONDS_OF_RETRIES / 2)
        early = pod_manager.job("job-2")["status"]["phase"]
        await asyncio.sleep(SECONDS_OF_RETRIES * 2)
        return [early, *(pod_manager.job(name)["status"]["phase"] for name in ("job-1", "job-2"))]

    assert run_scenario(scenario, jobs=2) == ["Pending", "Pending", "Preparing"]


def test_a_cancelled_job_is_not_admitted() -> None:
    """The cancel is newer than the command (spec.md, Q7)."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, object]:
        pod_manager.store.edit("phjobs", "job-1", cancel=True)
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(10)
        return pod_manager.job()["status"]["phase"], pod_manager.pod()

    assert run_scenario(scenario) == ("Pending", None)


def test_a_job_that_was_admitted_before_is_not_settled() -> None:
    """The first delivery of the command has ended before the second came."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(10)
        pod_manager.receive(an_admit(), redelivered=True)
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return status["phase"], status["fence"]

    assert run_scenario(scenario) == ("Preparing", an_admit().token)


def test_a_pending_reason_for_an_admitted_job_is_not_written() -> None:
    """It is about an earlier state."""
    reason = SetPendingReason(
        uid="phjobs-1", name="job-1", group="phusers", fence="", reason="GroupQuota", message="m", revision=1
    )

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        pod_manager.receive(FENCE, reason)
        await asyncio.sleep(5)
        before = pod_manager.job()["status"]["reason"]
        pod_manager.receive(an_admit(), reason)
        await asyncio.sleep(10)
        return [before, pod_manager.job()["status"]["reason"]]

    assert run_scenario(scenario) == ["GroupQuota", "Admitted"]


def test_an_admission_whose_pod_another_program_deletes_gets_another_pod() -> None:
    """A job is admitted only with a pod that exists."""

    async def scenario(pod_manager: SimulatedPodManager) -> bool:
        pod_manager.api_faults.latency = 0.5
        pod_manager.receive(FENCE, an_admit())
        await pod_manager.store.wait_for_change("pods")
        first = pod_manager.pod()
        assert first
        pod_manager.store.remove("pods", "job-1")
        pod_manager.observe_pod_gone(first)
        await asyncio.sleep(30)
        second = pod_manager.pod()
        assert second
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        named: bool = pod_manager.job()["status"]["podUID"] == second["metadata"]["uid"]
        return named

    assert run_scenario(scenario)


def test_a_pod_that_cannot_be_created_is_an_event_with_its_reason_and_not_a_line_of_the_log() -> None:
    """The API server quotes values of the pod, and everybody may read the Event (spec.md, E2, E7)."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        taken = {"metadata": {"name": "job-1"}, "spec": {"containers": []}}
        pod_manager.store.create("pods", taken)
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(10)
        return [event["message"] for event in pod_manager.store.all("events")]

    message = "the name of pod 'job-1' is taken by another"
    with capture_logs() as lines:
        assert run_scenario(scenario) == [message]
    assert message not in repr(lines)


def test_a_job_records_what_the_cluster_adds_to_its_pod_and_then_gets_room_for_it() -> None:
    """It is no requeue: the job waits five seconds (spec.md, Q13)."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        create = pod_manager.store.create

        def add(plural: str, body: Object) -> Object:
            spec = {**body["spec"], "overhead": {"cpu": "250m"}} if plural == "pods" else body["spec"]
            return create(plural, {**body, "spec": spec})

        pod_manager.store.create = add  # type: ignore[method-assign]
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(1)
        status = pod_manager.job()["status"]
        assert (status["phase"], status["reason"], status["overhead"]) == (
            "Pending",
            "Queued",
            {"cpu": "250m"},
        )
        assert status["requeued"] == 0
        assert pod_manager.pod() is None
        pod_manager.receive(an_admit(number=2, fence=status["fence"], overhead={"cpu": 250}))
        await asyncio.sleep(1)
        status = pod_manager.job()["status"]
        assert (status["phase"], status["overhead"]) == ("Preparing", {"cpu": "250m"})

    run_scenario(scenario)
