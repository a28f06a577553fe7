"""The rules of names, titles and groups on a real API server, also for objects that are older than a rule."""

import copy
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.integration.crds.manifests import CRDS, answer, job, patch, thing
from tests.support.cluster import Kubectl
from tests.support.waiting import eventually

CONTROLS = ("a\nb", "a\x1b[2J", "a\x7f", "a\x9b2J", "exe\u202etxt", "\u2066a", "a\u2028b")
"""Texts that a terminal would not show as they are."""
MACHINE = {"limits.cpu": 1, "limits.memory": "1G"}
OLD_GROUP = "upgrade.example.com"
"""The API group of kinds that get today's schema after their objects."""
RULES = ("x-kubernetes-validations", "pattern", "minLength", "maxLength", "minimum", "maximum", "format")
"""The keywords of a schema that bound a value."""


def create(kubectl: Kubectl, manifest: str) -> str:
    """Create an object. Returns what kubectl prints."""
    return answer(kubectl("create", "-f", "-", input=manifest))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("PhGroup", {"users": []}),
        ("InstanceType", MACHINE),
        ("Image", {"url": "busybox"}),
        ("Dataset", {"type": "env"}),
    ],
)
def test_a_title_has_no_control_characters(
    kubectl: Kubectl, namespace: str, kind: str, spec: dict[str, Any]
) -> None:
    """Every list of the catalog shows it on a terminal."""
    for title in CONTROLS:
        assert "spec.displayName: Invalid value" in create(
            kubectl, thing(kind, namespace, {**spec, "displayName": title})
        )
    title = "R & D \u4e2d\u6587 \U0001f680 \u0627\u0644\u0639\u0631\u0628\u064a\u0629"
    assert "created" in create(kubectl, thing(kind, namespace, {**spec, "displayName": title}))


@pytest.mark.parametrize("field", ["displayName", "userName", "groupName", "userId", "groupId"])
def test_a_job_names_nothing_with_control_characters(kubectl: Kubectl, namespace: str, field: str) -> None:
    """Other users read these in lists and messages."""
    for text in CONTROLS:
        assert f"spec.{field}: Invalid value" in create(kubectl, job(namespace, **{field: text}))


def test_a_user_or_group_name_may_be_in_any_script(kubectl: Kubectl, namespace: str) -> None:
    """Only the ends and the control characters are restricted."""
    assert "created" in create(kubectl, job(namespace, userName="R & D \U0001f680", groupName="\u4e2d\u6587"))
    assert "spec.userName: Invalid value" in create(kubectl, job(namespace, "other", userName=" bob"))


def test_no_job_can_be_submitted_to_everyone(kubectl: Kubectl, namespace: str) -> None:
    """The answer comes at once, and without the chart (spec.md, A7)."""
    assert "spec.groupName: Invalid value" in create(kubectl, job(namespace, groupName="everyone"))


@pytest.mark.parametrize("name", ["../phgroups/x", "a/b", "A", "a_b", "a b", "..", "a\n", "a?b"])
def test_a_group_grants_only_names_that_an_object_can_have(
    kubectl: Kubectl, namespace: str, name: str
) -> None:
    """The services ask the API server for these names."""
    for grant in ({"images": [name]}, {"instanceTypes": [name]}, {"datasets": [{"name": name}]}):
        assert "Invalid value" in create(kubectl, thing("PhGroup", namespace, {"users": [], **grant}))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Image", {"url": "busybox", "pullSecret": "a/b"}),
        ("Image", {"url": "busybox", "groupName": "a\x1b"}),
        ("Dataset", {"type": "pv", "volumeName": "../x"}),
        ("PhGroup", {"users": ["bob\x9b"]}),
    ],
)
def test_other_names_are_bounded_too(
    kubectl: Kubectl, namespace: str, kind: str, spec: dict[str, Any]
) -> None:
    """Otherwise the API server would reject the pods of the jobs, one after the other."""
    assert "Invalid value" in create(kubectl, thing(kind, namespace, spec))


