from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod, at

from phjob_core import lifecycle
from phjob_core.api import Phase, PodPhase, Reason
from phjob_core.lifecycle import REASONS_WITHOUT_POD, TABLE, Effect, Event, Ignored, Transition, transition
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.planner import JobState, LogState, PendingCommand, is_stale, next_step, step_without_job
from phjob_core.retry import RetryCause
from phjob_core.steps import (
    ApplyEvent,
    DeletePod,
    DeleteRecord,
    HoldPod,
    MarkReclaimed,
    ReleasePod,
    Step,
    StoreLog,
    Ungate,
)


def command(event: Event, job: JobSeen) -> PendingCommand:
    return PendingCommand(event, job.name, job.fence, "because")


def step(job: JobSeen, pod: PodSeen | None = None, event: Event | None = None, **state: Any) -> Step | None:
    return next_step(JobState(job, pod, command(event, job) if event else None, **state))


POD = "pod-of-uid-job-1"
"""The uid of the pod that `a_pod` makes for `a_job`."""


def preparing(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.PREPARING, **{"fence": "s#1", "pod_uid": POD, **fields})


def running(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.RUNNING, **{"fence": "s#1", "pod_uid": POD, **fields})


def final(phase: Phase, reason: Reason) -> JobSeen:
    return a_job(phase=phase, reason=reason, fence="s#1", pod_uid=POD)


def test_a_pending_job_needs_no_step() -> None:
    """The scheduler decides when it starts."""
    assert step(a_job()) is None


def test_a_pending_job_that_its_user_cancels_is_cancelled() -> None:
    """It has no pod that would have to end first (spec.md, L9)."""
    assert step(a_job(cancel=True)) == ApplyEvent(Event.CANCELLED)


def test_a_pod_of_a_pending_job_is_deleted() -> None:
    """A pod that outlived its admission could run beside the next one."""
    job = a_job(fence="s#1")
    pod = a_pod(job)
    assert step(job, pod) == DeletePod(pod, stray=True)


def test_the_gated_pod_of_an_admission_in_progress_is_not_deleted() -> None:
    """The admission is about to name it."""
    job = a_job(fence="s#1")
    pod = a_pod(job, gated=True)
    assert step(job, pod, admitting=True) is None
    assert step(job, pod) == DeletePod(pod, stray=True)


def test_only_the_pod_that_its_job_names_is_ungated() -> None:
    """Any other pod of the job is deleted, whatever admission it was created for."""
    job = preparing()
    pod = a_pod(job, gated=True)
    assert step(job, pod) == Ungate(pod)
    other = a_pod(job, gated=True, uid="another")
    assert step(job, other) == DeletePod(other, stray=True)


@pytest.mark.parametrize("job", [preparing(cancel=True), preparing(deleting=True)])
def test_the_pod_of_a_job_that_is_cancelled_or_deleted_is_not_ungated(job: JobSeen) -> None:
    """A finalizer may keep the record of a deleted job (spec.md, Q7, L13)."""
    detail = "" if job.cancel else ": it is being deleted"
    assert step(job, a_pod(job, gated=True)) == ApplyEvent(Event.CANCELLED, detail)
    assert step(a_job(cancel=job.cancel, deleting=job.deleting)) == ApplyEvent(Event.CANCELLED, detail)


def test_a_pod_that_is_gone_with_proof_of_no_start_requeues_the_job() -> None:
    """The requeue counts like any other (spec.md, L7, Q5)."""
    assert step(preparing(), never_started=True) == ApplyEvent(
        Event.POD_GONE_UNSTARTED, "its pod was deleted before it started"
    )


def test_a_pod_that_is_gone_without_proof_of_no_start_fails_the_job() -> None:
    """The command never runs twice, even if the deletion was not observed (spec.md, L6)."""
    assert step(preparing()) == ApplyEvent(Event.POD_VANISHED)
    assert step(preparing(), None, Event.START_TIMEOUT) == ApplyEvent(Event.POD_VANISHED)


def test_a_job_that_a_release_before_0_1_admitted_keeps_its_pod() -> None:
    """That release wrote no uid. The pod has the admission's token, and may appear after it."""
    job = preparing(pod_uid="")
    assert step(job) is None
    assert step(job, None, Event.START_TIMEOUT) == ApplyEvent(Event.START_TIMEOUT, "because")
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) == ApplyEvent(Event.POD_RUNNING)
    other = a_pod(job, fence="s#0")
    assert step(job, other) == DeletePod(other, stray=True)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.RUNNING])
def test_a_job_that_primehub_has_started_keeps_its_pod(phase: Phase) -> None:
    """PrimeHub wrote no token, and its pods have none. Its command is not started again (spec.md, E9)."""
    job = a_job(phase=phase)
    assert step(job, a_pod(job, phase=PodPhase.SUCCEEDED)) == ApplyEvent(Event.POD_SUCCEEDED)
    assert not isinstance(step(job, a_pod(job, phase=PodPhase.RUNNING)), DeletePod)
    gated = a_pod(job, gated=True)
    assert step(job, gated) == DeletePod(gated, stray=True)
    ours = a_pod(job, fence="s#1")
    assert step(job, ours) == DeletePod(ours, stray=True)


