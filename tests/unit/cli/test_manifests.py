from pathlib import Path

import pytest

from phjob_cli import manifests
from phjob_cli.errors import CliError, Exit


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("0", 0)]
)
def test_a_duration_has_units(text: str, seconds: int) -> None:
    """A number without a unit is seconds."""
    assert manifests.parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1", "1.5h"])
def test_a_text_that_is_no_duration_is_rejected_with_examples(text: str) -> None:
    """The exit code is that of a wrong command line."""
    with pytest.raises(CliError, match="write 90s, 5m, 1h30m or 2d") as rejected:
        manifests.parse_seconds(text)
    assert rejected.value.code is Exit.USAGE


def test_a_file_may_contain_several_jobs_and_lists(tmp_path: Path) -> None:
    """A job without a name gets one; a job without a user gets the caller."""
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "kind: PhJob\nmetadata: {name: one}\nspec: {userName: lin}\n"
        "---\nkind: List\nitems: [{kind: PhJob, spec: {command: x}}]\n---\n"
    )
    one, two = manifests.from_file(str(file), "bob")
    assert (one["metadata"], one["spec"]["userName"]) == ({"name": "one"}, "lin")
    assert (two["metadata"], two["spec"]["userName"]) == ({"generateName": "job-"}, "bob")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kind: Pod", "contains a Pod: only PhJobs"),
        ("- a", "contains a list"),
        ("", "contains no PhJob"),
        ("a: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
    ],
)
def test_a_file_without_phjobs_is_rejected(tmp_path: Path, content: str | bytes, message: str) -> None:
    """The message says what the file contains instead."""
    file = tmp_path / "jobs.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CliError, match=message):
        manifests.from_file(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The cause is the operating system's message."""
    with pytest.raises(CliError, match="missing cannot be read: No such file"):
        manifests.from_file(str(tmp_path / "missing"))


def test_a_copy_for_retry_has_no_state_of_the_first_run() -> None:
    """Its name begins with the old name, shortened to leave room for the API server's characters."""
    job = {
        "metadata": {
            "name": "x" * 63,
            "uid": "u",
            "labels": {"a": "b"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"},
        },
        "spec": {"command": "true", "cancel": True, "requeueLimit": 3},
        "status": {"phase": "Failed"},
    }
    copy = manifests.copy_for_retry(job)
    assert copy["spec"] == {"command": "true", "requeueLimit": 3}
    assert copy["metadata"] == {
        "generateName": "x" * 57 + "-",
        "labels": {"a": "b"},
        "annotations": {"mine": "1"},
    }
    assert "status" not in copy


def test_a_copy_for_retry_belongs_to_no_tool_that_prunes_what_is_not_in_git() -> None:
    """Argo CD would delete the copy while it runs."""
    job = {
        "metadata": {
            "name": "train",
            "labels": {
                "app.kubernetes.io/instance": "jobs",
                "app.kubernetes.io/managed-by": "Helm",
                "kustomize.toolkit.fluxcd.io/name": "jobs",
                "app.kubernetes.io/name": "train",
            },
            "annotations": {
                "argocd.argoproj.io/tracking-id": "jobs:primehub.io/PhJob:hub/train",
                "meta.helm.sh/release-name": "jobs",
            },
        },
        "spec": {"command": "true"},
    }
    assert manifests.copy_for_retry(job)["metadata"] == {
        "generateName": "train-", "labels": {"app.kubernetes.io/name": "train"},
    }  # fmt: skip
