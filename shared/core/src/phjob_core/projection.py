"""Projections of PhJobs and pods to facts: the fields that the services need. Pure.

The watcher projects the objects that it lists and watches, pod-manager the responses to its own writes. A
fact has no command and no container's message, because secrets must not reach the broker (spec.md, E7).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from phjob_core import quantities
from phjob_core.api import (
    ATTEMPT_ANNOTATION,
    FENCE_ANNOTATION,
    GATE,
    GROUP,
    LOG_FAILED,
    REQUEUE_FINALIZER,
    Object,
    Phase,
    PodPhase,
)
from phjob_core.labels import GROUP_LABEL, JOB_NAME_LABEL, JOB_UID_LABEL, USER_LABEL
from phjob_core.messages import JobSeen, PodSeen

MAIN_CONTAINER = "main"
"""The container of a job's pod that runs the command."""
_MAX_MESSAGE_CHARS = 1024
_MAX_LAST_WORDS_CHARS = 2048
"""The length of a container's own message, of which the end counts. The kubelet quotes as much of a log."""
_DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The kubelet's reason for a pod that it has ended at the pod's own `activeDeadlineSeconds`."""
_MAX_ATTEMPT_DIGITS = 10
"""Without this, another program's annotation could be a number too long to convert."""
_JOB_SPEC = {
    "groupId": "group_id",
    "cancel": "cancel",
    "suspend": "suspend",
    "activeDeadlineSeconds": "active_deadline_seconds",
    "ttlSecondsAfterFinished": "ttl_seconds_after_finished",
    "requeueLimit": "requeue_limit",
}
_JOB_STATUS = {
    "phase": "phase",
    "reason": "reason",
    "fence": "fence",
    "requeued": "requeued",
    "retried": "retried",
    "requeueAfter": "requeue_after",
    "preparingTime": "preparing_time",
    "startTime": "start_time",
    "finishTime": "finish_time",
    "nodeName": "node",
    "podName": "pod",
    "podUID": "pod_uid",
    "logURL": "log_url",
}
_JOB_TIMES = ("requeue_after", "preparing_time", "start_time", "finish_time")


def project_job(item: Object, revision: int | None = None) -> JobSeen:
    """Return the fact about a PhJob.

    `revision` is its resourceVersion at creation, if it is known. It counts only until one is recorded.
    The fact has the message of a Pending job only: that of an ended job may quote its log.
    """
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    resource_version, retry = int(metadata["resourceVersion"]), spec.get("retry") or {}
    return JobSeen.model_validate(
        {
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resource_version": resource_version,
            "created": metadata["creationTimestamp"],
            # Another program's value must not make the job newer than the object is.
            "revision": min(status.get("revision") or revision or resource_version, resource_version),
            "revision_recorded": bool(status.get("revision")),
            "deleting": "deletionTimestamp" in metadata,
            "generation": metadata.get("generation", 0),
            "retry_limit": retry.get("limit", 0),
            # YAML 1.1 takes a key `on` without quotes for the boolean true.
            "retry_on": tuple(retry.get("on") or retry.get("true") or ()),
            "attempts": len(status.get("attempts") or ()),
            "message": _message(status) if status.get("phase", Phase.PENDING) == Phase.PENDING else "",
            "log_failed": LOG_FAILED in _message(status),
            "group": spec["groupName"],
            "user": spec["userName"],
            "image": spec["image"],
            "instance_type": spec["instanceType"],
            "resources": {
                name: quantities.parse(name, amount)
                for name, amount in (status.get("resources") or {}).items()
            },
            **_present(spec, _JOB_SPEC),
            **{
                name: usable
                for name, value in _present(status, _JOB_STATUS).items()
                if (usable := _parse_time(value) if name in _JOB_TIMES else value) is not None
            },
        }
    )


def project_job_with_message(item: Object) -> JobSeen:
    """Return the fact about a PhJob with its message in every phase, for those who may read the PhJob."""
    return project_job(item).model_copy(update={"message": _message(item.get("status") or {})})


