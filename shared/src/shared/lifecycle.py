"""The state machine of a PhJob, as one table.

(phase, what was seen or ordered) gives the next phase, the reason, and what becomes of the pod; a
pair that is not in the table changes nothing. Sources: seed, State Diagram; contract.md, Lifecycle.
How a transition is written to Kubernetes is pod-manager's part; when a timer fires, janitor's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto

from shared.phjob import Phase, Reason


class Event(StrEnum):
    """What can happen to a job."""

    ADMITTED = "admitted by the scheduler"
    REFUSED = "refused by the scheduler"
    CANCELLED = "spec.cancel is true"
    POD_REFUSED = "pod creation refused by the API server"
    POD_INVALID = "pod invalid or its name taken"
    POD_RUNNING = "container runs"
    POD_SUCCEEDED = "container ended with exit code 0"
    POD_FAILED = "pod failed"
    POD_GONE = "pod deleted by someone else"
    NOT_STARTED = "not started within preparingTimeoutSeconds"
    OVER_DEADLINE = "running longer than activeDeadlineSeconds"


class Effect(Enum):
    """What becomes of the job's pod with a transition."""

    NONE = auto()
    CREATE = auto()
    """Create it, after the transition is written."""
    DELETE_BEFORE = auto()
    """Delete it and wait until it is gone, before the transition is written."""
    DELETE_AFTER = auto()
    """Delete it, after the transition is written."""


@dataclass(frozen=True)
class Transition:
    """The next phase, why, and what becomes of the pod."""

    phase: Phase
    reason: Reason
    effect: Effect = Effect.NONE


_REQUEUE = Transition(Phase.PENDING, Reason.REQUEUED, Effect.DELETE_BEFORE)
_SUCCEED = Transition(Phase.SUCCEEDED, Reason.COMPLETED)
_FAIL = Transition(Phase.FAILED, Reason.ERROR)

TABLE: Mapping[tuple[Phase, Event], Transition] = {
    (Phase.PENDING, Event.ADMITTED): Transition(Phase.PREPARING, Reason.ADMITTED, Effect.CREATE),
    (Phase.PENDING, Event.REFUSED): Transition(Phase.FAILED, Reason.INVALID_SPEC),
    (Phase.PENDING, Event.CANCELLED): Transition(Phase.CANCELLED, Reason.CANCELLED, Effect.DELETE_AFTER),
    (Phase.PREPARING, Event.CANCELLED): Transition(Phase.CANCELLED, Reason.CANCELLED, Effect.DELETE_AFTER),
    (Phase.PREPARING, Event.POD_REFUSED): _REQUEUE,
    (Phase.PREPARING, Event.POD_INVALID): Transition(Phase.FAILED, Reason.POD_CREATION_FAILED),
    (Phase.PREPARING, Event.POD_RUNNING): Transition(Phase.RUNNING, Reason.STARTED),
    (Phase.PREPARING, Event.POD_SUCCEEDED): _SUCCEED,
    (Phase.PREPARING, Event.POD_FAILED): _FAIL,
    (Phase.PREPARING, Event.POD_GONE): _REQUEUE,
    (Phase.PREPARING, Event.NOT_STARTED): _REQUEUE,
    (Phase.RUNNING, Event.CANCELLED): Transition(Phase.CANCELLED, Reason.CANCELLED, Effect.DELETE_AFTER),
    (Phase.RUNNING, Event.POD_SUCCEEDED): _SUCCEED,
    (Phase.RUNNING, Event.POD_FAILED): _FAIL,
    (Phase.RUNNING, Event.POD_GONE): Transition(Phase.FAILED, Reason.POD_DELETED),
    (Phase.RUNNING, Event.OVER_DEADLINE): Transition(
        Phase.FAILED, Reason.OVER_ACTIVE_DEADLINE, Effect.DELETE_AFTER
    ),
}

POD_UNWANTED = frozenset({Reason.CANCELLED, Reason.OVER_ACTIVE_DEADLINE})
"""The reasons of a final phase whose job must have no pod left, whatever its TTL."""


def transition(phase: Phase, event: Event) -> Transition | None:
    """What the event does to a job in that phase; None if it does nothing."""
    return TABLE.get((phase, event))


@dataclass(frozen=True)
class Requeueing:
    """What a requeue comes to: back to the queue with a pause, or the end."""

    phase: Phase
    reason: Reason
    requeued: int
    requeue_after: datetime | None


FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=10)


def requeue(requeued: int, limit: int | None, now: datetime) -> Requeueing:
    """The next requeue of a job that was requeued so often (contract.md, Queueing 5).

    No pause the first time, then 30 s doubling to 10 min. Over `limit` (None: none), it fails.
    """
    times = requeued + 1
    if limit is not None and times > limit:
        return Requeueing(Phase.FAILED, Reason.OVER_REQUEUE_LIMIT, requeued, None)
    if times == 1:
        return Requeueing(Phase.PENDING, Reason.REQUEUED, times, None)
    doublings = min(times - 2, 10)
    backoff = min(FIRST_BACKOFF * 2**doublings, LONGEST_BACKOFF)
    return Requeueing(Phase.PENDING, Reason.REQUEUED, times, now + backoff)