def test_a_job_that_another_program_wrote_preparing_fails() -> None:
    """Without a token, no scheduler has admitted it, and no pod will appear."""
    assert step(preparing(fence="", pod_uid="")) == ApplyEvent(
        Event.POD_INVALID, "another program wrote its status"
    )


def test_a_pod_that_runs_makes_the_job_running_once() -> None:
    """A job that is Running already needs no step."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) == ApplyEvent(Event.POD_RUNNING)
    job = running()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING)) is None


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_the_pods_end_is_the_jobs_end(job: JobSeen) -> None:
    """A job may end too quickly to be observed as Running (spec.md, L4)."""
    pod = a_pod(job, phase=PodPhase.SUCCEEDED, exit_code=0)
    assert step(job, pod) == ApplyEvent(Event.POD_SUCCEEDED)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled")
    assert step(job, pod) == ApplyEvent(Event.POD_FAILED, "exit code 137 (OOMKilled)", quotes_pod=True)


def test_a_pod_that_failed_without_a_container_has_the_kubelets_reason() -> None:
    """The kubelet evicted it, or rejected it."""
    job = running()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="Evicted")
    assert step(job, pod) == ApplyEvent(Event.POD_FAILED, "the pod failed (Evicted)", quotes_pod=True)


def test_a_preparing_job_without_a_pod_can_still_be_cancelled_or_fail_for_good() -> None:
    """A cancel and a lost node decide, not the lack of a proof."""
    assert step(preparing(cancel=True)) == ApplyEvent(Event.CANCELLED)
    expected = ApplyEvent(Event.NODE_LOST_TOO_LONG, "because")
    assert step(preparing(), None, Event.NODE_LOST_TOO_LONG, **LOST) == expected


@pytest.mark.parametrize("job", [preparing(cancel=True), preparing(deleting=True)])
@pytest.mark.parametrize("cause", ["", "Evicted"])
def test_a_job_that_is_cancelled_or_deleted_is_not_requeued(job: JobSeen, cause: str) -> None:
    """Its pod was deleted or evicted before it started, so no end of a container decides (spec.md, L9)."""
    ended = a_pod(job, phase=PodPhase.FAILED, deleting=not cause, cause=cause)
    detail = "" if job.cancel else ": it is being deleted"
    assert step(job, ended) == ApplyEvent(Event.CANCELLED, detail)
    held = ended.model_copy(update={"held": True, "deleting": True})
    assert step(job, held) == ApplyEvent(Event.CANCELLED, detail)


@pytest.mark.parametrize("never_started", [False, True])
def test_a_preparing_job_that_is_deleted_with_its_pod_is_cancelled(*, never_started: bool) -> None:
    """A foreground deletion ends the pod first. A requeue would admit the job again (spec.md, L13)."""
    deleting = preparing(deleting=True)
    cancelled = ApplyEvent(Event.CANCELLED, ": it is being deleted")
    assert step(deleting, never_started=never_started) == cancelled
    assert step(deleting, None, Event.START_TIMEOUT, never_started=never_started) == cancelled


def test_a_pod_that_is_gone_while_its_job_is_running_fails_the_job() -> None:
    """The command has run, so it does not run again (spec.md, L6, L7)."""
    assert step(running()) == ApplyEvent(Event.POD_VANISHED)
    assert step(running(), never_started=True) == ApplyEvent(Event.POD_VANISHED)


@pytest.mark.parametrize("phase", [PodPhase.PENDING, PodPhase.RUNNING])
def test_a_cancelled_job_is_cancelled_whatever_its_pod_does(phase: PodPhase) -> None:
    """One write is enough, even if the pod has just started."""
    job = preparing(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == ApplyEvent(Event.CANCELLED)
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=phase)) == ApplyEvent(Event.CANCELLED)


def test_a_job_that_ended_before_it_was_cancelled_keeps_its_end() -> None:
    """The end of the container was observed first, so it decides (spec.md, L9)."""
    job = running(cancel=True)
    assert step(job, a_pod(job, phase=PodPhase.SUCCEEDED)) == ApplyEvent(Event.POD_SUCCEEDED)


def test_a_cancelled_jobs_pod_is_deleted_and_then_the_job_is_marked_reclaimed() -> None:
    """The status is written first, then the pod is deleted (spec.md, L9)."""
    job = final(Phase.CANCELLED, Reason.CANCELLED)
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod) == DeletePod(pod)
    assert step(job, pod.model_copy(update={"deleting": True})) is None
    assert step(job) == MarkReclaimed()


def test_a_finished_jobs_pod_stays_until_its_ttl_is_over() -> None:
    """Until then its log can be read (spec.md, L10)."""
    job = final(Phase.SUCCEEDED, Reason.COMPLETED)
    pod = a_pod(job, phase=PodPhase.SUCCEEDED)
    assert step(job, pod) is None
    assert step(job, pod, Event.TTL_OVER) == DeletePod(pod)


MESHED = {"phase": PodPhase.RUNNING, "start_time": at(1), "runs_on": "istio-proxy", "node": "node-1"}
"""A pod whose container `main` has ended, and that an injected container keeps running."""


@pytest.mark.parametrize("job", [preparing(), running(), running(cancel=True)])
def test_a_job_ends_by_its_own_container_while_another_one_runs_on(job: JobSeen) -> None:
    """The kubelet would keep such a pod Running for good (spec.md, L4)."""
    note = "its pod is deleted, because its container istio-proxy runs on"
    pod = a_pod(job, **MESHED, exit_code=0, reason="Completed")
    assert step(job, pod) == ApplyEvent(Event.POD_SUCCEEDED, f"; {note}")
    pod = a_pod(job, **MESHED, exit_code=3, reason="Error")
    assert step(job, pod) == ApplyEvent(Event.POD_FAILED, f"exit code 3 (Error); {note}", quotes_pod=True)


def test_the_pod_that_runs_on_after_its_job_is_deleted_once_its_log_is_stored() -> None:
    """Otherwise it would hold the quota until its TTL (spec.md, L10, L14)."""
    job = final(Phase.SUCCEEDED, Reason.COMPLETED)
    pod = a_pod(job, **MESHED, exit_code=0)
    due = LogState(should_store=True, blocks_deletion=True)
    assert step(job, pod, log=due) == StoreLog(pod)
    assert step(job, pod, log=LogState(blocks_deletion=True)) is None
    assert step(job, pod) == DeletePod(pod)
    deleting = pod.model_copy(update={"deleting": True})
    assert step(job, deleting) is None
    assert step(job, deleting, node_lost=True) == DeletePod(deleting, force=True)


def test_a_container_that_has_started_makes_the_job_running_while_another_one_waits() -> None:
    """Kubernetes calls its pod Pending, but the command runs (spec.md, L4)."""
    job = preparing()
    pod = a_pod(job, node="node-1", has_started=True, start_time=at(1))
    assert step(job, pod, Event.START_TIMEOUT) == ApplyEvent(Event.POD_RUNNING)


def test_a_requeue_holds_the_pod_deletes_it_and_reads_its_last_state() -> None:
    """The finalizer keeps that state, and each write requires that the pod has not changed."""
    job = preparing()
    pod = a_pod(job)
    assert step(job, pod, Event.START_TIMEOUT) == HoldPod(pod)
    held = pod.model_copy(update={"held": True})
    assert step(job, held, Event.START_TIMEOUT) == DeletePod(held, held.resource_version)
    without_node = held.model_copy(update={"deleting": True})
    assert step(job, without_node, Event.START_TIMEOUT) == ApplyEvent(Event.START_TIMEOUT, "because")


def test_a_requeue_waits_for_the_kubelet() -> None:
    """A pod that has a node may start until its kubelet reports its end."""
    job = preparing()
    deleting = a_pod(job, held=True, deleting=True, node="node-1")
    assert step(job, deleting, Event.START_TIMEOUT) is None
    ended = deleting.model_copy(
        update={"phase": PodPhase.FAILED, "exit_code": 137, "reason": "ContainerStatusUnknown"}
    )
    assert step(job, ended, Event.START_TIMEOUT) == ApplyEvent(Event.START_TIMEOUT, "because")


def test_a_requeue_continues_where_a_predecessor_stopped() -> None:
    """The finalizer shows that it has begun, even if the janitor's command is lost."""
    job = preparing()
    held = a_pod(job, held=True)
    assert step(job, held) == DeletePod(held, held.resource_version)
    over = held.model_copy(update={"deleting": True})
    assert step(job, over) == ApplyEvent(Event.START_TIMEOUT, "its pod did not start in time")