def project_pod(item: Object) -> PodSeen:
    """Return the fact about a pod."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    labels = metadata.get("labels") or {}
    state = _container_state(status)
    ran = state.get("terminated") or state.get("running") or {}
    annotations = metadata.get("annotations") or {}
    attempt = annotations.get(ATTEMPT_ANNOTATION, "")
    of_job = job_uid(item)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=int(metadata["resourceVersion"]),
        group=labels.get(GROUP_LABEL, ""),
        user=labels.get(USER_LABEL, ""),
        job_uid=of_job,
        orphaned=bool(of_job) and _controller(item) is None,
        fence=annotations.get(FENCE_ANNOTATION, ""),
        attempt=int(attempt) if attempt.isdecimal() and len(attempt) <= _MAX_ATTEMPT_DIGITS else 1,
        phase=PodPhase(status.get("phase", PodPhase.PENDING)),
        gated=gate_index(item) is not None,
        held=REQUEUE_FINALIZER in (metadata.get("finalizers") or ()),
        deleting="deletionTimestamp" in metadata,
        deleted_at=_deleted_at(metadata),
        disruption=_disruption(status),
        exceeded_deadline=_exceeded_deadline(spec, status),
        limits=quantities.pod_limits(spec),
        node=spec.get("nodeName", ""),
        start_time=_parse_time(ran.get("startedAt")),
        finish_time=_parse_time(ran.get("finishedAt")),
        exit_code=(state.get("terminated") or {}).get("exitCode"),
        reason=_explanation(item).get("reason", ""),
    )


def pod_message(item: Object) -> str:
    """Return the message of the pod's state, for its user.

    Of a container that has ended, it is what the container said last, usually the end of its log. The end of
    that is kept, because an error is there.
    """
    source = _explanation(item)
    message = str(source.get("message", ""))
    return message[-_MAX_LAST_WORDS_CHARS:] if "exitCode" in source else message[:_MAX_MESSAGE_CHARS]


def gate_index(pod: Object) -> int | None:
    """Return the index of our scheduling gate in the pod's list of gates; None if it has none."""
    gates = [gate.get("name") for gate in pod["spec"].get("schedulingGates") or ()]
    return gates.index(GATE) if GATE in gates else None


def job_uid(pod: Object) -> str:
    """Return the uid of the PhJob whose pod this is; empty if it belongs to none.

    A job's pod has the job's name. A pod with another name is not ours, although it may name a PhJob. A pod
    that has lost its owner, as by `kubectl delete --cascade=orphan`, is still its job's by its labels, which
    only pod-manager may set (spec.md, I10). Without this, its command would run on after the job, without a
    deadline. A copy of it, as of `kubectl debug --copy-to`, has another name.
    """
    metadata = pod["metadata"]
    if controller := _controller(pod):
        kind = controller.get("apiVersion", "").partition("/")[0], controller.get("kind")
        is_ours = (*kind, controller.get("name")) == (GROUP, "PhJob", metadata["name"])
        return str(controller.get("uid", "")) if is_ours else ""
    labels = metadata.get("labels") or {}
    return str(labels.get(JOB_UID_LABEL, "")) if labels.get(JOB_NAME_LABEL) == metadata["name"] else ""


def _controller(pod: Object) -> Object | None:
    """Return the owner reference to the pod's controller; None if it has none."""
    references = pod["metadata"].get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), None)


def _parse_time(text: str | None) -> datetime | None:
    """Return a time of a container or a status; None if there is none, or if Python cannot represent it.

    Container runtimes report "never" as the start of 1970. Kubernetes accepts the year 0, Python does not.
    Without this, a job with such a time would be unreadable as a whole.
    """
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time if time and time.timestamp() > 0 else None


def _deleted_at(metadata: Object) -> datetime | None:
    """Return when the deletion was requested; None if it was not.

    `deletionTimestamp` is the end of the grace period that began then.
    """
    if "deletionTimestamp" not in metadata:
        return None
    deadline = datetime.fromisoformat(metadata["deletionTimestamp"])
    try:
        return deadline - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    except OverflowError:  # A user may request a grace period of ten thousand years.
        return deadline


def _message(status: Object) -> str:
    """Return the message in a PhJob's status; empty if it has none."""
    return status.get("message") or ""


def _container_state(status: Object) -> Object:
    """Return the state of the pod's main container; empty if the kubelet has not reported one."""
    containers = (c for c in status.get("containerStatuses") or () if c.get("name") == MAIN_CONTAINER)
    container: Object = next(containers, {})
    return container.get("state") or {}


def _explanation(pod: Object) -> Object:
    """Return the part of the pod's status that has the reason and the message of its state.

    The first source that has a reason counts: the container, the kubelet, kube-scheduler.
    """
    status = pod.get("status") or {}
    state = _container_state(status)
    source = state.get("terminated") or state.get("waiting") or {}
    if not source.get("reason"):
        source = status
    if not source.get("reason"):
        source = _condition(status, "PodScheduled", "False")
    return source


def _disruption(status: Object) -> str:
    """Return why Kubernetes ends the pod, if it has announced that; otherwise empty.

    Source: Kubernetes, Disruptions, "Pod disruption conditions".
    """
    condition = _condition(status, "DisruptionTarget", "True")
    text = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return text[:_MAX_MESSAGE_CHARS]


def _exceeded_deadline(spec: Object, status: Object) -> int:
    """Return the pod's own deadline, if the kubelet has ended the pod for it; otherwise 0.

    The container's state has the signal only, so its reason would conceal the deadline.
    """
    return (spec.get("activeDeadlineSeconds") or 0) if status.get("reason") == _DEADLINE_EXCEEDED else 0


def _condition(status: Object, kind: str, value: str) -> Object:
    """Return the pod's condition of that type, if its status is `value`; otherwise an empty object."""
    found = (c for c in status.get("conditions") or () if (c.get("type"), c.get("status")) == (kind, value))
    return next(found, {})


def _present(item: Object, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that are set, under our names. `names` has our names by the API's."""
    return {ours: item[theirs] for theirs, ours in names.items() if item.get(theirs) is not None}
