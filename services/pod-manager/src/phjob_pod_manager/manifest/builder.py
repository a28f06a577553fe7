"""The builder of a job's pod: a manifest as a plain dict (spec.md, P1 to P12). Pure.

`volumes` contributes the volumes and variables, and `entrypoint` the container's command. `pod_creator`
creates the pod.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from phjob_core.api import (
    API_VERSION,
    ATTEMPT_ANNOTATION,
    FENCE_ANNOTATION,
    GATE,
    GPU_ANNOTATION,
    Object,
)
from phjob_core.errors import PermanentError
from phjob_core.labels import GROUP_LABEL, JOB_NAME_LABEL, JOB_UID_LABEL, USER_LABEL, label_value
from phjob_core.messages import GroupSeen
from phjob_core.pod_reading import MAIN_CONTAINER
from phjob_core.quantities import (
    CPU,
    EPHEMERAL_STORAGE,
    GPU,
    MAX_QUANTITY,
    MEMORY,
    QuantityError,
    parse,
    parse_primehub,
    render_all,
)
from phjob_pod_manager.manifest.dataset_secret import SecretKey
from phjob_pod_manager.manifest.entrypoint import HOME, command, literal
from phjob_pod_manager.manifest.grants import GroupVolume
from phjob_pod_manager.manifest.security import SUDO, container_security, pod_security, profile_of
from phjob_pod_manager.manifest.volumes import GrantedDataset, VolumeSpec, volume_spec
from phjob_runtime.settings import JobSubmission

POD_DEADLINE_MARGIN_SECONDS = 7 * 86_400
"""The time after the job's deadline at which the node ends the pod, if PhJob has not (spec.md, P13).

Kubernetes never prolongs it. So it is also the time by which a user can prolong the deadline of a running
job, and it includes the time until the container starts.
"""
_MAX_POD_DEADLINE_SECONDS = 2**31 - 1
USAGE_ANNOTATION = "primehub.io/usage"
_NEVER_COPIED = ("kubectl.kubernetes.io/last-applied-configuration", GPU_ANNOTATION)
"""The annotations of a job that no pattern copies. With the second, a user could make CPUs count as GPUs."""


class UnbuildableError(PermanentError):
    """An object that the pod is built from is missing or unusable. The message names it."""


@dataclass(frozen=True)
class PodInputs:
    """The catalog objects that a pod is built from, as the job's groups grant them."""

    image: Object
    instance_type: Object
    groups: Sequence[GroupVolume] = ()
    datasets: Sequence[GrantedDataset] = ()
    own_group: GroupSeen | None = None
    """The PhGroup of the job's own group; None if it was deleted."""


def build(job: Object, inputs: PodInputs, settings: JobSubmission) -> Object:
    """Return the manifest of the job's pod.

    `job` is the PhJob as it will be admitted. Its `status.resources` become the pod's limits, so that a pod
    never uses more than its charge.

    Raises:
        UnbuildableError: the image has no url, or a request is not a quantity.

    """
    volumes = volume_spec(inputs.groups, inputs.datasets)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(job, settings),
        "spec": {
            "schedulingGates": [{"name": GATE}],
            "restartPolicy": "Never",
            **_deadline(job, inputs.own_group, settings),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(settings),
            **_scheduling(inputs.instance_type, settings),
            **_classes(inputs.instance_type, settings),
            **_pull_secrets(inputs.image, settings),
            "containers": [_container(job, inputs, volumes, settings)],
            "volumes": [
                {"name": "home", "emptyDir": {"sizeLimit": settings.working_dir_size}},
                {"name": "dshm", "emptyDir": {"medium": "Memory"}},
                *volumes.volumes,
            ],
        },
    }


