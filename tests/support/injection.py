"""Containers that somebody else injects into the pods of a group, as a service mesh does."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from tests.support.cluster import NAMESPACE, Cluster, Object
from tests.support.waiting import eventually

from phjob_core.labels import GROUP_LABEL, label_value

Place = Literal["containers", "initContainers"]
API_VERSION = "admissionregistration.k8s.io/v1"


@contextmanager
def injected_container(
    cluster: Cluster, group: str, place: Place, name: str, image: str, command: Sequence[str]
) -> Iterator[None]:
    """Inject a container into each pod of the group, by a MutatingAdmissionPolicy of Kubernetes 1.36."""
    policy = cluster.unique_name(f"inject-{cluster.next_number()}")
    listing = {
        "apiVersion": "v1",
        "kind": "List",
        "items": _manifests(policy, group, place, name, image, command),
    }
    done = cluster.kubectl("apply", "-f", "-", input=json.dumps(listing))
    assert done.returncode == 0, done.stderr
    try:
        eventually(lambda: _is_injected(cluster, group, place, name), "the API server applies the policy")
        yield
    finally:
        kinds = "mutatingadmissionpolicies,mutatingadmissionpolicybindings"
        cluster.kubectl("delete", kinds, policy, "--ignore-not-found")


def _manifests(
    policy: str, group: str, place: Place, name: str, image: str, command: Sequence[str]
) -> list[Object]:
    """Return the policy and its binding."""
    words = ", ".join(json.dumps(word) for word in command)
    fields = f"name: {json.dumps(name)}, image: {json.dumps(image)}, command: [{words}]"
    value = f"Object.spec.{place}{{{fields}}}"
    # A list with an object as the value of one patch makes the API server of Kubernetes 1.36.3 panic.
    empty = 'JSONPatch{op: "add", path: "/spec/initContainers", value: []}, '
    patch = f'JSONPatch{{op: "add", path: "/spec/{place}/-", value: {value}}}'
    expression = f"[{empty if place == 'initContainers' else ''}{patch}]"
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
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
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


def _is_injected(cluster: Cluster, group: str, place: Place, name: str) -> bool:
    """Return whether a pod of the group would get the container now."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": cluster.unique_name("probe"), "labels": {GROUP_LABEL: label_value(group)}},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    }
    create = ("-n", NAMESPACE, "create", "-f", "-", "--dry-run=server", "-o", "json")
    done = cluster.kubectl(*create, input=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    return name in [container["name"] for container in json.loads(done.stdout)["spec"].get(place, ())]
