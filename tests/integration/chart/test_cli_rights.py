"""`kubectl phjob` with the roles that people have, and no other right."""

import json
from pathlib import Path

import pytest
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Release
from tests.support.cli import Cli, Done
from tests.support.waiting import eventually

from kubectl_phjob.errors import Exit

SECRET = "echo a-secret"


@pytest.fixture
def catalog(release: Release) -> str:
    """A group with a job of somebody else's in it; the group's name."""
    manifests = (an_image(), an_instance_type(), a_group("vision"))
    other = a_job("of-lin", group="vision", user="lin", command=SECRET)
    for manifest in (*manifests, other):
        done = release.kubectl("-n", release.namespace, "apply", "-f", "-", input=json.dumps(manifest))
        assert done.returncode == 0, done.stderr
    return "vision"


def user(release: Release, role: str | None) -> tuple[Cli, str]:
    """The program for an account with that role, and the account's name."""
    account = f"cli-{role or 'nobody'}"
    release.kubectl("-n", release.namespace, "create", "serviceaccount", account)
    if role:
        release.bind(role, f"--serviceaccount={release.namespace}:{account}")
    name = f"system:serviceaccount:{release.namespace}:{account}"
    kubeconfig: Path = release.as_account(account)
    return Cli(kubeconfig, PHJOB_NAMESPACE=release.namespace), name


def answered(cli: Cli, *words: str) -> Done:
    """What it answers once its role counts: RBAC and admission policies take a moment to be known."""
    eventually(lambda: cli(*words).returncode == Exit.OK, "the role counts", instead=lambda: cli(*words))
    return cli(*words)


def test_a_submitter_can_do_all_that_needs_no_more(release: Release, catalog: str) -> None:
    """No service runs here, so the job waits; each command answers, and none shows another's command."""
    cli, name = user(release, "submitter")
    submit = ("submit", "-g", catalog, "-i", "base-notebook", "-t", "cpu-tiny", "--", "echo", "mine")
    answered(cli, "list")
    done = cli(*submit)
    assert done.returncode == Exit.OK, done.stderr
    job = done.stdout.split()[0]
    assert [one["name"] for one in cli.json("list")] == [job], f"{name} is who the API server says he is"
    manifest = json.dumps(a_job("thought-of", group=catalog, user=name))
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
            assert (done.returncode, done.stderr) == (Exit.OK, ""), words
            assert SECRET not in done.stdout
    assert cli("cancel", job).stdout == f"{job} is being cancelled\n"
    assert cli("logs", job).stderr == f"error: job '{job}' waits: it has no log yet\n"


def test_a_submitter_learns_in_one_line_that_another_s_job_is_not_his(release: Release, catalog: str) -> None:
    """By the identity policy's own words; nor may he submit for somebody else."""
    cli, _ = user(release, "submitter")
    answered(cli, "list")
    done = cli("cancel", "of-lin")
    assert "only its user or an operator may change, cancel or delete it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    manifest = json.dumps(a_job("for-lin", group=catalog, user="lin"))
    refused = cli("explain", "-f", "-", input=manifest)
    assert refused.returncode == Exit.NO
    assert "a job is submitted by the user whose it is" in refused.stdout


def test_a_viewer_sees_queues_but_for_the_notebooks_that_he_may_not_list(
    release: Release, catalog: str
) -> None:
    """What is missing is said."""
    cli, _ = user(release, "viewer")
    done = answered(cli, "queue", catalog)
    assert "of-lin" in done.stdout
    assert done.stderr == "note: you may not list pods here, so notebooks are not counted\n"
    assert cli("why", "of-lin").returncode == Exit.OK
    assert cli("cancel", "of-lin").returncode == Exit.FORBIDDEN


def test_who_has_no_role_is_told_so_and_sees_nothing(release: Release, catalog: str) -> None:
    """In the API server's words, with an exit code of its own."""
    cli, name = user(release, None)
    for words in (("list",), ("queue", catalog), ("why", "of-lin"), ("top",), ("logs", "of-lin")):
        done = cli(*words)
        assert (done.returncode, done.stdout) == (Exit.FORBIDDEN, "")
        assert done.stderr.startswith("error: forbidden: ")
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
