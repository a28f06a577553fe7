"""The diagnosis of a pod that has not started, for its user: the category, and Kubernetes' own message. Pure.

The reason and message come from the container's state, kube-scheduler's condition, or the pod's events.
"""

from collections.abc import Iterable, Mapping

from phjob_core.api import Object
from phjob_core.messages import PodSeen

UNINFORMATIVE_REASONS = ("", "ContainerCreating", "PodInitializing")
"""The reasons of a pod that is being prepared. Only its events show why it does not get on."""

_PULLING = "Pulling"
_AFTER_PULLING = ("Pulled", "Failed", "BackOff", "InspectFailed", "Created", "Started")
"""The kubelet's reasons that show that a pull has ended, well or badly."""
CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "no node can take it": ("Unschedulable", "SchedulingGated"),
    "its image is still being pulled": (_PULLING,),
    "its image cannot be pulled": (
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
        "RegistryUnavailable",
    ),
    "a volume cannot be mounted": ("FailedMount", "FailedAttachVolume", "FailedMapVolume"),
    "its container cannot be created": (
        "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "FailedCreatePodSandBox",
    ),
    "a container that others inject does not start": ("CrashLoopBackOff",),
}  # fmt: skip
"""Kubernetes' reasons, by the category that a user reads."""
_VOLUME_NOT_PROVIDED = "a volume cannot be provided"
_VOLUME_CLAIM = "persistentvolumeclaim"
"""In the message of a pod that is unschedulable because of a volume, not because of a node."""
_MAX_CHARS = 1024


def describe_start_obstacle(pod: PodSeen, message: str = "", events: Iterable[Object] = ()) -> str:
    """Return why the pod has not started, or an empty text if that is unknown.

    For example `its image cannot be pulled: ImagePullBackOff: Back-off pulling ...`. `message` is the pod's
    own (`projection.pod_message`), and `events` are those about the pod. They count only if its own reason is
    uninformative: the last warning, or else that its image is being pulled. An init container that has failed
    is the reason in any case.
    """
    reason = pod.reason
    if pod.init_failure:
        return pod.init_failure
    if reason in UNINFORMATIVE_REASONS:
        last = max(filter(_is_informative, events), key=_priority, default={})
        reason, message = last.get("reason") or "", last.get("message") or ""
    if not reason:
        return ""
    category = next((name for name, reasons in CATEGORIES.items() if reason in reasons), "")
    if reason == "Unschedulable" and _VOLUME_CLAIM in message.lower():
        category = _VOLUME_NOT_PROVIDED
    return ": ".join(filter(None, (category, reason, message.strip())))[:_MAX_CHARS]


def is_being_pulled(events: Iterable[Object]) -> bool:
    """Return whether the kubelet is pulling an image for the pod that the events are about.

    It writes an Event when a pull begins, before the pull waits for its turn on the node, and one when the
    pull ends. Two Events of the same second count as an end, because their order is unknown.

    Source: pkg/kubelet/images/image_manager.go, pkg/kubelet/events/event.go.
    """
    last: dict[str, tuple[str, bool]] = {}
    for event in events:
        reason, container = event.get("reason"), (event.get("involvedObject") or {}).get("fieldPath", "")
        if reason == _PULLING or reason in _AFTER_PULLING:
            entry = _time_of(event), reason != _PULLING
            last[container] = max(last.get(container, entry), entry)
    return any(not has_ended for _, has_ended in last.values())


def _time_of(event: Object) -> str:
    """Return when the event occurred last, as text that sorts by time."""
    times = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"]["creationTimestamp"])
    return next(str(time) for time in times if time)


def _is_informative(event: Object) -> bool:
    """Return whether the event may show why the pod has not started."""
    return event.get("type") == "Warning" or event.get("reason") == _PULLING


def _priority(event: Object) -> tuple[bool, str]:
    """Return a sort key: a warning is greater than any other event, and a later event than an earlier one."""
    return event.get("type") == "Warning", _time_of(event)
