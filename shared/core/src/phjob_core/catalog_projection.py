"""Projections of nodes and of the catalog to facts: the fields that the services need. Pure.

`projection` has those of PhJobs and pods. An object that is unusable becomes a fact with `invalid`, a text
for the users of the object.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from phjob_core import quantities
from phjob_core.api import ANY_USER, EVERYONE, Notebooks, Object
from phjob_core.errors import PermanentError
from phjob_core.gpus import GpuResources
from phjob_core.history import Record
from phjob_core.messages import (
    DatasetGrant,
    DatasetSeen,
    GroupSeen,
    ImageSeen,
    InstanceTypeSeen,
    NodeSeen,
    PodSeen,
)

_GPU_LIMIT = "gpu"
"""The key of a limit whose resource `gpuResourceName` names (spec.md, A8)."""
_RESOURCE_NAME = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
"""The name of a resource, as Kubernetes accepts it in a pod's limits."""
_NO_USERS = (
    "spec.users is missing, so no user may submit; "
    f'set it to the names of the users, or to ["{ANY_USER}"] for every user'
)


class ProjectionError(PermanentError):
    """The object lacks a field that its CRD or Kubernetes guarantees. The message names the object."""


def project_group(item: Object) -> GroupSeen:
    """Return the fact about a PhGroup."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    name = metadata["name"]
    group = spec.get("groupName") or name
    problems: list[str] = []
    volume = spec.get("sharedVolume") or {}
    return GroupSeen(
        uid=metadata["uid"],
        name=name,
        resource_version=int(metadata["resourceVersion"]),
        group=group,
        group_id=spec.get("groupId") or "",
        user_quota=_amounts(spec.get("userQuota"), "userQuota.", problems),
        group_quota=_amounts(spec.get("groupQuota"), "groupQuota.", problems),
        users=_users(spec.get("users"), group, problems),
        images=tuple(spec.get("images") or ()),
        instance_types=tuple(spec.get("instanceTypes") or ()),
        default_active_deadline_seconds=spec.get("jobDefaultActiveDeadlineSeconds"),
        max_active_deadline_seconds=spec.get("maxActiveDeadlineSeconds") or 0,
        max_pending=spec.get("maxPending"),
        max_pending_per_user=spec.get("maxPendingPerUser"),
        preparing_timeout_seconds=spec.get("preparingTimeoutSeconds"),
        invalid="; ".join(problems),
        datasets=tuple(
            DatasetGrant(name=grant["name"], writable=bool(grant.get("writable")))
            for grant in spec.get("datasets") or ()
        ),
        shared_volume=bool(volume.get("enabled")),
        launch_group_only=volume.get("launchGroupOnly", True),
        home_symlink=volume.get("homeSymlink", True),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        security_profile=spec.get("securityProfile") or "",
    )


def _users(names: list[str] | None, group: str, problems: list[str]) -> tuple[str, ...] | None:
    """Return the users who may submit; None: every user. Appends a text to `problems` if nobody said who.

    The API server requires `users`, but it has stored PhGroups of before without. In the group `everyone` it
    may be absent, because no job can be submitted there.
    """
    if names is None and group != EVERYONE:
        problems.append(_NO_USERS)
        return ()
    return None if names is None or ANY_USER in names else tuple(names)


def project_default_limits(item: Object) -> dict[str, int]:
    """Return the default limits that a PhGroup's status reports; none before the first report."""
    return quantities.parse_all((item.get("status") or {}).get("defaultLimits"))


def project_gpu_resource_names(item: Object) -> tuple[str, ...]:
    """Return the patterns of `jobSubmission.gpuResourceNames` that a PhGroup's status reports."""
    return tuple((item.get("status") or {}).get("gpuResourceNames") or ())


def project_notebooks(item: Object) -> Notebooks:
    """Return `jobSubmission.notebooks` as a PhGroup's status reports it; "first" before the first report."""
    return "queue" if (item.get("status") or {}).get("notebooks") == "queue" else "first"