def test_the_finalizer_is_removed_when_it_has_no_purpose_any_more() -> None:
    """The pod's end is written, its job was deleted, or it started before its deletion."""
    over = a_pod(a_job(), held=True, deleting=True)
    assert step(a_job(fence="s#1"), over) == ReleasePod(over)
    assert step(final(Phase.CANCELLED, Reason.CANCELLED), over) == ReleasePod(over)
    assert step_without_job(over, has_record=False, node_lost=False) == ReleasePod(over)
    started = a_pod(preparing(), held=True, phase=PodPhase.RUNNING, start_time=at(1))
    assert step(preparing(), started) == ReleasePod(started)


def test_a_command_that_starts_during_the_deletion_of_its_pod_does_not_run_again() -> None:
    """Our own deletion has killed it after its start."""
    job = preparing()
    pod = a_pod(
        job,
        held=True,
        deleting=True,
        deleted_at=at(2),
        node="node-1",
        phase=PodPhase.RUNNING,
        start_time=at(2),
    )
    assert step(job, pod, Event.START_TIMEOUT) == ApplyEvent(Event.POD_RUNNING)
    assert step(running(), pod) is None
    killed = pod.model_copy(update={"phase": PodPhase.FAILED, "exit_code": 143, "finish_time": at(3)})
    detail = ": its start timeout expired when its container started"
    assert step(running(), killed) == ApplyEvent(Event.POD_KILLED, detail)


