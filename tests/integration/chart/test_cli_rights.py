"""`kubectl phjob` with the rights of each of the chart's roles."""

import json
from pathlib import Path

import pytest
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Release
from tests.support.cli import Cli, Done
from tests.support.waiting import eventually

from phjob_cli.errors import Exit

SECRET = "echo a-secret"


@pytest.fixture
def catalog(release: Release) -> str:
    """The name of a group in which another user has a job."""
    manifests = (an_image(), an_instance_type(), a_group("vision"))
    other = a_job("of-lin", group="vision", user="lin", command=SECRET)
    for manifest in (*manifests, other):
        done = release.kubectl("-n", release.namespace, "apply", "-f", "-", input=json.dumps(manifest))
        assert done.returncode == 0, done.stderr
    return "vision"


def cli_as(release: Release, role: str | None, account: str = "") -> tuple[Cli, str]:
    """Return the command line for an account with the role, and the account's user name."""
    account = account or f"cli-{role or 'nobody'}"
    release.kubectl("-n", release.namespace, "create", "serviceaccount", account)
    if role:
        release.bind_role(role, f"--serviceaccount={release.namespace}:{account}")
    name = f"system:serviceaccount:{release.namespace}:{account}"
    kubeconfig: Path = release.kubeconfig_of(account)
    return Cli(kubeconfig, PHJOB_NAMESPACE=release.namespace), name


def run_when_bound(cli: Cli, *words: str) -> Done:
    """Return the result of a command that succeeds once the API server knows the role and the policy."""
    eventually(
        lambda: cli(*words).returncode == Exit.OK, f"{words} is allowed", diagnostics=lambda: cli(*words)
    )
    return cli(*words)


def test_the_role_submitter_is_enough_for_the_commands_of_a_user(release: Release, catalog: str) -> None:
    """No output contains the command of another user's job. The job waits, because no service runs here."""
    cli, name = cli_as(release, "submitter")
    submit = ("submit", "-g", catalog, "-i", "base-notebook", "-t", "cpu-tiny", "--", "echo", "mine")
    run_when_bound(cli, "list")
    done = cli(*submit)
    assert done.returncode == Exit.OK, done.stderr
    job = done.stdout.split()[0]
    assert [item["name"] for item in cli.json("list")] == [job], (
        f"the list of {name} must contain only their own job"
    )
    manifest = json.dumps(a_job("hypothetical", group=catalog, user=name))
    for words in (
        ("list", "--all"),
        ("list", "-g", catalog),
        ("queue", catalog),
        ("why", job),
        ("why", "of-lin"),
        ("explain", "-f", "-"),
        ("top",),
    ):
        for form in ((), ("-o", "json")):
            done = cli(*words, *form, input=manifest)
            assert (done.returncode, done.stderr) == (Exit.OK, ""), f"{words} must succeed: {done.stderr}"
            assert SECRET not in done.stdout
    assert cli("cancel", job).stdout == f"{job} is being cancelled\n"
    assert cli("logs", job).stderr == f"error: job '{job}' waits: it has no log yet\n"


def test_a_submitter_may_neither_cancel_nor_submit_the_job_of_another_user(
    release: Release, catalog: str
) -> None:
    """The error is one line, with the identity policy's message."""
    cli, _ = cli_as(release, "submitter")
    run_when_bound(cli, "list")
    done = cli("cancel", "of-lin")
    assert "only its user or an operator may change, cancel or delete it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    manifest = json.dumps(a_job("for-lin", group=catalog, user="lin"))
    rejected = cli("explain", "-f", "-", input=manifest)
    assert rejected.returncode == Exit.FAILED
    assert "only the user of a job may submit it" in rejected.stdout


def test_without_the_right_to_list_pods_queues_have_no_notebooks(release: Release, catalog: str) -> None:
    """A role of one's own may read jobs only. A note says that the notebooks are not counted."""
    cli, _ = cli_as(release, None, account="cli-reader")
    kinds = "phjobs.primehub.io,phgroups.primehub.io,instancetypes.primehub.io,images.primehub.io"
    role = ("create", "role", "reader", "--verb=get,list,watch", f"--resource={kinds}")
    assert release.kubectl("-n", release.namespace, *role).returncode == 0
    subject = f"--serviceaccount={release.namespace}:cli-reader"
    binding = ("create", "rolebinding", "reader", "--role=reader", subject)
    assert release.kubectl("-n", release.namespace, *binding).returncode == 0
    done = run_when_bound(cli, "queue", catalog)
    assert "of-lin" in done.stdout
    assert done.stderr == "note: you may not list pods here, so notebooks are not counted\n"
    assert cli("why", "of-lin").returncode == Exit.OK
    assert cli("cancel", "of-lin").returncode == Exit.FORBIDDEN


@pytest.mark.parametrize(
    "words", [("list", "--all"), ("queue", "vision"), ("why", "of-lin"), ("logs", "of-lin")]
)
def test_a_viewer_sees_neither_jobs_nor_groups(
    release: Release, catalog: str, words: tuple[str, ...]
) -> None:
    """Jobs contain commands, and groups their members (spec.md, I3)."""
    cli, _ = cli_as(release, "viewer")
    done = cli(*words)
    assert (done.returncode, done.stdout) == (Exit.FORBIDDEN, "")


def test_an_account_without_a_role_sees_nothing(release: Release, catalog: str) -> None:
    """The error has the API server's message, and an exit code of its own."""
    cli, name = cli_as(release, None)
    for words in (("list",), ("queue", catalog), ("why", "of-lin"), ("top",), ("logs", "of-lin")):
        done = cli(*words)
        assert (done.returncode, done.stdout) == (Exit.FORBIDDEN, "")
        assert done.stderr.startswith("error: forbidden: ")
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
