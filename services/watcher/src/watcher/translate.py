"""The catalog's objects as facts: the small projection that the other services need.

Pure. PhJobs and pods are `shared.projection`'s. An object that can't be used becomes
a fact that says so (`invalid`), for its users to read.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shared import resources
from shared.errors import PermanentError
from shared.messages import (
    DatasetGrant,
    DatasetSeen,
    GroupSeen,
    ImageSeen,
    InstanceTypeSeen,
    NodeSeen,
    PodSeen,
    Record,
)

Object = Mapping[str, Any]

_GPU_LIMIT = "gpu"


class UntranslatableError(PermanentError):
    """The object lacks what the CRD or Kubernetes itself guarantees."""


def group(item: Object) -> GroupSeen:
    """A PhGroup."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    name = metadata["name"]
    problems: list[str] = []
    users, volume = spec.get("users"), spec.get("sharedVolume") or {}
    return GroupSeen(
        uid=metadata["uid"],
        name=name,
        resource_version=int(metadata["resourceVersion"]),
        group=spec.get("groupName") or name,
        group_id=spec.get("groupId") or "",
        user_quota=_amounts(spec.get("userQuota"), "userQuota.", problems),
        group_quota=_amounts(spec.get("groupQuota"), "groupQuota.", problems),
        users=None if users is None else tuple(users),
        images=tuple(spec.get("images") or ()),
        instance_types=tuple(spec.get("instanceTypes") or ()),
        default_active_deadline_seconds=spec.get("jobDefaultActiveDeadlineSeconds"),
        invalid="; ".join(problems),
        datasets=tuple(
            DatasetGrant(name=grant["name"], writable=bool(grant.get("writable")))
            for grant in spec.get("datasets") or ()
        ),
        shared_volume=bool(volume.get("enabled")),
        launch_group_only=volume.get("launchGroupOnly", True),
        home_symlink=volume.get("homeSymlink", True),
    )


def instance_type(item: Object) -> InstanceTypeSeen:
    """An InstanceType: its `limits.*`."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    problems: list[str] = []
    prefix = "limits."
    written = {key.removeprefix(prefix): value for key, value in spec.items() if key.startswith(prefix)}
    if _GPU_LIMIT in written:
        gpu = written.pop(_GPU_LIMIT)
        written[spec.get("gpuResourceName") or resources.NVIDIA_GPU] = gpu
    return InstanceTypeSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        limits=_amounts(written, prefix, problems),
        invalid="; ".join(problems),
    )


def image(item: Object) -> ImageSeen:
    """An Image."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    return ImageSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        invalid="" if spec.get("url") or spec.get("urlForGpu") else "it has no url",
    )


def dataset(item: Object) -> DatasetSeen:
    """A Dataset."""
    metadata = item["metadata"]
    return DatasetSeen(
        uid=metadata["uid"], name=metadata["name"], resource_version=int(metadata["resourceVersion"])
    )


def node(item: Object) -> NodeSeen:
    """A node. Kubernetes turns its Ready to Unknown when its kubelet has been silent for too long."""
    metadata, status = item["metadata"], item.get("status") or {}
    ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    return NodeSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        resource_version=int(metadata["resourceVersion"]),
        lost_since=ready.get("lastTransitionTime") if ready.get("status") == "Unknown" else None,
    )


def held(pods: Iterable[PodSeen]) -> dict[str, dict[str, int]]:
    """What unfinished pods hold, by the label value of their group (contract.md, Queueing 3)."""
    totals: dict[str, dict[str, int]] = {}
    for pod in pods:
        total = totals.setdefault(pod.group, {})
        if not pod.phase.finished:
            for resource, amount in resources.charge(pod.limits).items():
                total[resource] = total.get(resource, 0) + amount
    return totals


def record(item: Object) -> Record:
    """A finished PhJob of which nothing is left but its record."""
    metadata, status = item["metadata"], item["status"]
    return Record(
        uid=metadata["uid"],
        name=metadata["name"],
        group=item["spec"]["groupName"],
        finish_time=status.get("finishTime") or metadata["creationTimestamp"],
    )


def _amounts(written: Object | None, prefix: str, problems: list[str]) -> dict[str, int]:
    amounts = {}
    for resource, quantity in (written or {}).items():
        if quantity is None:
            continue
        try:
            amounts[resource] = resources.parse_primehub(resource, quantity)
        except resources.QuantityError as error:
            problems.append(f"{prefix}{resource}: {error}")
    return amounts


def guarded(translate: Callable[[Object], Any], item: Object) -> Any:
    """Translate, or say which object it was that can't be.

    Raises:
        UntranslatableError: something that must be there is not, or is what nobody foresaw.

    """
    try:
        return translate(item)
    except Exception as error:  # Whatever it is, it concerns this object alone.
        metadata = item.get("metadata") or {}
        msg = f"{item.get('kind', 'object')} {metadata.get('name')}: {type(error).__name__}: {error}"
        raise UntranslatableError(msg) from error
