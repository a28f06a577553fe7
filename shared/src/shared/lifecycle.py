"""The state machine of a PhJob, as one table.

(phase, what was seen or ordered) gives the next phase, the reason, the message and what becomes of
the pod, or why nothing comes of it; no pair is missing. Sources: seed, State Diagram; contract.md,
Lifecycle. How a transition is written to Kubernetes is pod-manager's part; when a timer fires,
janitor's. ARCHITECTURE.md's diagram is made from this table (`python -m dev docs`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto

from shared.phjob import Phase, Reason


class Event(StrEnum):
    """What can happen to a job."""

    ADMITTED = "admitted"
    REFUSED = "can never run"
    EXPLAINED = "told why it waits"
    CANCELLED = "spec.cancel"
    POD_REFUSED = "pod refused by the API server"
    POD_INVALID = "pod invalid, or its name taken"
    POD_REJECTED = "pod failed before its container started"
    POD_RUNNING = "container runs"
    POD_SUCCEEDED = "container ended with exit code 0"
    POD_FAILED = "container failed"
    POD_KILLED = "pod deleted by someone else while its container ran"
    POD_GONE = "no pod any more"
    NODE_LOST = "node unresponsive"
    NODE_BACK = "node responds again"
    NOT_STARTED = "not started within preparingTimeoutSeconds"
    OVER_DEADLINE = "over activeDeadlineSeconds"
    NODE_GIVEN_UP = "node unresponsive for nodeLostGraceSeconds"
    TTL_OVER = "ttlSecondsAfterFinished is over"
    HISTORY_OVER = "over historyTTLSeconds or historyLimit"


class Effect(Enum):
    """What becomes of the job's pod, or of its record, with a transition."""

    NONE = auto()
    CREATE = auto()
    """Create the pod, after the transition is written."""
    DELETE_BEFORE = auto()
    """Delete the pod and wait until it is gone, before the transition is written."""
    DELETE_AFTER = auto()
    """Delete the pod, after the transition is written."""
    RECLAIM = auto()
    """Write `status.reclaimed`: nothing of the job is left but its record."""
    FORGET = auto()
    """Delete the pod, if there is one, and then the record."""


@dataclass(frozen=True)
class Transition:
    """The next phase, why, and what becomes of the pod. None: as it was."""

    phase: Phase
    reason: Reason | None = None
    message: str | None = None
    """For the user; `{why}` is what the event itself said."""
    effect: Effect = Effect.NONE


@dataclass(frozen=True)
class Refused:
    """Nothing comes of the event in that phase."""

    why: str


_WHY = "{why}"
_UNRESPONSIVE = "Node {node} which was running pod {pod} is unresponsive"
"""The seed's own words (FAQ: lost node)."""


def _requeue(effect: Effect) -> Transition:
    return Transition(Phase.PENDING, Reason.REQUEUED, _WHY, effect)


def _fail(reason: Reason, message: str = _WHY, effect: Effect = Effect.NONE) -> Transition:
    return Transition(Phase.FAILED, reason, message, effect)


def _cancel(message: str) -> Transition:
    return Transition(Phase.CANCELLED, Reason.CANCELLED, message, Effect.DELETE_AFTER)


def _lose(phase: Phase) -> Transition:
    return Transition(phase, Reason.NODE_LOST, _UNRESPONSIVE)


_SUCCEED = Transition(Phase.SUCCEEDED, Reason.COMPLETED, "exit code 0")
_GIVE_UP = _fail(Reason.NODE_LOST, effect=Effect.DELETE_AFTER)
_KILLED = _fail(Reason.POD_DELETED, "its pod was deleted while it ran{why}")

_NOT_ADMITTED = Refused("it waits: it has no pod")
_ADMITTED = Refused("it is admitted already")
_STARTED = Refused("its container has started")
_NOT_FINISHED = Refused("it is not finished")
_FINISHED = Refused("a finished job stays finished")

