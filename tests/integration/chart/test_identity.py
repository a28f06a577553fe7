"""The identity policy on a real API server: users submit, change and delete only their own jobs."""

import json
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.builders import a_group, a_job
from tests.support.chart import Release
from tests.support.cluster import kubectl_for
from tests.support.waiting import eventually

from .conftest import TRUSTED

Done = subprocess.CompletedProcess[str]
KubectlAs = Callable[..., Done]
"""Kubectl as a user: it takes the user, the arguments, and `input`."""
CANCEL = ("--type=merge", "-p", '{"spec":{"cancel":true}}')


@pytest.fixture(scope="module")
def kubectl_as(release: Release) -> KubectlAs:
    """Kubectl as one of several users, in the release's namespace. The policy is in force."""
    trusted = f"--serviceaccount={release.namespace}:{TRUSTED}"
    stranger = f"--serviceaccount={release.namespace}:stranger"
    release.bind_role("submitter", "--user=bob", "--user=lin", trusted, stranger)
    release.bind_role("operator", "--user=olga")

    def run(user: str, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
        return release.kubectl("-n", release.namespace, f"--as={user}", *args, input=input)

    def refused() -> bool:
        return submit(run, "bob", "lin", dry_run=True).returncode != 0

    eventually(refused, "the policy is in force")
    return run


def account_name(release: Release, name: str) -> str:
    """Return the user name of a service account in the release's namespace."""
    return f"system:serviceaccount:{release.namespace}:{name}"


def submit(
    kubectl_as: KubectlAs, requester: str, user: str, *, name: str = "", dry_run: bool = False
) -> Done:
    """Create a job of `user`, in a request of `requester`."""
    job = a_job(name or f"job-{secrets.token_hex(4)}", user=user)
    options = ("--dry-run=server",) if dry_run else ()
    return kubectl_as(requester, "create", "-f", "-", "-o", "name", *options, input=json.dumps(job))


@pytest.fixture
def bobs_job(kubectl_as: KubectlAs) -> str:
    """A job of the user bob."""
    done = submit(kubectl_as, "bob", "bob")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_user_cannot_submit_a_job_of_another_user(kubectl_as: KubectlAs) -> None:
    """The message says why (spec.md, I1)."""
    done = submit(kubectl_as, "bob", "lin")
    assert done.returncode != 0
    assert "Forbidden" in done.stderr
    assert "spec.userName is lin, but you are bob: only the user of a job may submit it" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("patch", *CANCEL),
        ("patch", "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}'),
        ("annotate", "dev.primehub.io/run-for=1s"),
        ("delete",),
    ],
    ids=["cancel", "shorten", "annotate", "delete"],
)
def test_a_user_cannot_change_or_delete_the_job_of_another_user(
    kubectl_as: KubectlAs, bobs_job: str, command: tuple[str, ...]
) -> None:
    """The message names the job's user, and the job is unchanged (spec.md, I1)."""
    before = kubectl_as("bob", "get", bobs_job, "-o", "jsonpath={.metadata.resourceVersion}").stdout
    verb, *options = command
    done = kubectl_as("lin", verb, bobs_job, *options)
    assert done.returncode != 0
    assert "this job is of bob, and you are lin: only its user or an operator may" in done.stderr
    assert kubectl_as("bob", "get", bobs_job, "-o", "jsonpath={.metadata.resourceVersion}").stdout == before


def test_a_user_can_cancel_and_delete_their_own_job(kubectl_as: KubectlAs, bobs_job: str) -> None:
    """The role submitter is enough for both (spec.md, I3)."""
    assert kubectl_as("bob", "patch", bobs_job, *CANCEL).returncode == 0
    assert kubectl_as("bob", "delete", bobs_job).returncode == 0


