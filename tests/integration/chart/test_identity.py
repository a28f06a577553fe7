"""The identity policy on a real API server: users submit, change and delete only their own jobs."""

import json
import secrets
from pathlib import Path

import pytest
from tests.support.builders import a_group
from tests.support.chart import Release
from tests.support.cluster import kubectl_for
from tests.support.waiting import eventually

from .conftest import TRUSTED, Done, KubectlAs, submit, wait_for_policies

LOGIN = "request.userInfo.username"
CANCEL = ("--type=merge", "-p", '{"spec":{"cancel":true}}')


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
    user = release.account_user(requester) if requester == TRUSTED else requester
    assert submit(kubectl_as, user, "lin").returncode == 0
    assert kubectl_as(user, "patch", bobs_job, *CANCEL).returncode == 0
    assert kubectl_as(user, "delete", bobs_job).returncode == 0


def test_an_account_that_is_not_listed_as_trusted_acts_only_for_itself(
    kubectl_as: KubectlAs, release: Release
) -> None:
    """The role submitter alone does not make it trusted (spec.md, I2)."""
    user = release.account_user("stranger")
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


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("userNamePrefix=oidc:", "oidc:"),
        (
            "userNamePrefix=https://idp.example.com/realms/primehub#",
            "https://idp.example.com/realms/primehub#",
        ),
        (f"userName={LOGIN}.startsWith('oidc:') ? {LOGIN}.substring(5) : ''", "oidc:"),
    ],
    ids=["prefix", "issuer", "expression"],
)
def test_only_a_login_of_the_identity_provider_is_a_user(
    control_plane: Path, tmp_path: Path, value: str, prefix: str
) -> None:
    """The rest of the name is the PrimeHub name (spec.md, I7).

    The policy does not keep the namespace from being deleted, with the job of bob.
    """
    other = Release(control_plane, f"chart-{secrets.token_hex(3)}", tmp_path)
    logins = (f"{prefix}bob", "bob", f"{prefix}{prefix}bob", f"x{prefix}bob", prefix, f"bob{prefix}")
    try:
        other.install("--set", f"identity.{value}", "--set", "people.create=false")
        role = ("create", "role", "submitter", "--verb=create", "--resource=phjobs.primehub.io")
        assert other.kubectl("-n", other.namespace, *role).returncode == 0
        subjects = (f"--user={login}" for login in logins)
        binding = ("create", "rolebinding", "submitter", "--role=submitter", *subjects)
        assert other.kubectl("-n", other.namespace, *binding).returncode == 0

        def run(user: str, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
            return other.kubectl("-n", other.namespace, f"--as={user}", *args, input=input)

        wait_for_policies(run, f"{prefix}bob")
        done = submit(run, f"{prefix}bob", "bob")
        assert done.returncode == 0, done.stderr
        assert "but you are bob" in submit(run, f"{prefix}bob", f"{prefix}bob").stderr
        assert f"but you are {prefix}bob" in submit(run, f"{prefix}{prefix}bob", "bob").stderr
        for login in ("bob", f"x{prefix}bob", prefix, f"bob{prefix}"):
            refused = submit(run, login, "bob")
            assert f"you are {login}, which is the login of no PrimeHub user" in refused.stderr

        assert other.kubectl("delete", "namespace", other.namespace, "--wait=false").returncode == 0
        eventually(
            lambda: not other.kubectl("get", "namespace", other.namespace, "--ignore-not-found").stdout,
            "the namespace is deleted, with the job of bob",
        )
    finally:
        other.uninstall()
