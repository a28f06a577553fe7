"""What PhJob and pod objects say, as facts: the small projection that the services need.

Pure. The watcher makes facts of what it watches, pod-manager of what its own writes were answered.
A job's command never gets through here.
"""

from collections.abc import Mapping
from typing import Any

from shared import resources
from shared.labels import GROUP_LABEL, USER_LABEL
from shared.messages import JobSeen, PodSeen
from shared.phjob import FENCE_ANNOTATION

Object = Mapping[str, Any]

MAIN = "main"
"""The container of a job's pod that runs the command."""
_LONGEST_MESSAGE = 1024


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
            "revision": status.get("revision") or revision or resource_version,
            "group": spec["groupName"],
            "user": spec["userName"],
            "image": spec["image"],
            "instance_type": spec["instanceType"],
            "resources": {
                name: resources.parse(name, amount)
                for name, amount in (status.get("resources") or {}).items()
            },
            **_present(spec, _JOB_SPEC),
            **_present(status, _JOB_STATUS),
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
}


def pod_seen(item: Object) -> PodSeen:
    """A pod with the label `primehub.io/group`."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    labels = metadata.get("labels") or {}
    owner: Object = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    container: Object = next((c for c in status.get("containerStatuses") or () if c.get("name") == MAIN), {})
    state = container.get("state") or {}
    ran = state.get("terminated") or state.get("running") or {}
    reason, message = _why(status, state)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=int(metadata["resourceVersion"]),
        group=labels[GROUP_LABEL],
        user=labels.get(USER_LABEL, ""),
        job_uid=owner.get("uid", "") if owner.get("kind") == "PhJob" else "",
        fence=(metadata.get("annotations") or {}).get(FENCE_ANNOTATION, ""),
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in metadata,
        limits=resources.pod_limits(spec),
        node=spec.get("nodeName", ""),
        start_time=ran.get("startedAt"),
        finish_time=ran.get("finishedAt"),
        exit_code=(state.get("terminated") or {}).get("exitCode"),
        reason=reason,
        message=message,
    )


def _why(status: Object, state: Object) -> tuple[str, str]:
    """Why the pod is as it is: the container's word, else the kubelet's, else the scheduler's."""
    said = state.get("terminated") or state.get("waiting") or {}
    if not said.get("reason"):
        said = status
    if not said.get("reason"):
        said = next(
            (
                condition
                for condition in status.get("conditions") or ()
                if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
            ),
            {},
        )
    return said.get("reason", ""), said.get("message", "")[:_LONGEST_MESSAGE]


def _present(item: Object, names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: item[theirs] for theirs, ours in names.items() if item.get(theirs) is not None}
