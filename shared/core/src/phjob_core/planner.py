"""The plan for one job: the next step that brings the job and its pod to where they should be. Pure.

The planner is level-triggered: it looks at the job, its pod and the janitor's command, and names one step. To
take a step twice does no harm. `lifecycle` decides which event is allowed in which phase, and what happens to
the pod with it; `next_step` follows that table.

The checks run in this order:

1. A finalizer of ours that has no purpose any more is removed.
2. A stray pod is deleted. Only the pod that the admission names (`status.podUID`) is the job's pod.
3. The end of the pod's container decides, whatever the user or the janitor wants. If the user permits it, the
   job is retried (`retry`).
4. The user's request to cancel or to delete the job decides, also about a pod that never started.
5. The start of the container makes the job Running.
6. The janitor's command is executed.
7. The state of the pod's node becomes the job's reason.

docs/design/admission.md has the hazards, and the mechanism against each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from phjob_core.api import Phase, Reason
from phjob_core.lifecycle import REASONS_WITHOUT_POD, Effect, Event, Transition, transition
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.pod_status import describe_end, state_of
from phjob_core.retry import RetryCause, cause_of_end, is_permitted
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

_EDITABLE_FIELDS = {
    "activeDeadlineSeconds": "active_deadline_seconds",
    "ttlSecondsAfterFinished": "ttl_seconds_after_finished",
}
"""The fields of a job's spec that a command may be decided on, and those of `JobSeen`."""


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command of the janitor that is neither done nor stale.

    A lost one does no harm, because the janitor repeats its commands until it sees their effect.
    """

    event: Event
    name: str
    """The job's name."""
    fence: str
    """The fence that it was decided on. Without it, a late requeue could hit the next attempt."""
    message: str = ""
    decided_on: Mapping[str, int | None] = field(default_factory=dict)
    """The fields of the job's spec that it was decided on. A later edit of one of them makes it stale."""
    spares_pulling: bool = False
    """True if a pod whose image is still being pulled gets more time."""
    message_if_pulling: str = ""
    """The message, in place of `message`, if the image is still being pulled."""
    explained: bool = False
    """True if the message already contains why the pod has not started."""


@dataclass(frozen=True)
class LogState:
    """The state of the pod's log in the archive (spec.md, L14)."""

    should_store: bool = False
    """True if the log is not stored yet, and the next attempt to store it is due."""
    blocks_deletion: bool = False
    """True while the pod must not be deleted, because its log would be lost with it."""


@dataclass(frozen=True)
class JobState:
    """A job, and everything that its next step depends on."""

    job: JobSeen
    pod: PodSeen | None = None
    command: PendingCommand | None = None
    never_started: bool = False
    """True if the named pod is gone, and its last state proved that its container never ran."""
    node_lost: bool = False
    """True if the pod's node is unresponsive."""
    log: LogState = LogState()
    admitting: bool = False
    """True while an `Admit` for the job is being executed. It may have created a gated pod already."""


def is_stale(job: JobSeen, command: PendingCommand, *, node_lost: bool) -> bool:
    """Return whether a command no longer applies.

    The job was requeued or edited, its node is back, or its phase ignores the event.
    """
    if command.fence != job.fence or _was_edited(job, command.decided_on):
        return True
    if command.event is Event.NODE_LOST_TOO_LONG and not node_lost:
        return True
    return not isinstance(transition(job.phase, command.event), Transition)


def _was_edited(job: JobSeen, decided_on: Mapping[str, int | None]) -> bool:
    """Return whether a field of the spec has another value than the one that was decided on."""
    fields = ((name, field) for name, field in _EDITABLE_FIELDS.items() if name in decided_on)
    return any(getattr(job, field) != decided_on[name] for name, field in fields)


