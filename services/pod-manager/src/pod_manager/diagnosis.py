"""Why a pod did not start, for its user to read: what kind of trouble, and Kubernetes' own words.

Pure. The words come from the container's state, the scheduler's condition, or the pod's events.
"""

from collections.abc import Iterable

from shared.kube import Object
from shared.messages import PodSeen

SILENT = ("", "ContainerCreating", "PodInitializing")
"""What a pod says while it is prepared: the trouble, if there is one, is only in its events."""

_TROUBLES = {
    "no node can take it": ("Unschedulable", "SchedulingGated"),
    "its image is still being pulled": ("Pulling",),
    "its image can't be had": (
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
        "RegistryUnavailable",
    ),
    "a volume can't be mounted": ("FailedMount", "FailedAttachVolume", "FailedMapVolume"),
    "its container can't be made": (
        "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "FailedCreatePodSandBox",
    ),
}  # fmt: skip
_CLAIM = "persistentvolumeclaim"
_LONGEST = 1024


def why_not_started(pod: PodSeen, events: Iterable[Object] = ()) -> str:
    """`its image can't be had: ImagePullBackOff: Back-off pulling ...`; empty if nobody says anything.

    `events` are those about the pod, for one that itself says nothing: the last warning counts, else
    that its image is still being pulled.
    """
    reason, message = pod.reason, pod.message
    if reason in SILENT:
        last = max(filter(_says_why, events), key=_weight, default={})
        reason, message = last.get("reason") or "", last.get("message") or ""
    if not reason:
        return ""
    trouble = next((what for what, reasons in _TROUBLES.items() if reason in reasons), "")
    if reason == "Unschedulable" and _CLAIM in message.lower():
        trouble = "a volume can't be had"
    return ": ".join(filter(None, (trouble, reason, message.strip())))[:_LONGEST]


def _says_why(event: Object) -> bool:
    return event.get("type") == "Warning" or event.get("reason") == "Pulling"


def _weight(event: Object) -> tuple[bool, str]:
    times = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"]["creationTimestamp"])
    return event.get("type") == "Warning", next(str(time) for time in times if time)
