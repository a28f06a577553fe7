"""The state machine of a PhJob, as one table (spec.md, L1, L2). Pure.

It maps every (phase, event) pair to a transition, or to the reason why the event is ignored. A transition
has the next phase, its reason and message, and the effect on the pod. The table is total, and it is the only
source of these decisions: `planner` executes its effects, and pod-manager writes its transitions. The page
docs/reference/state-machine.md is generated from it (`make docs`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto

from phjob_core.api import Phase, Reason
from phjob_core.backoff import Backoff


class Event(StrEnum):
    """An event in the life of a job: an observation, a command of the janitor, or a decision."""

    ADMITTED = "admitted"
    REJECTED = "can never run"
    PENDING_REASON_SET = "pending reason changed"
    CANCELLED = "spec.cancel"
    POD_CREATION_REJECTED = "pod creation rejected by the API server"
    POD_INVALID = "pod invalid, or its name taken"
    POD_FAILED_UNSTARTED = "pod failed before its container started"
    POD_RUNNING = "container runs"
    POD_SUCCEEDED = "container ended with exit code 0"
    POD_FAILED = "container failed"
    POD_KILLED = "pod deleted by someone else while its container ran"
    POD_OVER_DEADLINE = "pod ended by its node at the pod's own deadline"
    POD_NOT_CREATABLE_YET = "pod not creatable yet: a pod of that name is ending, or the catalog has changed"
    POD_GONE_UNSTARTED = "pod gone, and its container never started"
    POD_VANISHED = "pod gone, and its end was not observed"
    NODE_LOST = "node unresponsive"
    NODE_BACK = "node responds again"
    START_TIMEOUT = "not started within preparingTimeoutSeconds"
    OVER_DEADLINE = "over activeDeadlineSeconds"
    NODE_LOST_TOO_LONG = "node unresponsive for nodeLostGraceSeconds"
    TTL_OVER = "ttlSecondsAfterFinished is over"
    HISTORY_OVER = "over historyTTLSeconds or historyLimit"


class Effect(Enum):
    """The effect of a transition on the job's pod, or on its record."""

    NONE = auto()
    UNGATE = auto()
    """Remove the scheduling gate of the pod that the transition names."""
    DELETE_BEFORE = auto()
    """Delete the pod, and write the transition only when its last state proves that it never started.

    Written earlier, the job could get its next pod while this one starts, and its command would run twice.
    """
    DELETE_AFTER = auto()
    """Write the transition, then delete the pod.

    Deleted earlier, the pod's end could be observed first, and would give the job another reason.
    """
    MARK_RECLAIMED = auto()
    """Write `status.reclaimed`, because only the record is left."""
    DELETE_RECORD = auto()
    """Delete the pod, if there is one, and then the record."""


@dataclass(frozen=True)
class Transition:
    """The next phase, its reason and message, and the effect on the pod. None: unchanged."""

    phase: Phase
    reason: Reason | None = None
    message: str | None = None
    """A text for the user. `{detail}` is the detail of the event; `{node}` and `{pod}` are names."""
    effect: Effect = Effect.NONE


@dataclass(frozen=True)
class Ignored:
    """The event has no effect in that phase."""

    reason: str


_DETAIL = "{detail}"
_UNRESPONSIVE = "Node {node} which was running pod {pod} is unresponsive"
"""spec.md, L12."""


def _requeue(effect: Effect) -> Transition:
    return Transition(Phase.PENDING, Reason.REQUEUED, _DETAIL, effect)


def _fail(reason: Reason, message: str = _DETAIL, effect: Effect = Effect.NONE) -> Transition:
    return Transition(Phase.FAILED, reason, message, effect)


def _cancel(message: str) -> Transition:
    return Transition(Phase.CANCELLED, Reason.CANCELLED, message + _DETAIL, Effect.DELETE_AFTER)


def _lose(phase: Phase) -> Transition:
    return Transition(phase, Reason.NODE_LOST, _UNRESPONSIVE)


_SUCCEED = Transition(Phase.SUCCEEDED, Reason.COMPLETED, "exit code 0{detail}")
_FAIL_NODE_LOST = _fail(Reason.NODE_LOST, effect=Effect.DELETE_AFTER)
_OVER_DEADLINE = _fail(Reason.OVER_ACTIVE_DEADLINE, effect=Effect.DELETE_AFTER)
_KILLED = _fail(Reason.POD_DELETED, "its pod was deleted while it ran{detail}")
_VANISHED = _fail(
    Reason.POD_DELETED,
    "its pod was deleted{detail}; its command may have started, so it does not run again",
)

_NOT_ADMITTED = Ignored("the job is Pending and has no pod")
_ADMITTED = Ignored("the job is already admitted")
_STARTED = Ignored("its container has already started")
_NOT_FINISHED = Ignored("the job is not finished")
_FINISHED = Ignored("a finished job stays finished")

