"""Builders of the objects that users and administrators write, with defaults for all other fields.

They return plain dicts, as they are sent to the API server.
"""

from typing import Any

from phjob_core.api import GATE
from phjob_core.labels import GROUP_LABEL, USER_LABEL, label_value

Object = dict[str, Any]

RUN_FOR = "dev.primehub.io/run-for"
EXIT_CODE = "dev.primehub.io/exit-code"
START = "dev.primehub.io/start"

IMAGE = "base-notebook"
INSTANCE_TYPE = "cpu-tiny"
NOTEBOOK_URL = "primehub.dev/base-notebook:busybox"
"""The only image on the local node with real containers."""


def an_object(kind: str, name: str, spec: Object) -> Object:
    """Return an object of one of PhJob's five kinds."""
    return {"apiVersion": "primehub.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def a_job(
    name: str,
    *,
    group: str = "phusers",
    user: str = "bob",
    run_for: str | None = None,
    exit_code: int | None = None,
    start: str | None = None,
    **spec: Any,
) -> Object:
    """Return a PhJob.

    `spec` are fields of its spec. KWOK simulates `run_for`, `exit_code` and `start`.
    """
    required = {
        "command": "true",
        "userName": user,
        "groupName": group,
        "image": IMAGE,
        "instanceType": INSTANCE_TYPE,
    }
    job = an_object("PhJob", name, {**required, **spec})
    simulated = {RUN_FOR: run_for, EXIT_CODE: exit_code, START: start}
    job["metadata"]["annotations"] = {
        key: str(value) for key, value in simulated.items() if value is not None
    }
    return job


def a_group(name: str, **spec: Any) -> Object:
    """Return a PhGroup of every user without quotas, with the default image and instance type."""
    grants = {"images": [IMAGE], "instanceTypes": [INSTANCE_TYPE]}
    return an_object("PhGroup", name, {"users": ["*"], **grants, **spec})


def an_instance_type(name: str = INSTANCE_TYPE, spec: Object | None = None, *, gpus: int = 0) -> Object:
    """Return an InstanceType with little CPU and memory.

    `spec` may have keys with dots.
    """
    limits: Object = {"limits.cpu": 0.5, "limits.memory": "256M"}
    if gpus:
        limits["limits.nvidia.com/gpu"] = gpus
    return an_object("InstanceType", name, {**limits, **(spec or {})})


def an_unschedulable_instance_type(name: str, *, gpus: int = 0) -> Object:
    """Return an InstanceType whose node selector matches no node."""
    return an_instance_type(name, {"nodeSelector": {"no-node": "has-this"}}, gpus=gpus)


def an_image(name: str = IMAGE, **spec: Any) -> Object:
    """Return an Image."""
    return an_object("Image", name, {"url": NOTEBOOK_URL, **spec})


def a_gated_notebook(name: str, *, group: str, user: str, **limits: Any) -> Object:
    """Return the pod of a Jupyter server that waits until PhJob removes its gate."""
    pod = a_notebook(name, group=group, user=user, **limits)
    return {**pod, "spec": {**pod["spec"], "schedulingGates": [{"name": GATE}]}}


def a_notebook(name: str, *, group: str, user: str, **limits: Any) -> Object:
    """Return the pod of a Jupyter server, with the labels of PrimeHub's JupyterHub."""
    labels = {GROUP_LABEL: label_value(group), USER_LABEL: label_value(user), "app": "jupyterhub"}
    container = {"name": "notebook", "image": NOTEBOOK_URL, "resources": {"limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "restartPolicy": "OnFailure"},
    }
