"""The limits policy and the ResourceQuota on a real API server, with the words of docs/errors.md."""

import json
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.crds.manifests import ERRORS, answer
from tests.support.builders import a_job
from tests.support.chart import Release
from tests.support.cluster import Kubectl, kubectl_for
from tests.support.waiting import eventually

PART = ERRORS.split("\n## What the policies of the chart answer\n")[1].split("\n## ")[0]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_COMMAND_BYTES = 65536
SCRIPT = 'if [ "$a" -lt 3 ] && echo "b" > /dev/null; then\n\tpython train.py --in <(cat)\nfi\n'


class Submitter:
    """An administrator who submits jobs of bob to the namespace of a release."""

    def __init__(self, release: Release) -> None:
        self.namespace = release.namespace
        self._kubectl: Kubectl = kubectl_for(release.kubeconfig)

    def __call__(self, *args: str, input: str | None = None) -> Any:  # noqa: A002 - subprocess's
        """Run kubectl in the namespace."""
        return self._kubectl("-n", self.namespace, *args, input=input)

    def write(
        self,
        name: str = "job-1",
        *,
        verb: str = "create",
        metadata: dict[str, Any] | None = None,
        **spec: Any,
    ) -> str:
        """Create or apply a job. Returns the answer, as if the namespace were `hub`."""
        job = a_job(name, **spec)
        job["metadata"] |= metadata or {}
        done = self(verb, "-f", "-", input=json.dumps(job))
        return answer(done).replace(self.namespace, "hub")


@pytest.fixture(scope="module")
def submit(release: Release) -> Submitter:
    """A submitter. The policy is in force."""
    submitter = Submitter(release)
    test_job = json.dumps(a_job("jupyter-test"))
    eventually(
        lambda: submitter("create", "--dry-run=server", "-f", "-", input=test_job).returncode,
        "the policy is in force",
    )
    return submitter


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def is_documented(text: str) -> bool:
    """Return whether docs/errors.md has the answer, word for word."""
    return f"```text\n{text}\n```" in PART


def documented_commands() -> Iterator[Any]:
    """Yield the console blocks of this part of docs/errors.md, with their headings as test ids."""
    for section in PART.split("\n### ")[1:]:
        heading, _, text = section.partition("\n")
        for block in re.findall(r"```console\n(.*?)\n```", text, re.DOTALL):
            yield pytest.param(block, id=heading)


@pytest.mark.parametrize("block", list(documented_commands()))
def test_the_documented_answer_is_that_of_the_policy(submit: Submitter, block: str) -> None:
    """Word for word (spec.md, A15)."""
    command, _, rest = block.removeprefix("$ kubectl ").partition(" <<'EOF'\n")
    manifest, _, expected = rest.partition("\nEOF\n")
    done = submit(*shlex.split(command), input=manifest.replace("hub}", f"{submit.namespace}}}"))
    assert answer(done).replace(submit.namespace, "hub") == expected


def test_a_generated_name_can_be_reserved_too(submit: Submitter) -> None:
    """The API server completes it before the policy sees it (spec.md, A15)."""
    job = a_job("")
    job["metadata"] = {"generateName": "jupyter-"}
    done = submit("create", "-f", "-", input=json.dumps(job))
    assert "is reserved for other workloads (jupyter-*)" in done.stderr


