"""PhJobs on a real API server: defaults, immutable fields, and the columns of kubectl.

The tests use kubectl, as a user does. No service runs.
"""

import json
import re

import pytest
from tests.integration.crds.manifests import (
    EXAMPLES,
    FINAL,
    NEW_STATUS,
    answer,
    example,
    job,
    patch,
    read,
    set_phase,
    thing,
)
from tests.support.cluster import Kubectl


def test_the_documented_example_is_accepted_and_is_pending(kubectl: Kubectl, namespace: str) -> None:
    """The API server drops the manifest's `status: {phase: pending}`, and sets the default status."""
    done = kubectl("apply", "-f", "-", input=example("11-job-qm42d.yaml", namespace))
    assert answer(done) == "phjob.primehub.io/job-qm42d created"
    found = read(kubectl, namespace, "phj/job-qm42d")
    assert found["status"] == NEW_STATUS
    assert found["spec"]["cancel"] is False
    assert found["spec"]["command"] == 'echo "start"\n'


def test_applying_a_finished_job_again_changes_nothing(kubectl: Kubectl, namespace: str) -> None:
    """`kubectl apply -f` of a folder may be repeated at any time."""
    manifest = example("11-job-qm42d.yaml", namespace)
    kubectl("apply", "-f", "-", input=manifest)
    set_phase(kubectl, namespace, "job-qm42d", "Succeeded")
    assert kubectl("apply", "-f", "-", input=manifest).returncode == 0
    assert read(kubectl, namespace, "phj/job-qm42d")["status"]["phase"] == "Succeeded"


def test_all_examples_can_be_applied_at_once(kubectl: Kubectl, namespace: str) -> None:
    """They are applied in the order of the files' names, and cause no warning."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    done = kubectl("apply", "-f", "-", input="\n---\n".join(example(file.name, namespace) for file in files))
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= len(files)


def test_the_server_can_choose_a_jobs_name(kubectl: Kubectl, namespace: str) -> None:
    """The bound on names leaves room for generateName."""
    manifest = json.loads(job(namespace))
    manifest["metadata"] = {
        "generateName": "a-long-prefix-that-the-server-cuts-to-make-its-suffix-fit-in-",
        "namespace": namespace,
    }
    assert kubectl("create", "-f", "-", input=json.dumps(manifest)).returncode == 0


def test_a_patch_can_test_the_default_status(kubectl: Kubectl, namespace: str) -> None:
    """The compare-and-swap of an admission works on a new job, and only once."""
    kubectl("create", "-f", "-", input=job(namespace))
    admit = json.dumps(
        [
            {"op": "test", "path": "/status/phase", "value": "Pending"},
            {"op": "test", "path": "/status/fence", "value": ""},
            {"op": "replace", "path": "/status/phase", "value": "Preparing"},
        ]
    )
    results = [
        kubectl(
            "-n", namespace, "patch", "phj", "job-1", "--subresource", "status", "--type", "json", "-p", admit
        )
        for _ in range(2)
    ]
    assert answer(results[0]) == "phjob.primehub.io/job-1 patched"
    assert (
        answer(results[1])
        == "The request is invalid: the server rejected our request due to an error in our request"
    )


@pytest.mark.parametrize(
    "field", ["command", "userName", "userId", "groupName", "groupId", "image", "instanceType"]
)
def test_the_fields_that_define_a_job_cannot_be_changed(kubectl: Kubectl, namespace: str, field: str) -> None:
    """They cannot get another value, and cannot be removed."""
    kubectl("create", "-f", "-", input=job(namespace, userId="u", groupId="g"))
    rejected = (
        f'The PhJob "job-1" is invalid: spec.{field}: Forbidden: '
        f"spec.{field} cannot be changed after creation; create a new PhJob"
    )
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {field: "other"}})) == rejected
    assert patch(kubectl, namespace, "phj/job-1", {"spec": {field: None}}).returncode == 1


@pytest.mark.parametrize("field", ["userId", "groupId"])
def test_an_id_cannot_be_added_later(kubectl: Kubectl, namespace: str, field: str) -> None:
    """An id is immutable, and so is its absence."""
    kubectl("create", "-f", "-", input=job(namespace))
    assert f"spec.{field} cannot be changed" in answer(
        patch(kubectl, namespace, "phj/job-1", {"spec": {field: "x"}})
    )


def test_deadlines_title_and_cancel_of_a_running_job_can_be_changed(kubectl: Kubectl, namespace: str) -> None:
    """One edit may change all five fields."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", "Running")
    edit = {
        "displayName": "Better",
        "activeDeadlineSeconds": 0,
        "ttlSecondsAfterFinished": 60,
        "requeueLimit": 3,
        "cancel": True,
    }
    assert patch(kubectl, namespace, "phj/job-1", {"spec": edit}).returncode == 0
    assert {key: read(kubectl, namespace, "phj/job-1")["spec"][key] for key in edit} == edit