def ends_late_start(step: Step, state: JobState) -> bool:
    """Return whether the step is the first that ends a pod which has not started in time.

    Before it, the pod's Events show why the pod has not started, and whether it gets more time.
    """
    command, pod = state.command, state.pod
    if command is None or command.event is not Event.START_TIMEOUT or command.explained or pod is None:
        return False
    is_first = isinstance(step, HoldPod | StoreLog | DeletePod) and not pod.deleting
    return is_first and state.job.phase is Phase.PREPARING and is_named(state.job, pod)


def is_named(job: JobSeen, pod: PodSeen) -> bool:
    """Return whether the pod is the one that the job's admission names.

    Releases before 0.1 wrote no uid. Their pods have the token of the admission. PrimeHub wrote no token
    either (spec.md, E9). Its pods have none, and no gate. Only pod-manager makes a pod the pod of a job.
    """
    if job.pod_uid:
        return pod.uid == job.pod_uid
    return pod.fence == job.fence and (job.fence != "" or not pod.gated)


def next_step(state: JobState) -> Step | None:
    """Return the next step; None if there is nothing to do, or if another program must act first."""
    if state.pod and state.pod.held and not _is_being_requeued(state.job, state.pod):
        return ReleasePod(state.pod)
    if state.pod and state.job.phase.admitted and not is_named(state.job, state.pod):
        return _delete(state, state.pod, stray=True)
    match state.job.phase:
        case Phase.PENDING:
            return _pending(state)
        case Phase.PREPARING:
            return _preparing(state)
        case Phase.RUNNING:
            return _running(state)
    return _final(state)


def step_without_job(pod: PodSeen, *, has_record: bool, node_lost: bool) -> DeletePod | ReleasePod | None:
    """Return the next step for the pod of a job that was deleted, or of which only the record is left.

    Kubernetes deletes the pod of a deleted job, but cannot do so on a lost node, and never deletes an orphan.
    Without this, an orphan's command would run on without a deadline. The pod beside a record was created too
    late, and nothing else would end it.
    """
    if pod.held:
        return ReleasePod(pod)
    if pod.deleting:
        return DeletePod(pod, force=True) if node_lost else None
    return DeletePod(pod) if has_record or pod.orphaned else None


# --- One function for each phase. ---


def _pending(state: JobState) -> Step | None:
    """Return the next step for a Pending job. No pod may outlive its admission, or two could run at once."""
    if _is_to_be_cancelled(state.job):
        return _cancel(state.job)
    if state.pod is None or (state.pod.gated and state.admitting):
        return None  # An admission is about to name the gated pod.
    if state.pod.phase.finished and state.log.should_store:
        return StoreLog(state.pod)  # Of a retry: another program may be about to delete the pod.
    return _delete(state, state.pod, stray=True)


def _preparing(state: JobState) -> Step | None:
    job, pod = state.job, state.pod
    if pod is None:
        return _preparing_without_pod(state)
    step = _apply_pod_state(state, pod)
    if step and not (_is_to_be_cancelled(job) and step.event in _OUTRANKED_BY_CANCEL):
        return _retry_or_fail(state, step)
    if _is_to_be_cancelled(job):
        return _cancel(job)
    if command := _command_with(state, Effect.DELETE_AFTER):
        return _give_up(state, command, pod)
    if pod.never_started or pod.held or _command_with(state, Effect.DELETE_BEFORE):
        return _next_requeue_step(state, pod)
    if pod.gated and not pod.deleting:
        return Ungate(pod)
    return _apply_node_state(state, pod)


def _preparing_without_pod(state: JobState) -> Step | None:
    """Return the next step for a Preparing job whose pod is gone.

    The pod existed when the job was admitted. Without proof that it never started, the job fails; otherwise
    its command could run twice.
    """
    job = state.job
    if _is_to_be_cancelled(job):
        return _cancel(job)
    if command := _command_with(state, Effect.DELETE_AFTER):
        return _apply(command)
    if not job.fence:
        return ApplyEvent(Event.POD_INVALID, "another program wrote its status")
    if not job.pod_uid:
        # A release before 0.1 admitted the job. It created the pod afterwards, so the pod may still appear.
        return _apply(state.command) if state.command else None
    if state.never_started:
        return _finish_requeue(state)
    return ApplyEvent(Event.POD_VANISHED)