def test_a_pod_that_garbage_collection_ended_may_have_started() -> None:
    """Not its kubelet has written Failed, so that is no proof of no start (spec.md, L6)."""
    job = preparing()
    pod = a_pod(job, node="node-1", phase=PodPhase.FAILED, disruption="DeletionByPodGC: node not found")
    assert step(job, pod) == ApplyEvent(Event.POD_VANISHED, ": DeletionByPodGC: node not found")
    started = pod.model_copy(update={"start_time": at(1)})
    expected = ApplyEvent(Event.POD_KILLED, ": DeletionByPodGC: node not found", quotes_pod=True)
    assert step(running(), started) == expected


def test_a_pod_that_is_drained_while_its_image_is_pulled_requeues_the_job() -> None:
    """The kubelet reports an exit code even for a container that never started."""
    job = preparing()
    pod = a_pod(
        job, node="node-1", deleting=True, phase=PodPhase.FAILED, exit_code=137,
        reason="ContainerStatusUnknown", disruption="EvictionByEvictionAPI",
    )  # fmt: skip
    assert isinstance(step(job, pod), ApplyEvent)
    assert step(job, pod).event is Event.POD_FAILED_UNSTARTED  # type: ignore[union-attr]


def test_a_pod_that_started_just_before_its_requeue_continues() -> None:
    """The job has what it waited for."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING), Event.START_TIMEOUT) == ApplyEvent(Event.POD_RUNNING)


def test_a_command_that_succeeded_while_it_was_requeued_has_succeeded() -> None:
    """It has run to its end, so it does not run again."""
    job = preparing()
    ended = a_pod(job, held=True, deleting=True, phase=PodPhase.SUCCEEDED)
    assert step(job, ended, Event.START_TIMEOUT) == ApplyEvent(Event.POD_SUCCEEDED)


def test_a_job_over_its_deadline_is_failed_before_its_pod_is_deleted() -> None:
    """Otherwise the end of the pod could be observed first, and would decide (spec.md, L8)."""
    job = running()
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod, Event.OVER_DEADLINE) == ApplyEvent(Event.OVER_DEADLINE, "because")
    over = final(Phase.FAILED, Reason.OVER_ACTIVE_DEADLINE)
    assert step(over, pod) == DeletePod(pod)


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_a_pod_that_its_node_ended_at_its_own_deadline_is_over_its_deadline(job: JobSeen) -> None:
    """The container's own reason would conceal it, whatever its exit code (spec.md, P13)."""
    pod = a_pod(
        job, phase=PodPhase.FAILED, start_time=at(0), exit_code=137, reason="Error", exceeded_deadline=691200
    )
    text = (
        "its pod was active longer than 691200 s, the pod's own deadline, and Kubernetes ended it; exit code"
    )
    expected = ApplyEvent(Event.POD_OVER_DEADLINE, f"{text} 137 (Error)", quotes_pod=True)
    assert step(job, pod) == expected
    graceful = pod.model_copy(update={"exit_code": 0, "reason": "Completed"})
    expected = ApplyEvent(Event.POD_OVER_DEADLINE, f"{text} 0 (Completed)", quotes_pod=True)
    assert step(job, graceful) == expected


def test_a_pod_that_reached_its_own_deadline_before_its_start_requeues_the_job() -> None:
    """The job's deadline counts from the start of its container (spec.md, L8)."""
    job = preparing()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="DeadlineExceeded", exceeded_deadline=691200)
    expected = ApplyEvent(Event.POD_FAILED_UNSTARTED, "the pod failed (DeadlineExceeded)", quotes_pod=True)
    assert step(job, pod) == expected


@pytest.mark.parametrize(
    ("job", "event", "stale"),
    [
        (preparing(), Event.START_TIMEOUT, False),
        (running(), Event.START_TIMEOUT, True),
        (running(), Event.OVER_DEADLINE, False),
        (a_job(), Event.OVER_DEADLINE, True),
        (a_job(phase=Phase.SUCCEEDED), Event.TTL_OVER, False),
        (a_job(phase=Phase.FAILED), Event.HISTORY_OVER, False),
        (running(), Event.TTL_OVER, True),
        (running(), Event.HISTORY_OVER, True),
        (running(), Event.NODE_LOST_TOO_LONG, True),
    ],
)
def test_a_command_for_a_phase_that_has_passed_is_stale(job: JobSeen, event: Event, *, stale: bool) -> None:
    """The job or its node has changed since the janitor decided."""
    assert is_stale(job, command(event, job), node_lost=False) is stale


