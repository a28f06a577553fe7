"""Whose a job is, held by the real API server: nobody submits, cancels or deletes as somebody else."""

import json
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.builders import a_group, a_job
from tests.support.chart import Release
from tests.support.hub import kubectl_for
from tests.support.waiting import eventually

from .conftest import TRUSTED

Done = subprocess.CompletedProcess[str]
As = Callable[..., Done]
"""Kubectl as a user: the user, the arguments, and `input`."""
CANCEL = ("--type=merge", "-p", '{"spec":{"cancel":true}}')


@pytest.fixture(scope="module")
def kubectl_as(release: Release) -> As:
    """Kubectl in the release's namespace as one of its people; the policy is in force."""
    account = f"--serviceaccount={release.namespace}:{TRUSTED}"
    stranger = f"--serviceaccount={release.namespace}:stranger"
    release.bind("submitter", "--user=bob", "--user=lin", account, stranger)
    release.bind("operator", "--user=olga")

    def run(user: str, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
        return release.kubectl("-n", release.namespace, f"--as={user}", *args, input=input)

    def refused() -> bool:
        return submit(run, "bob", "lin", dry=True).returncode != 0

    eventually(refused, "the policy is in force: it takes a moment after the installation")
    return run


def account(release: Release, name: str) -> str:
    """The user name of a service account of the release's namespace."""
    return f"system:serviceaccount:{release.namespace}:{name}"


def submit(kubectl_as: As, who: str, user: str, *, name: str = "", dry: bool = False) -> Done:
    """Create a job of `user` as `who`."""
    job = a_job(name or f"job-{secrets.token_hex(4)}", user=user)
    options = ("--dry-run=server",) if dry else ()
    return kubectl_as(who, "create", "-f", "-", "-o", "name", *options, input=json.dumps(job))


@pytest.fixture
def bobs_job(kubectl_as: As) -> str:
    """A job of bob's."""
    done = submit(kubectl_as, "bob", "bob")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_user_cannot_submit_as_another(kubectl_as: As) -> None:
    """And is told why."""
    done = submit(kubectl_as, "bob", "lin")
    assert done.returncode != 0
    assert "Forbidden" in done.stderr
    assert "spec.userName is lin, but you are bob: a job is submitted by the user whose it is" in done.stderr


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
def test_a_user_cannot_touch_anothers_job(kubectl_as: As, bobs_job: str, command: tuple[str, ...]) -> None:
    """The job is as it was, and the other is told whose it is."""
    before = kubectl_as("bob", "get", bobs_job, "-o", "jsonpath={.metadata.resourceVersion}").stdout
    verb, *options = command
    done = kubectl_as("lin", verb, bobs_job, *options)
    assert done.returncode != 0
    assert "this job is of bob, and you are lin: only its user or an operator may" in done.stderr
    assert kubectl_as("bob", "get", bobs_job, "-o", "jsonpath={.metadata.resourceVersion}").stdout == before


def test_a_user_cancels_and_deletes_his_own(kubectl_as: As, bobs_job: str) -> None:
    """As the README says."""
    assert kubectl_as("bob", "patch", bobs_job, *CANCEL).returncode == 0
    assert kubectl_as("bob", "delete", bobs_job).returncode == 0


@pytest.mark.parametrize("who", ["olga", TRUSTED])
def test_operators_and_trusted_accounts_act_for_others(
    kubectl_as: As, release: Release, bobs_job: str, who: str
) -> None:
    """PrimeHub's web server submits, cancels and deletes for whoever is logged in there."""
    user = account(release, who) if who == TRUSTED else who
    assert submit(kubectl_as, user, "lin").returncode == 0
    assert kubectl_as(user, "patch", bobs_job, *CANCEL).returncode == 0
    assert kubectl_as(user, "delete", bobs_job).returncode == 0


def test_an_account_that_nobody_named_is_not_trusted(kubectl_as: As, release: Release) -> None:
    """Though it may submit."""
    user = account(release, "stranger")
    assert submit(kubectl_as, user, user).returncode == 0
    assert "a job is submitted by the user whose it is" in submit(kubectl_as, user, "bob").stderr


def test_pod_manager_deletes_the_records_whose_time_is_over(
    kubectl_as: As, release: Release, bobs_job: str
) -> None:
    """With its own token; the history is the janitor's order."""
    kubectl = kubectl_for(release.as_account("phjob-pod-manager"))
    done = kubectl("-n", release.namespace, "delete", bobs_job, "--wait=false")
    assert done.returncode == 0, done.stderr
    assert not kubectl_as("bob", "get", bobs_job, "--ignore-not-found").stdout


def test_nobody_but_an_operator_widens_a_quota(kubectl_as: As) -> None:
    """Neither of his own group nor of another."""
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


def test_a_user_with_two_names_is_the_one_that_the_mapping_says(control_plane: Path, tmp_path: Path) -> None:
    """An identity provider's prefix is no part of PrimeHub's name; and a namespace can still be deleted."""
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
            return submit(run, "oidc:bob", "lin", dry=True).returncode != 0

        eventually(refused, "the policy is in force")
        done = submit(run, "oidc:bob", "bob")
        assert done.returncode == 0, done.stderr
        assert "but you are bob" in submit(run, "oidc:bob", "oidc:bob").stderr

        assert other.kubectl("delete", "namespace", other.namespace, "--wait=false").returncode == 0
        eventually(
            lambda: not other.kubectl("get", "namespace", other.namespace, "--ignore-not-found").stdout,
            "the namespace is gone, bob's job with it",
        )
    finally:
        other.remove()