def _metadata(job: Object, settings: JobSubmission) -> Object:
    """Return the pod's metadata: it belongs to the job (spec.md, P1, P2)."""
    metadata, spec = job["metadata"], job["spec"]
    return {
        "name": metadata["name"],
        "labels": {
            **settings.pod_labels,
            "app": "primehub-job",
            GROUP_LABEL: label_value(spec["groupName"]),
            USER_LABEL: label_value(spec["userName"]),
            JOB_UID_LABEL: metadata["uid"],
            JOB_NAME_LABEL: metadata["name"],
        },
        "annotations": _annotations(job, settings),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "PhJob",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _container(job: Object, inputs: PodInputs, volumes: VolumeSpec, settings: JobSubmission) -> Object:
    """Return the container `main`, which runs the job's command (spec.md, P4 to P6, P9, P10)."""
    limits = _admitted_limits(job["status"])
    profile = profile_of(inputs.own_group, settings)
    gpu_resource = job["status"].get("gpuResource", "")
    needs_gpu = GPU in settings.gpus.charge(limits, gpu_resource)
    return {
        "name": MAIN_CONTAINER,
        "image": _image_url(inputs.image, gpu=needs_gpu),
        "imagePullPolicy": "IfNotPresent",
        "command": _command(job, volumes, settings, grant_sudo=profile == SUDO),
        "workingDir": HOME,
        "env": _env(job, volumes.env, settings),
        "resources": _resources(limits, inputs.instance_type),
        "securityContext": container_security(profile, settings),
        "terminationMessagePolicy": "FallbackToLogsOnError" if settings.termination_messages else "File",
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount path
            *volumes.mounts,
        ],
    }


def _command(job: Object, volumes: VolumeSpec, settings: JobSubmission, *, grant_sudo: bool) -> Sequence[str]:
    """Return the container's command, which runs the job's command (spec.md, P9)."""
    own_volume = GroupVolume(job["spec"]["groupName"], home_symlink=False)
    profile = f"/project/{own_volume.folder}/.primehub/profile" if settings.group_profile else ""
    return command(
        job["spec"]["command"],
        profile,
        volumes.links,
        volumes.warnings,
        volumes.files,
        grant_sudo=grant_sudo,
    )


def _deadline(job: Object, group: GroupSeen | None, settings: JobSubmission) -> dict[str, int]:
    """Return the pod's own deadline, a last resort while PhJob is down; none if the job has none."""
    candidates = (
        job["spec"].get("activeDeadlineSeconds"),
        group.default_active_deadline_seconds if group else None,
        settings.default_active_deadline_seconds,
    )
    deadline = next(seconds for seconds in candidates if seconds is not None)
    if not deadline:
        return {}
    own = min(deadline + POD_DEADLINE_MARGIN_SECONDS, _MAX_POD_DEADLINE_SECONDS)
    return {"activeDeadlineSeconds": own}


def _admitted_limits(status: Object) -> dict[str, int]:
    """Return the limits that the admission reserved.

    Raises:
        UnbuildableError: there are none, because another program has written the status.

    """
    if not status.get("resources") or not status.get("fence"):
        raise UnbuildableError("the job was not admitted by PhJob: another program has written its status")
    try:
        return {name: parse(name, quantity) for name, quantity in status["resources"].items()}
    except QuantityError as error:
        raise UnbuildableError(f"status.resources: {error}") from error


def _annotations(job: Object, settings: JobSubmission) -> dict[str, str]:
    """Return the pod's annotations: those of the job that may be copied, the operator's, and PhJob's.

    By an annotation, a user could ask add-ons of the cluster for privileges (spec.md, P2).
    """
    metadata, spec = job["metadata"], job["spec"]
    copied = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key not in _NEVER_COPIED
        and any(fnmatchcase(key, pattern) for pattern in settings.copy_annotations)
    }
    usage = {
        "component": "job",
        "component_name": metadata["name"],
        "instance_type": spec["instanceType"],
        "group": spec["groupName"],
        "user": spec["userName"],
    }
    return {
        **copied,
        **settings.pod_annotations,
        USAGE_ANNOTATION: json.dumps(usage),
        FENCE_ANNOTATION: job["status"]["fence"],
        ATTEMPT_ANNOTATION: str(attempt_number(job["status"])),
        **({GPU_ANNOTATION: gpu_resource} if (gpu_resource := job["status"].get("gpuResource")) else {}),
    }


def attempt_number(status: Object) -> int:
    """Return the number of the attempt that the next admission begins, from 1."""
    return int(status.get("requeued", 0)) + int(status.get("retried", 0)) + 1