@pytest.mark.parametrize("value", [False, None])
def test_a_cancel_cannot_be_taken_back(kubectl: Kubectl, namespace: str, value: object) -> None:
    """Setting it to false and removing it mean the same."""
    kubectl("create", "-f", "-", input=job(namespace, cancel=True))
    rejected = (
        'The PhJob "job-1" is invalid: spec.cancel: Forbidden: '
        "spec.cancel cannot be taken back; create a new PhJob"
    )
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {"cancel": value}})) == rejected


@pytest.mark.parametrize("phase", FINAL)
def test_a_finished_job_stays_finished(kubectl: Kubectl, namespace: str, phase: str) -> None:
    """Its phase can neither be changed nor removed. The other fields of its status can still be written."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", phase)
    rejected = (
        'The PhJob "job-1" is invalid: status.phase: Forbidden: '
        "a finished job stays finished; create a new PhJob"
    )
    for other in {None, "Pending", "Running", *FINAL} - {phase}:
        assert answer(set_phase(kubectl, namespace, "job-1", other)) == rejected
    assert (
        answer(patch(kubectl, namespace, "phj/job-1", {"status": None}, "--subresource", "status"))
        == rejected
    )
    allowed = {"status": {"logURL": "file:///logs/job-1", "reclaimed": True}}
    assert patch(kubectl, namespace, "phj/job-1", allowed, "--subresource", "status").returncode == 0


def test_field_selectors_find_jobs_by_phase_group_and_reclaimed(kubectl: Kubectl, namespace: str) -> None:
    """They also find jobs with the default status."""
    for name, group in (("new", "a"), ("running", "a"), ("done", "b")):
        kubectl("create", "-f", "-", input=job(namespace, name, groupName=group))
    set_phase(kubectl, namespace, "running", "Running")
    patch(
        kubectl,
        namespace,
        "phj/done",
        {"status": {"phase": "Failed", "reclaimed": True}},
        "--subresource",
        "status",
    )

    def found(selector: str) -> list[str]:
        return kubectl(
            "-n", namespace, "get", "phj", "--field-selector", selector, "-o", "name"
        ).stdout.split()

    assert found("status.phase=Pending") == ["phjob.primehub.io/new"]
    assert found("status.phase=Failed") == ["phjob.primehub.io/done"]
    assert found("status.reclaimed!=true") == ["phjob.primehub.io/new", "phjob.primehub.io/running"]
    assert found("status.reclaimed!=true,spec.groupName=a,status.phase=Running") == [
        "phjob.primehub.io/running"
    ]


def test_get_shows_the_columns_of_a_job(kubectl: Kubectl, namespace: str) -> None:
    """Users read them, in this order (spec.md, A12)."""
    kubectl("create", "-f", "-", input=job(namespace))
    short, wide = (
        kubectl("-n", namespace, "get", "phj", *more).stdout.splitlines() for more in ((), ("-o", "wide"))
    )
    assert short[0].split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    assert short[1].split()[:5] == ["job-1", "jackpan", "phusers", "Pending", "Queued"]
    assert wide[0].split() == [
        "NAME",
        "USER",
        "GROUP",
        "STATUS",
        "REASON",
        "AGE",
        "INSTANCE",
        "NODE",
        "MESSAGE",
    ]


def test_get_shows_the_usage_of_a_group_beside_its_quota(kubectl: Kubectl, namespace: str) -> None:
    """Users read them with `kubectl get phg`."""
    spec = {"users": [], "groupQuota": {"cpu": 4, "gpu": 2}}
    kubectl("create", "-f", "-", input=thing("PhGroup", namespace, spec))
    status = {
        "pending": 3,
        "preparing": 0,
        "running": 2,
        "used": {"cpu": "3500m", "gpu": 2},
        "limit": {"cpu": 4, "gpu": 2},
        "head": "job-9",
    }
    assert patch(kubectl, namespace, "phg/one", {"status": status}, "--subresource", "status").returncode == 0
    header, row = kubectl("-n", namespace, "get", "phg", "-o", "wide").stdout.splitlines()
    assert header.split()[:6] == ["NAME", "PENDING", "PREPARING", "RUNNING", "HEAD", "AGE"]
    columns = {found[0]: row[found.start() :].split(" ")[0] for found in re.finditer(r"\S+", header)}
    expected = {
        "NAME": "one",
        "PENDING": "3",
        "PREPARING": "0",
        "RUNNING": "2",
        "HEAD": "job-9",
        "CPU": "3500m",
        "CPU-QUOTA": "4",
        "GPU": "2",
    }
    assert {name: columns[name] for name in expected} == expected
