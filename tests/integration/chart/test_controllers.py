"""The accounts by which a real controller manager deletes jobs, and changes their finalizers.

They are exempt from the identity policy (spec.md, I2). An account that is missing there would keep every
namespace with jobs from being deleted.
"""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.builders import a_job
from tests.support.chart import Release
from tests.support.waiting import eventually

from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane",)
KUBE_SYSTEM = "system:serviceaccount:kube-system"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {
            "level": "Metadata",
            "verbs": ["update", "patch", "delete", "deletecollection"],
            "resources": [{"group": "primehub.io", "resources": ["phjobs"]}],
        }
    ],
}


@pytest.mark.parametrize(
    ("have_accounts", "users"),
    [
        ("true", {f"{KUBE_SYSTEM}:generic-garbage-collector", f"{KUBE_SYSTEM}:namespace-controller"}),
        ("false", {"system:kube-controller-manager"}),
    ],
    ids=["accounts of their own", "one account"],
)
def test_the_controllers_of_kubernetes_delete_jobs_of_all_users(
    tmp_path: Path, have_accounts: str, users: set[str]
) -> None:
    """A job in the foreground, one whose owner is gone, one without its pod, and one with its namespace."""
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY))
    flags = {
        "kube-apiserver": [f"--audit-policy-file={policy}", f"--audit-log-path={log}"],
        "kube-controller-manager": [f"--use-service-account-credentials={have_accounts}"],
    }
    with Stack(tmp_path / "stack", parts=PARTS, flags=flags) as stack:
        release = Release(stack.kubeconfig, f"controllers-{secrets.token_hex(3)}", tmp_path)
        if have_accounts == "false":
            everything = ("--clusterrole=cluster-admin", "--user=system:kube-controller-manager")
            done = release.kubectl("create", "clusterrolebinding", "controllers", *everything)
            assert done.returncode == 0, done.stderr
        release.install()
        create(release, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})
        uid = release.get("configmap", "owner")["metadata"]["uid"]
        owned = a_job("owned")
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        owned["metadata"]["ownerReferences"] = [owner]
        for job in (owned, a_job("foreground"), a_job("orphan"), a_job("left")):
            create(release, job)
        for command in (
            "configmap owner",
            "phjob foreground --cascade=foreground",
            "phjob orphan --cascade=orphan",
        ):
            done = release.kubectl("-n", release.namespace, "delete", *command.split(), "--wait=false")
            assert done.returncode == 0, done.stderr
        eventually(
            lambda: jobs(release) == ["phjob.primehub.io/left"],
            "only one job is left",
            diagnostics=lambda: jobs(release),
        )
        release.kubectl("delete", "namespace", release.namespace, "--wait=false")
        eventually(
            lambda: not release.kubectl("get", "namespace", release.namespace, "--ignore-not-found").stdout,
            "the namespace is deleted",
        )
        events: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
        assert {event["user"]["username"] for event in events} - {"admin"} == users


def create(release: Release, manifest: dict[str, Any]) -> None:
    """Create an object as an administrator."""
    done = release.kubectl("-n", release.namespace, "create", "-f", "-", input=json.dumps(manifest))
    assert done.returncode == 0, done.stderr


def jobs(release: Release) -> list[str]:
    """Return the names of all jobs."""
    return release.kubectl("-n", release.namespace, "get", "phjobs", "-o", "name").stdout.split()
