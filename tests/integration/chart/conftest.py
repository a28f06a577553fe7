"""A release of the chart on a real API server, and the people who use it, for all tests of this folder."""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.attackers import Attacker, grant
from tests.support.builders import a_job
from tests.support.chart import Release
from tests.support.waiting import eventually

Done = subprocess.CompletedProcess[str]
KubectlAs = Callable[..., Done]
"""Kubectl as a user: it takes the user, the arguments, and `input`."""

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
TRUSTED = "primehub-graphql"
"""The service account of PrimeHub's web server."""
HUB = "hub"
"""The service account of JupyterHub, which creates notebooks."""
VELERO = "velero"
"""The service account of a tool that restores the status of jobs."""


@pytest.fixture(scope="session")
def release(control_plane: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release that helm has installed, in a namespace that enforces PodSecurity `restricted`."""
    namespace = f"chart-{secrets.token_hex(3)}"
    release = Release(control_plane, namespace, tmp_path_factory.mktemp("release"))
    try:
        assert release.kubectl("create", "namespace", namespace).returncode == 0
        assert release.kubectl("label", "namespace", namespace, RESTRICTED).returncode == 0
        for account in (TRUSTED, HUB, VELERO):
            done = release.kubectl("-n", namespace, "create", "serviceaccount", account)
            assert done.returncode == 0, done.stderr
        release.install(
            "--set", f"identity.trusted={{{release.account_user(TRUSTED)}}}",
            "--set", f"identity.statusWriters={{{release.account_user(VELERO)}}}",
            "--set", f"identity.poolLabels.accounts={{{release.account_user(HUB)}}}",
            "--set", "identity.poolLabels.enforce=true",
        )  # fmt: skip
        yield release
    finally:
        release.uninstall()


@pytest.fixture(scope="session")
def kubectl_as(release: Release) -> KubectlAs:
    """Kubectl as one of several users, in the release's namespace. The policies are in force.

    bob and lin are submitters, and olga is an operator.
    """
    trusted = f"--serviceaccount={release.namespace}:{TRUSTED}"
    stranger = f"--serviceaccount={release.namespace}:stranger"
    release.bind_role("submitter", "--user=bob", "--user=lin", trusted, stranger)
    release.bind_role("operator", "--user=olga")

    def run(user: str, *args: str, input: str | None = None) -> Done:  # noqa: A002 - subprocess's
        return release.kubectl("-n", release.namespace, f"--as={user}", *args, input=input)

    wait_for_policies(run)
    return run


def wait_for_policies(kubectl_as: KubectlAs, requester: str = "bob") -> None:
    """Wait until the API server enforces the policies."""
    eventually(
        lambda: submit(kubectl_as, requester, "lin", dry_run=True).returncode != 0, "the policy is in force"
    )


def submit(
    kubectl_as: KubectlAs, requester: str, user: str, *, name: str = "", dry_run: bool = False
) -> Done:
    """Create a job of `user`, in a request of `requester`."""
    job = a_job(name or f"job-{secrets.token_hex(4)}", user=user)
    options = ("--dry-run=server",) if dry_run else ()
    return kubectl_as(requester, "create", "-f", "-", "-o", "name", *options, input=json.dumps(job))


@pytest.fixture
def bobs_job(kubectl_as: KubectlAs) -> str:
    """A job of the user bob, as `phjob.primehub.io/NAME`."""
    done = submit(kubectl_as, "bob", "bob")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def mallory(release: Release, kubectl_as: KubectlAs) -> Attacker:
    """A submitter."""
    attacker = Attacker(release, "mallory")
    release.bind_role("submitter", f"--serviceaccount={release.namespace}:mallory")
    eventually(lambda: attacker("get", "phjobs").returncode == 0, "mallory is a submitter")
    return attacker


@pytest.fixture(scope="session")
def adam(release: Release, kubectl_as: KubectlAs) -> Attacker:
    """Somebody with every right on jobs and groups."""
    attacker = Attacker(release, "adam")
    kinds = ("phjobs.primehub.io", "phgroups.primehub.io")
    grant(release, attacker.user, "*", *kinds, *(f"{kind}/status" for kind in kinds))
    return attacker


@pytest.fixture(scope="session")
def eve(release: Release, kubectl_as: KubectlAs) -> Attacker:
    """Somebody with every right on pods."""
    attacker = Attacker(release, "eve")
    grant(release, attacker.user, "*", "pods")
    return attacker
