"""The pod of a job, as a manifest (seed, Running Pod; contract.md, The pod).

Pure: (job, catalog as granted, settings) to a plain dict. Volumes and variables come from `volumes`,
the way the command starts from `entrypoint`; who creates the pod is `jobs`' part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pod_manager.entrypoint import command, literal
from pod_manager.grants import GroupVolume
from pod_manager.volumes import HOME, GrantedDataset, parts
from shared.errors import PermanentError
from shared.labels import GROUP_LABEL, JOB_UID_LABEL, USER_LABEL, label_value
from shared.phjob import API_VERSION, ATTEMPT_ANNOTATION, FENCE_ANNOTATION
from shared.projection import MAIN
from shared.resources import MEMORY, QuantityError, is_gpu, parse, parse_primehub, rendered
from shared.settings import JobSubmission

Object = Mapping[str, Any]

JOVYAN_GROUP = 100
"""The group id of the user jovyan in Jupyter's images."""
USAGE_ANNOTATION = "primehub.io/usage"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class UnbuildableError(PermanentError):
    """What the pod is made of is missing or unusable; the text names it."""


@dataclass(frozen=True)
class Ingredients:
    """What a pod is made of: the catalog's objects, as the job's groups grant them."""

    image: Object
    instance_type: Object
    groups: Sequence[GroupVolume] = ()
    datasets: Sequence[GrantedDataset] = ()


def build(job: Object, ingredients: Ingredients, settings: JobSubmission) -> Object:
    """The manifest of the job's pod.

    `job` is the PhJob as admitted: its `status.resources` are the pod's limits, so that a pod never
    holds more than was counted.

    Raises:
        UnbuildableError: the image has no url, or a request is no quantity.

    """
    metadata, spec, status = job["metadata"], job["spec"], job["status"]
    image, instance_type = ingredients.image, ingredients.instance_type
    given = parts(ingredients.groups, ingredients.datasets)
    launch = GroupVolume(spec["groupName"], home_symlink=False)
    profile = f"/project/{launch.folder}/.primehub/profile"
    limits = _admitted_limits(status)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
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
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "fsGroup": JOVYAN_GROUP,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_scheduling(instance_type, settings),
            **_pull_secret(image),
            "containers": [
                {
                    "name": MAIN,
                    "image": _image_url(image, gpu=any(n and is_gpu(r) for r, n in limits.items())),
                    "imagePullPolicy": "IfNotPresent",
                    "command": command(spec["command"], profile, given.links, given.notices, given.env),
                    "workingDir": HOME,
                    "env": _env(job, given.env, settings),
                    "resources": _resources(limits, instance_type),
                    "securityContext": {"allowPrivilegeEscalation": settings.grant_sudo},
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": [
                        {"name": "home", "mountPath": HOME},
                        {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount path
                        *given.mounts,
                    ],
                }
            ],
            "volumes": [
                {"name": "home", "emptyDir": {"sizeLimit": settings.working_dir_size}},
                {"name": "dshm", "emptyDir": {"medium": "Memory"}},
                *given.volumes,
            ],
        },
    }


def _admitted_limits(status: Object) -> dict[str, int]:
    """What the admission reserved; there is none if somebody else wrote the status."""
    if not status.get("resources") or not status.get("fence"):
        raise UnbuildableError("the job was not admitted by PhJob: somebody else has written its status")
    try:
        return {name: parse(name, quantity) for name, quantity in status["resources"].items()}
    except QuantityError as error:
        raise UnbuildableError(f"status.resources: {error}") from error


def _annotations(job: Object) -> dict[str, str]:
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
    """The admitted limits, and the instance type's requests; GPUs stand in the limits only."""
    prefix = "requests."
    requests = {
        key.removeprefix(prefix): value
        for key, value in instance_type["spec"].items()
        if key.startswith(prefix) and value is not None
    }
    try:
        amounts = {
            name: parse_primehub(name, quantity)
            for name, quantity in requests.items()
            if name in ("cpu", MEMORY, "ephemeral-storage")
        }
    except QuantityError as error:
        msg = f"instance type {instance_type['metadata']['name']!r} is unusable: requests: {error}"
        raise UnbuildableError(msg) from error
    return {"limits": rendered(limits), "requests": rendered(amounts)}


_STAY_ON_LOST_NODE = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute"}
    for what in ("not-ready", "unreachable")
]
"""Nothing evicts a job's pod from a lost node: its command may still run there (seed, FAQ)."""


def _scheduling(instance_type: Object, settings: JobSubmission) -> dict[str, Any]:
    """Where the pod may run: the settings, and the instance type's on top."""
    spec = instance_type["spec"]
    node_selector = {**settings.node_selector, **(spec.get("nodeSelector") or {})}
    tolerations = [*settings.tolerations, *(spec.get("tolerations") or ()), *_STAY_ON_LOST_NODE]
    return {
        **({"nodeSelector": node_selector} if node_selector else {}),
        **({"affinity": settings.affinity} if settings.affinity else {}),
        "tolerations": tolerations,
    }
