"""The execution of the scheduler's commands, on the simulated API server and clock."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest
from tests.fakes.held import collections
from tests.fakes.simulated_pod_manager import FENCE, SimulatedPodManager, an_admit, run_scenario
from tests.simulation.foreign_answers import STARTING_ANSWERS, ForeignAnswers

from phjob_core.messages import Message, Reject, SessionRequest, SnapshotRequest

BOTH = FENCE, an_admit("job-1", 1), an_admit("job-2", 2)


def phases_after(
    *messages: Message, before: Callable[[SimulatedPodManager], None] = lambda _: None
) -> dict[str, str]:
    """Return the phase of each of two jobs after the messages were processed."""

    async def scenario(pod_manager: SimulatedPodManager) -> dict[str, str]:
        before(pod_manager)
        pod_manager.receive(*messages)
        await asyncio.sleep(60)
        assert sorted(pod_manager.acknowledged) == list(range(len(messages)))
        return {job["metadata"]["name"]: job["status"]["phase"] for job in pod_manager.store.all("phjobs")}

    return run_scenario(scenario, jobs=2)


def settle_first(pod_manager: SimulatedPodManager) -> None:
    """Settle the first command, as a successor does."""
    patch = [{"op": "add", "path": "/status/fence", "value": "successor!1"}]
    pod_manager.store.patch("phjobs", "job-1", patch)


def names_in_order_of_admission(pod_manager: SimulatedPodManager) -> list[str]:
    """Return the names of the admitted jobs, in the order of the writes."""
    jobs = [change.object for change in pod_manager.store.changes_of["phjobs"] if change.before]
    return [job["metadata"]["name"] for job in jobs if job["status"]["phase"] == "Preparing"]


def test_the_commands_of_the_session_are_executed() -> None:
    """The fence names the session."""
    assert phases_after(*BOTH) == {"job-1": "Preparing", "job-2": "Preparing"}


def test_commands_before_the_first_fence_are_ignored_and_a_session_is_requested() -> None:
    """They may be of a scheduler that has been replaced."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, list[tuple[str, Message]]]:
        pod_manager.receive(an_admit())
        await asyncio.sleep(60)
        assert pod_manager.acknowledged == [0]
        return pod_manager.job()["status"]["phase"], pod_manager.sent

    assert run_scenario(scenario) == ("Pending", [("scheduler.0", SessionRequest())])


def test_a_fence_requests_the_snapshot_for_the_session() -> None:
    """The snapshot then contains everything that earlier sessions have written."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[tuple[str, Message]]:
        pod_manager.receive(FENCE)
        await asyncio.sleep(1)
        return pod_manager.sent

    request = SnapshotRequest(queue=FENCE.queue, request=FENCE.session)
    assert run_scenario(scenario) == [("watcher", request)]


def test_a_command_behind_a_settled_one_is_not_executed() -> None:
    """Without this, a paused pod-manager that resumes would admit the second job before the first."""
    assert phases_after(*BOTH, before=settle_first) == {"job-1": "Pending", "job-2": "Pending"}


def test_a_command_behind_one_for_a_deleted_job_is_executed() -> None:
    """The rejection of the first is no sign of a successor."""
    gone = an_admit("job-1", 1).model_copy(update={"name": "job-0", "uid": "phjobs-0"})
    assert phases_after(FENCE, gone, an_admit("job-2", 2)) == {"job-1": "Pending", "job-2": "Preparing"}


@pytest.mark.parametrize("kind", STARTING_ANSWERS)
def test_no_command_overtakes_another_while_the_api_server_starts(kind: str) -> None:
    """Before it has read its roles, its 401 and 403 are no judgement on the job."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        pod_manager.receive(*BOTH)
        pod_manager.api_faults.foreign_answers[""] = ForeignAnswers(0.5, (kind,))
        await asyncio.sleep(120)
        return names_in_order_of_admission(pod_manager)

    assert run_scenario(scenario, jobs=2)[:2] == ["job-1", "job-2"]


def test_no_command_overtakes_one_that_a_policy_rejects_for_a_moment() -> None:
    """The job is as the command expects, so the rejected write is repeated."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        pod_manager.reject_patches("phjobs", times=2)
        pod_manager.receive(*BOTH)
        await asyncio.sleep(60)
        return names_in_order_of_admission(pod_manager)

    assert run_scenario(scenario, jobs=2)[:2] == ["job-1", "job-2"]


def test_a_redelivered_command_is_settled() -> None:
    """Its first delivery may still be in execution, so the job gets a new fence and is not admitted."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str, object]:
        pod_manager.receive(an_admit(), redelivered=True)
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return status["phase"], status["fence"], pod_manager.pod()

    assert run_scenario(scenario) == ("Pending", "1!1", None)


def test_a_fence_does_not_wait_for_a_pod_that_cannot_be_created() -> None:
    """Nothing is written of its command yet, so the command is void and the new session decides again."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[list[int], str]:
        pod_manager.api_faults.failing_writes["create", "pods"] = 0
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(0.2)
        pod_manager.receive(FENCE)
        await asyncio.sleep(1)
        return sorted(pod_manager.acknowledged), pod_manager.job()["status"]["phase"]

    assert run_scenario(scenario) == ([0, 1, 2], "Pending")


def test_a_lost_command_ends_the_session() -> None:
    """A later command may depend on the lost one."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, Message]:
        pod_manager.receive(FENCE)
        pod_manager.skip()
        pod_manager.receive(an_admit())
        await asyncio.sleep(10)
        return pod_manager.job()["status"]["phase"], pod_manager.sent[-1][1]

    assert run_scenario(scenario) == ("Pending", SessionRequest())


def test_an_infeasible_job_is_failed() -> None:
    """It never had a pod, so it is reclaimed in the same write."""
    reject = Reject(
        uid="phjobs-1", name="job-1", group="phusers", fence="", reason="InvalidSpec", message="no such image"
    )

    async def scenario(pod_manager: SimulatedPodManager) -> dict[str, object]:
        pod_manager.receive(FENCE, reject)
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return {field: status[field] for field in ("phase", "reason", "message", "reclaimed")}

    assert run_scenario(scenario) == {
        "phase": "Failed", "reason": "InvalidSpec", "message": "no such image", "reclaimed": True,
    }  # fmt: skip


def test_nothing_remains_of_invented_groups() -> None:
    """The scheduler rejects a job of each, and each has a queue of its own meanwhile (spec.md, E3)."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        pod_manager.receive(FENCE)
        await asyncio.sleep(1)
        before = collections(pod_manager.executor)
        for number in range(200):
            reject = Reject(
                uid=f"phjobs-{number + 1}", name=f"job-{number + 1}", group=f"invented-{number}", fence="",
                reason="InvalidSpec", message="no such group",
            )  # fmt: skip
            pod_manager.receive(reject)
        await asyncio.sleep(60)
        assert {job["status"]["phase"] for job in pod_manager.store.all("phjobs")} == {"Failed"}
        assert collections(pod_manager.executor, without=("_tombstones",)).keys() <= before.keys()
        assert "invented-" not in generate_latest().decode()

    run_scenario(scenario, jobs=200)
