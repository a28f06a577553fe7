"""What the services and people may do in Kubernetes, asked of the real API server with RBAC on."""

import json
from pathlib import Path

import pytest
from tests.support.builders import a_group, a_job
from tests.support.chart import Release
from tests.support.hub import kubectl_for
from tests.support.waiting import eventually

OURS = "primehub.io"
CATALOG = ("instancetypes", "images", "datasets")
Right = tuple[str, str, str, str]
"""API group, resource, the one name or *, verb."""


def rights(group: str, resources: tuple[str, ...], verbs: tuple[str, ...], name: str = "*") -> set[Right]:
    """Each of these verbs on each of these resources."""
    return {(group, resource, name, verb) for resource in resources for verb in verbs}


LEASES = "coordination.k8s.io"
RIGHTS: dict[str, set[Right]] = {
    "watcher": {
        *rights(OURS, ("phjobs", "phgroups", *CATALOG), ("list", "watch")),
        *rights("", ("pods", "nodes"), ("list", "watch")),
        *rights(LEASES, ("leases",), ("create",)),
        *rights(LEASES, ("leases",), ("get", "update"), "phjob-watcher"),
    },
    "pod-manager": {
        *rights(OURS, ("phjobs",), ("get", "delete")),
        *rights(OURS, ("phjobs/status",), ("patch",)),
        *rights(OURS, ("phgroups",), ("get",)),
        *rights(OURS, ("phgroups/status",), ("patch",)),
        *rights(OURS, ("phjobs/finalizers",), ("update",)),
        *rights(OURS, CATALOG, ("get",)),
        *rights("", ("pods",), ("get", "create", "delete")),
        *rights("", ("pods/log",), ("get",)),
        *rights("", ("events",), ("list", "get", "create", "patch")),
    },
    "scheduler": set(),
    "janitor": set(),
}
"""The design's table, word for word."""


def held(release: Release, kubeconfig: Path) -> set[Right]:
    """All that an account may do in the release's namespace, by the API server's own word."""
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
    """Beside those that every account has, which are to look at itself."""
    anybody = held(release, release.as_account("default"))
    assert held(release, release.as_account(f"phjob-{service}")) - anybody == RIGHTS[service]


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("watcher", "get secrets"),
        ("watcher", "delete pod any"),
        ("watcher", "patch phjob any --type=merge --subresource=status -p {}"),
        ("watcher", "patch lease another --type=merge -p {}"),
        ("watcher", "get phjobs --all-namespaces"),
        ("pod-manager", "get secrets"),
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
def test_what_a_service_may_not_do_is_answered_with_403(release: Release, service: str, command: str) -> None:
    """With its own token; there are a job and a group named any."""
    for manifest in (a_job("any"), a_group("any")):
        release.kubectl("-n", release.namespace, "apply", "-f", "-", input=json.dumps(manifest))
    done = kubectl_for(release.as_account(f"phjob-{service}"))("-n", release.namespace, *command.split())
    assert done.returncode != 0
    account = f"system:serviceaccount:{release.namespace}:phjob-{service}"
    assert "Error from server (Forbidden)" in done.stderr, done.stderr
    assert f'User "{account}" cannot' in done.stderr


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (
            "viewer",
            ("get phjobs", "watch phgroups", "list instancetypes", "get images"),
            ("create phjobs", "delete phjobs", "get datasets", "update phgroups", "get pods"),
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
            ),
            ("patch phjobs/status", "get secrets", "create pods", "create pods/exec"),
        ),
    ],
)
def test_what_people_may_do(
    release: Release, role: str, may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    """By their role, in the namespace where it is bound; nowhere else."""
    user = f"a-{role}"
    release.bind(role, f"--user={user}")

    def can(what: str, namespace: str) -> bool:
        verb, _, resource = what.partition(" ")
        resource, _, subresource = resource.partition("/")
        command = ["auth", "can-i", verb, resource, f"--subresource={subresource}", f"--as={user}"]
        return release.kubectl("-n", namespace, *command).stdout.strip() == "yes"

    assert [what for what in may if not can(what, release.namespace)] == []
    assert [what for what in may_not if can(what, release.namespace)] == []
    assert [what for what in may if can(what, "default")] == []


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", "get phjobs", "create phjobs"),
        ("edit", "create phjobs", "patch phgroups"),
        ("admin", "patch phgroups", "get nodes"),
    ],
)
def test_kubernetes_own_roles_include_ours(release: Release, role: str, may: str, may_not: str) -> None:
    """Who has one of them in the namespace needs no further binding."""
    user = f"kubernetes-{role}"
    binding = ("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}")
    assert release.kubectl("-n", release.namespace, *binding).returncode == 0

    def can(what: str) -> bool:
        command = ("-n", release.namespace, "auth", "can-i", *what.split(), f"--as={user}")
        return release.kubectl(*command).stdout.strip() == "yes"

    eventually(lambda: can(may), f"{role} includes ours: a controller of Kubernetes' own sees to it")
    assert not can(may_not)
