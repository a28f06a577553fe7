"""The conditions of a PhJob, for tools that read nothing else (spec.md, A16). Pure.

Such tools are kubectl wait, Flux and Argo CD. The conditions follow from the phase and its reason, so that no
service has to remember them. `Reconciling` and `Stalled` are those of kstatus: it takes an object for in
progress while the first is True, and for failed while the second is.
Source: cli-utils, pkg/kstatus/status/generic.go.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from phjob_core.api import Phase, Reason

MAX_MESSAGE_CHARS = 1024
"""The CRD's bound on the message of a condition."""
_MAX_HEAD_CHARS = 256
_CUT = " ... "
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
"""The form of a condition's reason. Source: Kubernetes, metav1.Condition."""


class ConditionType(StrEnum):
    """The name of a condition."""

    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(NamedTuple):
    """A condition that is True."""

    type: ConditionType
    since: datetime
    reason: str
    message: str


def conditions_of(
    phase: Phase, reason: str, message: str, *, created: datetime, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions that are True of a job that enters this state at `now`.

    | The job                | Conditions                                    |
    | ---------------------- | --------------------------------------------- |
    | Succeeded              | Complete                                      |
    | Failed, Cancelled      | Failed, Stalled                               |
    | Pending, and suspended | Suspended, Reconciling since `created`        |
    | any other              | Reconciling since `created`                   |
    """
    if not _REASON.fullmatch(reason):  # A failed job has its container's own reason, which may be any text.
        reason = Reason.ERROR
    since = {type_: created if type_ is ConditionType.RECONCILING else now for type_ in _types(phase, reason)}
    return tuple(Condition(type_, at, reason, _shorten(message)) for type_, at in since.items())


def _types(phase: Phase, reason: str) -> tuple[ConditionType, ...]:
    if phase is Phase.SUCCEEDED:
        return (ConditionType.COMPLETE,)
    if phase.final:
        return ConditionType.FAILED, ConditionType.STALLED
    if phase is Phase.PENDING and reason == Reason.SUSPENDED:
        return ConditionType.SUSPENDED, ConditionType.RECONCILING
    return (ConditionType.RECONCILING,)


def _shorten(message: str) -> str:
    """Return a message within the bound. Its end stays, because that is where a log names the error."""
    if len(message) <= MAX_MESSAGE_CHARS:
        return message
    tail = MAX_MESSAGE_CHARS - _MAX_HEAD_CHARS - len(_CUT)
    return message[:_MAX_HEAD_CHARS] + _CUT + message[-tail:]
