"""Objects as users and administrators write them, with defaults for whatever a test does not care about.

Plain dicts: what the API server is given.
"""

from typing import Any

from shared.labels import GROUP_LABEL, USER_LABEL, label_value

Object = dict[str, Any]

RUN_FOR = "dev.primehub.io/run-for"
EXIT_CODE = "dev.primehub.io/exit-code"
START = "dev.primehub.io/start"

IMAGE = "base-notebook"
INSTANCE_TYPE = "cpu-tiny"
NOTEBOOK_URL = "primehub.dev/base-notebook:busybox"
"""The image that the local real node carries."""


def an_object(kind: str, name: str, spec: Object) -> Object:
    """Any of the five kinds."""
    return {"apiVersion": "primehub.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def a_job(  # each is an annotation that KWOK's pods obey
    name: str,
    *,
    group: str = "phusers",
    user: str = "bob",
    run_for: str | None = None,
    exit_code: int | None = None,
    start: str | None = None,
    **spec: Any,
) -> Object:
    """A PhJob; `spec` is in the CRD's own words."""
    smallest = {
        "command": "true",
        "userName": user,
        "groupName": group,
        "image": IMAGE,
        "instanceType": INSTANCE_TYPE,
    }
    job = an_object("PhJob", name, {**smallest, **spec})
    played = {RUN_FOR: run_for, EXIT_CODE: exit_code, START: start}
    job["metadata"]["annotations"] = {key: str(value) for key, value in played.items() if value is not None}
    return job


def a_group(name: str, **spec: Any) -> Object:
    """A PhGroup without quotas, that grants the default image and instance type to anyone."""
    return an_object("PhGroup", name, {"images": [IMAGE], "instanceTypes": [INSTANCE_TYPE], **spec})


def an_instance_type(name: str = INSTANCE_TYPE, spec: Object | None = None, *, gpus: int = 0) -> Object:
    """An InstanceType with little CPU and memory; keys with dots are in `spec`."""
    limits: Object = {"limits.cpu": 0.5, "limits.memory": "256M"}
    if gpus:
        limits["limits.nvidia.com/gpu"] = gpus
    return an_object("InstanceType", name, {**limits, **(spec or {})})


def an_image(name: str = IMAGE, **spec: Any) -> Object:
    """An Image."""
    return an_object("Image", name, {"url": NOTEBOOK_URL, **spec})


def a_notebook(name: str, *, group: str, user: str, **limits: Any) -> Object:
    """The pod of a Jupyter server, labelled as PrimeHub's JupyterHub does it."""
    labels = {GROUP_LABEL: label_value(group), USER_LABEL: label_value(user), "app": "jupyterhub"}
    container = {"name": "notebook", "image": NOTEBOOK_URL, "resources": {"limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "restartPolicy": "OnFailure"},
    }