def test_a_command_for_an_older_admission_is_stale() -> None:
    """A requeue of the first attempt must not hit the second."""
    old = PendingCommand(Event.START_TIMEOUT, "job-1", "s#0")
    assert is_stale(preparing(), old, node_lost=False)


def test_a_command_that_was_decided_on_an_older_spec_is_stale() -> None:
    """The user has extended the deadline since, and the janitor decides again."""
    for name, field in (
        ("activeDeadlineSeconds", "active_deadline_seconds"),
        ("ttlSecondsAfterFinished", "ttl_seconds_after_finished"),
    ):
        event = Event.OVER_DEADLINE
        old = PendingCommand(event, "job-1", "s#1", decided_on={name: 60})
        assert not is_stale(running(**{field: 60}), old, node_lost=False)
        assert is_stale(running(**{field: 61}), old, node_lost=False)
        without = PendingCommand(event, "job-1", "s#1", decided_on={name: None})
        assert not is_stale(running(), without, node_lost=False)
        assert is_stale(running(**{field: 60}), without, node_lost=False)


def test_a_command_without_a_spec_applies_to_any_and_an_unknown_field_is_left_to_the_write() -> None:
    """Services of different versions run side by side. The JSON Patch tests every field."""
    job = running(active_deadline_seconds=60)
    assert not is_stale(job, PendingCommand(Event.OVER_DEADLINE, "job-1", "s#1"), node_lost=False)
    newer = PendingCommand(Event.OVER_DEADLINE, "job-1", "s#1", decided_on={"priority": 1})
    assert not is_stale(job, newer, node_lost=False)


def test_the_step_of_a_command_names_the_spec_that_it_was_decided_on() -> None:
    """The write tests it, so that an edit that was not observed yet counts, too (spec.md, L8)."""
    decided_on = {"activeDeadlineSeconds": 60}
    job = running(active_deadline_seconds=60)
    time_out = PendingCommand(Event.OVER_DEADLINE, job.name, job.fence, "too long", decided_on)
    state = JobState(job, a_pod(job, phase=PodPhase.RUNNING), time_out)
    assert next_step(state) == ApplyEvent(Event.OVER_DEADLINE, "too long", decided_on=decided_on)


def test_a_reclaimed_job_gets_the_text_of_the_command_that_deleted_its_pod() -> None:
    """It says that a cap has shortened the TTL (spec.md, L10)."""
    job = final(Phase.SUCCEEDED, Reason.COMPLETED)
    reclaim = PendingCommand(Event.TTL_OVER, job.name, job.fence, "deleted after 60 s, the cap")
    assert next_step(JobState(job, command=reclaim)) == MarkReclaimed("deleted after 60 s, the cap")
    assert next_step(JobState(job)) == MarkReclaimed()


def test_a_pod_that_its_node_rejected_requeues_the_job() -> None:
    """Its command never ran. The requeue is written, then the pod is deleted."""
    job = preparing()
    pod = a_pod(job, phase=PodPhase.FAILED, reason="OutOfcpu")
    expected = ApplyEvent(Event.POD_FAILED_UNSTARTED, "the pod failed (OutOfcpu)", quotes_pod=True)
    assert step(job, pod) == expected
    assert step(a_job(fence="s#1"), pod) == DeletePod(pod, stray=True)


def test_a_container_that_could_not_be_started_fails_the_job() -> None:
    """An exit code means that the container was started, for example with a command that does not exist."""
    job = preparing()
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=128, reason="StartError")
    assert step(job, pod) == ApplyEvent(Event.POD_FAILED, "exit code 128 (StartError)", quotes_pod=True)


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_a_pod_that_failed_after_its_deletion_was_requested_was_killed_by_it(job: JobSeen) -> None:
    """The reason is PodDeleted, although the kubelet reports an exit code (spec.md, L7)."""
    killed = a_pod(
        job, phase=PodPhase.FAILED, deleting=True, deleted_at=at(10), start_time=at(5), finish_time=at(10),
        exit_code=143, disruption="EvictionByEvictionAPI: evicting",
    )  # fmt: skip
    detail = ": EvictionByEvictionAPI: evicting; exit code 143 (Error)"
    assert step(job, killed) == ApplyEvent(Event.POD_KILLED, detail, quotes_pod=True)
    failed = killed.model_copy(update={"finish_time": at(9)})
    assert step(job, failed) == ApplyEvent(Event.POD_FAILED, "exit code 143 (Error)", quotes_pod=True)


def test_a_running_pod_that_another_program_deletes_makes_its_preparing_job_running_first() -> None:
    """Then its end cannot look like that of a pod that never started."""
    job = preparing()
    assert step(job, a_pod(job, phase=PodPhase.RUNNING, deleting=True)) == ApplyEvent(Event.POD_RUNNING)


LOST: dict[str, Any] = {"node_lost": True}


