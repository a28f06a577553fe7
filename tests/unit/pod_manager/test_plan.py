from typing import Any

import pytest
from tests.unit.facts import a_job, a_pod, at

from pod_manager.plan import (
    CreatePod,
    DeletePod,
    DeleteRecord,
    Log,
    MarkReclaimed,
    Situation,
    Step,
    StoreLog,
    Transit,
    Wish,
    next_step,
    step_without_job,
    wish_is_pointless,
)
from shared.lifecycle import Event
from shared.messages import JobSeen, PodSeen
from shared.phjob import Phase, PodPhase, Reason


def wish(event: Event, job: JobSeen) -> Wish:
    return Wish(event, job.name, job.fence, "because")


def step(
    job: JobSeen, pod: PodSeen | None = None, event: Event | None = None, **situation: Any
) -> Step | None:
    return next_step(Situation(job, pod, wish(event, job) if event else None, **situation))


def preparing(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.PREPARING, fence="s#1", **fields)


def running(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.RUNNING, fence="s#1", **fields)


def test_a_job_that_waits_is_left_alone() -> None:
    """The scheduler decides."""
    assert step(a_job()) is None


def test_a_waiting_job_that_is_cancelled_is_cancelled() -> None:
    """Seed, Cancellation."""
    assert step(a_job(cancel=True)) == Transit(Event.CANCELLED)


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
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) == Transit(Event.POD_RUNNING)
    job = running()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) is None


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_the_pods_end_is_the_jobs_end(job: JobSeen) -> None:
    """Also for a job too quick to be seen Running."""
    pod = a_pod(job, phase=PodPhase.SUCCEEDED, exit_code=0)
    assert step(job, pod) == Transit(Event.POD_SUCCEEDED)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled", message="Killed")
    assert step(job, pod) == Transit(Event.POD_FAILED, "exit code 137 (OOMKilled): Killed")


def test_a_pod_that_failed_without_a_container_says_the_kubelets_reason() -> None:
    """Evicted, or refused by the node."""
    job = running()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="Evicted", message="low on memory")
    assert step(job, pod) == Transit(Event.POD_FAILED, "the pod failed (Evicted): low on memory")


def test_a_pod_that_vanishes_while_running_fails_the_job() -> None:
    """contract.md, Lifecycle: the command is never run twice behind the user's back."""
    assert step(running()) == Transit(Event.POD_GONE)


@pytest.mark.parametrize("phase", [PodPhase.PENDING, PodPhase.RUNNING])
def test_a_cancelled_job_is_cancelled_whatever_its_pod_does(phase: PodPhase) -> None:
    """In one write, also when the pod has just started."""
    job = preparing(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == Transit(Event.CANCELLED)
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == Transit(Event.CANCELLED)


def test_a_job_that_ended_before_it_was_cancelled_keeps_its_end() -> None:
    """What ran to its end is not undone."""
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=PodPhase.SUCCEEDED)) == Transit(Event.POD_SUCCEEDED)


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
    assert step(job, pod, Event.TTL_OVER) == DeletePod(pod)


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
    assert step(job, a_pod(job, phase=PodPhase.RUNNING), Event.NOT_STARTED) == Transit(Event.POD_RUNNING)


def test_a_command_that_ended_while_it_was_requeued_is_not_run_again() -> None:
    """If it succeeded; if our deletion killed it, it was never the user's end."""
    job = preparing()
    ended = a_pod(job, deleting=True, phase=PodPhase.SUCCEEDED)
    assert step(job, ended, Event.NOT_STARTED) == Transit(Event.POD_SUCCEEDED)
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
        (a_job(phase=Phase.SUCCEEDED), Event.TTL_OVER, False),
        (a_job(phase=Phase.FAILED), Event.HISTORY_OVER, False),
        (running(), Event.TTL_OVER, True),
        (running(), Event.HISTORY_OVER, True),
        (running(), Event.NODE_GIVEN_UP, True),
    ],
)
def test_an_order_for_a_phase_that_is_over_is_pointless(
    job: JobSeen, event: Event, *, pointless: bool
) -> None:
    """The job, or its node, has moved on since the janitor saw it."""
    assert wish_is_pointless(job, wish(event, job), node_lost=False) is pointless


def test_an_order_for_an_older_admission_is_pointless() -> None:
    """A requeue of the first try must not hit the second."""
    old = Wish(Event.NOT_STARTED, "job-1", "s#0")
    assert wish_is_pointless(preparing(), old, node_lost=False)


def test_an_order_that_was_decided_on_an_older_spec_is_pointless() -> None:
    """The deadline was lengthened since; the janitor decides again."""
    order = Wish(Event.OVER_DEADLINE, "job-1", "s#1", generation=1)
    assert not wish_is_pointless(running(generation=1), order, node_lost=False)
    assert wish_is_pointless(running(generation=2), order, node_lost=False)


def test_a_pod_that_its_node_rejected_sends_the_job_back() -> None:
    """Its command never ran: the same as a pod that does not start. Then the pod is deleted."""
    job = preparing()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="OutOfcpu", message="no CPU left")
    assert step(job, pod) == Transit(Event.POD_REJECTED, "the pod failed (OutOfcpu): no CPU left")
    assert step(a_job(fence="s#1"), pod) == DeletePod(pod, stray=True)


