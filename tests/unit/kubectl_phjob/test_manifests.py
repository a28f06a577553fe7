from pathlib import Path

import pytest

from kubectl_phjob import manifests
from kubectl_phjob.errors import CliError, Exit


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("0", 0)]
)
def test_a_time_may_be_written_as_people_do(text: str, seconds: int) -> None:
    """A bare number is seconds."""
    assert manifests.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1", "1.5h"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    """It is the command line that is wrong."""
    with pytest.raises(CliError, match="write 90s, 5m, 1h30m or 2d") as refused:
        manifests.seconds(text)
    assert refused.value.code is Exit.USAGE


def test_a_file_may_hold_several_jobs_also_as_a_list(tmp_path: Path) -> None:
    """One without a name gets one; one without a user is the asker's."""
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "kind: PhJob\nmetadata: {name: one}\nspec: {userName: lin}\n"
        "---\nkind: List\nitems: [{kind: PhJob, spec: {command: x}}]\n---\n"
    )
    one, two = manifests.from_file(str(file), "bob")
    assert (one["metadata"], one["spec"]["userName"]) == ({"name": "one"}, "lin")
    assert (two["metadata"], two["spec"]["userName"]) == ({"generateName": "job-"}, "bob")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("kind: Pod", "holds a Pod: only PhJobs"),
        ("- a", "holds a list"),
        ("", "holds no PhJob"),
        ("a: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
    ],
)
def test_a_file_with_something_else_is_refused_by_what_it_holds(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    """And nothing of it is submitted."""
    file = tmp_path / "jobs.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CliError, match=says):
        manifests.from_file(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the system's own words."""
    with pytest.raises(CliError, match="missing can't be read: No such file"):
        manifests.from_file(str(tmp_path / "missing"))


def test_a_copy_has_all_but_what_was_of_the_first_run() -> None:
    """Its name is made from the old one, and fits."""
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
    copy = manifests.again(job)
    assert copy["spec"] == {"command": "true", "requeueLimit": 3}
    assert copy["metadata"] == {
        "generateName": "x" * 57 + "-",
        "labels": {"a": "b"},
        "annotations": {"mine": "1"},
    }
    assert "status" not in copy