_PENDING: dict[Event, Transition | Refused] = {
    **dict.fromkeys(Event, _NOT_ADMITTED),
    Event.ADMITTED: Transition(Phase.PREPARING, Reason.ADMITTED, "", Effect.CREATE),
    Event.REFUSED: _fail(Reason.INVALID_SPEC),
    Event.EXPLAINED: Transition(Phase.PENDING, Reason.QUEUED, _WHY),
    Event.CANCELLED: _cancel("cancelled while it waited"),
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}
_PREPARING: dict[Event, Transition | Refused] = {
    Event.ADMITTED: _ADMITTED,
    Event.REFUSED: _ADMITTED,
    Event.EXPLAINED: _ADMITTED,
    Event.CANCELLED: _cancel("cancelled while it was prepared"),
    Event.POD_REFUSED: _requeue(Effect.DELETE_BEFORE),
    Event.POD_INVALID: _fail(Reason.POD_CREATION_FAILED),
    Event.POD_REJECTED: _requeue(Effect.DELETE_AFTER),
    Event.POD_RUNNING: Transition(Phase.RUNNING, Reason.STARTED, ""),
    Event.POD_SUCCEEDED: _SUCCEED,
    Event.POD_FAILED: _fail(Reason.ERROR),
    Event.POD_KILLED: _KILLED,
    Event.POD_GONE: _requeue(Effect.DELETE_BEFORE),
    Event.NODE_LOST: _lose(Phase.PREPARING),
    Event.NODE_BACK: Transition(Phase.PREPARING, Reason.ADMITTED, ""),
    Event.NOT_STARTED: _requeue(Effect.DELETE_BEFORE),
    Event.OVER_DEADLINE: Refused("it does not run yet: its time has not begun"),
    Event.NODE_GIVEN_UP: _GIVE_UP,
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}
_RUNNING: dict[Event, Transition | Refused] = {
    Event.ADMITTED: _ADMITTED,
    Event.REFUSED: _ADMITTED,
    Event.EXPLAINED: _ADMITTED,
    Event.CANCELLED: _cancel("cancelled while it ran"),
    Event.POD_REFUSED: _STARTED,
    Event.POD_INVALID: _STARTED,
    Event.POD_REJECTED: _STARTED,
    Event.POD_RUNNING: _STARTED,
    Event.POD_SUCCEEDED: _SUCCEED,
    Event.POD_FAILED: _fail(Reason.ERROR),
    Event.POD_KILLED: _KILLED,
    Event.POD_GONE: _KILLED,
    Event.NODE_LOST: _lose(Phase.RUNNING),
    Event.NODE_BACK: Transition(Phase.RUNNING, Reason.STARTED, ""),
    Event.NOT_STARTED: _STARTED,
    Event.OVER_DEADLINE: _fail(Reason.OVER_ACTIVE_DEADLINE, effect=Effect.DELETE_AFTER),
    Event.NODE_GIVEN_UP: _GIVE_UP,
    Event.TTL_OVER: _NOT_FINISHED,
    Event.HISTORY_OVER: _NOT_FINISHED,
}


def _finished(phase: Phase) -> dict[Event, Transition | Refused]:
    return {
        **dict.fromkeys(Event, _FINISHED),
        Event.POD_GONE: Transition(phase, effect=Effect.RECLAIM),
        Event.TTL_OVER: Transition(phase, effect=Effect.DELETE_AFTER),
        Event.HISTORY_OVER: Transition(phase, effect=Effect.FORGET),
    }


TABLE: Mapping[tuple[Phase, Event], Transition | Refused] = {
    (phase, event): outcome
    for phase, outcomes in {
        Phase.PENDING: _PENDING,
        Phase.PREPARING: _PREPARING,
        Phase.RUNNING: _RUNNING,
        **{phase: _finished(phase) for phase in Phase if phase.final},
    }.items()
    for event, outcome in outcomes.items()
}

POD_UNWANTED = frozenset(
    outcome.reason
    for (phase, _), outcome in TABLE.items()
    if isinstance(outcome, Transition)
    and outcome.effect is Effect.DELETE_AFTER
    and outcome.phase.final
    and not phase.final
)
"""The reasons of a final phase whose job must have no pod left, whatever its TTL."""


def transition(phase: Phase, event: Event) -> Transition | Refused:
    """What the event does to a job in that phase, or why it does nothing."""
    return TABLE[phase, event]


@dataclass(frozen=True)
class Requeueing:
    """What a requeue comes to: back to the queue with a pause, or the end."""

    phase: Phase
    reason: Reason
    requeued: int
    requeue_after: datetime | None


FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=10)


MOST_REQUEUES = 2**31 - 1
"""What the CRD lets `status.requeued` be."""


def requeue(requeued: int, limit: int | None, now: datetime) -> Requeueing:
    """The next requeue of a job that was requeued so often (contract.md, Queueing 5).

    No pause the first time, then 30 s doubling to 10 min. Over `limit` (None: none), it fails.
    """
    times = min(requeued + 1, MOST_REQUEUES)
    if limit is not None and times > limit:
        return Requeueing(Phase.FAILED, Reason.OVER_REQUEUE_LIMIT, requeued, None)
    if times == 1:
        return Requeueing(Phase.PENDING, Reason.REQUEUED, times, None)
    doublings = min(times - 2, 10)
    backoff = min(FIRST_BACKOFF * 2**doublings, LONGEST_BACKOFF)
    return Requeueing(Phase.PENDING, Reason.REQUEUED, times, now + backoff)
