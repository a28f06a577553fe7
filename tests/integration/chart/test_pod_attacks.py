"""Attacks on pods, and on everything else in the namespace, which the real API server refuses.

- mallory is a submitter, as every user is.
- eve may do everything with pods, as Kubernetes' own `edit` permits.

The chart of these tests enforces the labels of the pool (`identity.poolLabels.enforce`).
"""

import json
import secrets
from typing import Any

import pytest
from tests.support.attackers import Attacker, assert_refused, grant
from tests.support.builders import a_group, a_notebook, an_object
from tests.support.chart import Release
from tests.support.cluster import kubectl_for

from .conftest import HUB, Done, KubectlAs

JOB_POD = "only pod-manager makes a pod the pod of a job"
LABELS = "may not label pods with primehub.io/group or primehub.io/user"


def a_pod(name: str, **metadata: Any) -> dict[str, Any]:
    """Return a pod that conforms to PodSecurity `restricted`, with further metadata."""
    pod = a_notebook(name, group="phusers", user="bob")
    pod["metadata"] = {"name": name, **metadata}
    (container,) = pod["spec"]["containers"]
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod["spec"]["securityContext"] = {
        "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    return pod


def phjob_owner(name: str) -> list[dict[str, Any]]:
    """Return an owner reference of a job's pod."""
    kind = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob"}
    return [{**kind, "name": name, "uid": "no-such-uid", "controller": True}]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"labels": {"primehub.io/phjob-uid": "x"}}, JOB_POD),
        ({"ownerReferences": phjob_owner("forged")}, JOB_POD),
        ({"labels": {"primehub.io/group": "escaped-phusers", "primehub.io/user": "escaped-bob"}}, LABELS),
        ({"labels": {"primehub.io/group": ""}}, LABELS),
    ],
    ids=["a job's pod by label", "a job's pod by owner", "charge another user", "an empty group"],
)
def test_create_a_pod_that_is_not_ones_own(eve: Attacker, metadata: dict[str, Any], words: str) -> None:
    """Without these marks, she may create a pod."""
    assert_refused(eve("create", "-f", "-", input=a_pod("forged", **metadata)), words)
    assert eve("create", "--dry-run=server", "-f", "-", input=a_pod("forged")).returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {"primehub.io/phjob-uid": "x"}}, JOB_POD),
        ({"ownerReferences": phjob_owner("notebook")}, JOB_POD),
        ({"labels": {"primehub.io/group": None}}, LABELS),
        ({"labels": {"primehub.io/user": "escaped-lin"}}, LABELS),
    ],
    ids=["claim a job", "own by a job", "leave the pool", "charge another user"],
)
def test_change_the_marks_of_a_notebook(
    eve: Attacker, release: Release, kubectl_as: KubectlAs, change: dict[str, Any], words: str
) -> None:
    """JupyterHub's account may set the labels of the pool, and eve may change other labels."""
    labels = {"primehub.io/group": "escaped-phusers", "primehub.io/user": "escaped-bob"}
    name = f"notebook-{secrets.token_hex(4)}"
    hub = release.account_user(HUB)
    grant(release, hub, "create", "pods")
    done = kubectl_as(hub, "create", "-f", "-", input=json.dumps(a_pod(name, labels=labels)))
    assert done.returncode == 0, done.stderr
    assert_refused(eve.merge("pod", name, {"metadata": change}), words)
    others = {"tier": "x", "primehub.io/other": "x"}
    assert eve.merge("pod", name, {"metadata": {"labels": others}}).returncode == 0
    assert kubectl_as("olga", "get", "pod", name, "-o", "jsonpath={.metadata.labels}").stdout
    assert eve("delete", "pod", name, "--wait=false").returncode == 0


def test_label_pods_through_a_controller(kubectl_as: KubectlAs) -> None:
    """A Deployment's template has the labels. An account that is not named creates its pods."""
    pod = a_pod("of-a-deployment", labels={"primehub.io/group": "escaped-phusers"})
    controller = "system:serviceaccount:kube-system:replicaset-controller"
    done = kubectl_as(controller, "create", "--dry-run=server", "-f", "-", input=json.dumps(pod))
    assert_refused(done, f"you are {controller}, and {LABELS}")


def test_the_pods_of_the_chart_may_be_created(release: Release, kubectl_as: KubectlAs) -> None:
    """Their labels, such as `primehub.io/shard`, come from an account that is not named, too."""
    listed = release.kubectl("-n", release.namespace, "get", "deployments", "-o", "json")
    for deployment in json.loads(listed.stdout)["items"]:
        template = deployment["spec"]["template"]
        name = deployment["metadata"]["name"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            **template,
            "metadata": {**template["metadata"], "name": name},
        }
        controller = "system:serviceaccount:kube-system:replicaset-controller"
        done = kubectl_as(controller, "create", "--dry-run=server", "-f", "-", input=json.dumps(pod))
        assert done.returncode == 0, done.stderr


# --- what a submitter may not read or use ---


@pytest.mark.parametrize(
    ("command", "resource"),
    [
        ("get datasets.primehub.io", "datasets"),
        ("get secrets", "secrets"),
        ("get configmaps", "configmaps"),
        ("create token phjob-pod-manager", "serviceaccounts"),
        ("run any --image=busybox", "pods"),
        ("delete pod any", "pods"),
        ("get leases", "leases"),
        ("get rolebindings", "rolebindings"),
        ("get nodes", "nodes"),
        ("get phjobs -n default", "phjobs"),
    ],
)
def test_read_or_use_something_else(mallory: Attacker, command: str, resource: str) -> None:
    """RBAC refuses it."""
    assert_refused(mallory(*command.split()), "is forbidden", f'resource "{resource}')


def test_write_the_catalog(mallory: Attacker) -> None:
    """A user grants themselves no group, instance type, image or dataset."""
    group = a_group("own-group", users=[mallory.user])
    dataset = an_object("Dataset", "own", {"type": "hostPath", "hostPath": {"path": "/"}})
    for manifest, plural in ((group, "phgroups"), (dataset, "datasets")):
        assert_refused(mallory("create", "-f", "-", input=manifest), f'cannot create resource "{plural}"')


# --- a stolen service ---


def test_create_another_lease_as_the_watcher(release: Release, kubectl_as: KubectlAs) -> None:
    """RBAC cannot restrict a creation to a name, so a policy does. Its own Lease it may create."""
    watcher = kubectl_for(release.kubeconfig_of("phjob-watcher"))

    def create(name: str) -> Done:
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        return watcher(
            "-n",
            release.namespace,
            "create",
            "--dry-run=server",
            "--validate=false",
            "-f",
            "-",
            input=json.dumps(lease),
        )

    assert_refused(create("kube-scheduler"), "the watcher may create no Lease but its own")
    assert create("phjob-watcher").returncode == 0
