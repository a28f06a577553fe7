"""The rights of services and people in Kubernetes, as a real API server with RBAC reports them."""

import json
from pathlib import Path

import pytest
import yaml
from tests.support.builders import a_group, a_job
from tests.support.chart import Object, Release, render
from tests.support.cluster import kubectl_for
from tests.support.waiting import eventually

from dev import rights as local

API_GROUP = "primehub.io"
CATALOG = ("instancetypes", "images", "datasets")
Right = tuple[str, str, str, str]
"""A right: API group, resource, the name of an object or `*`, and verb."""


def rights(group: str, resources: tuple[str, ...], verbs: tuple[str, ...], name: str = "*") -> set[Right]:
    """Return the rights of each of the verbs on each of the resources."""
    return {(group, resource, name, verb) for resource in resources for verb in verbs}


LEASES = "coordination.k8s.io"
CRDS = "apiextensions.k8s.io"
RIGHTS: dict[str, set[Right]] = {
    "watcher": {
        *rights(API_GROUP, ("phjobs", "phgroups", *CATALOG), ("list", "watch")),
        *rights("", ("pods", "nodes"), ("list", "watch")),
        *rights(LEASES, ("leases",), ("create",)),
        *rights(LEASES, ("leases",), ("get", "update"), "phjob-watcher"),
        *(
            right
            for plural in ("phjobs", "phgroups", *CATALOG)
            for right in rights(CRDS, ("customresourcedefinitions",), ("get",), f"{plural}.{API_GROUP}")
        ),
    },
    "pod-manager": {
        *rights(API_GROUP, ("phjobs",), ("get", "delete")),
        *rights(API_GROUP, ("phjobs/status",), ("patch",)),
        *rights(API_GROUP, ("phgroups",), ("get",)),
        *rights(API_GROUP, ("phgroups/status",), ("patch",)),
        *rights(API_GROUP, ("phjobs/finalizers",), ("update",)),
        *rights(API_GROUP, CATALOG, ("get",)),
        *rights("", ("pods",), ("get", "create", "patch", "delete")),
        *rights("", ("secrets",), ("create", "update")),
        *rights("", ("pods/log",), ("get",)),
        *rights("", ("events",), ("list", "get", "create", "patch")),
    },
    "scheduler": set(),
    "janitor": set(),
}
"""The rights that each service needs, which are all that it has (spec.md, I4)."""


