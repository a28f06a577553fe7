"""The CRDs of PrimeHub as a cluster has them, and jobs that its controller has left.

They are the least that behaves alike: names, required fields and phases. PrimeHub 3 created its CRDs
as v1beta1, which a cluster keeps with `preserveUnknownFields: true` when it is upgraded. No API server stores
that any more, so it is written to etcd.
"""

import json
import time
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from phjob_core.labels import GROUP_LABEL, USER_LABEL, label_value

Object = dict[str, Any]

API_VERSION = "primehub.io/v1alpha1"
PHASES = ("Pending", "Preparing", "Running", "Succeeded", "Failed", "Cancelled", "Unknown")
REQUIRED_3 = ("command", "groupName", "image", "instanceType")
REQUIRED_4 = (*REQUIRED_3, "userName")
_ETCD_FOLDER = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
_TEXT = {"type": "string"}
_SPEC_TEXTS = ("displayName", "userId", "userName", "groupId", *REQUIRED_3)
_STATUS_TEXTS = ("reason", "message", "podName", "startTime", "finishTime")


def crds(required: Sequence[str] = REQUIRED_4) -> list[Object]:
    """Return PrimeHub's CRDs of the kinds that PhJob has, too. PrimeHub has no PhGroup."""
    spec = {
        **dict.fromkeys(_SPEC_TEXTS, _TEXT),
        "cancel": {"type": "boolean"},
        "activeDeadlineSeconds": {"type": "integer"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "requeueLimit": {"type": "integer"},
    }
    status = {
        **dict.fromkeys(_STATUS_TEXTS, _TEXT),
        "phase": {"type": "string", "enum": list(PHASES)},
        "requeued": {"type": "integer"},
    }
    job = {
        "spec": {"type": "object", "required": list(required), "properties": spec},
        "status": {"type": "object", "required": ["phase"], "properties": status},
    }
    anything = {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return [
        _crd("PhJob", "phjobs", job, subresources={"status": {}}),
        _crd("InstanceType", "instancetypes", anything),
        _crd("Image", "images", anything),
        _crd("Dataset", "datasets", anything),
    ]


def _crd(kind: str, plural: str, properties: Object, **more: Any) -> Object:
    """Return a CRD. `more` are further fields of its version."""
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema, **more}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.primehub.io"},
        "spec": {
            "group": "primehub.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def store_as_v1beta1(etcd: str, stored: Object) -> None:
    """Write a CRD into the etcd at this URL so that it preserves unknown fields."""
    crd = json.loads(json.dumps(stored))
    crd["spec"]["preserveUnknownFields"] = True
    del crd["metadata"]["resourceVersion"]
    fields = {"key": f"{_ETCD_FOLDER}{crd['metadata']['name']}", "value": json.dumps(crd)}
    body = {name: b64encode(text.encode()).decode() for name, text in fields.items()}
    request = urllib.request.Request(f"{etcd}/v3/kv/put", json.dumps(body).encode())  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        assert response.status == 200


def a_left_job(name: str, *, group: str, user: str | None = "bob", **status: Any) -> Object:
    """Return a job with the status that PrimeHub's controller has left; it has none yet without `status`."""
    spec = {"command": "true", "groupName": group, "image": "base-notebook", "instanceType": "cpu-tiny"}
    if user:
        spec["userName"] = user
    job: Object = {"apiVersion": API_VERSION, "kind": "PhJob", "metadata": {"name": name}, "spec": spec}
    return {**job, "status": status} if status else job


def a_left_pod(job: Object, **annotations: str) -> Object:
    """Return the pod that PrimeHub's controller has created for a stored job."""
    spec, name = job["spec"], job["metadata"]["name"]
    owner = {
        "apiVersion": API_VERSION, "kind": "PhJob", "name": name, "uid": job["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    labels = {"app": "primehub-job", GROUP_LABEL: label_value(spec["groupName"])}
    if user := spec.get("userName"):  # The label value of an empty name is not valid.
        labels[USER_LABEL] = label_value(user)
    limits = {"cpu": "500m", "memory": "256Mi"}
    container = {"name": "main", "image": "none", "command": ["true"], "resources": {"limits": limits}}
    metadata = {"name": name, "labels": labels, "annotations": annotations, "ownerReferences": [owner]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def minutes_ago(minutes: float) -> str:
    """Return a time as PrimeHub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60 * minutes))