@pytest.mark.parametrize("requester", ["olga", TRUSTED])
def test_operators_and_trusted_accounts_can_act_for_any_user(
    kubectl_as: KubectlAs, release: Release, bobs_job: str, requester: str
) -> None:
    """PrimeHub's web server submits, cancels and deletes for its users (spec.md, I2)."""
    user = account_name(release, requester) if requester == TRUSTED else requester
    assert submit(kubectl_as, user, "lin").returncode == 0
    assert kubectl_as(user, "patch", bobs_job, *CANCEL).returncode == 0
    assert kubectl_as(user, "delete", bobs_job).returncode == 0


def test_an_account_that_is_not_listed_as_trusted_acts_only_for_itself(
    kubectl_as: KubectlAs, release: Release
) -> None:
    """The role submitter alone does not make it trusted (spec.md, I2)."""
    user = account_name(release, "stranger")
    assert submit(kubectl_as, user, user).returncode == 0
    assert "only the user of a job may submit it" in submit(kubectl_as, user, "bob").stderr


def test_pod_manager_can_delete_the_record_of_any_user(
    kubectl_as: KubectlAs, release: Release, bobs_job: str
) -> None:
    """It does so with its own token, when the janitor sends the command (spec.md, I2)."""
    kubectl = kubectl_for(release.kubeconfig_of("phjob-pod-manager"))
    done = kubectl("-n", release.namespace, "delete", bobs_job, "--wait=false")
    assert done.returncode == 0, done.stderr
    assert not kubectl_as("bob", "get", bobs_job, "--ignore-not-found").stdout


def test_only_an_operator_can_change_a_quota(kubectl_as: KubectlAs) -> None:
    """A user cannot change the quota of their own group, or create a group with another quota."""
    group = a_group("phusers", groupQuota={"cpu": 1}, users=["bob"])
    assert kubectl_as("olga", "create", "-f", "-", input=json.dumps(group)).returncode == 0
    wider = ("--type=merge", "-p", '{"spec":{"groupQuota":{"cpu":1000}}}')
    done = kubectl_as("bob", "patch", "phgroup", "phusers", *wider)
    assert done.returncode != 0
    assert 'User "bob" cannot patch resource "phgroups"' in done.stderr
    richer = a_group("richer", users=["bob"])
    done = kubectl_as("bob", "create", "-f", "-", input=json.dumps(richer))
    assert 'User "bob" cannot create resource "phgroups"' in done.stderr
    assert kubectl_as("olga", "patch", "phgroup", "phusers", *wider).returncode == 0


def test_the_user_name_of_the_identity_provider_is_mapped_to_that_of_primehub(
    control_plane: Path, tmp_path: Path
) -> None:
    """The identity provider may add a prefix. The policy does not keep the namespace from being deleted."""
    other = Release(control_plane, f"chart-{secrets.token_hex(3)}", tmp_path)
    try:
        without_prefix = "identity.userName=request.userInfo.username.replace('oidc:'\\, '')"
        other.install("--set", without_prefix, "--set", "people.create=false")
        role = ("create", "role", "submitter", "--verb=create", "--resource=phjobs.primehub.io")
        assert other.kubectl("-n", other.namespace, *role).returncode == 0
        binding = ("create", "rolebinding", "submitter", "--role=submitter", "--user=oidc:bob")
        assert other.kubectl("-n", other.namespace, *binding).returncode == 0

        def run(user: str, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
            return other.kubectl("-n", other.namespace, f"--as={user}", *args, input=input)

        def refused() -> bool:
            return submit(run, "oidc:bob", "lin", dry_run=True).returncode != 0

        eventually(refused, "the policy is in force")
        done = submit(run, "oidc:bob", "bob")
        assert done.returncode == 0, done.stderr
        assert "but you are bob" in submit(run, "oidc:bob", "oidc:bob").stderr

        assert other.kubectl("delete", "namespace", other.namespace, "--wait=false").returncode == 0
        eventually(
            lambda: not other.kubectl("get", "namespace", other.namespace, "--ignore-not-found").stdout,
            "the namespace is deleted, with the job of bob",
        )
    finally:
        other.uninstall()