def test_a_container_that_could_not_be_started_fails_the_job() -> None:
    """It has an exit code: the image has no such command."""
    job = preparing()
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=128, reason="StartError")
    assert step(job, pod) == Transit(Event.POD_FAILED, "exit code 128 (StartError)")


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_a_pod_that_is_killed_by_its_deletion_is_told_from_one_that_failed_before(job: JobSeen) -> None:
    """contract.md, Lifecycle: PodDeleted, though the kubelet still told the exit code."""
    killed = a_pod(
        job, phase=PodPhase.FAILED, deleting=True, deleted_at=at(10), start_time=at(5), finish_time=at(10),
        exit_code=143, disruption="EvictionByEvictionAPI: evicting",
    )  # fmt: skip
    assert step(job, killed) == Transit(Event.POD_KILLED, ": EvictionByEvictionAPI: evicting")
    failed = killed.model_copy(update={"finish_time": at(9)})
    assert step(job, failed) == Transit(Event.POD_FAILED, "exit code 143 (Error)")


def test_a_running_pod_that_somebody_deletes_makes_its_preparing_job_running_first() -> None:
    """So that its end is not taken for a pod that never started, and its command is not run twice."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING, deleting=True)) == Transit(Event.POD_RUNNING)


LOST: dict[str, Any] = {"node_lost": True}


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_a_job_on_a_lost_node_says_so_once_and_until_the_node_is_back(job: JobSeen) -> None:
    """contract.md, Lifecycle: it keeps its phase, and nothing is done to its pod."""
    phase = PodPhase.RUNNING if job.phase is Phase.RUNNING else PodPhase.PENDING
    pod = a_pod(job, phase=phase, node="node-1")
    assert step(job, pod, **LOST) == Transit(Event.NODE_LOST, "node-1")
    told = job.model_copy(update={"reason": Reason.NODE_LOST})
    assert step(told, pod, **LOST) is None
    assert step(told, pod) == Transit(Event.NODE_BACK, "node-1")


def test_a_pod_that_did_not_start_on_a_lost_node_is_never_deleted_by_force() -> None:
    """Its command may run there: it would run twice."""
    job = preparing()
    pod = a_pod(job, node="node-1")
    assert step(job, pod, Event.NOT_STARTED, **LOST) == DeletePod(pod, pod.resource_version)
    deleting = pod.model_copy(update={"deleting": True})
    assert step(job, deleting, Event.NOT_STARTED, **LOST) == Transit(Event.NODE_LOST, "node-1")


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.OVER_ACTIVE_DEADLINE, Reason.NODE_LOST])
def test_the_pod_of_a_finished_job_on_a_lost_node_is_deleted_by_force(reason: Reason) -> None:
    """Nobody else could, and its quota would never be free; also if its deletion is under way."""
    phase = Phase.CANCELLED if reason is Reason.CANCELLED else Phase.FAILED
    job = a_job(phase=phase, reason=reason, fence="s#1")
    for deleting in (False, True):
        pod = a_pod(job, phase=PodPhase.RUNNING, deleting=deleting)
        assert step(job, pod, **LOST) == DeletePod(pod, force=True)


def test_the_pod_of_a_deleted_job_on_a_lost_node_is_deleted_by_force() -> None:
    """Kubernetes has marked it; its node can't end it."""
    pod = a_pod(a_job(), deleting=True)
    assert step_without_job(pod, record=False, node_lost=True) == DeletePod(pod, force=True)
    assert step_without_job(pod, record=False, node_lost=False) is None
    assert step_without_job(a_pod(a_job()), record=False, node_lost=True) is None


def test_a_pod_that_comes_when_only_its_jobs_record_is_left_is_deleted() -> None:
    """Its creation was done too late: nobody waits for it, and nobody else would end it."""
    pod = a_pod(a_job())
    assert step_without_job(pod, record=True, node_lost=False) == DeletePod(pod)
    deleting = a_pod(a_job(), deleting=True)
    assert step_without_job(deleting, record=True, node_lost=False) is None


def test_a_job_is_given_up_with_its_node() -> None:
    """contract.md, Lifecycle: nodeLostGraceSeconds."""
    for job in (preparing(), running()):
        order = Transit(Event.NODE_GIVEN_UP, "because")
        assert step(job, a_pod(job, node="node-1"), Event.NODE_GIVEN_UP, **LOST) == order


def test_a_finished_jobs_log_is_stored_while_its_pod_stands() -> None:
    """contract.md, Lifecycle: at the job's end."""
    job = a_job(phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, fence="s#1")
    pod = a_pod(job, phase=PodPhase.SUCCEEDED)
    assert step(job, pod, log=Log(store=True, hold=True)) == StoreLog(pod)
    assert step(job, pod, log=Log(store=False, hold=True)) is None


def test_no_pod_is_deleted_before_its_log_is_stored_or_given_up() -> None:
    """contract.md, Lifecycle: a failing archive delays a deletion by 30 s at most."""
    cancelled = a_job(phase=Phase.CANCELLED, reason=Reason.CANCELLED, fence="s#1")
    for job, event in ((cancelled, None), (preparing(), Event.NOT_STARTED)):
        pod = a_pod(job)
        assert step(job, pod, event, log=Log(store=True, hold=True)) == StoreLog(pod)
        assert step(job, pod, event, log=Log(store=False, hold=True)) is None
        assert isinstance(step(job, pod, event, log=Log(store=True, hold=False)), DeletePod)


def test_a_record_is_deleted_when_its_pod_is() -> None:
    """contract.md, Lifecycle: History."""
    job = a_job(phase=Phase.FAILED, reason=Reason.ERROR, fence="s#1")
    pod = a_pod(job, phase=PodPhase.FAILED)
    assert step(job, pod, Event.HISTORY_OVER) == DeletePod(pod)
    assert step(job, None, Event.HISTORY_OVER) == DeleteRecord()
