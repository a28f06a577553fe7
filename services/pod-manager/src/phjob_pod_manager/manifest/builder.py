"""The builder of a job's pod: a manifest as a plain dict (spec.md, P1 to P12). Pure.

`volumes` contributes the volumes and variables, and `entrypoint` the container's command. `pod_creator`
creates the pod.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phjob_core.api import API_VERSION, ATTEMPT_ANNOTATION, FENCE_ANNOTATION, GATE, Object
from phjob_core.errors import PermanentError
from phjob_core.labels import GROUP_LABEL, JOB_UID_LABEL, USER_LABEL, label_value
from phjob_core.projection import MAIN_CONTAINER
from phjob_core.quantities import (
    MAX_QUANTITY,
    MEMORY,
    QuantityError,
    is_gpu,
    parse,
    parse_primehub,
    render_all,
)
from phjob_pod_manager.manifest.entrypoint import command, literal
from phjob_pod_manager.manifest.grants import GroupVolume
from phjob_pod_manager.manifest.volumes import HOME, GrantedDataset, VolumeSpec, volume_spec
from phjob_runtime.settings import JobSubmission

JOVYAN_GROUP = 100
"""The group id of the user `jovyan` in Jupyter's images."""
USAGE_ANNOTATION = "primehub.io/usage"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class UnbuildableError(PermanentError):
    """An object that the pod is built from is missing or unusable. The message names it."""


@dataclass(frozen=True)
class PodInputs:
    """The catalog objects that a pod is built from, as the job's groups grant them."""

    image: Object
    instance_type: Object
    groups: Sequence[GroupVolume] = ()
    datasets: Sequence[GrantedDataset] = ()


def build(job: Object, inputs: PodInputs, settings: JobSubmission) -> Object:
    """Return the manifest of the job's pod.

    `job` is the PhJob as it will be admitted. Its `status.resources` become the pod's limits, so that a pod
    never uses more than its charge.

    Raises:
        UnbuildableError: the image has no url, or a request is not a quantity.

    """
    volumes = volume_spec(inputs.groups, inputs.datasets)
    limits = _admitted_limits(job["status"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(job),
        "spec": {
            "schedulingGates": [{"name": GATE}],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "fsGroup": JOVYAN_GROUP,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_scheduling(inputs.instance_type, settings),
            **_pull_secret(inputs.image),
            "containers": [_container(job, inputs, limits, volumes, settings)],
            "volumes": [
                {"name": "home", "emptyDir": {"sizeLimit": settings.working_dir_size}},
                {"name": "dshm", "emptyDir": {"medium": "Memory"}},
                *volumes.volumes,
            ],
        },
    }


def _metadata(job: Object) -> Object:
    """Return the pod's metadata: it belongs to the job (spec.md, P1, P2)."""
    metadata, spec = job["metadata"], job["spec"]
    return {
        "name": metadata["name"],
        "labels": {
            "app": "primehub-job",
            GROUP_LABEL: label_value(spec["groupName"]),
            USER_LABEL: label_value(spec["userName"]),
            JOB_UID_LABEL: metadata["uid"],
        },
        "annotations": _annotations(job),
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


def _container(
    job: Object, inputs: PodInputs, limits: Mapping[str, int], volumes: VolumeSpec, settings: JobSubmission
) -> Object:
    """Return the container `main`, which runs the job's command (spec.md, P4 to P6, P9, P10)."""
    spec = job["spec"]
    launch_group = GroupVolume(spec["groupName"], home_symlink=False)
    profile = f"/project/{launch_group.folder}/.primehub/profile"
    needs_gpu = any(amount and is_gpu(resource) for resource, amount in limits.items())
    return {
        "name": MAIN_CONTAINER,
        "image": _image_url(inputs.image, gpu=needs_gpu),
        "imagePullPolicy": "IfNotPresent",
        "command": command(spec["command"], profile, volumes.links, volumes.warnings, volumes.env),
        "workingDir": HOME,
        "env": _env(job, volumes.env, settings),
        "resources": _resources(limits, inputs.instance_type),
        "securityContext": {"allowPrivilegeEscalation": settings.grant_sudo},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount path
            *volumes.mounts,
        ],
    }


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


def _annotations(job: Object) -> dict[str, str]:
    """Return the pod's annotations: the job's own, and PhJob's (spec.md, P2)."""
    metadata, spec = job["metadata"], job["spec"]
    copied = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED
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
        USAGE_ANNOTATION: json.dumps(usage),
        FENCE_ANNOTATION: job["status"]["fence"],
        ATTEMPT_ANNOTATION: str(job["status"].get("requeued", 0) + 1),
    }


def _env(job: Object, from_datasets: Mapping[str, str], settings: JobSubmission) -> list[dict[str, str]]:
    """Return the container's environment, PhJob's own variables last (spec.md, P5)."""
    spec = job["spec"]
    variables = {
        **from_datasets,
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
    return [{"name": name, "value": literal(value)} for name, value in variables.items()]


def _image_url(image: Object, *, gpu: bool) -> str:
    """Return the container image for a job with or without GPUs (spec.md, A9)."""
    spec = image["spec"]
    url = (spec.get("urlForGpu") if gpu else None) or spec.get("url") or spec.get("urlForGpu")
    if not url:
        msg = f"image {image['metadata']['name']!r} has no url"
        raise UnbuildableError(msg)
    return str(url)


def _pull_secret(image: Object) -> dict[str, Any]:
    secret = image["spec"].get("pullSecret")
    return {"imagePullSecrets": [{"name": secret}]} if secret else {}


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
            if name in ("cpu", MEMORY, "ephemeral-storage")
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
