from typing import Any

import pytest
from tests.unit.facts import a_job, a_pod

from pod_manager.plan import (
    CreatePod,
    DeletePod,
    MarkReclaimed,
    Step,
    Transit,
    Wish,
    next_step,
    wish_is_pointless,
)
from shared.lifecycle import Event
from shared.messages import JobSeen, PodSeen
from shared.phjob import Phase, PodPhase, Reason


def wish(event: Event | None, job: JobSeen) -> Wish:
    return Wish(event, "because", job.fence)


def step(
    job: JobSeen, pod: PodSeen | None = None, event: Event | None = None, *, had_pod: bool = True, **kind: Any
) -> Step | None:
    wanted = wish(event, job) if event or kind.get("reclaim") else None
    return next_step(job, pod, wanted, had_pod=had_pod)


def preparing(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.PREPARING, fence="s#1", **fields)


def running(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.RUNNING, fence="s#1", **fields)


def test_a_job_that_waits_is_left_alone() -> None:
    """The scheduler decides."""
    assert step(a_job()) is None


def test_a_waiting_job_that_is_cancelled_is_cancelled() -> None:
    """Seed, Cancellation."""
    assert step(a_job(cancel=True)) == Transit(Event.CANCELLED, "cancelled while it waited")


def test_a_pod_of_a_job_that_waits_is_deleted() -> None:
    """No pod may outlive its admission."""
    job = a_job(fence="s#1")
    pod = a_pod(job)
    assert step(job, pod) == DeletePod(pod, stray=True)


def test_an_admitted_job_gets_its_pod() -> None:
    """Design, The fence 4: also after a restart, for what was decided is durable."""
    assert step(preparing(), had_pod=False) == CreatePod()


def test_a_pod_that_vanishes_while_preparing_sends_the_job_back() -> None:
    """contract.md, Lifecycle: it counts as a requeue."""
    assert step(preparing()) == Transit(Event.POD_GONE, "its pod was deleted")


def test_a_pod_made_for_an_older_admission_is_deleted_first() -> None:
    """A predecessor that was only asleep may have made it."""
    job = preparing()
    pod = a_pod(job, fence="s#0", phase=PodPhase.RUNNING)
    assert step(job, pod) == DeletePod(pod, stray=True)


def test_a_pod_that_runs_makes_the_job_running() -> None:
    """And nothing more once it is."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) == Transit(Event.POD_RUNNING, "")
    job = running()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) is None


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_the_pods_end_is_the_jobs_end(job: JobSeen) -> None:
    """Also for a job too quick to be seen Running."""
    pod = a_pod(job, phase=PodPhase.SUCCEEDED, exit_code=0)
    assert step(job, pod) == Transit(Event.POD_SUCCEEDED, "exit code 0")
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled", message="Killed")
    assert step(job, pod) == Transit(Event.POD_FAILED, "exit code 137 (OOMKilled): Killed")


def test_a_pod_that_failed_without_a_container_says_the_kubelets_reason() -> None:
    """Evicted, or refused by the node."""
    job = running()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="Evicted", message="low on memory")
    assert step(job, pod) == Transit(Event.POD_FAILED, "the pod failed (Evicted): low on memory")


def test_a_pod_that_vanishes_while_running_fails_the_job() -> None:
    """contract.md, Lifecycle: the command is never run twice behind the user's back."""
    assert step(running()) == Transit(Event.POD_GONE, "its pod was deleted while it ran")


@pytest.mark.parametrize("phase", [PodPhase.PENDING, PodPhase.RUNNING])
def test_a_cancelled_job_is_cancelled_whatever_its_pod_does(phase: PodPhase) -> None:
    """In one write, also when the pod has just started."""
    job = preparing(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == Transit(Event.CANCELLED, "cancelled while it was prepared")
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == Transit(Event.CANCELLED, "cancelled while it ran")


def test_a_job_that_ended_before_it_was_cancelled_keeps_its_end() -> None:
    """What ran to its end is not undone."""
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=PodPhase.SUCCEEDED)) == Transit(Event.POD_SUCCEEDED, "exit code 0")


def test_a_cancelled_jobs_pod_is_deleted_and_then_the_job_is_done_with() -> None:
    """Seed, Cancellation: the underlying pod is deleted."""
    job = a_job(phase=Phase.CANCELLED, reason=Reason.CANCELLED, fence="s#1")
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod) == DeletePod(pod)
    assert step(job, pod.model_copy(update={"deleting": True})) is None
    assert step(job) == MarkReclaimed()


def test_a_finished_jobs_pod_stays_until_it_is_to_be_reclaimed() -> None:
    """Seed, Pod TTL After Finished."""
    job = a_job(phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, fence="s#1")
    pod = a_pod(job, phase=PodPhase.SUCCEEDED)
    assert step(job, pod) is None
    assert step(job, pod, reclaim=True) == DeletePod(pod)


def test_a_requeue_deletes_the_pod_only_if_it_has_not_started_meanwhile() -> None:
    """The API server compares the revision that was seen."""
    job = preparing()
    pod = a_pod(job)
    assert step(job, pod, Event.NOT_STARTED) == DeletePod(pod, pod.resource_version)


def test_a_requeue_waits_until_the_pod_is_gone_and_then_sends_the_job_back() -> None:
    """Never two pods of one job."""
    job = preparing()
    assert step(job, a_pod(job, deleting=True), Event.NOT_STARTED) is None
    assert step(job, None, Event.NOT_STARTED) == Transit(Event.NOT_STARTED, "because")


def test_a_pod_that_started_just_before_its_requeue_goes_on() -> None:
    """It is what the user wanted."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING), Event.NOT_STARTED) == Transit(Event.POD_RUNNING, "")


def test_a_command_that_ended_while_it_was_requeued_is_not_run_again() -> None:
    """If it succeeded; if our deletion killed it, it was never the user's end."""
    job = preparing()
    ended = a_pod(job, deleting=True, phase=PodPhase.SUCCEEDED)
    assert step(job, ended, Event.NOT_STARTED) == Transit(Event.POD_SUCCEEDED, "exit code 0")
    killed = a_pod(job, deleting=True, phase=PodPhase.FAILED, exit_code=143)
    assert step(job, killed, Event.NOT_STARTED) is None


def test_a_job_over_its_deadline_is_failed_before_its_pod_is_deleted() -> None:
    """The decision is durable before it has an effect."""
    job = running()
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod, Event.OVER_DEADLINE) == Transit(Event.OVER_DEADLINE, "because")
    over = a_job(phase=Phase.FAILED, reason=Reason.OVER_ACTIVE_DEADLINE, fence="s#1")
    assert step(over, pod) == DeletePod(pod)


@pytest.mark.parametrize(
    ("job", "event", "pointless"),
    [
        (preparing(), Event.NOT_STARTED, False),
        (running(), Event.NOT_STARTED, True),
        (running(), Event.OVER_DEADLINE, False),
        (a_job(), Event.OVER_DEADLINE, True),
        (a_job(phase=Phase.SUCCEEDED), None, False),
        (running(), None, True),
    ],
)
def test_an_order_for_a_phase_that_is_over_is_pointless(
    job: JobSeen, event: Event | None, *, pointless: bool
) -> None:
    """The job has moved on since the janitor saw it."""
    assert wish_is_pointless(job, wish(event, job)) is pointless


def test_an_order_for_an_older_admission_is_pointless() -> None:
    """A requeue of the first try must not hit the second."""
    assert wish_is_pointless(preparing(), Wish(Event.NOT_STARTED, "", "s#0"))