def project_instance_type(item: Object) -> InstanceTypeSeen:
    """Return the fact about an InstanceType: its `limits.*`.

    The fact has no `requests.*`. They must be quantities all the same, because the pod gets them.
    """
    metadata, spec = item["metadata"], item.get("spec") or {}
    problems: list[str] = []
    prefix = "limits."
    limits = _starting_with(prefix, spec)
    gpu_resource = ""
    if (gpu := limits.pop(_GPU_LIMIT, None)) is not None:
        gpu_resource = spec.get("gpuResourceName") or quantities.NVIDIA_GPU
        limits[gpu_resource] = gpu
    return InstanceTypeSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        limits=_amounts(limits, prefix, problems),
        gpu_resource=gpu_resource,
        invalid="; ".join([*problems, *_bad_requests(spec)]),
    )


def _starting_with(prefix: str, spec: Object) -> dict[str, Any]:
    """Return the fields whose names start with the prefix, by the rest of the name."""
    return {key.removeprefix(prefix): value for key, value in spec.items() if key.startswith(prefix)}


def _bad_requests(spec: Object) -> list[str]:
    """Return a text for each request that is not a quantity."""
    problems: list[str] = []
    _amounts(_starting_with("requests.", spec), "requests.", problems)
    return problems


def project_image(item: Object) -> ImageSeen:
    """Return the fact about an Image."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    return ImageSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        invalid="" if spec.get("url") or spec.get("urlForGpu") else "it has no url",
    )


def project_dataset(item: Object) -> DatasetSeen:
    """Return the fact about a Dataset."""
    metadata = item["metadata"]
    return DatasetSeen(
        uid=metadata["uid"], name=metadata["name"], resource_version=int(metadata["resourceVersion"])
    )


def project_node(item: Object) -> NodeSeen:
    """Return the fact about a node.

    Kubernetes sets the condition `Ready` to `Unknown` when the kubelet has been silent for too long.
    """
    metadata, status = item["metadata"], item.get("status") or {}
    ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    since = ready.get("lastTransitionTime")
    return NodeSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        lost_since=datetime.fromisoformat(since) if since and ready.get("status") == "Unknown" else None,
    )


def pod_usage(
    pods: Iterable[PodSeen], name_of: Callable[[str], str], gpus: GpuResources
) -> dict[str, dict[str, int]]:
    """Return the charges of all pods that have not ended, summed by group.

    `name_of` returns the name of a group, by its label value.
    """
    totals: dict[str, dict[str, int]] = {}
    for pod in pods:
        total = totals.setdefault(name_of(pod.group), {})
        if not pod.phase.finished:
            for resource, amount in gpus.charge(pod.limits, pod.gpu_resource).items():
                total[resource] = total.get(resource, 0) + amount
    return totals


def project_record(item: Object) -> tuple[Record, bool]:
    """Return the record of a finished PhJob, and whether it was never admitted."""
    metadata, status = item["metadata"], item["status"]
    finish_time = datetime.fromisoformat(status.get("finishTime") or metadata["creationTimestamp"])
    group, fence = item["spec"]["groupName"], status.get("fence", "")
    record = Record(finish_time, metadata["uid"], metadata["name"], group, fence)
    return record, "preparingTime" not in status


def _amounts(values: Object | None, prefix: str, problems: list[str]) -> dict[str, int]:
    """Return the quantities as amounts. Appends a text to `problems` for each that is unusable."""
    amounts = {}
    for resource, quantity in (values or {}).items():
        if quantity is None:
            continue
        if not _RESOURCE_NAME.fullmatch(resource):
            problems.append(f"{prefix}{resource!r} is not the name of a resource")
            continue
        try:
            amounts[resource] = quantities.parse_primehub(resource, quantity)
        except quantities.QuantityError as error:
            problems.append(f"{prefix}{resource}: {error}")
    return amounts


def project_or_raise(project: Callable[[Object], Any], item: Object) -> Any:
    """Return the object's projection, or raise an error that names the object.

    Raises:
        ProjectionError: `project` failed for any reason.

    """
    try:
        return project(item)
    except Exception as error:  # Without this, one malformed object would stop the whole watch.
        metadata = item.get("metadata") or {}
        msg = f"{item.get('kind', 'object')} {metadata.get('name')}: {type(error).__name__}: {error}"
        raise ProjectionError(msg) from error
