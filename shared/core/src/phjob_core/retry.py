"""The retry policy: whether a job whose command has ended may run it again (spec.md, L17). Pure.

Without `spec.retry`, a command never runs twice. With it, the job's user permits that for some causes, up to
a number of times. An end has a cause only if it proves that the command no longer runs anywhere: PhJob has
read the last state of the named pod. A pod that is gone, whose end nobody has seen, is no proof.

`planner` asks this module about each end of a job, and `status_patches` writes the retry.
"""

from datetime import timedelta
from enum import StrEnum

from phjob_core.api import PodPhase, Reason
from phjob_core.lifecycle import REQUEUE_BACKOFF, Event
from phjob_core.messages import DELETED_BY_POD_GC, JobSeen, PodSeen

_DISRUPTED = frozenset({"Preempting", "Terminated", "NodeShutdown", "Shutdown"})
"""The kubelet's reasons for a pod that it has ended for the sake of its node.

`Evicted` is not one of them: the kubelet also evicts a pod that fills its own disk. It announces an eviction
for the sake of the node by the condition `DisruptionTarget` (eviction_manager.go).
"""


class RetryCause(StrEnum):
    """A cause for which a job may be retried: an entry of `spec.retry.on`."""

    DISRUPTION = "Disruption"
    """A drain, a preemption, an eviction, or the shutdown of the node."""
    NODE_LOST = "NodeLost"
    FAILURE = "Failure"
    """The command has failed by itself."""


def cause_of_end(event: Event, job: JobSeen, pod: PodSeen | None) -> RetryCause | None:
    """Return the cause for which a job may be retried after this event; None if it has none.

    | The named pod                                                  | Cause      |
    | -------------------------------------------------------------- | ---------- |
    | is gone, or has not ended                                      | none       |
    | was ended by PodGC, because its node is gone                   | NodeLost   |
    | was disrupted, as its conditions or the kubelet's reason say   | Disruption |
    | failed before its deletion was requested, or without that      | Failure    |
    | was deleted after its node was lost                            | NodeLost   |
    | was deleted by somebody else, or because it started too late   | none       |
    | was ended at its own deadline                                  | none       |
    """
    if pod is None or event not in _ENDS or not has_ended(pod):
        return None
    if pod.disruption.startswith(DELETED_BY_POD_GC):
        return RetryCause.NODE_LOST
    if is_disrupted(pod):
        return RetryCause.DISRUPTION
    if event is Event.POD_FAILED:
        return RetryCause.FAILURE
    is_lost = event is Event.POD_KILLED and job.reason == Reason.NODE_LOST
    return RetryCause.NODE_LOST if is_lost else None


_ENDS = (Event.POD_FAILED, Event.POD_KILLED, Event.POD_VANISHED)
"""The events of a pod that has failed, and whose job fails with it."""


def has_ended(pod: PodSeen) -> bool:
    """Return whether the pod's last state proves that its command no longer runs."""
    return pod.phase is PodPhase.FAILED or pod.exit_code is not None


def is_disrupted(pod: PodSeen) -> bool:
    """Return whether Kubernetes has ended the pod for a reason that is not the pod's own.

    A node that is gone is not such a reason: see `RetryCause.NODE_LOST`.
    """
    is_announced = bool(pod.disruption) and not pod.disruption.startswith(DELETED_BY_POD_GC)
    return is_announced or pod.cause in _DISRUPTED


def is_permitted(job: JobSeen, cause: RetryCause) -> bool:
    """Return whether the job's user permits to run its command again for this cause.

    A user who cancels or deletes the job does not.
    """
    has_one_left = job.retried < job.retry_limit
    return has_one_left and cause in job.retry_on and not job.cancel and not job.deleting


def retry_backoff(retries: int) -> timedelta:
    """Return the backoff of a job after that many retries: 30 s, then doubled, up to 10 min (spec.md, L17).

    That of requeues, but the first retry has one, too: a command that fails at once must not run in a loop.
    """
    return timedelta(seconds=REQUEUE_BACKOFF.delay(retries))
