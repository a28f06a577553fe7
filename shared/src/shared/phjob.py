"""The words of a PhJob: phases, reasons, and the names that other objects carry.

The CRD in `k8s/crds/phjob.yaml` says what a field holds; here is what the services call it.
"""

from enum import StrEnum

GROUP = "primehub.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

EVERYONE = "everyone"
"""The group whose images, instance types and datasets every group may use."""

FENCE_ANNOTATION = "primehub.io/fence"
"""On a pod: the admission that it was made for, as `status.fence` of its job."""


ATTEMPT_ANNOTATION = "primehub.io/attempt"
"""On a pod: which of its job's tries it is, from 1."""


class Phase(StrEnum):
    """Where a job is in its life (seed, State Diagram)."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def final(self) -> bool:
        """Whether a job in this phase never changes its phase again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)

    @property
    def admitted(self) -> bool:
        """Whether a job in this phase holds a part of its group's quota."""
        return self in (Phase.PREPARING, Phase.RUNNING)


class Reason(StrEnum):
    """Why a job is in its phase, in one word for `status.reason`.

    A failed container's own reason (`Error`, `OOMKilled`, ...) stands beside these.
    """

    QUEUED = "Queued"
    USER_QUOTA = "UserQuota"
    GROUP_QUOTA = "GroupQuota"
    REQUEUED = "Requeued"
    ADMITTED = "Admitted"
    STARTED = "Started"
    NODE_LOST = "NodeLost"
    COMPLETED = "Completed"
    ERROR = "Error"
    CANCELLED = "Cancelled"
    OVER_QUOTA = "OverQuota"
    INVALID_SPEC = "InvalidSpec"
    OVER_REQUEUE_LIMIT = "OverRequeueLimit"
    OVER_ACTIVE_DEADLINE = "OverActiveDeadline"
    POD_DELETED = "PodDeleted"
    POD_CREATION_FAILED = "PodCreationFailed"


class PodPhase(StrEnum):
    """Kubernetes' own pod phases."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @property
    def finished(self) -> bool:
        """Whether no container of the pod runs or will run: it holds no quota any more."""
        return self in (PodPhase.SUCCEEDED, PodPhase.FAILED)