@pytest.mark.parametrize("job", [preparing(), running()], ids=["Preparing", "Running"])
def test_a_job_on_a_lost_node_has_that_reason_until_the_node_is_back(job: JobSeen) -> None:
    """It keeps its phase and its pod (spec.md, L12)."""
    phase = PodPhase.RUNNING if job.phase is Phase.RUNNING else PodPhase.PENDING
    pod = a_pod(job, phase=phase, node="node-1")
    assert step(job, pod, **LOST) == ApplyEvent(Event.NODE_LOST, "node-1")
    marked = job.model_copy(update={"reason": Reason.NODE_LOST})
    assert step(marked, pod, **LOST) is None
    assert step(marked, pod) == ApplyEvent(Event.NODE_BACK, "node-1")


def test_a_pod_that_did_not_start_on_a_lost_node_is_never_deleted_by_force() -> None:
    """Its command may run there, and would run twice."""
    job = preparing()
    pod = a_pod(job, node="node-1")
    assert step(job, pod, Event.START_TIMEOUT, **LOST) == HoldPod(pod)
    deleting = pod.model_copy(update={"held": True, "deleting": True})
    assert step(job, deleting, Event.START_TIMEOUT, **LOST) == ApplyEvent(Event.NODE_LOST, "node-1")


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.OVER_ACTIVE_DEADLINE, Reason.NODE_LOST])
def test_the_pod_of_a_finished_job_on_a_lost_node_is_deleted_by_force(reason: Reason) -> None:
    """Otherwise its quota would never be free. A deletion that has begun cannot complete either."""
    phase = Phase.CANCELLED if reason is Reason.CANCELLED else Phase.FAILED
    job = final(phase, reason)
    for deleting in (False, True):
        pod = a_pod(job, phase=PodPhase.RUNNING, deleting=deleting)
        assert step(job, pod, **LOST) == DeletePod(pod, force=True)


def test_the_pod_of_a_deleted_job_on_a_lost_node_is_deleted_by_force() -> None:
    """Garbage collection has requested its deletion, but the node cannot confirm it."""
    pod = a_pod(a_job(), deleting=True)
    assert step_without_job(pod, has_record=False, node_lost=True) == DeletePod(pod, force=True)
    assert step_without_job(pod, has_record=False, node_lost=False) is None
    assert step_without_job(a_pod(a_job()), has_record=False, node_lost=True) is None


def test_a_pod_that_appears_when_only_its_jobs_record_is_left_is_deleted() -> None:
    """It was created too late, and nothing else would end it."""
    pod = a_pod(a_job())
    assert step_without_job(pod, has_record=True, node_lost=False) == DeletePod(pod)
    deleting = a_pod(a_job(), deleting=True)
    assert step_without_job(deleting, has_record=True, node_lost=False) is None


def test_an_orphan_is_deleted_when_its_job_is_gone() -> None:
    """Nothing else would end its command (spec.md, L16)."""
    pod = a_pod(a_job(), orphaned=True, phase=PodPhase.RUNNING)
    assert step_without_job(pod, has_record=False, node_lost=False) == DeletePod(pod)
    deleting = a_pod(a_job(), orphaned=True, deleting=True)
    assert step_without_job(deleting, has_record=False, node_lost=False) is None
    held = a_pod(a_job(), orphaned=True, held=True)
    assert step_without_job(held, has_record=False, node_lost=False) == ReleasePod(held)


def test_an_orphan_of_a_job_that_is_not_deleted_stays_its_pod() -> None:
    """Somebody has removed its owner reference only."""
    pod = a_pod(running(), orphaned=True, phase=PodPhase.RUNNING, start_time=at(1))
    assert step(running(), pod) is None


def test_a_job_fails_when_its_node_has_been_lost_too_long() -> None:
    """The setting nodeLostGraceSeconds limits the time (spec.md, L12)."""
    for job in (preparing(), running()):
        expected = ApplyEvent(Event.NODE_LOST_TOO_LONG, "because")
        assert step(job, a_pod(job, node="node-1"), Event.NODE_LOST_TOO_LONG, **LOST) == expected


def test_a_finished_jobs_log_is_stored_before_its_ttl_is_over() -> None:
    """The log is stored at the end of the job (spec.md, L14)."""
    job = final(Phase.SUCCEEDED, Reason.COMPLETED)
    pod = a_pod(job, phase=PodPhase.SUCCEEDED)
    assert step(job, pod, log=LogState(should_store=True, blocks_deletion=True)) == StoreLog(pod)
    assert step(job, pod, log=LogState(should_store=False, blocks_deletion=True)) is None