def test_a_group_needs_users_unless_it_is_everyone(kubectl: Kubectl, namespace: str) -> None:
    """A forgotten line would otherwise open the group to every user (spec.md, A6)."""
    assert "spec.users: Required value" in create(kubectl, thing("PhGroup", namespace, {}))
    for number, users in enumerate(([], ["*"], ["bob", "lin"])):
        assert "created" in create(kubectl, thing("PhGroup", namespace, {"users": users}, f"group-{number}"))
    assert "created" in create(kubectl, thing("PhGroup", namespace, {"images": ["a"]}, "everyone"))
    named = {"groupName": "everyone"}
    assert "created" in create(kubectl, thing("PhGroup", namespace, named, "other-object"))
    assert "spec.users: Required value" in create(
        kubectl, thing("PhGroup", namespace, {"groupName": "other"}, "everyone-else")
    )
    removed = patch(kubectl, namespace, "phg/group-1", {"spec": {"users": None}})
    assert "spec.users: Required value" in answer(removed)


def test_the_name_of_a_group_cannot_be_changed(kubectl: Kubectl, namespace: str) -> None:
    """Its jobs would have no group any longer (spec.md, A6). To write the default name is no change."""
    create(kubectl, thing("PhGroup", namespace, {"users": []}))
    for name in ("other", "One"):
        changed = patch(kubectl, namespace, "phg/one", {"spec": {"groupName": name}})
        assert "spec.groupName: Forbidden" in answer(changed)
    for default in ("one", None):
        assert patch(kubectl, namespace, "phg/one", {"spec": {"groupName": default}}).returncode == 0


class OldKind:
    """A kind with a schema of before, which gets today's rules while it has objects."""

    def __init__(self, kubectl: Kubectl, file: str) -> None:
        self._kubectl = kubectl
        self.crd = yaml.safe_load((CRDS / file).read_text())
        names = self.crd["spec"]["names"]
        self.plural, self.kind = f"{names['plural']}.{OLD_GROUP}", names["kind"]
        self.crd["metadata"]["name"] = self.plural
        self.crd["spec"]["group"] = OLD_GROUP
        self.crd["spec"]["names"] = {key: names[key] for key in ("kind", "listKind", "plural", "singular")}

    def install(self, *, today: bool) -> None:
        """Install the kind with today's schema, or with the same one without any rule."""
        crd = self.crd if today else _without_rules(copy.deepcopy(self.crd))
        assert self._kubectl("apply", "--server-side", "-f", "-", input=json.dumps(crd)).returncode == 0

    def manifest(self, namespace: str, name: str, spec: dict[str, Any]) -> str:
        """Return the manifest of an object."""
        metadata = {"name": name, "namespace": namespace}
        api_version = f"{OLD_GROUP}/v1alpha1"
        return json.dumps({"apiVersion": api_version, "kind": self.kind, "metadata": metadata, "spec": spec})

    def wait_for(self, manifest: str, text: str) -> None:
        """Wait until the API server answers a dry run of the manifest with the text."""
        eventually(
            lambda: text in answer(self._kubectl("create", "--dry-run=server", "-f", "-", input=manifest)),
            f"the API server answers {text!r}",
        )

    def delete(self) -> None:
        """Delete the kind and its objects."""
        self._kubectl("delete", "crd", self.plural, "--wait=false")


def _without_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_rules(value) for key, value in schema.items() if key not in RULES}
    return [_without_rules(item) for item in schema] if isinstance(schema, list) else schema