def test_a_command_has_at_most_as_many_bytes_as_the_setting(submit: Submitter) -> None:
    """Bytes of UTF-8, not characters (spec.md, A15)."""
    for command in ("x" * MAX_COMMAND_BYTES, "é" * (MAX_COMMAND_BYTES // 2)):
        assert "created" in submit.write(unique("job"), command=command)
    assert is_documented(submit.write(command="x" * (MAX_COMMAND_BYTES + 1)))
    assert "has 65538 bytes" in submit.write(command="é" * (MAX_COMMAND_BYTES // 2 + 1))


@pytest.mark.parametrize(
    "command", ["x" * MAX_COMMAND_BYTES, (SCRIPT * 1000)[:MAX_COMMAND_BYTES]], ids=["letters", "script"]
)
def test_kubectl_apply_accepts_a_command_of_the_largest_size(submit: Submitter, command: str) -> None:
    """It stores a copy in an annotation, which does not count as one (spec.md, A15)."""
    name = unique("job")
    assert "created" in submit.write(name, verb="apply", command=command)
    stored = json.loads(submit("get", "phj", name, "-o", "json").stdout)
    assert len(stored["metadata"]["annotations"][LAST_APPLIED]) > MAX_COMMAND_BYTES
    assert stored["spec"]["command"] == command


@pytest.mark.parametrize("field", ["annotations", "labels"])
def test_annotations_and_labels_have_at_most_8_kib_each(submit: Submitter, field: str) -> None:
    """Keys and values together (spec.md, A15)."""
    values = {f"key-{number:03}": "v" * 53 for number in range(150)}
    assert is_documented(submit.write(metadata={field: values}))
    fitting = dict(list(values.items())[:130])
    assert "created" in submit.write(unique("job"), metadata={field: fitting})


def test_the_stored_size_of_a_job_is_bounded(submit: Submitter) -> None:
    """JSON has characters that take six bytes, and kubectl apply stores the command twice (spec.md, A15)."""
    assert is_documented(submit.write(command="<" * 40000))
    assert "may take 221184" in submit.write(verb="apply", command="<" * 20000)
    forged = a_job("job-1") | {"metadata": {"name": "job-1", "annotations": {LAST_APPLIED: "<" * 40000}}}
    # Without `--raw`, kubectl would replace the annotation.
    path = f"/apis/primehub.io/v1alpha1/namespaces/{submit.namespace}/phjobs"
    assert "may take 221184" in submit("create", f"--raw={path}", "-f", "-", input=json.dumps(forged)).stderr


def test_the_lists_of_the_metadata_are_bounded(submit: Submitter) -> None:
    """A field manager for each of many requests would otherwise fill etcd (spec.md, A15)."""
    assert is_documented(submit.write(metadata={"finalizers": [f"example.com/f-{n}" for n in range(17)]}))
    name = unique("job")
    submit.write(name)
    job = json.dumps(a_job(name, displayName="again"))
    options = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    answers = [submit(*options, f"--field-manager=m-{n}", input=job) for n in range(17)]
    assert not answers[0].returncode
    assert "managedFields, finalizers and ownerReferences may have 16 entries each" in answers[-1].stderr
    stored = submit("get", "phj", name, "-o", "json", "--show-managed-fields")
    assert len(json.loads(stored.stdout)["metadata"]["managedFields"]) == 16


def test_a_job_that_was_stored_before_a_limit_can_still_be_changed(
    control_plane: Path, tmp_path: Path
) -> None:
    """It can be cancelled, and made smaller, but not larger (spec.md, A15)."""
    release = Release(control_plane, unique("chart"), tmp_path)
    try:
        release.install("--set=jobLimits.enabled=false,people.create=false")
        submit = Submitter(release)
        large = {"annotations": {"note": "v" * 9000}}
        assert "created" in submit.write("job-1", metadata=large, command="x" * MAX_COMMAND_BYTES)
        settings = "jobLimits.enabled=true,people.create=false,jobSubmission.maxCommandBytes=100"
        release.install(f"--set={settings}")
        eventually(lambda: "may have 100" in submit.write("new", command="x" * 101), "the policy is in force")
        cancel = ("patch", "phj", "job-1", "--type=merge", "-p", '{"spec":{"cancel":true}}')
        assert submit(*cancel).returncode == 0
        assert "remove some annotations" in submit("annotate", "phj", "job-1", "more=text").stderr
        assert submit("annotate", "phj", "job-1", "note-").returncode == 0
    finally:
        release.uninstall()


def test_the_quota_stops_every_further_job(control_plane: Path, tmp_path: Path) -> None:
    """Whoever submits it, and whatever its size (spec.md, S9)."""
    release = Release(control_plane, unique("chart"), tmp_path)
    try:
        release.install("--set=people.create=false")
        submit = Submitter(release)
        eventually(lambda: knows_quota(submit), "Kubernetes counts PhJobs")
        release.install("--set=people.create=false,jobQuota.enabled=true,jobQuota.jobs=2,jobQuota.pods=1")
        quota = release.get("resourcequota", "phjob-jobs")
        assert quota["spec"]["hard"] == {"count/phjobs.primehub.io": "2", "count/pods": "1"}
        eventually(lambda: "created" in submit.write("job-1"), "the quota counts PhJobs")
        assert "created" in submit.write("job-2")
        assert is_documented(submit.write("job-3"))
    finally:
        release.uninstall()


def knows_quota(submit: Submitter) -> bool:
    """Return whether Kubernetes has discovered that it can count PhJobs.

    Each time, this creates a quota. Kubernetes calculates an existing one again after minutes only.
    """
    name = unique("test")
    submit("create", "quota", name, "--hard=count/phjobs.primehub.io=100")
    used = ("get", "quota", name, "-o", "jsonpath={.status.used}")
    eventually(
        lambda: submit("get", "quota", name, "-o", "jsonpath={.status.hard}").stdout, "it has a status"
    )
    known = "phjobs" in submit(*used).stdout
    submit("delete", "quota", name)
    return known