def _env(job: Object, from_datasets: Mapping[str, SecretKey], settings: JobSubmission) -> list[Object]:
    """Return the container's environment: each variable once, the datasets' first (spec.md, P5)."""
    spec = job["spec"]
    own = {
        "PRIMEHUB_USER": spec["userName"],
        "PRIMEHUB_GROUP": spec["groupName"],
        "GROUP_ID": spec.get("groupId", ""),
        "GROUP_NAME": spec["groupName"],
        "JUPYTERHUB_USER": spec["userName"],
        "INSTANCE_TYPE": spec["instanceType"],
        "IMAGE_NAME": spec["image"],
        "PHJOB_NAME": job["metadata"]["name"],
        **({"TZ": settings.timezone} if settings.timezone else {}),
    }
    taken = {*own, *(variable.name for variable in settings.extra_env)}
    return [
        *({"name": n, "valueFrom": key.manifest()} for n, key in from_datasets.items() if n not in taken),
        *({"name": name, "value": literal(value)} for name, value in own.items()),
        *(variable.manifest() for variable in settings.extra_env),
    ]


def _image_url(image: Object, *, gpu: bool) -> str:
    """Return the container image for a job with or without GPUs (spec.md, A9)."""
    spec = image["spec"]
    url = (spec.get("urlForGpu") if gpu else None) or spec.get("url") or spec.get("urlForGpu")
    if not url:
        msg = f"image {image['metadata']['name']!r} has no url"
        raise UnbuildableError(msg)
    return str(url)


def _pull_secrets(image: Object, settings: JobSubmission) -> dict[str, Any]:
    """Return the pull secrets of the Image and of the settings, each once."""
    own = image["spec"].get("pullSecret")
    names = dict.fromkeys([*([own] if own else []), *(secret.name for secret in settings.image_pull_secrets)])
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}


def _classes(instance_type: Object, settings: JobSubmission) -> dict[str, str]:
    """Return the names of the objects that the settings, or the instance type, choose (spec.md, P11)."""
    names = {
        "priorityClassName": settings.priority_class_name,
        "runtimeClassName": instance_type["spec"].get("runtimeClassName") or settings.runtime_class_name,
        "serviceAccountName": settings.service_account_name,
    }
    return {field: name for field, name in names.items() if name}


def _resources(limits: Mapping[str, int], instance_type: Object) -> dict[str, Any]:
    """Return the admitted limits, and the instance type's requests (spec.md, P4).

    Raises:
        UnbuildableError: a request is not a quantity.

    """
    prefix = "requests."
    requests = {
        key.removeprefix(prefix): value
        for key, value in instance_type["spec"].items()
        if key.startswith(prefix) and value is not None
    }
    try:
        # The instance type may have been edited since the admission. Without the minimum, the API server
        # would reject a request above its limit.
        amounts = {
            name: min(parse_primehub(name, quantity), limits.get(name, MAX_QUANTITY))
            for name, quantity in requests.items()
            if name in (CPU, MEMORY, EPHEMERAL_STORAGE)
        }
    except QuantityError as error:
        msg = f"instance type {instance_type['metadata']['name']!r} is unusable: requests: {error}"
        raise UnbuildableError(msg) from error
    return {"limits": render_all(limits), "requests": render_all(amounts)}


_LOST_NODE_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute"}
    for state in ("not-ready", "unreachable")
]
"""Tolerations of a lost node (spec.md, P11, L12).

Without these, Kubernetes would evict the pod from its node, where the command may still run.
"""


def _scheduling(instance_type: Object, settings: JobSubmission) -> dict[str, Any]:
    """Return the fields that limit where the pod may run (spec.md, P11)."""
    spec = instance_type["spec"]
    node_selector = {**settings.node_selector, **(spec.get("nodeSelector") or {})}
    tolerations = [*settings.tolerations, *(spec.get("tolerations") or ()), *_LOST_NODE_TOLERATIONS]
    return {
        **({"nodeSelector": node_selector} if node_selector else {}),
        **({"affinity": settings.affinity} if settings.affinity else {}),
        "tolerations": tolerations,
    }
