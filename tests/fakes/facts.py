"""Builders of facts, with defaults for the fields that do not matter to a test."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from phjob_core.labels import label_value
from phjob_core.messages import GroupSeen, ImageSeen, InstanceTypeSeen, JobSeen, PodSeen

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which tests begin."""
_revisions = itertools.count(1000)


def at(seconds: float) -> datetime:
    """Return the time `seconds` after START."""
    return START + timedelta(seconds=seconds)


def a_job(name: str = "job-1", **fields: Any) -> JobSeen:
    """Return a pending job that was created at START."""
    revision = next(_revisions)
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "resource_version": revision,
        "revision": revision,
        "revision_recorded": "revision" in fields,
        "created": START,
        "group": "phusers",
        "user": "bob",
        "image": "base-notebook",
        "instance_type": "gpu-1",
    }
    return JobSeen.model_validate(defaults | fields)


def later(job: JobSeen, **changes: Any) -> JobSeen:
    """Return the job after a change, with a newer resourceVersion."""
    noted = {"resource_version": next(_revisions), "revision_recorded": True}
    return job.model_copy(update={**noted, **changes})


def a_pod(job: JobSeen, **fields: Any) -> PodSeen:
    """Return the job's pod, as pod-manager has created it for the current admission."""
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


def a_notebook(name: str = "jupyter-bob", gpus: int = 1, user: str = "bob", **fields: Any) -> PodSeen:
    """Return a gated pod that is no job's, created at START."""
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "resource_version": next(_revisions),
        "created": START,
        "group": label_value("phusers"),
        "user": label_value(user),
        "gated": True,
        "limits": {"cpu": 1000, "nvidia.com/gpu": gpus},
    }
    return PodSeen.model_validate(defaults | fields)


def pod_later(pod: PodSeen, **changes: Any) -> PodSeen:
    """Return the pod after a change, with a newer resourceVersion."""
    return pod.model_copy(update={"resource_version": next(_revisions), **changes})


def a_group(name: str = "phusers", **fields: Any) -> GroupSeen:
    """Return a group that grants the image and the instance types of the other builders."""
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
    """Return an instance type with one CPU core and some GPUs."""
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "resource_version": next(_revisions),
        "limits": {"cpu": 1000, "nvidia.com/gpu": gpus},
    }
    return InstanceTypeSeen.model_validate(defaults | fields)


def an_image(name: str = "base-notebook", **fields: Any) -> ImageSeen:
    """Return an image."""
    defaults: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "resource_version": next(_revisions)}
    return ImageSeen.model_validate(defaults | fields)
