"""A pod of the admission model, and everything that Kubernetes and third parties do to it. Pure.

The admission protocol assumes the following about Kubernetes:

- The API server binds no pod that has a gate or is being deleted.
- A deletion is immediate if the pod is unbound or terminal, or if it is forced. Otherwise the kubelet
  ends the pod, and then deletes it immediately. Its container may still start before that.
- A pod that is deleted immediately is gone as soon as it has no finalizer.
- The API server rejects a new finalizer on a pod that is being deleted.
- The kubelet starts a container, and reports the start later. After it has reported a pod terminal, it
  starts no container.
- Another client may write that a bound pod has failed: the pod garbage collector does so after the
  deletion of the node object. A third party may delete a pod by force. A kubelet that is cut off
  continues in both cases.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Deletion(StrEnum):
    """The grace period of a pod's deletion."""

    NO = ""
    GRACEFUL = "some"
    IMMEDIATE = "none"


class Terminal(StrEnum):
    """The author of a pod's terminal phase."""

    NONE = ""
    KUBELET = "the kubelet"
    OTHERS = "another client"


class Pod(NamedTuple):
    """A pod as the API server shows it, and its container as it really is (`started`)."""

    uid: int
    token: int
    """The token of the command that the pod was created for, an annotation."""
    gated: bool = True
    bound: bool = False
    deletion: Deletion = Deletion.NO
    finalizer: bool = False
    terminal: Terminal = Terminal.NONE
    reported: bool = False
    """The kubelet has reported that the container started."""
    started: bool = False
    """The container started. Only the kubelet knows that before its report."""

    def can_start(self) -> bool:
        """Return whether the container can still start, as soon as the pod has no gate."""
        is_over = self.started or self.terminal is Terminal.KUBELET
        return not is_over and (self.bound or not self.deletion)


Change = tuple[str, Pod | None]
"""A label for the counterexample, and the pod afterwards; None: the object is gone."""


def deleted(pod: Pod, *, by_force: bool = False) -> Pod | None:
    """Return the pod after a deletion."""
    if by_force or pod.terminal or not pod.bound:
        return _unless_removed(pod._replace(deletion=Deletion.IMMEDIATE))
    return pod if pod.deletion else pod._replace(deletion=Deletion.GRACEFUL)


def with_finalizer(pod: Pod) -> Pod:
    """Return the pod after a patch that adds the finalizer. The patch may be rejected."""
    return pod if pod.deletion else pod._replace(finalizer=True)


def without_finalizer(pod: Pod) -> Pod | None:
    """Return the pod after a patch that removes the finalizer."""
    return _unless_removed(pod._replace(finalizer=False))


def _unless_removed(pod: Pod) -> Pod | None:
    return None if pod.deletion is Deletion.IMMEDIATE and not pod.finalizer else pod


def steps_of_cluster(pod: Pod) -> Iterator[Change]:
    """Yield every step of kube-scheduler and the pod's kubelet that may happen next."""
    if not pod.bound:
        if not pod.gated and not pod.deletion:
            yield "kube-scheduler binds the pod", pod._replace(bound=True)
        return
    if pod.can_start():
        yield "the kubelet starts the container", pod._replace(started=True)
    if pod.started and not pod.reported:
        yield "the kubelet reports the start", pod._replace(reported=True)
    if pod.terminal is not Terminal.KUBELET:
        over = pod._replace(terminal=Terminal.KUBELET, reported=pod.started)
        yield "the kubelet reports the pod terminal", over
    elif pod.deletion is Deletion.GRACEFUL:
        yield "the kubelet deletes the terminal pod", deleted(pod)


def steps_of_third_parties(pod: Pod) -> Iterator[Change]:
    """Yield every step of third parties and controllers that may happen next."""
    yield "a third party deletes the pod", deleted(pod)
    yield "a third party deletes the pod by force", deleted(pod, by_force=True)
    if pod.finalizer:
        yield "a third party removes the pod's finalizer", without_finalizer(pod)
    if pod.bound and not pod.terminal:
        yield "another client marks the pod failed", pod._replace(terminal=Terminal.OTHERS)
