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
    FOREIGN_PHASES,
    GATE,
    GPU_ANNOTATION,
    GROUP,
    LOG_FAILED,
    REQUEUE_FINALIZER,
    Object,
    Phase,
)
from phjob_core.labels import GROUP_LABEL, JOB_NAME_LABEL, JOB_UID_LABEL, USER_LABEL
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.pod_limits import pod_limits
from phjob_core.pod_reading import PodReading, parse_time

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
    "gpuResource": "gpu_resource",
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
JOB_STATUS_FIELDS = (
    *_JOB_STATUS, "message", "resources", "overhead", "exitCode", "reclaimed", "revision", "attempts",
    "conditions", "observedGeneration",
)  # fmt: skip
"""The fields of a PhJob's status that PhJob writes, under the names of the API."""
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
            "user": spec.get("userName") or "",  # PrimeHub 3 did not require it.
            "image": spec["image"],
            "instance_type": spec["instanceType"],
            "resources": quantities.parse_all(status.get("resources")),
            "overhead": quantities.parse_all(status.get("overhead")),
            **_present(spec, _JOB_SPEC),
            **{
                name: usable
                for name, value in _present(status, _JOB_STATUS).items()
                if (usable := parse_time(value) if name in _JOB_TIMES else value) is not None
            },
            **_foreign_phase(status),
        }
    )


def _foreign_phase(status: Object) -> dict[str, str]:
    """Return the fields of a fact for a phase that only PrimeHub writes; none for any other phase."""
    phase = status.get("phase") or ""
    return {"phase": FOREIGN_PHASES[phase], "foreign_phase": phase} if phase in FOREIGN_PHASES else {}


def project_job_with_message(item: Object) -> JobSeen:
    """Return the fact about a PhJob with its message in every phase, for those who may read the PhJob."""
    return project_job(item).model_copy(update={"message": _message(item.get("status") or {})})


def project_pod(item: Object) -> PodSeen:
    """Return the fact about a pod."""
    metadata, spec, status = item["metadata"], item["spec"], PodReading(item)
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    attempt = annotations.get(ATTEMPT_ANNOTATION, "")
    of_job, is_gated = job_uid(item), gate_index(item) is not None
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
        phase=status.phase,
        gated=is_gated,
        held=REQUEUE_FINALIZER in (metadata.get("finalizers") or ()),
        deleting="deletionTimestamp" in metadata,
        deleted_at=_deleted_at(metadata),
        disruption=status.disruption,
        exceeded_deadline=status.exceeded_deadline,
        created=datetime.fromisoformat(metadata["creationTimestamp"]) if is_gated and not of_job else None,
        limits=pod_limits(spec, item.get("status")),
        gpu_resource=annotations.get(GPU_ANNOTATION, "") if of_job else "",
        node=spec.get("nodeName", ""),
        has_started=status.has_started,
        start_time=status.start_time,
        finish_time=status.finish_time,
        exit_code=status.exit_code,
        reason=status.reason,
        cause=status.cause,
        container_reason=status.container_reason,
        init_failure=status.init_failure,
        runs_on=status.runs_on,
    )


def pod_message(item: Object) -> str:
    """Return the message of the pod's state, for its user.

    Of a container that has ended, it is the end of what the container said last, because an error is there.
    """
    return PodReading(item).message


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


def _present(item: Object, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that are set, under our names. `names` has our names by the API's."""
    return {ours: item[theirs] for theirs, ours in names.items() if item.get(theirs) is not None}
