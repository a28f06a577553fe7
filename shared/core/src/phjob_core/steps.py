"""The steps that bring a job and its pod to where they should be. `planner` chooses, pod-manager executes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phjob_core.lifecycle import Event
from phjob_core.messages import PodSeen
from phjob_core.retry import RetryCause


@dataclass(frozen=True)
class Ungate:
    """Remove the pod's scheduling gate, so that it may start."""

    pod: PodSeen


@dataclass(frozen=True)
class HoldPod:
    """Add our finalizer to the pod, if it has not changed, so that its last state can be read."""

    pod: PodSeen


@dataclass(frozen=True)
class ReleasePod:
    """Remove our finalizer from the pod. Without this, Kubernetes would keep the pod forever."""

    pod: PodSeen


@dataclass(frozen=True)
class DeletePod:
    """Delete the pod."""

    pod: PodSeen
    revision: int | None = None
    """Delete it only at this resourceVersion; None: in any state.

    Without it, a pod that has started in the meantime would be deleted as one that has not.
    """
    stray: bool = False
    """True if the job does not name the pod.

    The executor then reads the job again, because its view of the job may be older than the pod.
    """
    force: bool = False
    """Delete it without a grace period, because its lost node cannot confirm its end."""


@dataclass(frozen=True)
class StoreLog:
    """Store the pod's log in the archive."""

    pod: PodSeen


@dataclass(frozen=True)
class ApplyEvent:
    """Write the transition that the event causes."""

    event: Event
    detail: str = ""
    """A text for the message of the transition."""
    quotes_pod: bool = False
    """True if the detail quotes the pod. The executor reads the pod, and describes its end again."""
    decided_on: Mapping[str, int | None] = field(default_factory=dict)
    """The fields of the job's spec that must be unchanged, by name. None: the field is absent."""
    retry: RetryCause | None = None
    """The cause for which the job returns to its queue instead of failing; None if it fails.

    The write tests that the whole spec is unchanged, so that a permission which is withdrawn counts.
    """


@dataclass(frozen=True)
class MarkReclaimed:
    """Write that only the job's record is left."""

    note: str = ""
    """A text to add to the job's message."""


@dataclass(frozen=True)
class DeleteRecord:
    """Delete the job itself, because the history is full."""


Step = Ungate | HoldPod | ReleasePod | DeletePod | StoreLog | ApplyEvent | MarkReclaimed | DeleteRecord


def requires_no_pod(step: Step) -> bool:
    """Return whether a step that was planned without a pod is wrong if the job has one after all."""
    return isinstance(step, ApplyEvent | MarkReclaimed | DeleteRecord)