_PENDING: dict[Event, Transition | Ignored] = {
    **dict.fromkeys(Event, _NOT_ADMITTED),
    Event.ADMITTED: Transition(Phase.PREPARING, Reason.ADMITTED, "", Effect.UNGATE),
    Event.REJECTED: _fail(Reason.INVALID_SPEC),
    Event.PENDING_REASON_SET: Transition(Phase.PENDING, Reason.QUEUED, _DETAIL),
    Event.CANCELLED: _cancel("cancelled while it waited"),
    Event.POD_CREATION_REJECTED: _requeue(Effect.NONE),
    Event.POD_INVALID: _fail(Reason.POD_CREATION_FAILED),
    Event.POD_NOT_CREATABLE_YET: Transition(Phase.PENDING, Reason.QUEUED, _DETAIL),
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}
_PREPARING: dict[Event, Transition | Ignored] = {
    Event.ADMITTED: _ADMITTED,
    Event.REJECTED: _ADMITTED,
    Event.PENDING_REASON_SET: _ADMITTED,
    Event.CANCELLED: _cancel("cancelled while it was prepared"),
    Event.POD_CREATION_REJECTED: _ADMITTED,
    Event.POD_INVALID: _fail(Reason.POD_CREATION_FAILED),
    Event.POD_NOT_CREATABLE_YET: _ADMITTED,
    Event.POD_FAILED_UNSTARTED: _requeue(Effect.DELETE_AFTER),
    Event.POD_RUNNING: Transition(Phase.RUNNING, Reason.STARTED, ""),
    Event.POD_SUCCEEDED: _SUCCEED,
    Event.POD_FAILED: _fail(Reason.ERROR),
    Event.POD_KILLED: _KILLED,
    Event.POD_OVER_DEADLINE: _OVER_DEADLINE,
    Event.POD_GONE_UNSTARTED: _requeue(Effect.NONE),
    Event.POD_VANISHED: _VANISHED,
    Event.NODE_LOST: _lose(Phase.PREPARING),
    Event.NODE_BACK: Transition(Phase.PREPARING, Reason.ADMITTED, ""),
    Event.START_TIMEOUT: _requeue(Effect.DELETE_BEFORE),
    Event.OVER_DEADLINE: Ignored("the job does not run yet, so its deadline does not count"),
    Event.NODE_LOST_TOO_LONG: _FAIL_NODE_LOST,
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}
_RUNNING: dict[Event, Transition | Ignored] = {
    Event.ADMITTED: _ADMITTED,
    Event.REJECTED: _ADMITTED,
    Event.PENDING_REASON_SET: _ADMITTED,
    Event.CANCELLED: _cancel("cancelled while it ran"),
    Event.POD_CREATION_REJECTED: _STARTED,
    Event.POD_INVALID: _STARTED,
    Event.POD_NOT_CREATABLE_YET: _STARTED,
    Event.POD_FAILED_UNSTARTED: _STARTED,
    Event.POD_RUNNING: _STARTED,
    Event.POD_SUCCEEDED: _SUCCEED,
    Event.POD_FAILED: _fail(Reason.ERROR),
    Event.POD_KILLED: _KILLED,
    Event.POD_OVER_DEADLINE: _OVER_DEADLINE,
    Event.POD_GONE_UNSTARTED: _STARTED,
    Event.POD_VANISHED: _KILLED,
    Event.NODE_LOST: _lose(Phase.RUNNING),
    Event.NODE_BACK: Transition(Phase.RUNNING, Reason.STARTED, ""),
    Event.START_TIMEOUT: _STARTED,
    Event.OVER_DEADLINE: _OVER_DEADLINE,
    Event.NODE_LOST_TOO_LONG: _FAIL_NODE_LOST,
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}


def _finished(phase: Phase) -> dict[Event, Transition | Ignored]:
    return {
        **dict.fromkeys(Event, _FINISHED),
        Event.POD_VANISHED: Transition(phase, effect=Effect.MARK_RECLAIMED),
        Event.TTL_OVER: Transition(phase, effect=Effect.DELETE_AFTER),
        Event.HISTORY_OVER: Transition(phase, effect=Effect.DELETE_RECORD),
    }


TABLE: Mapping[tuple[Phase, Event], Transition | Ignored] = {
    (phase, event): outcome
    for phase, outcomes in {
        Phase.PENDING: _PENDING,
        Phase.PREPARING: _PREPARING,
        Phase.RUNNING: _RUNNING,
        **{phase: _finished(phase) for phase in Phase if phase.final},
    }.items()
    for event, outcome in outcomes.items()
}

REASONS_WITHOUT_POD = frozenset(
    outcome.reason
    for (phase, _), outcome in TABLE.items()
    if isinstance(outcome, Transition)
    and outcome.effect is Effect.DELETE_AFTER
    and outcome.phase.final
    and not phase.final
)
"""The reasons of a finished job whose pod is deleted at once, whatever its TTL (spec.md, L10).

The status does not record the event that ended the job, but each event with this effect has its own reason.
"""


def transition(phase: Phase, event: Event) -> Transition | Ignored:
    """Return the transition of a job in that phase, or why the event is ignored."""
    return TABLE[phase, event]


@dataclass(frozen=True)
class RequeueOutcome:
    """The outcome of a requeue: Pending with a backoff, or Failed."""

    phase: Phase
    reason: Reason
    requeued: int
    """The number of requeues, this one included if the job is Pending again."""
    requeue_after: datetime | None
    """The end of the backoff; None if there is none."""


REQUEUE_BACKOFF = Backoff(first=30, longest=600)
"""From the second requeue on. Without jitter, because its delays are a promise (spec.md, Q5)."""
MAX_REQUEUES = 2**31 - 1
"""The CRD's maximum of `status.requeued`."""


def requeue(requeued: int, limit: int | None, now: datetime) -> RequeueOutcome:
    """Return the outcome of the next requeue (spec.md, Q5).

    `requeued` is the number of requeues before it, and `limit` the job's `requeueLimit`; None: unlimited.
    """
    requeues = min(requeued + 1, MAX_REQUEUES)
    if limit is not None and requeues > limit:
        return RequeueOutcome(Phase.FAILED, Reason.OVER_REQUEUE_LIMIT, requeued, None)
    delay = requeue_backoff(requeues)
    return RequeueOutcome(Phase.PENDING, Reason.REQUEUED, requeues, now + delay if delay else None)


def requeue_backoff(requeues: int) -> timedelta:
    """Return the backoff of a job after that many requeues (spec.md, Q5). The first has none."""
    return timedelta(seconds=REQUEUE_BACKOFF.delay(requeues - 1))