def test_no_pod_is_deleted_before_its_log_is_stored_or_abandoned() -> None:
    """With the pod, its log is gone. A failing archive delays a deletion by 30 s at most (spec.md, L14)."""
    cancelled = final(Phase.CANCELLED, Reason.CANCELLED)
    for job, event in ((cancelled, None), (preparing(), Event.START_TIMEOUT)):
        pod = a_pod(job)
        assert step(job, pod, event, log=LogState(should_store=True, blocks_deletion=True)) == StoreLog(pod)
        assert step(job, pod, event, log=LogState(should_store=False, blocks_deletion=True)) is None
        assert isinstance(
            step(job, pod, event, log=LogState(should_store=True, blocks_deletion=False)), DeletePod | HoldPod
        )


def test_a_record_is_deleted_after_its_pod() -> None:
    """Otherwise garbage collection would end the pod before its log is stored (spec.md, L11)."""
    job = final(Phase.FAILED, Reason.ERROR)
    pod = a_pod(job, phase=PodPhase.FAILED)
    assert step(job, pod, Event.HISTORY_OVER) == DeletePod(pod)
    assert step(job, None, Event.HISTORY_OVER) == DeleteRecord()


COMMANDS = (
    Event.START_TIMEOUT,
    Event.OVER_DEADLINE,
    Event.NODE_LOST_TOO_LONG,
    Event.TTL_OVER,
    Event.HISTORY_OVER,
)
"""The events that the janitor commands."""


@pytest.mark.parametrize("event", COMMANDS)
@pytest.mark.parametrize("job", [preparing(), running(), final(Phase.SUCCEEDED, Reason.COMPLETED)])
def test_a_command_has_the_effect_of_the_lifecycle_table(job: JobSeen, event: Event) -> None:
    """The table decides whether the transition is written before or after the deletion of the pod."""
    pod = a_pod(job, phase=PodPhase.SUCCEEDED if job.phase.final else PodPhase.PENDING)
    apply = ApplyEvent(event, "because")
    outcome = transition(job.phase, event)
    if isinstance(outcome, Ignored):
        assert is_stale(job, command(event, job), node_lost=True)
        return
    expected: dict[Effect, Step] = {
        Effect.DELETE_BEFORE: HoldPod(pod),
        Effect.DELETE_AFTER: DeletePod(pod) if job.phase.final else apply,
        Effect.DELETE_RECORD: DeletePod(pod),
    }
    assert step(job, pod, event) == expected[outcome.effect]


