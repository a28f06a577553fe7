"""What PhJob and pod objects say, as facts: the small projection that the services need.

Pure. The watcher makes facts of what it watches, pod-manager of what its own writes were answered.
A job's command never gets through here.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from shared import resources
from shared.labels import GROUP_LABEL, USER_LABEL
from shared.messages import JobSeen, PodSeen
from shared.phjob import ATTEMPT_ANNOTATION, FENCE_ANNOTATION, GROUP

Object = Mapping[str, Any]

MAIN = "main"
"""The container of a job's pod that runs the command."""
_LONGEST_MESSAGE = 1024
_LONGEST_NUMBER = 10


def job_seen(item: Object, revision: int | None = None) -> JobSeen:
    """A PhJob. `revision` is its resourceVersion when it was first seen, if that is known."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    resource_version = int(metadata["resourceVersion"])
    return JobSeen.model_validate(
        {
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resource_version": resource_version,
            "created": metadata["creationTimestamp"],
            # What others have written there can't make it newer than the object is.
            "revision": min(status.get("revision") or revision or resource_version, resource_version),
            "generation": metadata.get("generation", 0),
            "group": spec["groupName"],
            "user": spec["userName"],
            "image": spec["image"],
            "instance_type": spec["instanceType"],
            "resources": {
                name: resources.parse(name, amount)
                for name, amount in (status.get("resources") or {}).items()
            },
            **_present(spec, _JOB_SPEC),
            **{
                name: said for name, said in _present(status, _JOB_STATUS).items() if _makes_sense(name, said)
            },
        }
    )


_JOB_SPEC = {
    "groupId": "group_id",
    "cancel": "cancel",
    "activeDeadlineSeconds": "active_deadline_seconds",
    "ttlSecondsAfterFinished": "ttl_seconds_after_finished",
    "requeueLimit": "requeue_limit",
}
_JOB_STATUS = {
    "phase": "phase",
    "reason": "reason",
    "message": "message",
    "fence": "fence",
    "requeued": "requeued",
    "requeueAfter": "requeue_after",
    "preparingTime": "preparing_time",
    "startTime": "start_time",
    "finishTime": "finish_time",
    "nodeName": "node",
    "podName": "pod",
    "logURL": "log_url",
}


_JOB_TIMES = ("requeue_after", "preparing_time", "start_time", "finish_time")


def _makes_sense(field: str, said: Any) -> bool:
    """Kubernetes takes times that Python doesn't: one that somebody else has written counts as none."""
    return field not in _JOB_TIMES or _moment(said) is not None


def pod_seen(item: Object) -> PodSeen:
    """A pod with the label `primehub.io/group`."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    labels = metadata.get("labels") or {}
    container: Object = next((c for c in status.get("containerStatuses") or () if c.get("name") == MAIN), {})
    state = container.get("state") or {}
    ran = state.get("terminated") or state.get("running") or {}
    annotations = metadata.get("annotations") or {}
    attempt = annotations.get(ATTEMPT_ANNOTATION, "")
    reason, message = _why(status, state)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=int(metadata["resourceVersion"]),
        group=labels[GROUP_LABEL],
        user=labels.get(USER_LABEL, ""),
        job_uid=owner(item).get("uid", ""),
        fence=annotations.get(FENCE_ANNOTATION, ""),
        attempt=int(attempt) if attempt.isdecimal() and len(attempt) <= _LONGEST_NUMBER else 1,
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in metadata,
        deleted_at=_deleted_at(metadata),
        disruption=_disruption(status),
        limits=resources.pod_limits(spec),
        node=spec.get("nodeName", ""),
        start_time=_moment(ran.get("startedAt")),
        finish_time=_moment(ran.get("finishedAt")),
        exit_code=(state.get("terminated") or {}).get("exitCode"),
        reason=reason,
        message=message,
    )


def owner(pod: Object) -> Object:
    """The reference to the PhJob whose pod it is; empty if it is none's.

    A job's pod has the job's name: whatever else says that a job controls it was not made by us.
    """
    metadata = pod["metadata"]
    references = (o for o in metadata.get("ownerReferences") or () if o.get("controller"))
    reference: Object = next(references, {})
    group = reference.get("apiVersion", "").partition("/")[0]
    ours = (group, reference.get("kind"), reference.get("name")) == (GROUP, "PhJob", metadata["name"])
    return reference if ours else {}


def _moment(written: str | None) -> datetime | None:
    """A container's own time; the beginning of 1970 is how a runtime says that there was none."""
    try:
        moment = datetime.fromisoformat(written) if written else None
    except ValueError:  # Kubernetes takes the year 0, Python doesn't.
        return None
    return moment if moment and moment.timestamp() > 0 else None


def _deleted_at(metadata: Object) -> datetime | None:
    """When the deletion was asked for: Kubernetes writes when it is to be done at the latest."""
    if "deletionTimestamp" not in metadata:
        return None
    deadline = datetime.fromisoformat(metadata["deletionTimestamp"])
    try:
        return deadline - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    except OverflowError:  # Anybody may ask for a grace of ten thousand years.
        return deadline


def _why(status: Object, state: Object) -> tuple[str, str]:
    """Why the pod is as it is: the container's word, else the kubelet's, else the scheduler's."""
    said = state.get("terminated") or state.get("waiting") or {}
    if not said.get("reason"):
        said = status
    if not said.get("reason"):
        said = _condition(status, "PodScheduled", "False")
    return said.get("reason", ""), said.get("message", "")[:_LONGEST_MESSAGE]


def _disruption(status: Object) -> str:
    """Kubernetes, Disruptions, "Pod disruption conditions"."""
    said = _condition(status, "DisruptionTarget", "True")
    return ": ".join(filter(None, (said.get("reason"), said.get("message"))))[:_LONGEST_MESSAGE]


def _condition(status: Object, kind: str, value: str) -> Object:
    found = (c for c in status.get("conditions") or () if (c.get("type"), c.get("status")) == (kind, value))
    return next(found, {})


def _present(item: Object, names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: item[theirs] for theirs, ours in names.items() if item.get(theirs) is not None}
