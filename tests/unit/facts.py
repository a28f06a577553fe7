"""Facts for unit tests, with defaults for whatever a test does not care about."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.labels import label_value
from shared.messages import GroupSeen, ImageSeen, InstanceTypeSeen, JobSeen, PodSeen

START = datetime(2026, 1, 1, tzinfo=UTC)
_revisions = itertools.count(1000)


def at(seconds: float) -> datetime:
    """So many seconds after the tests' beginning of time."""
    return START + timedelta(seconds=seconds)


def a_job(name: str = "job-1", **fields: Any) -> JobSeen:
    """A PhJob that waits, created now."""
    revision = next(_revisions)
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "resource_version": revision,
        "revision": revision,
        "created": START,
        "group": "phusers",
        "user": "bob",
        "image": "base-notebook",
        "instance_type": "gpu-1",
    }
    return JobSeen.model_validate(defaults | fields)


def later(job: JobSeen, **changes: Any) -> JobSeen:
    """The same job, seen again after a change."""
    return job.model_copy(update={"resource_version": next(_revisions), **changes})


def a_pod(job: JobSeen, **fields: Any) -> PodSeen:
    """The job's pod, just created for its current admission."""
    defaults: dict[str, Any] = {
        "uid": f"pod-of-{job.uid}",
        "name": job.name,
        "resource_version": next(_revisions),
        "group": label_value(job.group),
        "user": label_value(job.user),
        "job_uid": job.uid,
        "fence": job.fence,
        "limits": {"cpu": 1000, "nvidia.com/gpu": 1},
    }
    return PodSeen.model_validate(defaults | fields)


def a_group(name: str = "phusers", **fields: Any) -> GroupSeen:
    """A group that grants what the other builders name."""
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "group": name,
        "resource_version": next(_revisions),
        "images": ("base-notebook",),
        "instance_types": ("gpu-1", "gpu-2", "gpu-4"),
    }
    return GroupSeen.model_validate(defaults | fields)


def an_instance_type(name: str, gpus: int = 1, **fields: Any) -> InstanceTypeSeen:
    """An instance type with a core and some GPUs."""
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "resource_version": next(_revisions),
        "limits": {"cpu": 1000, "nvidia.com/gpu": gpus},
    }
    return InstanceTypeSeen.model_validate(defaults | fields)


def an_image(name: str = "base-notebook", **fields: Any) -> ImageSeen:
    """An image."""
    defaults: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "resource_version": next(_revisions)}
    return ImageSeen.model_validate(defaults | fields)