def _running(state: JobState) -> Step | None:
    job, pod = state.job, state.pod
    if pod and (step := _apply_pod_state(state, pod)) and step.event is not Event.POD_RUNNING:
        return _retry_or_fail(state, step)
    if _is_to_be_cancelled(job):
        return _cancel(job)
    if pod is None:
        return ApplyEvent(Event.POD_VANISHED)
    if command := _command_with(state, Effect.DELETE_AFTER):
        return _give_up(state, command, pod)
    return _apply_node_state(state, pod)


def _final(state: JobState) -> Step | None:
    """Return the next step for a finished job: its pod and its record go when their times are over."""
    job, pod = state.job, state.pod
    if pod is None:
        if _command_with(state, Effect.DELETE_RECORD):
            return DeleteRecord()
        reclaim = _command_with(state, Effect.DELETE_AFTER)
        return MarkReclaimed(reclaim.message if reclaim else "")
    is_due = _command_with(state, Effect.DELETE_AFTER, Effect.DELETE_RECORD) is not None
    # Without the last condition, an injected container would hold the quota for good.
    if is_due or job.reason in REASONS_WITHOUT_POD or not is_named(job, pod) or pod.runs_on:
        return _delete(state, pod)
    if state.log.should_store and pod.phase.finished:
        return StoreLog(pod)
    return None


def _command_with(state: JobState, *effects: Effect) -> PendingCommand | None:
    """Return the janitor's command if its transition has one of these effects; otherwise None."""
    command = state.command
    if command is None:
        return None
    outcome = transition(state.job.phase, command.event)
    return command if isinstance(outcome, Transition) and outcome.effect in effects else None


def _apply(command: PendingCommand) -> ApplyEvent:
    """Return the step that writes the transition of the janitor's command."""
    return ApplyEvent(command.event, command.message, decided_on=command.decided_on)


# --- Retry. ---


def _retry_or_fail(state: JobState, step: ApplyEvent) -> ApplyEvent:
    """Return the step that ends the attempt, as a retry if the job's user permits that."""
    cause = cause_of_end(step.event, state.job, state.pod)
    if cause is None or not is_permitted(state.job, cause):
        return step
    # Its message is part of the facts about a Pending job, so it must not quote the log (spec.md, E7).
    return replace(step, retry=cause, quotes_pod=False)


def _give_up(state: JobState, command: PendingCommand, pod: PodSeen) -> Step | None:
    """Return the step for a command that ends the job.

    A job that may be retried is not ended for its lost node. Its pod is deleted without force, and the job
    waits for the pod's end: the node has returned, or its object is deleted. Otherwise the command might run
    on the lost node and on another one at the same time.
    """
    if command.event is not Event.NODE_LOST_TOO_LONG or not is_permitted(state.job, RetryCause.NODE_LOST):
        return _apply(command)
    return None if pod.deleting else DeletePod(pod)


# --- Cancel. ---

_OUTRANKED_BY_CANCEL = frozenset({Event.POD_RUNNING, Event.POD_FAILED_UNSTARTED})
"""The events of a pod whose container has not ended. Without the second, a job that is deleted with its pod
would be requeued, or fail over its requeue limit."""


def _is_to_be_cancelled(job: JobSeen) -> bool:
    """Return whether the user cancels the job, or deletes it while a finalizer keeps its record."""
    return job.cancel or job.deleting


def _cancel(job: JobSeen) -> ApplyEvent:
    return ApplyEvent(Event.CANCELLED, "" if job.cancel else ": it is being deleted")


# --- Requeue: the effect DELETE_BEFORE. ---


def _is_being_requeued(job: JobSeen, pod: PodSeen) -> bool:
    """Return whether our finalizer still has a purpose, because the pod's end is not written yet.

    A pod that started before it was deleted continues to run, and needs no finalizer.
    """
    if not is_named(job, pod):
        return False
    if job.phase is Phase.PREPARING:
        return pod.deleting or not pod.started
    return job.phase is Phase.RUNNING and pod.deleting


