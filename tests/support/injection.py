"""What others change in the pods of a group: containers of a service mesh, and ids of OpenShift."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from tests.support.cluster import NAMESPACE, Cluster, Object
from tests.support.waiting import eventually

from phjob_core.labels import GROUP_LABEL, label_value

Place = Literal["containers", "initContainers"]
API_VERSION = "admissionregistration.k8s.io/v1"


@contextmanager
def injected_container(
    cluster: Cluster,
    group: str,
    place: Place,
    name: str,
    image: str,
    command: Sequence[str],
    *,
    restart_policy: str = "",
) -> Iterator[None]:
    """Inject a container into each pod of the group.

    An init container with the `restart_policy` `Always` is a native sidecar.
    """
    words = ", ".join(json.dumps(word) for word in command)
    fields = f"name: {json.dumps(name)}, image: {json.dumps(image)}, command: [{words}]"
    if restart_policy:
        fields += f", restartPolicy: {json.dumps(restart_policy)}"
    # A list with an object as the value of one patch makes the API server of Kubernetes 1.36.3 panic.
    empty = [_addition("/spec/initContainers", "[]")] if place == "initContainers" else []
    patches = [*empty, _addition(f"/spec/{place}/-", f"Object.spec.{place}{{{fields}}}")]

    def is_injected(pod: Object) -> bool:
        return name in [container["name"] for container in pod["spec"].get(place, ())]

    with _patched_pods(cluster, group, patches, is_injected):
        yield


@contextmanager
def assigned_ids(cluster: Cluster, group: str, number: int) -> Iterator[None]:
    """Assign this user and file system group to each pod of the group, as OpenShift does in a namespace."""
    patches = [_addition(f"/spec/securityContext/{key}", str(number)) for key in ("runAsUser", "fsGroup")]

    def has_ids(pod: Object) -> bool:
        return bool(pod["spec"]["securityContext"].get("fsGroup") == number)

    with _patched_pods(cluster, group, patches, has_ids):
        yield


def _addition(path: str, value: str) -> str:
    """Return a patch, as an expression of CEL, that adds the value of an expression."""
    return f"JSONPatch{{op: {json.dumps('add')}, path: {json.dumps(path)}, value: {value}}}"


@contextmanager
def _patched_pods(
    cluster: Cluster, group: str, patches: Sequence[str], is_patched: Callable[[Object], bool]
) -> Iterator[None]:
    """Patch each new pod of the group, by a MutatingAdmissionPolicy of Kubernetes 1.36."""
    policy = cluster.unique_name(f"patch-{cluster.next_number()}")
    listing = {"apiVersion": "v1", "kind": "List", "items": _manifests(policy, group, patches)}
    done = cluster.kubectl("apply", "-f", "-", input=json.dumps(listing))
    assert done.returncode == 0, done.stderr
    try:
        eventually(lambda: is_patched(_new_pod(cluster, group)), "the API server applies the policy")
        yield
    finally:
        kinds = "mutatingadmissionpolicies,mutatingadmissionpolicybindings"
        cluster.kubectl("delete", kinds, policy, "--ignore-not-found")


def _manifests(policy: str, group: str, patches: Sequence[str]) -> list[Object]:
    """Return the policy and its binding."""
    of_group = f"object.metadata.?labels[?'{GROUP_LABEL}'] == optional.of('{label_value(group)}')"
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ]
        },
        "matchConditions": [{"name": "group", "expression": of_group}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{', '.join(patches)}]"}}],
    }
    metadata = {"name": policy}
    return [
        {"apiVersion": API_VERSION, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {
            "apiVersion": API_VERSION,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": policy},
        },
    ]


def _new_pod(cluster: Cluster, group: str) -> Object:
    """Return a pod of the group as the API server would store it now."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": cluster.unique_name("probe"), "labels": {GROUP_LABEL: label_value(group)}},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    }
    create = ("-n", NAMESPACE, "create", "-f", "-", "--dry-run=server", "-o", "json")
    done = cluster.kubectl(*create, input=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    stored: Object = json.loads(done.stdout)
    return stored
