"""The states of the admission model: a job, its pod, and the requests that may still arrive. Pure.

`admission_rules.py` has the requests that a client may send. `admission.py` has their effects.
"""

from enum import StrEnum
from typing import NamedTuple

from tests.model.pod import Pod


class Phase(StrEnum):
    """The phases of a job. All final phases, and the deletion of the job, are one."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINAL = "final"


class End(StrEnum):
    """The ways in which a job ends, with regard to its pod."""

    NONE = ""
    BY_POD = "as its pod ended"
    BY_USER = "cancelled, or deleted with its status"
    POD_GONE = "its pod is gone, without proof that it never started"


class Job(NamedTuple):
    """A job's status."""

    phase: Phase = Phase.PENDING
    fence: int = 0
    pod: int = 0
    """The uid of the pod that the admission names; 0: none."""
    end: End = End.NONE
    retried: int = 0
    """The number of retries."""

    def is_admitted(self) -> bool:
        """Return whether the job is Preparing or Running."""
        return self.phase is Phase.PREPARING or self.phase is Phase.RUNNING


class Kind(StrEnum):
    """The kinds of requests to the API server, with their names in a counterexample."""

    CREATE = "creation of a pod for command {token}"
    ADMIT = "admission that names pod {uid}"
    UNGATE = "removal of pod {uid}'s gate"
    RUN = "write of Running"
    END = "write of the end of pod {uid}"
    DELETE = "deletion of pod {uid}"
    ADD_FINALIZER = "addition of pod {uid}'s finalizer (R1)"
    DELETE_UNSTARTED = "deletion of pod {uid} (R2)"
    REQUEUE = "write of Pending (R4)"
    REMOVE_FINALIZER = "removal of pod {uid}'s finalizer (R5)"
    RETRY = "write of Pending, a retry"


class Request(NamedTuple):
    """A request that a client may send."""

    kind: Kind
    uid: int = 0
    """The uid of the pod."""
    fence: int = 0
    """The fence that a write to the job tests."""
    token: int = 0
    """The fence that an admission writes."""

    def __str__(self) -> str:
        """Return the request's name in a counterexample."""
        return self.kind.format(uid=self.uid, token=self.token)


class State(NamedTuple):
    """Everything that determines the possible next steps."""

    job: Job = Job()
    pod: Pod | None = None
    """The pod object with the job's name. There is at most one."""
    commands: int = 0
    """The number of commands that the scheduler has sent."""
    pods: int = 0
    """The number of pods that were ever created, which is the uid of the latest."""
    allowed: tuple[Request, ...] = ()
    """The requests that a client was once allowed to send, and that can still have an effect."""
    unstarted: tuple[int, ...] = ()
    """The uids of the deleted pods whose last state proves that they never started."""
    orphans: int = 0
    """The number of deleted pods whose kubelet may still start their container."""
    starts: int = 0
    """The number of times that the command started."""
    ended: int = 0
    """The number of starts whose container has ended. Without retries, it does not matter and stays 0."""
    killed: bool = False
    """True if a pod-manager has just deleted the pod of a job whose command was reported to run."""

    def is_unnameable(self, uid: int) -> bool:
        """Return whether no admission that names the pod can still succeed.

        A pod-manager knows this if the pod's annotations have another fence than the job, which it has read
        after the pod. Every admission that names the pod tests the fence in the annotations.
        """
        return not any(r.kind is Kind.ADMIT and r.uid == uid for r in self.allowed)
