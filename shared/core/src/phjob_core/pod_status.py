"""The table from the state of a pod to the event in the life of its job, and its message (spec.md, L4 to L7).

The rows of `TABLE` are in order: the first that matches counts. Rows about an end come before rows about a
pod that goes on. The end of a job is the end of its container `main`, whatever other containers do. The page
docs/reference/pod-status.md is generated from the table (`make docs`). Pure.

Sources: Kubernetes 1.36, pkg/kubelet (kubelet_pods.go, status/status_manager.go, eviction, nodeshutdown,
preemption, lifecycle, active_deadline.go), pkg/controller (podgc, tainteviction), pkg/scheduler.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phjob_core.api import PodPhase
from phjob_core.diagnosis import CATEGORIES
from phjob_core.lifecycle import Event
from phjob_core.messages import DELETED_BY_POD_GC, PodSeen
from phjob_core.pod_reading import Quotes

_EVICTED = ("Evicted",)
_PREEMPTED = ("Preempting",)
_SHUT_DOWN = ("Terminated", "NodeShutdown", "Shutdown")
"""The kubelet's reasons at a shutdown of the node: for pods that it ends, that it rejects; before 1.22."""
_OOM_KILLED = "OOMKilled"


@dataclass(frozen=True)
class PodState:
    """A row: a state of a pod, and what it means for the pod's job."""

    name: str
    condition: str
    """How to recognize it, for the reference page."""
    matches: Callable[[PodSeen], bool]
    event: Event | None
    """The event in the job's life; None if the job waits."""
    reason: str = ""
    """The job's reason, for the reference page."""
    example: str = ""
    """An example of the job's message."""
    before_start: bool = False
    """True if it only applies to a Preparing job whose container shows no start."""


def _has_failed(pod: PodSeen) -> bool:
    """Return whether `main` has ended, and no earlier row has found its success.

    A pod whose phase says `Succeeded`, and that reports no exit code, has succeeded.
    """
    if pod.phase is PodPhase.SUCCEEDED:
        return bool(pod.exit_code)
    return pod.phase is PodPhase.FAILED or bool(pod.runs_on)


def _is_collected(pod: PodSeen) -> bool:
    """Return whether pod garbage collection ended it, and its kubelet has reported no end."""
    return pod.exit_code is None and pod.disruption.startswith(DELETED_BY_POD_GC)


def _was_ended_by_node(pod: PodSeen) -> bool:
    return bool(pod.cause or pod.exceeded_deadline)


def _failed_before_deletion(pod: PodSeen) -> bool:
    return pod.deleted_at is None or (pod.finish_time is not None and pod.finish_time < pod.deleted_at)