@pytest.fixture
def old_kind(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[OldKind]:
    """The kind of the file that the test names, without rules."""
    kind = OldKind(kubectl, request.param)
    kind.install(today=False)
    yield kind
    kind.delete()


@pytest.mark.parametrize("old_kind", ["phgroup.yaml"], indirect=True)
def test_a_group_of_before_can_be_reported_on_and_corrected(
    kubectl: Kubectl, namespace: str, old_kind: OldKind
) -> None:
    """It has no users, and names that are not accepted now. Its status must say what to do (spec.md, A6)."""
    spec = {"images": ["Odd Name"], "displayName": "a\x1b[2J"}
    old_kind.wait_for(old_kind.manifest(namespace, "any", spec), "created")
    create(kubectl, old_kind.manifest(namespace, "old", spec))
    old_kind.install(today=True)
    old_kind.wait_for(old_kind.manifest(namespace, "new", {}), "spec.users: Required value")
    name = f"{old_kind.plural}/old"
    status = {"status": {"message": "unusable: spec.users is missing"}}
    assert patch(kubectl, namespace, name, status, "--subresource", "status").returncode == 0
    assert patch(kubectl, namespace, name, {"spec": {"groupQuota": {"gpu": 1}}}).returncode == 0
    assert patch(kubectl, namespace, name, {"spec": {"users": ["bob"]}}).returncode == 0
    assert "spec.users: Required value" in answer(patch(kubectl, namespace, name, {"spec": {"users": None}}))


OLD_VALUES: dict[str, tuple[str, str | int]] = {
    "everyone": ("spec.groupName", "everyone"),
    "title": ("spec.displayName", "a\x1b[2J"),
    "user": ("spec.userName", " bob"),
    "container-image": ("spec.image", "docker.io/library/busybox:1"),
    "empty-command": ("spec.command", ""),
    "long-command": ("spec.command", "x" * 262_145),
    "nul-in-command": ("spec.command", "a\0b"),
    "negative-ttl": ("spec.ttlSecondsAfterFinished", -1),
    "negative-deadline": ("spec.activeDeadlineSeconds", -1),
    "long-deadline": ("spec.activeDeadlineSeconds", 2**31),
    "many-requeues": ("spec.requeueLimit", 2**31),
    "x" * 64: ("metadata.name", "y" * 64),
}
"""Values of jobs that are no longer accepted, by the name of a job that has it."""


@pytest.fixture(scope="module")
def old_jobs(kubectl: Kubectl) -> Iterator[tuple[OldKind, str]]:
    """The jobs with old values, and their namespace. Today's rules are in force."""
    namespace = f"old-{uuid.uuid4().hex[:8]}"
    assert kubectl("create", "namespace", namespace).returncode == 0
    kind = OldKind(kubectl, "phjob.yaml")
    kind.install(today=False)
    for name, (field, value) in OLD_VALUES.items():
        manifest = kind.manifest(namespace, name, spec_with(field, value))
        kind.wait_for(manifest, "created")
        create(kubectl, manifest)
    kind.install(today=True)
    yield kind, namespace
    kind.delete()
    kubectl("delete", "namespace", namespace, "--wait=false")


def spec_with(field: str, value: str | int) -> dict[str, Any]:
    """Return the spec of a small job, with this value if the field is one of the spec."""
    part, key = field.split(".")
    spec: dict[str, Any] = json.loads(job(""))["spec"]
    return {**spec, key: value} if part == "spec" else spec


@pytest.mark.parametrize("name", OLD_VALUES)
def test_a_job_of_before_can_go_on_and_be_cancelled(
    kubectl: Kubectl, old_jobs: tuple[OldKind, str], name: str
) -> None:
    """A new job with its value is refused. Jobs of PrimeHub may have such values (spec.md, A2)."""
    kind, namespace = old_jobs
    field, value = OLD_VALUES[name]
    new = str(value) if field == "metadata.name" else "new"
    kind.wait_for(kind.manifest(namespace, new, spec_with(field, value)), f"{field}: ")
    resource = f"{kind.plural}/{name}"
    for phase in ("Preparing", "Running"):
        write = patch(kubectl, namespace, resource, {"status": {"phase": phase}}, "--subresource", "status")
        assert write.returncode == 0, answer(write)
    cancel = patch(kubectl, namespace, resource, {"spec": {"cancel": True}})
    assert cancel.returncode == 0, answer(cancel)
    cancelled = {"status": {"phase": "Cancelled", "reason": "Cancelled", "reclaimed": True}}
    assert patch(kubectl, namespace, resource, cancelled, "--subresource", "status").returncode == 0