def rights_of(release: Release, kubeconfig: Path) -> set[Right]:
    """Return the rights of an account in the release's namespace, as the API server reports them."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": release.namespace},
    }
    done = kubectl_for(kubeconfig)(
        "create", "-f", "-", "-o", "json", "--validate=false", input=json.dumps(review)
    )
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)["status"]
    assert not status["incomplete"]
    return {
        (group, resource, name, verb)
        for rule in status["resourceRules"]
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for name in rule.get("resourceNames", ("*",))
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("service", RIGHTS)
def test_a_service_has_the_rights_that_it_needs_and_no_other(release: Release, service: str) -> None:
    """Every account also has the right to review its own rights."""
    anybody = rights_of(release, release.kubeconfig_of("default"))
    assert rights_of(release, release.kubeconfig_of(f"phjob-{service}")) - anybody == RIGHTS[service]


def test_the_services_have_the_same_rights_in_the_local_stack_as_in_the_chart() -> None:
    """`make up` renders the template without helm. Only the labels differ."""

    def unlabelled(objects: list[Object]) -> list[Object]:
        for item in objects:
            assert item["metadata"].pop("labels")
        return sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"]))

    of_helm = render(f"--show-only=templates/{local.TEMPLATE.name}", release=local.RELEASE)
    assert unlabelled([*yaml.safe_load_all(local.rendered())]) == unlabelled(of_helm)


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("watcher", "get secrets"),
        ("watcher", "delete pod any"),
        ("watcher", "patch phjob any --type=merge --subresource=status -p {}"),
        ("watcher", "patch lease another --type=merge -p {}"),
        ("watcher", "get phjobs --all-namespaces"),
        ("pod-manager", "get secrets"),
        ("pod-manager", "get secret phjob-broker"),
        ("pod-manager", "patch secret phjob-broker --type=merge -p {}"),
        ("pod-manager", "delete secret phjob-broker"),
        ("pod-manager", "get nodes"),
        ("pod-manager", "get phjobs"),
        ("pod-manager", "patch phjob any --type=merge -p {}"),
        ("pod-manager", "patch phgroup any --type=merge -p {}"),
        ("pod-manager", "delete event any"),
        ("pod-manager", "delete pod any --namespace=default"),
        ("scheduler", "get phjobs"),
        ("scheduler", "get pods"),
        ("janitor", "delete phjob any"),
        ("janitor", "patch phjob any --type=merge --subresource=status -p {}"),
    ],
)
def test_a_request_of_a_service_without_the_right_is_rejected(
    release: Release, service: str, command: str
) -> None:
    """It uses the service's own token. A job and a group of the name `any` exist."""
    for manifest in (a_job("any"), a_group("any")):
        release.kubectl("-n", release.namespace, "apply", "-f", "-", input=json.dumps(manifest))
    done = kubectl_for(release.kubeconfig_of(f"phjob-{service}"))("-n", release.namespace, *command.split())
    assert done.returncode != 0
    account = f"system:serviceaccount:{release.namespace}:phjob-{service}"
    assert "Error from server (Forbidden)" in done.stderr, done.stderr
    assert f'User "{account}" cannot' in done.stderr


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (
            "viewer",
            ("get instancetypes", "watch instancetypes", "list images"),
            ("get phjobs", "list phgroups", "get datasets", "get pods", "get pods/log", "create phjobs"),
        ),
        (
            "submitter",
            ("create phjobs", "patch phjobs", "delete phjobs", "get phgroups", "get pods/log"),
            (
                "patch phjobs/status",
                "deletecollection phjobs",
                "operate phjobs",
                "get datasets",
                "create phgroups",
                "patch phgroups",
                "update phgroups",
                "patch instancetypes",
                "create images",
                "create pods",
                "create pods/exec",
                "delete pods",
                "create serviceaccounts/token",
            ),
        ),
        (
            "operator",
            (
                "patch phgroups",
                "create instancetypes",
                "get datasets",
                "deletecollection phjobs",
                "operate phjobs",
                "delete pods",
            ),
            (
                "patch phjobs/status",
                "get secrets",
                "create pods",
                "patch pods",
                "deletecollection pods",
                "create pods/exec",
            ),
        ),
    ],
)
def test_a_role_has_its_rights_and_no_others(
    release: Release, role: str, may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    """The rights apply only in the namespace in which the role is bound (spec.md, I3)."""
    user = f"a-{role}"
    release.bind_role(role, f"--user={user}")

    def can(what: str, namespace: str) -> bool:
        verb, _, resource = what.partition(" ")
        resource, _, subresource = resource.partition("/")
        command = ["auth", "can-i", verb, resource, f"--subresource={subresource}", f"--as={user}"]
        return release.kubectl("-n", namespace, *command).stdout.strip() == "yes"

    assert [what for what in may if not can(what, release.namespace)] == []
    assert [what for what in may_not if can(what, release.namespace)] == []
    assert [what for what in may if can(what, "default")] == []


def test_operators_read_nodes_by_a_role_of_their_own(release: Release) -> None:
    """Nodes have no namespace, so the role is bound in the cluster (spec.md, I3)."""
    binding = f"{release.namespace}-nodes"
    command = (
        "create",
        "clusterrolebinding",
        binding,
        "--clusterrole=phjob-node-viewer",
        "--user=olga-at-night",
    )
    assert release.kubectl(*command).returncode == 0
    try:
        for verb, answer in (("get", "yes"), ("list", "yes"), ("patch", "no"), ("delete", "no")):
            can = release.kubectl("auth", "can-i", verb, "nodes", "--as=olga-at-night")
            assert can.stdout.strip() == answer, verb
    finally:
        release.kubectl("delete", "clusterrolebinding", binding)


def test_the_default_roles_of_kubernetes_include_those_of_the_chart_only_on_request(
    release: Release, tmp_path: Path
) -> None:
    """Whoever has `edit` may create pods, which no quota of PhJob limits (`people.aggregate`)."""
    granted = {"view": "get images", "edit": "create phjobs", "admin": "patch phgroups"}
    for role in granted:
        binding = ("create", "rolebinding", f"k-{role}", f"--clusterrole={role}", f"--user=kubernetes-{role}")
        assert release.kubectl("-n", release.namespace, *binding).returncode == 0

    def can(role: str) -> bool:
        user = f"kubernetes-{role}"
        command = ("-n", release.namespace, "auth", "can-i", *granted[role].split(), f"--as={user}")
        return release.kubectl(*command).stdout.strip() == "yes"

    assert [role for role in granted if can(role)] == []
    other = Release(release.kubeconfig, f"{release.namespace}-2", tmp_path, name="phjob-aggregated")
    try:
        other.install("--set=people.aggregate=true")
        eventually(lambda: all(map(can, granted)), "a controller of Kubernetes aggregates the roles")
    finally:
        other.uninstall()
    eventually(lambda: not any(map(can, granted)), "the roles are no longer included")