TABLE: tuple[PodState, ...] = (
    # --- ends before the start of the container ---
    PodState(
        "ended, without proof of no start",
        "PodGC ended it (`DeletionByPodGC`) after it had a node",
        lambda pod: _has_failed(pod) and not pod.never_started,
        Event.POD_VANISHED,
        "`PodDeleted`",
        "its pod was deleted: DeletionByPodGC: PodGC: node no longer exists; its command may have started, "
        "so it does not run again",
        before_start=True,
    ),
    PodState(
        "evicted, rejected or shut down before its start",
        "`Failed` with a reason of its own: `Evicted`, `Preempting`, `Terminated`, `NodeShutdown`, "
        "`OutOfcpu`, `NodeAffinity`, `UnexpectedAdmissionError`, `DeadlineExceeded`, ...",
        lambda pod: _has_failed(pod) and bool(pod.cause),
        Event.POD_FAILED_UNSTARTED,
        "`Requeued`",
        "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu",
        before_start=True,
    ),
    PodState(
        "an injected init container failed",
        "`Failed`; an init container ended with another exit code than 0, so `main` waits",
        lambda pod: _has_failed(pod) and bool(pod.init_failure),
        Event.POD_FAILED_UNSTARTED,
        "`Requeued`",
        "init container vault-agent-init failed: exit code 1 (Error)",
        before_start=True,
    ),
    PodState(
        "deleted before its start",
        "`Failed`, with a deletionTimestamp; `main` has the reason `ContainerStatusUnknown`, or still waits",
        lambda pod: _has_failed(pod) and pod.deleting,
        Event.POD_FAILED_UNSTARTED,
        "`Requeued`",
        "its pod was deleted before it started: EvictionByEvictionAPI: Eviction API: evicting",
        before_start=True,
    ),
    PodState(
        "failed before its start",
        "`Failed` in any other way",
        _has_failed,
        Event.POD_FAILED_UNSTARTED,
        "`Requeued`",
        "the pod failed (no reason given)",
        before_start=True,
    ),
    # --- ends ---
    PodState(
        "succeeded",
        "`Succeeded`, and `main` ended with exit code 0",
        lambda pod: pod.phase is PodPhase.SUCCEEDED and not pod.exit_code,
        Event.POD_SUCCEEDED,
        "`Completed`",
        "exit code 0",
    ),
    PodState(
        "succeeded, and another container runs on",
        "`Running` or `Pending`; `main` ended with exit code 0, another container has not ended",
        lambda pod: bool(pod.runs_on) and pod.exit_code == 0,
        Event.POD_SUCCEEDED,
        "`Completed`",
        "exit code 0; its pod is deleted, because its container istio-proxy runs on",
    ),
    PodState(
        "succeeded, and another container failed",
        "`Failed` without a reason of its own; `main` ended with exit code 0",
        lambda pod: pod.phase is PodPhase.FAILED and pod.exit_code == 0 and not _was_ended_by_node(pod),
        Event.POD_SUCCEEDED,
        "`Completed`",
        "exit code 0",
    ),
    PodState(
        "over its own deadline",
        "`Failed`, `DeadlineExceeded`",
        lambda pod: bool(pod.exceeded_deadline),
        Event.POD_OVER_DEADLINE,
        "`OverActiveDeadline`",
        "its pod was active longer than 691200 s, the pod's own deadline, and Kubernetes ended it; "
        "exit code 143 (Error): epoch 7",
    ),
    PodState(
        "its node is gone",
        "`Failed` by PodGC (`DeletionByPodGC`); nobody reported an exit code",
        lambda pod: _has_failed(pod) and _is_collected(pod),
        Event.POD_KILLED,
        "`PodDeleted`",
        "its pod was deleted while it ran: DeletionByPodGC: PodGC: node no longer exists",
    ),
    PodState(
        "disrupted: drained, preempted, its node tainted",
        "ended after a deletion, with the condition `DisruptionTarget`: `EvictionByEvictionAPI`, "
        "`PreemptionByScheduler`, `DeletionByTaintManager`",
        lambda pod: _has_failed(pod) and not _failed_before_deletion(pod) and bool(pod.disruption),
        Event.POD_KILLED,
        "`PodDeleted`",
        "its pod was deleted while it ran: EvictionByEvictionAPI: Eviction API: evicting; "
        "exit code 143 (Error): epoch 7",
    ),
    PodState(
        "deleted",
        "`main` failed after the deletion of its pod was requested, or nobody reported when",
        lambda pod: _has_failed(pod) and not _failed_before_deletion(pod),
        Event.POD_KILLED,
        "`PodDeleted`",
        "its pod was deleted while it ran; exit code 143 (Error): epoch 7",
    ),
    PodState(
        "evicted by its node",
        "`Failed`, `Evicted`: low memory or disk, or above the limit of its working directory or of its "
        "ephemeral storage",
        lambda pod: pod.cause in _EVICTED,
        Event.POD_FAILED,
        "`Evicted`",
        'Evicted: Usage of EmptyDir volume "home" exceeds the limit "5Gi"; exit code 137 (Error): epoch 7',
    ),
    PodState(
        "preempted by its node",
        "`Failed`, `Preempting`: for a critical pod",
        lambda pod: pod.cause in _PREEMPTED,
        Event.POD_FAILED,
        "`Preempting`",
        "Preempting: Preempted in order to admit critical pod; exit code 143 (Error): epoch 7",
    ),
    PodState(
        "its node was shut down",
        "`Failed`, `Terminated` (or `NodeShutdown`)",
        lambda pod: pod.cause in _SHUT_DOWN,
        Event.POD_FAILED,
        "`Terminated`",
        "Terminated: Pod was terminated in response to imminent node shutdown; "
        "exit code 143 (Error): epoch 7",
    ),
    PodState(
        "rejected after its start",
        "`Failed` with another reason of its own, such as `UnexpectedAdmissionError` or `NodeAffinity`, "
        "which a kubelet gives to pods after a restart",
        lambda pod: _has_failed(pod) and bool(pod.cause),
        Event.POD_FAILED,
        "that reason",
        "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed",
    ),
    PodState(
        "out of memory",
        "`main` failed with the reason `OOMKilled`, which also follows the end of a child process",
        lambda pod: _has_failed(pod) and pod.container_reason == _OOM_KILLED,
        Event.POD_FAILED,
        "`OOMKilled`",
        "exit code 137 (OOMKilled): epoch 7",
    ),
    PodState(
        "failed, and another container runs on",
        "`Running` or `Pending`; `main` failed, another container has not ended",
        lambda pod: bool(pod.runs_on),
        Event.POD_FAILED,
        "that of `main`",
        "exit code 3 (Error); its pod is deleted, because its container istio-proxy runs on: no data found",
    ),
    PodState(
        "its container was lost",
        "`main` ran, and ended with the reason `ContainerStatusUnknown`: its node cannot find it",
        lambda pod: _has_failed(pod) and pod.container_reason == "ContainerStatusUnknown",
        Event.POD_FAILED,
        "`ContainerStatusUnknown`",
        "exit code 137 (ContainerStatusUnknown): The container could not be located when the pod was "
        "terminated",
    ),
    PodState(
        "failed",
        "`Failed` in any other way, or `main` failed in a `Succeeded` pod",
        _has_failed,
        Event.POD_FAILED,
        "that of `main`, otherwise that of the pod, otherwise `Error`",
        "exit code 3 (Error): no data found",
    ),
    # --- a pod that goes on ---
    PodState(
        "running",
        "`Running`, or `main` has started, while another container still waits",
        lambda pod: pod.phase is PodPhase.RUNNING or pod.started,
        Event.POD_RUNNING,
        "`Started`",
    ),
    *(
        PodState(
            f"waits: {category}",
            ", ".join(f"`{reason}`" for reason in reasons),
            lambda pod, reasons=reasons: pod.reason in reasons,  # type: ignore[misc]
            None,
            "`Admitted`, then `Requeued`",
            f"the pod did not start within 180 s; {category}: {reasons[0]}: ...",
        )
        for category, reasons in CATEGORIES.items()
    ),
    PodState(
        "waits",
        "any other state, such as `ContainerCreating`, `PodInitializing` or the phase `Unknown`",
        lambda _: True,
        None,
        "`Admitted`, then `Requeued`",
        "the pod did not start within 180 s",
    ),
)