def _next_requeue_step(state: JobState, pod: PodSeen) -> Step | None:
    """Return the next step of a requeue.

    1. Add the finalizer to the pod.
    2. Delete the pod, if it has not changed since.
    3. Wait for its end, and read its last state.
    4. Write the requeue, if that state proves that the container never ran.

    Without the finalizer, a container that starts during the deletion would go unnoticed. So would one whose
    pod another program removes in the meantime. The command would then run twice.
    """
    if pod.never_started:
        return _finish_requeue(state)
    if pod.deleting:
        return _apply_node_state(state, pod)
    if not pod.held:
        return _after_log(state, HoldPod(pod), pod)
    return _after_log(state, DeletePod(pod, pod.resource_version), pod)


def _finish_requeue(state: JobState) -> ApplyEvent:
    """Return the step that writes the requeue of a job whose pod never started, and never will."""
    if command := _command_with(state, Effect.DELETE_BEFORE):
        return _apply(command)
    if state.pod and state.pod.held:  # The command was lost, but its finalizer shows that there was one.
        return ApplyEvent(Event.START_TIMEOUT, "its pod did not start in time")
    return ApplyEvent(Event.POD_GONE_UNSTARTED, "its pod was deleted before it started")


# --- Observations. ---


def _apply_pod_state(state: JobState, pod: PodSeen) -> ApplyEvent | None:
    """Return the event that the pod's own state means for the job; None if it means none.

    `pod_status.TABLE` decides. A pod that our finalizer holds is ended by a requeue of ours: the requeue is
    completed if the pod's container never started, and its command was killed otherwise.
    """
    event = state_of(pod, is_preparing=state.job.phase is Phase.PREPARING).event
    if event is None or (event is Event.POD_FAILED_UNSTARTED and pod.held):
        return None
    if event in (Event.POD_FAILED, Event.POD_KILLED) and pod.held:
        return ApplyEvent(Event.POD_KILLED, ": its start timeout expired when its container started")
    if event is Event.POD_RUNNING:
        return ApplyEvent(event)
    return ApplyEvent(event, describe_end(event, pod), quotes_pod=event in _QUOTED_EVENTS)


_QUOTED_EVENTS = frozenset(
    {Event.POD_FAILED, Event.POD_KILLED, Event.POD_OVER_DEADLINE, Event.POD_FAILED_UNSTARTED}
)
"""The events whose message quotes the pod and its container."""


def _apply_node_state(state: JobState, pod: PodSeen) -> ApplyEvent | None:
    """Return the event that the node's state means for the job; None if the job's reason shows it already."""
    if state.node_lost == (state.job.reason == Reason.NODE_LOST):
        return None
    if pod.deleting and is_permitted(state.job, RetryCause.NODE_LOST):
        return None  # The reason shows why the pod is about to end (`_give_up`).
    return ApplyEvent(Event.NODE_LOST if state.node_lost else Event.NODE_BACK, pod.node)


# --- Deletion of a pod. ---


def _delete(state: JobState, pod: PodSeen, *, stray: bool = False) -> Step | None:
    """Return the step that deletes the pod, or the one that stores its log first.

    A finished job's pod on a lost node is deleted by force, because no kubelet could confirm its end, and its
    quota would never be free. Any other pod waits for its node: its command may still run there, and a second
    pod would run it twice.
    """
    force = state.node_lost and state.job.phase.final
    if pod.deleting and not force:
        return None
    return _after_log(state, DeletePod(pod, None, stray, force), pod)


def _after_log(state: JobState, step: HoldPod | DeletePod, pod: PodSeen) -> Step | None:
    """Return the step, or the one that stores the pod's log before it. With the pod, its log is gone."""
    if state.log.blocks_deletion:
        return StoreLog(pod) if state.log.should_store else None
    return step