def test_the_planner_follows_a_change_of_the_lifecycle_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start timeout that deleted its pod afterwards would be written at once."""
    job = preparing()
    changed = Transition(Phase.PENDING, Reason.REQUEUED, effect=Effect.DELETE_AFTER)
    monkeypatch.setattr(lifecycle, "TABLE", {**TABLE, (Phase.PREPARING, Event.START_TIMEOUT): changed})
    assert step(job, a_pod(job), Event.START_TIMEOUT) == ApplyEvent(Event.START_TIMEOUT, "because")


@pytest.mark.parametrize("phase", Phase)
def test_a_gated_pod_is_ungated_in_the_phase_that_the_table_ungates_it_in(phase: Phase) -> None:
    """The step depends on the phase only, because a status does not record the event that led to it."""
    job = a_job(phase=phase, fence="s#1", pod_uid=POD)
    ungates = {
        change.phase
        for change in TABLE.values()
        if isinstance(change, Transition) and change.effect is Effect.UNGATE
    }
    assert isinstance(step(job, a_pod(job, gated=True)), Ungate) is (phase in ungates)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.final])
@pytest.mark.parametrize("reason", Reason)
def test_a_finished_jobs_pod_is_deleted_at_once_if_the_table_deletes_it(phase: Phase, reason: Reason) -> None:
    """All other pods stay until the TTL is over."""
    job = final(phase, reason)
    pod = a_pod(job, phase=PodPhase.FAILED)
    assert step(job, pod) == (DeletePod(pod) if reason in REASONS_WITHOUT_POD else None)


RETRY: dict[str, Any] = {"retry_limit": 2, "retry_on": ("Disruption", "NodeLost")}
EVICTED: dict[str, Any] = {
    "phase": PodPhase.FAILED, "deleting": True, "deleted_at": at(10), "start_time": at(5),
    "finish_time": at(12), "exit_code": 143, "disruption": "EvictionByEvictionAPI: evicting",
}  # fmt: skip


@pytest.mark.parametrize("job", [preparing(**RETRY), running(**RETRY)], ids=["Preparing", "Running"])
def test_a_job_whose_user_permits_it_is_retried_after_its_pod_has_ended(job: JobSeen) -> None:
    """It quotes no log, because the message of a Pending job is in facts (spec.md, E7)."""
    assert step(job, a_pod(job, **EVICTED)) == ApplyEvent(
        Event.POD_KILLED,
        ": EvictionByEvictionAPI: evicting; exit code 143 (Error)",
        retry=RetryCause.DISRUPTION,
    )
    failed = {**EVICTED, "deleting": False, "deleted_at": None, "disruption": "", "exit_code": 1}
    assert step(job, a_pod(job, **failed)) == ApplyEvent(
        Event.POD_FAILED, "exit code 1 (Error)", quotes_pod=True
    )
    used_up = job.model_copy(update={"retried": 2})
    end = ApplyEvent(
        Event.POD_KILLED, ": EvictionByEvictionAPI: evicting; exit code 143 (Error)", quotes_pod=True
    )
    assert step(used_up, a_pod(used_up, **EVICTED)) == end


def test_a_job_whose_pod_an_injected_container_keeps_running_is_retried_once_that_pod_is_deleted() -> None:
    """The end of `main` is the end of the command. The next pod has the name of this one."""
    job = running(**{**RETRY, "retry_on": ("Failure",)})
    pod = a_pod(job, phase=PodPhase.RUNNING, start_time=at(1), exit_code=3, runs_on="istio-proxy")
    found = step(job, pod)
    assert isinstance(found, ApplyEvent)
    assert (found.event, found.retry) == (Event.POD_FAILED, RetryCause.FAILURE)
    waiting = a_job(fence="s#1", retried=1, reason=Reason.RETRIED)
    kept = pod.model_copy(update={"job_uid": waiting.uid})
    assert step(waiting, kept, log=LogState(should_store=True, blocks_deletion=True)) == StoreLog(kept)
    assert step(waiting, kept) == DeletePod(kept, stray=True)


@pytest.mark.parametrize("job", [running(**RETRY, cancel=True), running(**RETRY, deleting=True)])
def test_a_job_that_is_cancelled_or_deleted_is_not_retried(job: JobSeen) -> None:
    """Its user does not want it to run again. The end of its command counts (spec.md, L9)."""
    assert step(job, a_pod(job, **EVICTED)) == ApplyEvent(
        Event.POD_KILLED, ": EvictionByEvictionAPI: evicting; exit code 143 (Error)", quotes_pod=True
    )


def test_a_pod_that_is_gone_is_no_reason_for_a_retry() -> None:
    """Nobody has seen the end of its command, which may still run (spec.md, L17)."""
    for job in (preparing(**RETRY), running(**RETRY)):
        assert step(job) == ApplyEvent(Event.POD_VANISHED)


def test_a_retried_job_waits_until_the_log_of_its_pod_is_stored_and_the_pod_deleted() -> None:
    """Its next pod has the same name. Another program may be deleting the old one already."""
    job = a_job(fence="s#1", retried=1, reason=Reason.RETRIED)
    pod = a_pod(job, **EVICTED)
    assert step(job, pod, log=LogState(should_store=True, blocks_deletion=True)) == StoreLog(pod)
    assert step(job, pod) is None
    ended = a_pod(job, **{**EVICTED, "deleting": False})
    assert step(job, ended, log=LogState(blocks_deletion=True)) is None
    assert step(job, ended) == DeletePod(ended, stray=True)


@pytest.mark.parametrize("job", [preparing(**RETRY), running(**RETRY)], ids=["Preparing", "Running"])
def test_a_retry_of_a_job_on_a_lost_node_waits_for_the_end_of_its_pod(job: JobSeen) -> None:
    """Its command may still run there. The pod is deleted without force, so that its node has to answer."""
    job = job.model_copy(update={"reason": Reason.NODE_LOST})
    phase = PodPhase.RUNNING if job.phase is Phase.RUNNING else PodPhase.PENDING
    pod = a_pod(job, phase=phase, node="node-1")
    assert step(job, pod, Event.NODE_LOST_TOO_LONG, **LOST) == DeletePod(pod)
    deleting = pod.model_copy(update={"deleting": True})
    assert step(job, deleting, Event.NODE_LOST_TOO_LONG, **LOST) is None
    assert step(job, deleting) is None
    killed = a_pod(job, **{**EVICTED, "disruption": ""})
    assert step(job, killed) == ApplyEvent(
        Event.POD_KILLED, "; exit code 143 (Error)", retry=RetryCause.NODE_LOST
    )
    collected = a_pod(job, phase=PodPhase.FAILED, node="node-1", disruption="DeletionByPodGC: node is gone")
    found = step(job, collected)
    assert isinstance(found, ApplyEvent)
    assert found.retry is RetryCause.NODE_LOST


def test_a_job_on_a_lost_node_without_a_retry_left_fails_as_before() -> None:
    """It is given up, and its pod is deleted by force (spec.md, L12)."""
    job = running(**RETRY, retried=2, reason=Reason.NODE_LOST)
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod, Event.NODE_LOST_TOO_LONG, **LOST) == ApplyEvent(Event.NODE_LOST_TOO_LONG, "because")


def test_a_timeout_of_a_job_that_may_be_retried_ends_it() -> None:
    """A retry is for a command that somebody else has ended, or that has failed (spec.md, L17)."""
    job = running(retry_limit=9, retry_on=("Disruption", "NodeLost", "Failure"))
    pod = a_pod(job, phase=PodPhase.RUNNING)
    assert step(job, pod, Event.OVER_DEADLINE) == ApplyEvent(Event.OVER_DEADLINE, "because")