def state_of(pod: PodSeen, *, is_preparing: bool) -> PodState:
    """Return the row of the table for the pod.

    `is_preparing`: its job is Preparing. The container of a Running job has started, whatever its pod shows:
    a kubelet that rejects a pod after a restart reports no container.
    """
    is_unstarted = is_preparing and not pod.started
    return next(row for row in TABLE if (is_unstarted or not row.before_start) and row.matches(pod))


def describe_end(event: Event, pod: PodSeen, quotes: Quotes | None = None) -> str:
    """Return the text of a pod's end for its job's message.

    What ended the whole pod comes first, then the container's exit code and reason, then its last words.
    `quotes` are the texts of the pod that are not in the fact; None if the pod cannot be read any more.
    """
    quotes = quotes or Quotes()
    cause = ": ".join(filter(None, (pod.cause, quotes.cause)))
    container = f"exit code {pod.exit_code} ({_container_reason(pod)})" if pod.exit_code is not None else ""
    note = f"its pod is deleted, because its container {pod.runs_on} runs on" if pod.runs_on else ""
    oom = (
        "one of its processes was killed for lack of memory" if _container_reason(pod) == _OOM_KILLED else ""
    )
    words = f": {quotes.last_words}" if quotes.last_words else ""
    announced = f": {pod.disruption}" if pod.disruption else f": {cause}" if cause else ""
    match event:
        case Event.POD_SUCCEEDED:
            return "".join(f"; {part}" for part in (oom, note) if part)
        case Event.POD_VANISHED:
            return announced
        case Event.POD_KILLED:
            return f"{announced}{f'; {container}' if container else ''}{words}"
        case Event.POD_OVER_DEADLINE:
            deadline = _OVER_POD_DEADLINE.format(pod.exceeded_deadline)
            return "; ".join(filter(None, (deadline, container))) + words
        case Event.POD_FAILED_UNSTARTED:
            return _describe_end_before_start(pod, cause)
    parts = filter(None, (cause, container, note))
    return ("; ".join(parts) or f"the pod failed ({pod.reason or 'no reason given'})") + words


_OVER_POD_DEADLINE = "its pod was active longer than {} s, the pod's own deadline, and Kubernetes ended it"


def _describe_end_before_start(pod: PodSeen, cause: str) -> str:
    if cause:
        return cause
    if pod.init_failure:
        return pod.init_failure
    if pod.deleting:
        return "its pod was deleted before it started" + (f": {pod.disruption}" if pod.disruption else "")
    return f"the pod failed ({pod.reason or 'no reason given'})"


def _container_reason(pod: PodSeen) -> str:
    """Return the reason of the container's end. An older watcher reports only that of the pod's state."""
    return pod.container_reason or (pod.reason if not pod.cause else "") or "Error"
