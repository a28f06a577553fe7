"""The constants of the API: phases, reasons, and the names that PhJob puts on other objects.

The CRD in `k8s/chart/crds/phjob.yaml` defines the fields and their bounds.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

Object = Mapping[str, Any]
"""A Kubernetes object, as the API server sends it."""

GROUP = "primehub.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

EVERYONE = "everyone"
"""The group whose images, instance types and datasets every group may use (spec.md, A7).

It is no queue: no job can be submitted to it.
"""
ANY_USER = "*"
"""The entry in a group's `users` by which every user may submit (spec.md, A6)."""

RESERVED_NAMES = ("jupyter-*",)
"""The patterns of the names that no job may have, by default: those of notebooks (spec.md, Q4)."""

FENCE_ANNOTATION = "primehub.io/fence"
"""On a pod: the token of the admission that it was created for (`status.fence` of its job)."""
ATTEMPT_ANNOTATION = "primehub.io/attempt"
"""On a pod: the number of its job's attempt, from 1."""
GPU_ANNOTATION = "primehub.io/gpu-resource"
"""On a job's pod: the resource that `limits.gpu` of its instance type means, if it has `limits.gpu`."""
OWN_VARIABLES = frozenset(
    {
        *("PRIMEHUB_USER", "PRIMEHUB_GROUP", "GROUP_ID", "GROUP_NAME", "JUPYTERHUB_USER"),
        *("INSTANCE_TYPE", "IMAGE_NAME", "PHJOB_NAME", "TZ"),
    }
)
"""The environment variables that PhJob sets in every job (spec.md, P5). Nothing else may set them."""
GATE = "primehub.io/admitted"
"""The scheduling gate of a job's pod, and of notebooks that wait. Without a node, no container starts."""
Notebooks = Literal["first", "queue"]
"""The values of `jobSubmission.notebooks`: where notebooks with our gate wait (spec.md, Q14)."""
REQUEUE_FINALIZER = "primehub.io/requeue"
"""The finalizer of a pod that is deleted for a requeue.

It keeps the pod until its last state has been read. Without it, a container that starts during the
deletion would go unnoticed, and its command would run twice.
"""


LOG_FAILED = "; its log is not archived: "
"""In the message of a finished job: what follows is the error of the log archive."""


class Phase(StrEnum):
    """A job's phase (spec.md, L1)."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def final(self) -> bool:
        """Return whether a job in this phase never changes its phase again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)

    @property
    def admitted(self) -> bool:
        """Return whether a job in this phase was admitted and has not finished."""
        return self in (Phase.PREPARING, Phase.RUNNING)


FOREIGN_PHASES: Mapping[str, Phase] = {"Unknown": Phase.RUNNING}
"""The phases of PrimeHub that PhJob does not write, and what a stored job in one of them counts as.

PrimeHub writes `Unknown` when it has lost the pod's node. The command may have started (spec.md, E9).
"""


class Reason(StrEnum):
    """The reason of a job's phase in one word: `status.reason` (spec.md, L2).

    A failed job may have its container's or its pod's own reason instead (`OOMKilled`, `Evicted`, ...).
    """

    QUEUED = "Queued"
    USER_QUOTA = "UserQuota"
    GROUP_QUOTA = "GroupQuota"
    REQUEUED = "Requeued"
    RETRIED = "Retried"
    SUSPENDED = "Suspended"
    ADMITTED = "Admitted"
    STARTED = "Started"
    NODE_LOST = "NodeLost"
    COMPLETED = "Completed"
    ERROR = "Error"
    CANCELLED = "Cancelled"
    OVER_QUOTA = "OverQuota"
    INVALID_SPEC = "InvalidSpec"
    TOO_MANY_PENDING = "TooManyPending"
    OVER_REQUEUE_LIMIT = "OverRequeueLimit"
    OVER_ACTIVE_DEADLINE = "OverActiveDeadline"
    POD_DELETED = "PodDeleted"
    POD_CREATION_FAILED = "PodCreationFailed"


class PodPhase(StrEnum):
    """A pod's phase, as Kubernetes defines it."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @property
    def finished(self) -> bool:
        """Return whether no container of the pod runs or ever will."""
        return self in (PodPhase.SUCCEEDED, PodPhase.FAILED)
